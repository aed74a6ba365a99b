"""Fold constants and shape arithmetic, merge BatchNormalization into convolutions (onnxsim)."""

from __future__ import annotations

from typing import Any

import onnx

ORDER = 50


def apply(model: onnx.ModelProto, chip: Any) -> tuple[onnx.ModelProto, list[str]]:
    """A graph that onnxsim cannot take is left as it is, and the reason is recorded: preflight judges what is left."""
    import onnxsim

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
