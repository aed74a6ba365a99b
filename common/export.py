"""Export: the float network as ONNX, and the proof that it still computes the same.

    python -m common.export out/<model>/float      -> model.onnx, export.json

A torch network is exported with opset 11, IR 7, static batch 1, input "image", output "heatmaps": what every chip's
compiler reads. The user's own ONNX stays exactly as it came, after its input and output were held against the spec.
"""

from __future__ import annotations

import argparse
import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from common.errors import UserError, run
from common.files import replacing, sha256_file, write_json
from common.job import FloatReference
from common.keypoints import KEYPOINT_SETS
from common.onnx_graph import (
    Runner,
    check_static,
    graph_inputs,
    graph_outputs,
    listed,
    load_onnx,
    operator_counts,
    opset_of,
    shape_text,
    static_hint,
    tensors,
)
from common.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

OPSET, IR_VERSION = 11, 7
INPUT, OUTPUT = "image", "heatmaps"
# Two float32 runtimes add in different orders. Relative to the output's largest value: HRNet-W32 measures 3e-5.
TOLERANCE = 1e-4
RANDOM_SAMPLES, REAL_SAMPLES = 3, 3
STATISTICS_BATCH = 4


def export(folder: str | os.PathLike) -> dict[str, Any]:
    """Make model.onnx and export.json in a float reference's folder; returns the content of export.json.

    Raises UserError when the weights or the graph are missing, damaged or do not fit the spec, and when the exported
    graph does not compute what the torch network does.
    """
    reference = FloatReference(folder)
    source = reference.source
    if source["kind"] != "onnx":
        return _export_torch(reference)
    path = Path(source["path"])
    model = load_onnx(path)
    check_against_spec(model, reference.spec, str(path))
    sample = np.random.default_rng(0).standard_normal(reference.spec.input.shape).astype(np.float32)
    outputs = Runner(model).run({graph_inputs(model)[0].name: sample})
    _check_heatmaps(outputs, reference.spec, str(path))
    with replacing(reference.folder / "model.onnx") as temporary:
        if _has_external_weights(path):
            onnx.save(model, temporary)  # load_onnx has brought the weights inside: one file, nothing to lose
        else:
            shutil.copyfile(path, temporary)
    # The weights' kind is "onnx": there is no torch network to compare with, so there are no difference figures.
    record = _describe(model, outputs, source) | {"proof": None}
    write_json(reference.folder / "export.json", record)
    return record


def _export_torch(reference: FloatReference) -> dict[str, Any]:
    import torch

    from models.arch import build_architecture

    spec, source = reference.spec, reference.source
    module = build_architecture(dict(spec.architecture or {}), where=f"model {spec.name}")
    unpacked = None
    if source["kind"] == "random":
        initialize_random(module, spec.input.shape)
    else:
        from common.checkpoint import load_checkpoint

        _require_weights(spec, Path(source["path"]))
        unpacked = load_checkpoint(module, source["path"])
    module.eval()
    with replacing(reference.folder / "model.onnx") as temporary:
        to_onnx(module, spec.input.shape, temporary)
        model = load_onnx(temporary)
        check_against_spec(model, spec, f"the export of {spec.name}")
        images, counts = proof_images(spec, reference.folder / "samples.npz")
        outputs, proof = compare_with_torch(module, model, images)
        _check_heatmaps(outputs, spec, f"the export of {spec.name}")
    proof |= {"samples": counts}
    record = _describe(model, outputs, source) | {"torch": torch.__version__, "checkpoint": unpacked, "proof": proof}
    write_json(reference.folder / "export.json", record)
    return record


def _require_weights(spec: ModelSpec, path: Path) -> None:
    if path.is_file():
        return
    licence = f" (licence {spec.weights.licence})" if spec.weights else ""
    raise UserError(
        f"the weights of {spec.name} are missing: {path}",
        f"`make weights MODEL={spec.name}` downloads them{licence}; or WEIGHTS=file.pth; or WEIGHTS=random",
    )


