"""Take the weights out of the graph's inputs.

Up to IR 3 every initializer had to be listed as an input too, as a default value that a caller might replace. Compilers
then ask for the weights as data, and onnxruntime cannot fold them. From IR 4 on they need not be listed (onnx IR.md).
"""

from __future__ import annotations

from typing import Any

import onnx

ORDER = 10
FIRST_IR_WITHOUT = 4


def apply(model: onnx.ModelProto, chip: Any) -> tuple[onnx.ModelProto, list[str]]:
    """Drop initializers from the inputs, and raise an older IR to 4, which allows that."""
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in weights]
    changes = []
    if dropped := len(model.graph.input) - len(kept):
        del model.graph.input[:]
        model.graph.input.extend(kept)
        changes.append(f"{dropped} weights left the inputs")
    if model.ir_version < FIRST_IR_WITHOUT:
        changes.append(f"IR {model.ir_version} -> {FIRST_IR_WITHOUT}")
        model.ir_version = FIRST_IR_WITHOUT
    return model, changes
