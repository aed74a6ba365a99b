"""A torch network as ONNX, and whether both compute the same. Imported only where torch is needed: it takes seconds."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from common.basics.errors import UserError
from common.basics.wording import shape_text
from common.graphs.onnx_graph import Runner
from models.arch.blocks import initialize

OPSET, IR_VERSION = 11, 7
INPUT = "image"
# Two float32 runtimes add in different orders. Relative to the output's largest value: HRNet-W32 measures 3e-5,
# HigherHRNet's second output with random weights 7e-5, and torch itself is as far from its own float64.
TOLERANCE = 2e-4
STATISTICS_BATCH = 4
STATISTICS_SIDE = 256  # statistics of noise do not depend on its size, but time and memory do


def initialize_random(module: nn.Module, shape: list[int]) -> None:
    """Repeatable random weights for WEIGHTS=random: to try the chain and to time it, not to find people.

    He initialisation, seed 0 (models.arch.blocks.initialize), then BatchNorm statistics measured on seeded noise: with
    the default mean 0 and variance 1 the activations would double with every residual block and overflow int8 ranges
    that no trained network has.
    """
    initialize(module, seed=0)
    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 1.0  # the statistics are those of the one batch below
    sides = [min(side, STATISTICS_SIDE) for side in shape[2:]]
    noise = torch.randn((STATISTICS_BATCH, shape[1], *sides), generator=torch.Generator().manual_seed(0))
    module.train()
    with torch.no_grad():
        module(noise)
    module.eval()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def to_onnx(module: nn.Module, shape: list[int], path: Path) -> None:
    """Write the module, in eval mode, as ONNX: opset 11, IR 7, input "image" of `shape`, outputs by output_names()."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of this exporter, the one that writes opset 11
        torch.onnx.export(
            module,
            (torch.zeros(shape),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=output_names(module),
        )
    model = onnx.load(path)
    model.ir_version = IR_VERSION
    onnx.save(model, path)


def output_names(module: nn.Module) -> list[str]:
    """The names of a network's outputs: its own `output_names`, or "heatmaps" for the one output that most have."""
    return list(getattr(module, "output_names", ("heatmaps",)))


def torch_outputs(module: nn.Module, images: np.ndarray) -> dict[str, np.ndarray]:
    """{output name: float32 [N, ...]} of float32 images [N, 3, H, W], one at a time."""
    rows = []
    with torch.no_grad():
        for image in images:
            found = module(torch.from_numpy(image[None]))
            rows.append([tensor.numpy() for tensor in (found if isinstance(found, (list, tuple)) else [found])])
    names = output_names(module)
    return {name: np.concatenate(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def compare_with_torch(
    module: nn.Module, model: onnx.ModelProto, images: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Proof step 1: torch and onnxruntime on the same images, same outputs, and same peaks where they are maps.

    Returns the ONNX outputs and {"max_abs", "largest_output", "tolerance", "same_peaks"}: those of the output that
    differs most for its size; same_peaks is None where no output is a map.
    Raises UserError above the tolerance, or when a heatmap's peak lies elsewhere (a tie within the tolerance excepted).
    """
    outputs = Runner(model).run({INPUT: images})
    expected = torch_outputs(module, images)
    records = [_compare_output(name, expected[name], outputs[name]) for name in expected]
    worst = max(records, key=lambda record: record["max_abs"] / record["tolerance"] if record["tolerance"] else 0.0)
    peaks = [record["same_peaks"] for record in records if record["same_peaks"] is not None]
    return outputs, worst | {"same_peaks": min(peaks) if peaks else None}


def _compare_output(name: str, expected: np.ndarray, found: np.ndarray) -> dict[str, Any]:
    if expected.shape != found.shape:
        raise UserError(f"torch gives {name} {shape_text(expected.shape)}, its export {shape_text(found.shape)}")
    largest = float(np.abs(expected).max())
    max_abs = float(np.abs(expected - found).max())
    allowed = TOLERANCE * largest
    if not max_abs <= allowed:  # NaN must not pass
        raise UserError(
            f"the exported graph differs from torch by {max_abs:.3g} in {name} ({allowed:.3g} is allowed, of "
            f"{largest:.3g})",
            "the network uses an operation that the exporter translates wrongly: look at its newest layers",
        )
    same = None
    if expected.ndim == 4:
        flat, other = (values.reshape(*values.shape[:2], -1) for values in (expected, found))
        peaks = other.argmax(-1)
        lost = flat.max(-1) - np.take_along_axis(flat, peaks[..., None], -1)[..., 0]
        if (lost > 2 * allowed).any():
            raise UserError(
                f"the exported graph's {name} peak elsewhere than torch's", "see the difference in its last layers"
            )
        same = float((peaks == flat.argmax(-1)).mean())
    return {"max_abs": max_abs, "largest_output": largest, "tolerance": allowed, "same_peaks": same}
