"""A network that was exported for one input size, run at others: the float network in its authors' own protocol."""

from __future__ import annotations

import os

import onnx
from onnx import numpy_helper

from common.basics.errors import UserError
from common.basics.wording import shape_text
from common.graphs.onnx_graph import Runner, graph_inputs, load_onnx, tensors

# What keeps a size within the graph as a constant; such a graph computes rubbish, or nothing, at another size.
_SIZED = {"Reshape", "Expand", "Tile", "ConstantOfShape", "Flatten", "Gemm", "MatMul"}


def load_any_size(path: str | os.PathLike) -> Runner:
    """A fully convolutional graph in onnxruntime, for inputs float32 [1, C, h, w] of any h and w that it can divide.

    Use its run_once(). Raises UserError when the graph holds sizes of its own.
    """
    model = load_onnx(path)
    check_scalable(model, str(path))
    return Runner(without_sizes(model))


def without_sizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose inputs and outputs have free heights and widths; onnxruntime works out the rest."""
    free = onnx.ModelProto()
    free.CopyFrom(model)
    weights = {tensor.name for tensor in free.graph.initializer}
    del free.graph.value_info[:]
    for number, value in enumerate([*(v for v in free.graph.input if v.name not in weights), *free.graph.output]):
        dimensions = value.type.tensor_type.shape.dim
        for dimension, name in zip(dimensions[2:4], ("height", "width"), strict=True):
            dimension.dim_param = f"{name}{number}"
    return free


def check_scalable(model: onnx.ModelProto, where: str) -> None:
    """UserError, with the node, unless the graph is convolutions and the like, and resizes by constant factors."""
    known = {tensor.name: tensor for tensor in tensors(model)}
    inputs = graph_inputs(model)
    if len(inputs) != 1 or inputs[0].shape is None or len(inputs[0].shape) != 4:
        shapes = ", ".join(shape_text(tensor.shape) for tensor in inputs)
        raise UserError(f"{where} has the inputs {shapes}, not one image", "evaluate it on a chip, at its own size")
    for node in model.graph.node:
        fixed = node.op_type in _SIZED
        if node.op_type == "Resize":  # inputs: X, roi, scales, sizes
            scales = known.get(node.input[2]) if len(node.input) > 2 else None
            fixed = "".join(node.input[3:]) != "" or scales is None or numpy_helper.to_array(scales).size != 4
        if fixed:
            name = node.name or node.output[0]
            raise UserError(
                f"{where}: node '{name}' ({node.op_type}) holds a size, so the network takes one size only",
                "export it with scale_factor instead of size; or evaluate it on a chip, at its own size",
            )
