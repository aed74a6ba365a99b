"""Turn Constant nodes into initializers: the same values, and one form of constant for the compiler to know."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

ORDER = 60
NUMBERS = {"value_float": np.float32, "value_int": np.int64, "value_floats": np.float32, "value_ints": np.int64}


def apply(model: onnx.ModelProto, chip: Any) -> tuple[onnx.ModelProto, list[str]]:
    """Constants of text or of sparse tensors stay nodes; so does one that is itself an output of the graph."""
    outputs = {value.name for value in model.graph.output}
    moved = 0
    for node in [node for node in model.graph.node if node.op_type == "Constant"]:
        tensor = _tensor(node.attribute[0])
        if tensor is None or node.output[0] in outputs:
            continue
        tensor.name = node.output[0]
        model.graph.initializer.append(tensor)
        model.graph.node.remove(node)
        moved += 1
    return model, [f"{moved} Constant nodes became initializers"] if moved else []


def _tensor(attribute: onnx.AttributeProto) -> onnx.TensorProto | None:
    if attribute.name == "value":
        return attribute.t
    if attribute.name in NUMBERS:
        return numpy_helper.from_array(np.asarray(onnx.helper.get_attribute_value(attribute), NUMBERS[attribute.name]))
    return None
