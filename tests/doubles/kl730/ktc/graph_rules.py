"""What a graph has to be, and the mark that shows that it went through an optimiser."""

from __future__ import annotations

import copy

import onnx

OPSETS = range(8, 19)  # [appendix/kneronnxopt.md]: 8 to 18
MOST_IR = 9  # [appendix/history.md]: onnx 1.13; its onnxruntime answers "max supported IR version: 9"
MARK = "npumake-double-optimised"


def check_graph(model: onnx.ModelProto) -> None:
    if not isinstance(model, onnx.ModelProto):
        raise TypeError(f"a ModelProto is needed, not {type(model).__name__}")
    opsets = [one.version for one in model.opset_import if one.domain in ("", "ai.onnx")]
    if len(opsets) != 1 or opsets[0] not in OPSETS:
        raise ValueError(f"opset {opsets} is outside 8 to 18")
    if model.ir_version > MOST_IR:
        raise ValueError(f"Unsupported model IR version: {model.ir_version}, max supported IR version: {MOST_IR}")
    if any(one.data_location == onnx.TensorProto.EXTERNAL for one in model.graph.initializer):
        raise ValueError("External data is not loaded")
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        sizes = value.type.tensor_type.shape.dim
        if value.name not in weights and (not sizes or any(not size.dim_value for size in sizes)):
            raise ValueError(f"dynamic shapes are not supported: {value.name}")  # [manual_3_onnx.md, 3.1]
    onnx.checker.check_model(model)


def mark_optimised(model: onnx.ModelProto, by: str) -> onnx.ModelProto:
    """A copy with the mark, its outputs in another order: optimisation can change it."""
    made = copy.deepcopy(model)
    made.metadata_props.append(onnx.StringStringEntryProto(key=MARK, value=by))
    outputs = list(made.graph.output)[::-1]
    del made.graph.output[:]
    made.graph.output.extend(outputs)
    return made


def is_optimised(model: onnx.ModelProto) -> bool:
    return any(entry.key == MARK for entry in model.metadata_props)


def input_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in model.graph.input
        if value.name not in weights
    }
