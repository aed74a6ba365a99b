"""Run a graph one operator at a time: the yardstick for graphs that onnxruntime refuses as a whole.

Each node runs alone in onnxruntime, so no optimiser sees the graph. BatchNormalization is computed here, from its
definition, because its old form `spatial=0` is what onnxruntime refuses.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from common.basics.errors import UserError
from common.graphs.onnx_graph import NEWEST_RUNNABLE_IR, Runner, graph_inputs, graph_outputs


def run_node_by_node(model: onnx.ModelProto, samples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{input name: [N, ...]} -> {output name: [N, ...]}, like onnx_graph.run_onnx.

    Raises UserError, with the node's name, for an operator that onnxruntime does not run alone either.
    """
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    runners: dict[int, Runner] = {}
    collected: dict[str, list[np.ndarray]] = {output.name: [] for output in graph_outputs(model)}
    for index in range(len(next(iter(samples.values())))):
        values = dict(weights)
        for tensor in graph_inputs(model):
            values[tensor.name] = samples[tensor.name][index : index + 1].astype(tensor.dtype)
        for position, node in enumerate(model.graph.node):
            values.update(_run_node(model, node, position, values, runners))
        for name, results in collected.items():
            results.append(values[name])
    return {name: np.concatenate(results) for name, results in collected.items()}


def _run_node(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    position: int,
    values: dict[str, np.ndarray],
    runners: dict[int, Runner],
) -> dict[str, np.ndarray]:
    if node.op_type == "BatchNormalization":
        return {node.output[0]: batch_normalization(node, *(values[name] for name in node.input))}
    try:
        if position not in runners:
            runners[position] = Runner(_single_node_model(model, node, values), as_it_came=True, threads=1)
        runner = runners[position]
        feed = {tensor.name: values[tensor.name] for tensor in runner.inputs}
        return runner.run_once(feed)
    except UserError as error:
        raise UserError(f"node '{node.name or node.output[0]}' ({node.op_type}): {error.message}", error.hint) from None


def _single_node_model(model: onnx.ModelProto, node: onnx.NodeProto, values: dict[str, np.ndarray]) -> onnx.ModelProto:
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    constants = [initializers[name] for name in dict.fromkeys(node.input) if name in initializers]
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values[name].dtype), values[name].shape)
        for name in dict.fromkeys(node.input)
        if name and name not in initializers
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "one_node", inputs, outputs, constants)
    # A weight need not be an input from IR 4 on; the runtime reads no IR newer than its own.
    ir_version = min(max(model.ir_version, 4), NEWEST_RUNNABLE_IR)
    return helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=ir_version)


def batch_normalization(
    node: onnx.NodeProto, x: np.ndarray, scale: np.ndarray, bias: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> np.ndarray:
    """scale * (x - mean) / sqrt(variance + epsilon) + bias, float32 [N, C, ...]; epsilon is 1e-5 unless given.

    Statistics of shape (C,) count per channel, and of a whole sample's shape (C, H, W) per activation: the two forms of
    ONNX's Changelog.md, BatchNormalization-7, told apart by the shapes themselves.
    """
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    shape = (-1, *(1,) * (x.ndim - 2)) if scale.ndim == 1 else scale.shape
    scale, bias, mean, variance = (values.reshape(shape).astype(np.float64) for values in (scale, bias, mean, variance))
    result = scale * (x - mean) / np.sqrt(variance + attributes.get("epsilon", 1e-5)) + bias
    return result.astype(x.dtype)
