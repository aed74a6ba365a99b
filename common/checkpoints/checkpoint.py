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

from common.basics.errors import UserError
from common.basics.file_kinds import refuse_other_kinds
from common.basics.wording import listed
from common.checkpoints.weight_names import rename

# HRNet tools/train.py saves epoch, model (a name), state_dict, best_state_dict, perf, optimizer; mmpose: meta,
# state_dict.
WRAPPERS = ("state_dict", "model", "best_state_dict")
# What a network has beyond its backbone: HRNet's and HigherHRNet's names, and mmpose's.
HEADS = ("final_layer.", "final_layers.", "deconv_layers.", "keypoint_head.")
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
    found, (weights, stripped) = weights, rename(weights, expected)
    _check_names(weights, expected, found, path)
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
            called = found[1] or found[2]
            hint = "where you trust it, save its weights alone: torch.save(checkpoint['state_dict'], 'weights.pth')"
            if called.startswith("ultralytics."):
                hint = "where you trust it, export it with Ultralytics as ONNX (opset 11 to 17), and give that"
            raise UserError(
                f"{path} holds more than weights: it would call {called}; nothing in it was executed", hint
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


def _check_names(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path
) -> None:
    """Raises UserError unless names and shapes are the expected ones. found: the weights as the file names them."""
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
            _mismatch_hint(missing, found),
        )


def _mismatch_hint(missing: list[str], found: Mapping[str, Tensor]) -> str:
    from common.checkpoints.likely_model import likenesses, nearest_in_words

    alike = likenesses(found)
    if fitting := [name for name, likeness in alike.items() if likeness.fits]:
        return f"it fits {', '.join(fitting)}: say MODEL={fitting[0]}"
    if missing and all(name.startswith(HEADS) for name in missing):
        return "only the head is missing: is it a backbone pre-trained on ImageNet? a pose network's weights are needed"
    return f"{nearest_in_words(alike)}; compare that model's model.yaml with where the file came from"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