def initialize_random(module: nn.Module, shape: list[int]) -> None:
    """Repeatable random weights for WEIGHTS=random: to try the chain and to time it, not to find people.

    He initialisation, seed 0 (models.arch.hrnet.initialize), then BatchNorm statistics measured on seeded noise: with
    the default mean 0 and variance 1 the activations would double with every residual block and overflow int8 ranges
    that no trained network has.
    """
    import torch

    from models.arch.hrnet import initialize

    initialize(module, seed=0)
    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 1.0  # the statistics are those of the one batch below
    noise = torch.randn((STATISTICS_BATCH, *shape[1:]), generator=torch.Generator().manual_seed(0))
    module.train()
    with torch.no_grad():
        module(noise)
    module.eval()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def to_onnx(module: nn.Module, shape: list[int], path: Path) -> None:
    """Write the module, in eval mode, as ONNX: opset 11, IR 7, input "image" of `shape`, output "heatmaps"."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of this exporter, the one that writes opset 11
        torch.onnx.export(
            module,
            (torch.zeros(shape),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
        )
    model = onnx.load(path)
    model.ir_version = IR_VERSION
    onnx.save(model, path)


def proof_images(spec: ModelSpec, samples_path: Path) -> tuple[np.ndarray, dict[str, int]]:
    """Random inputs and the first real ones of samples.npz, if it exists: float32 [N, 3, H, W], and the counts."""
    images = np.random.default_rng(0).standard_normal((RANDOM_SAMPLES, *spec.input.shape[1:])).astype(np.float32)
    real = 0
    if samples_path.exists():
        with np.load(samples_path, allow_pickle=False) as stored:
            samples = stored[stored.files[0]][:REAL_SAMPLES]
        if samples.shape[1:] != images.shape[1:]:
            raise UserError(
                f"{samples_path} holds {shape_text(samples.shape)}, not the model's input shape", "remove it"
            )
        images, real = np.concatenate([images, samples]), len(samples)
    return images, {"random": RANDOM_SAMPLES, "real": real}


def compare_with_torch(
    module: nn.Module, model: onnx.ModelProto, images: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Proof step 1: torch and onnxruntime on the same images, same heatmaps, and same peaks.

    Returns the ONNX outputs and {"max_abs", "largest_output", "tolerance", "same_peaks"}.
    Raises UserError above the tolerance, or when a heatmap's peak lies elsewhere (a tie within the tolerance excepted).
    """
    import torch

    outputs = Runner(model).run({INPUT: images})
    with torch.no_grad():
        expected = np.concatenate([module(torch.from_numpy(image[None])).numpy() for image in images])
    found = outputs[OUTPUT]
    if expected.shape != found.shape:
        raise UserError(f"torch gives {shape_text(expected.shape)}, its export {shape_text(found.shape)}")
    largest = float(np.abs(expected).max())
    max_abs = float(np.abs(expected - found).max())
    allowed = TOLERANCE * largest
    if not max_abs <= allowed:  # NaN must not pass
        raise UserError(
            f"the exported graph differs from torch by {max_abs:.3g} ({allowed:.3g} is allowed, of {largest:.3g})",
            "the network uses an operation that the exporter translates wrongly: look at its newest layers",
        )
    flat, other = (values.reshape(*values.shape[:2], -1) for values in (expected, found))
    peaks = other.argmax(-1)
    lost = flat.max(-1) - np.take_along_axis(flat, peaks[..., None], -1)[..., 0]
    if (lost > 2 * allowed).any():
        raise UserError(
            "the exported graph's heatmaps peak elsewhere than torch's", "see the difference in its last layers"
        )
    same = float((peaks == flat.argmax(-1)).mean())
    return outputs, {"max_abs": max_abs, "largest_output": largest, "tolerance": allowed, "same_peaks": same}


def check_against_spec(model: onnx.ModelProto, spec: ModelSpec, where: str) -> None:
    """One float32 image input of exactly the spec's shape. Raises UserError that shows both."""
    inputs = graph_inputs(model)
    wanted = shape_text(spec.input.shape)
    if len(inputs) != 1:
        names = ", ".join(f"{tensor.name} {shape_text(tensor.shape)}" for tensor in inputs) or "none"
        raise UserError(f"{where} has {len(inputs)} inputs ({names}); the spec of {spec.name} has one image, {wanted}")
    image = inputs[0]
    if image.dtype != "float32":
        raise UserError(
            f"{where}: input '{image.name}' is {image.dtype}, float32 is needed",
            "export it before any half precision or quantisation: the chip's own step does that",
        )
    shape = image.shape or ()
    if len(shape) == len(spec.input.shape) and all(
        isinstance(size, str) or size == expected for size, expected in zip(shape, spec.input.shape, strict=True)
    ):
        check_static(model, where, spec.input.shape)
        return
    hint = "correct input.shape in the spec, or export the network for this size"
    if len(shape) == 4 and shape[-1] in (1, 3):
        hint = "it is NHWC, channels last: export it as NCHW"
    elif shape_text(shape) == "unknown" or not shape:
        hint = static_hint(where, spec.input.shape)
    raise UserError(
        f"{where}: input '{image.name}' is {shape_text(shape)}, but the spec of {spec.name} says {wanted}", hint
    )


def _check_heatmaps(outputs: dict[str, np.ndarray], spec: ModelSpec, where: str) -> None:
    joints = len(KEYPOINT_SETS[spec.decode.keypoints].names)
    found = ", ".join(f"{name} {shape_text((1, *values.shape[1:]))}" for name, values in outputs.items())
    first = next(iter(outputs.values()))
    if len(outputs) != 1 or first.ndim != 4 or first.shape[1] != joints:
        raise UserError(
            f"{where} gives {found}; {spec.decode.kind} decoding of {spec.decode.keypoints} needs one output "
            f"1x{joints}xHxW",
            "correct decode in the spec, or export the network up to its heatmaps",
        )
    if not all(np.isfinite(values).all() for values in outputs.values()):
        raise UserError(f"{where} gives NaN or infinite heatmaps: {listed(list(outputs))}", "check the weights")


def _has_external_weights(path: Path) -> bool:
    raw = onnx.load_model(path, load_external_data=False)
    return any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors(raw))


def _describe(model: onnx.ModelProto, outputs: dict[str, np.ndarray], source: dict[str, Any]) -> dict[str, Any]:
    path = source.get("path")
    return {
        "opset": opset_of(model),
        "ir_version": model.ir_version,
        "inputs": [{"name": t.name, "shape": list(t.shape or ()), "dtype": t.dtype} for t in graph_inputs(model)],
        "outputs": [{"name": t.name, "shape": [1, *outputs[t.name].shape[1:]]} for t in graph_outputs(model)],
        "operators": operator_counts(model),
        "weights": source.get("origin", source["kind"]),
        "source": {"kind": source["kind"], "path": path, "sha256": sha256_file(path) if path else None},
    }


def main() -> None:
    """python -m common.export FLOAT_FOLDER"""
    parser = argparse.ArgumentParser(description="export the float network as ONNX and prove the export")
    parser.add_argument("folder", help="out/<model>/float")
    record = export(parser.parse_args().folder)
    proof = record["proof"]
    said = f"torch and ONNX differ by {proof['max_abs']:.2g}" if proof else "the file as it came"
    print(f"export: opset {record['opset']}, IR {record['ir_version']}, weights {record['weights']}; {said}")


if __name__ == "__main__":
    run(main)
