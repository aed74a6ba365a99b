"""Fold constants and shape arithmetic, merge BatchNormalization into convolutions (onnxsim)."""

from __future__ import annotations

import sys
from typing import Any

import onnx

ORDER = 50
OPTIONAL = ("torch", "sympy")


def apply(model: onnx.ModelProto, chip: Any) -> tuple[onnx.ModelProto, list[str]]:
    """A graph that onnxsim cannot take is left as it is, and the reason is recorded: preflight judges what is left."""
    onnxsim = _import_onnxsim()
    before = len(model.graph.node)
    try:
        # Outputs are compared by common/fix.py, on real inputs too; onnxsim's own check would be a second of the kind.
        simplified, _ = onnxsim.simplify(model, check_n=0)
    except Exception as error:  # from C++, of any kind
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        return model, [f"left as it was: onnxsim cannot take it ({reason})"]
    # onnxsim's own log of what it did, in another order each time, would make equal graphs unequal files.
    del simplified.metadata_props[:]
    simplified.metadata_props.extend(model.metadata_props)
    if simplified.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True):
        return model, []
    return simplified, [f"{before} nodes -> {len(simplified.graph.node)}"]


def _import_onnxsim() -> Any:
    """onnxsim without torch and sympy. It imports both where they are there, for exports and a printed table that
    nothing here asks for, and they take four of its five seconds."""
    absent = [name for name in OPTIONAL if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # None: as where a package is not installed
    try:
        import onnxsim
    finally:
        for name in absent:
            del sys.modules[name]
    return onnxsim
