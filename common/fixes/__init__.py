"""The fix passes: one small file each, found by folder, applied in the order that each one declares.

A pass is a module of this folder with a docstring (its first line is the description), ORDER, and

    apply(model, chip) -> (model, changes)

model: the ModelProto, which the pass may change in place; chip: the chip's GraphSpec (opset range, IR version);
changes: what was done, in words, [] for nothing. A pass knows neither networks nor chips by name, and must not change
what the graph computes: common/fix.py checks that after each.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx

Apply = Callable[[onnx.ModelProto, Any], tuple[onnx.ModelProto, list[str]]]


@dataclass(frozen=True)
class Pass:
    """A named rewrite of a graph. order: small ones come first; the names of two passes never tie."""

    name: str
    order: int
    description: str
    apply: Apply


def discover() -> list[Pass]:
    """Every pass of this folder, in order."""
    passes = []
    for entry in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{entry.name}")
        description = (module.__doc__ or "").strip().splitlines()[0]
        passes.append(Pass(entry.name, module.ORDER, description, module.apply))
    return sorted(passes, key=lambda item: (item.order, item.name))
