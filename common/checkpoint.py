"""Torch checkpoints: read without executing anything in them, unwrapped, and loaded strictly.

The files people have (HRNet and mmpose releases, training checkpoints, half-precision training) differ in wrapping and
in name prefixes only; after that, every name and every shape must agree, or nothing is loaded.
"""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.errors import UserError
from common.file_kinds import refuse_other_kinds
from common.onnx_graph import listed

# HRNet tools/train.py saves epoch, model (a name), state_dict, best_state_dict, perf, optimizer; mmpose: meta,
# state_dict.
WRAPPERS = ("state_dict", "model", "best_state_dict")
# DataParallel's prefix, then that of HigherHRNet's half-precision training: Sequential(tofp16, net, tofp32).
PREFIXES = ("module.", "1.")
# mmpose 0.x and 1.x names -> the official HRNet's. The second name of a head is what mmpose 1.x renames it to.
MMPOSE_NAMES = (
    ("backbone.", ""),
    ("keypoint_head.final_layer.", "final_layer."),
    ("head.final_layer.", "final_layer."),
)
MMPOSE_EXTRA = ("data_preprocessor.mean", "data_preprocessor.std")  # mmpose 1.x: the image normalisation, no weights

WEIGHTS_HINT = (
    "give the .pth file that training or its publisher wrote; `make weights MODEL=...` gets the published one"
)


def load_checkpoint(module: nn.Module, path: str | os.PathLike) -> dict[str, Any]:
    """Load a checkpoint into `module`, strictly, as float32; returns what was unwrapped, for the record.

    Returns {"tensors": count, "unwrapped": [keys], "stripped": [prefixes], "cast": [dtypes made float32]}.
    Raises UserError for a file that is missing, truncated, of another kind, or holds code (which is never run);
    for missing, unexpected or wrongly shaped names, the first five of each; and for NaN or infinite weights.
    """
    path = Path(path)
    content = read_checkpoint(path)
    weights, unwrapped = _unwrap(content, path)
    expected = module.state_dict()
    weights, stripped = _rename(weights, expected)
    _check_names(weights, expected, path)
    cast = sorted(
        {str(t.dtype).removeprefix("torch.") for t in weights.values() if t.is_floating_point()} - {"float32"}
    )
    weights = {name: tensor.to(expected[name].dtype) for name, tensor in weights.items()}
    bad = [name for name, t in weights.items() if t.is_floating_point() and not torch.isfinite(t).all()]
    if bad:
        raise UserError(
            f"{path}: NaN or infinite values in {len(bad)} weights: {listed(bad)}",
            "the training diverged or the file was damaged: take an earlier checkpoint",
        )
    module.load_state_dict(weights, strict=True)
    return {"tensors": len(weights), "unwrapped": unwrapped, "stripped": stripped, "cast": cast}


def read_checkpoint(path: Path) -> Any:
    """torch.load on the CPU with weights_only=True: tensors and plain containers, never code. UserError otherwise."""
    refuse_other_kinds(path, "a torch checkpoint", but={"zip", "pickle"})
    try:
        with warnings.catch_warnings(), _plain_numpy():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message: "... Unsupported global: GLOBAL posix.system was not an allowed global by default. ..."
        if found := re.search(r"GLOBAL (\S+)|[Uu]nsupported class (\S+)", str(error)):
            raise UserError(
                f"{path} holds more than weights: it would call {found[1] or found[2]}; nothing in it was executed",
                "where you trust it, save its weights alone: torch.save(checkpoint['state_dict'], 'weights.pth')",
            ) from None
        raise UserError(f"{path} is not a torch checkpoint, or is damaged: {_short(error)}", WEIGHTS_HINT) from None
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, IndexError, TypeError, OSError) as error:
        raise UserError(f"{path} is truncated, or is not a torch checkpoint: {_short(error)}", WEIGHTS_HINT) from None


def _plain_numpy() -> AbstractContextManager:
    """Let numpy scalars and arrays through, as training logs in `meta` hold them: data, no behaviour."""
    multiarray = np._core.multiarray  # pickles name it numpy.core (numpy 1) or numpy._core (numpy 2)
    allowed: list[Any] = [np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?"))]
    for function in ("scalar", "_reconstruct"):
        for package in ("numpy.core.multiarray", "numpy._core.multiarray"):
            allowed.append((getattr(multiarray, function), f"{package}.{function}"))
    return torch.serialization.safe_globals(allowed)


def _unwrap(content: Any, path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Down through the wrapping dictionaries to the one that maps names to tensors."""
    unwrapped = []
    while isinstance(content, Mapping):
        key = next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if key is None:
            break
        unwrapped.append(key)
        content = content[key]
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        found = f"keys {listed(sorted(map(str, content)))}" if isinstance(content, Mapping) else type(content).__name__
        raise UserError(
            f"{path} holds no weights by name, only {found}", "save it as torch.save(model.state_dict(), ...)"
        )
    odd = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if odd:
        raise UserError(f"{path}: {len(odd)} entries among the weights are no tensors: {listed(odd)}", WEIGHTS_HINT)
    return {str(name): value for name, value in content.items()}, unwrapped


def _rename(weights: dict[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Strip wrappers' prefixes, and translate mmpose's names where the network itself does not have them."""
    stripped = []
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in weights) and not any(name.startswith(prefix) for name in expected):
            weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
            stripped.append(prefix)
    for old, new in MMPOSE_NAMES:
        if any(name.startswith(old) for name in weights) and not any(name.startswith(old) for name in expected):
            weights = {new + name[len(old) :] if name.startswith(old) else name: t for name, t in weights.items()}
            stripped.append(old)
    return {name: tensor for name, tensor in weights.items() if name not in MMPOSE_EXTRA}, stripped


def _check_names(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    shapes = [
        f"{name} is {_shape(weights[name])}, should be {_shape(tensor)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    problems = [f"{len(names)} {kind}: {listed(names)}" for kind, names in kinds if names]
    if problems:
        raise UserError(
            f"{path} does not fit the network of {len(expected)} tensors; " + "; ".join(problems),
            _mismatch_hint(missing),
        )


def _mismatch_hint(missing: list[str]) -> str:
    if missing and all(name.startswith("final_layer.") for name in missing):
        return "only the head is missing: is it a backbone pre-trained on ImageNet? a pose network's weights are needed"
    return "is it another width, joint count or architecture? compare MODEL's model.yaml with where the file came from"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
