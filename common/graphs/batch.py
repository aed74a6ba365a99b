"""BATCH=: the fixed graph for one sample, rewritten for n samples at once.

A value that comes from the graph's input has the batch as its first axis, of size 1. It becomes n at the input, and the
constants that repeat it (the shape of a Reshape, the sizes of a Resize, a constant beside it in a Concat) follow. Then
every value must have its old shape with n for the 1: a node that moves, merges or drops the axis is named and refused.
That the samples do not mix is shown by running them (common/fix.py), not argued here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from common.basics.errors import UserError
from common.basics.wording import shape_text
from common.fixes import constants_to_initializers, remove_unused
from common.graphs.onnx_graph import graph_inputs, opset_of

HINT = "build it with BATCH=1, or export it with this batch's axis first in every layer"
SAME_BATCH = ("Concat", "GridSample")  # operators whose inputs do not broadcast: a constant among them is repeated


def set_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """A copy for `batch` samples at once. model: static shapes, batch 1 first in every input and output.

    Raises UserError that names the first node whose result does not keep the batch as its first axis.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result, _ = constants_to_initializers.apply(result, None)
    before = _shapes(result)
    _check_inputs(result)
    rewriter = _Rewriter(result, before, batch)
    carried = {tensor.name for tensor in graph_inputs(result)}  # values that come from the input
    for node in result.graph.node:
        if carried.isdisjoint(node.input):
            continue
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            raise UserError(f"{_named(node)} holds a graph of its own, which has no known batch", HINT)
        for name in filter(None, node.output):
            if name in before and before[name][:1] != (1,):
                raise UserError(
                    f"{_named(node)}: its output is {shape_text(before[name])}, where the batch is no axis of its own",
                    HINT,
                )
        rewriter.rewrite(node, carried)
        carried |= set(filter(None, node.output))
    for value in result.graph.output:
        if value.name not in carried:
            raise UserError(f"output '{value.name}' does not come from the input: it has no batch", HINT)
    for value in [*result.graph.input, *result.graph.output]:
        if value.name in carried:
            value.type.tensor_type.shape.dim[0].dim_value = batch
    del result.graph.value_info[:]
    result, _ = remove_unused.apply(result, None)
    return _with_checked_shapes(result, before, carried, batch)


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The shape of every value that inference finds from the inputs: {tensor name: sizes}. UserError for a mistake."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    for value in bare.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        reason = next((line for line in str(error).splitlines() if "(op_type" in line), str(error).splitlines()[0])
        raise UserError(f"the shapes do not fit together: {reason.strip()[:300]}", HINT) from None
    found = {}
    for value in [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]:
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(dim.dim_value > 0 for dim in kind.shape.dim):
            found[value.name] = tuple(dim.dim_value for dim in kind.shape.dim)
    return found


def _check_inputs(model: onnx.ModelProto) -> None:
    for tensor in graph_inputs(model):
        if tensor.shape is None or tensor.shape[:1] != (1,):
            raise UserError(f"input '{tensor.name}' is {shape_text(tensor.shape)}: its batch is not 1", HINT)


def _with_checked_shapes(
    model: onnx.ModelProto, before: dict[str, tuple[int, ...]], carried: set[str], batch: int
) -> onnx.ModelProto:
    """The graph with its new shapes noted; UserError that names the first node whose result is not the old one with
    another batch."""
    after = _shapes(model)
    for node in model.graph.node:
        for name in filter(None, node.output):
            if name not in before:
                continue
            expected = (batch, *before[name][1:]) if name in carried else before[name]
            if after.get(name, expected) != expected:
                raise UserError(
                    f"{_named(node)} does not keep the batch: its output was {shape_text(before[name])}, and becomes "
                    f"{shape_text(after[name])} for a batch of {batch}",
                    HINT,
                )
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def _named(node: onnx.NodeProto) -> str:
    return f"node '{node.name or node.output[0]}' ({node.op_type})"


class _Rewriter:
    """Changes the constants that repeat the batch. A constant may have other readers: each change is a new one."""

    def __init__(self, model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]], batch: int):
        self._graph, self._shapes, self._batch = model.graph, shapes, batch
        self._opset = opset_of(model)
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._names = set(self._constants) | {name for node in model.graph.node for name in node.output}

    def rewrite(self, node: onnx.NodeProto, carried: set[str]) -> None:
        """Change the node's constant inputs. carried: the values that come from the graph's input."""
        if node.op_type in ("Reshape", "Expand"):
            self._leading(node, 1, 0)
        elif node.op_type == "Resize" and len(node.input) > 3 and node.input[3]:
            rank = len(self._shapes.get(node.output[0], ()))
            axes = _attribute(node, "axes", list(range(rank)))
            positions = [position for position, axis in enumerate(axes) if axis in (0, -rank)]
            if positions:
                self._leading(node, 3, positions[0])
        elif node.op_type in SAME_BATCH:
            for position, name in enumerate(node.input):
                if name in self._constants and name not in carried:
                    self._repeat(node, position)

    def _leading(self, node: onnx.NodeProto, position: int, entry: int) -> None:
        """The entry of a shape-like constant that counts samples: 1, or -1 for "what is left", becomes the batch."""
        name = node.input[position] if len(node.input) > position else ""
        if name not in self._constants:
            raise UserError(f"{_named(node)}: its shape is computed, not constant", HINT)
        sizes = numpy_helper.to_array(self._constants[name]).copy()
        if node.op_type == "Expand" and sizes.size < len(self._shapes.get(node.output[0], ())):
            return  # sizes count from the last axis: these do not reach the batch
        if node.op_type == "Reshape" and sizes.size and sizes[entry] == 0 and not _attribute(node, "allowzero", 0):
            return  # 0 copies the input's
        if sizes.ndim != 1 or not sizes.size or sizes[entry] not in (1, -1):
            raise UserError(f"{_named(node)}: its shape {sizes.tolist()} has no axis for the batch", HINT)
        sizes[entry] = self._batch
        self._replace(node, position, sizes)

    def _repeat(self, node: onnx.NodeProto, position: int) -> None:
        value = numpy_helper.to_array(self._constants[node.input[position]])
        if value.shape[:1] == (1,):
            self._replace(node, position, np.repeat(value, self._batch, axis=0))

    def _replace(self, node: onnx.NodeProto, position: int, value: np.ndarray) -> None:
        name = f"{node.input[position]}_batch{self._batch}"
        while name in self._names:
            name += "_"
        self._names.add(name)
        self._graph.initializer.append(numpy_helper.from_array(value, name))
        node.input[position] = name


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)
