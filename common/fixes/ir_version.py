"""Write the IR version that the chip's compiler reads: the container's version, not the arithmetic's."""

from __future__ import annotations

from typing import Any

import onnx

ORDER = 90


def apply(model: onnx.ModelProto, chip: Any) -> tuple[onnx.ModelProto, list[str]]:
    """Set chip.ir_version."""
    if model.ir_version == chip.ir_version:
        return model, []
    changes = [f"IR {model.ir_version} -> {chip.ir_version}"]
    model.ir_version = chip.ir_version
    return model, changes
