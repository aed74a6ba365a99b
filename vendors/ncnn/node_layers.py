"""Which ncnn layer came from which ONNX node: pnnx renames, fuses and reorders, but the weights tell.

A layer belongs to a node when it holds the node's weights: the same values; or the same in another order (a
transposed matrix, the gates of a recurrent layer); or the same up to one factor for each output channel (a
normalisation that pnnx folded in). Nodes that share their weights, or were made equal, share their layers.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from failure import VendorError
from job_file import KeptFloat
from matrix_layers import QUANTIZED_WITHOUT_TABLE
from onnx_reader import Graph, Node
from param_file import Layer, Network
from quantize import quantizable_layers

# Operators with weights that become layers which can be int8; with constant weights they must be found.
WEIGHTED = ("Conv", "Gemm", "MatMul", "LSTM", "GRU", "RNN")
CLOSE = 1e-4  # relative; folding a normalisation rounds each weight once


class WeightIndex:
    """The layers that can be int8, and those whose weights stay float anyway, by what they hold."""

    def __init__(self, network: Network):
        self._int8 = {layer.name for layer in quantizable_layers(network)}
        self._int8 |= {layer.name for layer in network.layers if layer.type in QUANTIZED_WITHOUT_TABLE}
        self._by_size: dict[int, list[tuple[Layer, np.ndarray]]] = {}
        for layer in network.layers:
            for array in layer.weights.values():
                self._by_size.setdefault(array.size, []).append((layer, array))

    def layers_with(self, weight: np.ndarray) -> list[Layer]:
        """The layers, int8 or not, that hold this weight (float32 [outputs, ...] or [rows, columns])."""
        candidates = self._by_size.get(weight.size, [])
        for same in (_equal, _permuted, _scaled):
            found = [layer for layer, array in candidates if same(weight, array)]
            if found:
                return found
        return []

    def can_be_int8(self, layer: Layer) -> bool:
        return layer.name in self._int8


def _equal(weight: np.ndarray, array: np.ndarray) -> bool:
    return bool(np.array_equal(weight.reshape(-1), array.reshape(-1)))


def _permuted(weight: np.ndarray, array: np.ndarray) -> bool:
    return bool(np.array_equal(np.sort(weight, axis=None), np.sort(array, axis=None)))


def _scaled(weight: np.ndarray, array: np.ndarray) -> bool:
    """Each output channel of `array` is that of `weight` times one factor."""
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    others = array.reshape(len(weight), -1).astype(np.float64)
    if rows.shape[1] < 2:  # one value a channel: anything is a multiple of it
        return False
    power = (rows**2).sum(axis=1)
    factors = (rows * others).sum(axis=1) / np.where(power > 0, power, 1.0)
    distance = ((others - factors[:, None] * rows) ** 2).sum(axis=1)
    return bool(factors.any() and (distance <= CLOSE**2 * (others**2).sum(axis=1)).all())


def weights_of(node: Node, graph: Graph) -> list[np.ndarray]:
    """The node's constant tensors of two dimensions or more."""
    return [graph.weights[name] for name in node.inputs if name in graph.weights and graph.weights[name].ndim > 1]


def layers_of_nodes(kept: Iterable[KeptFloat], graph: Graph, network: Network) -> frozenset[str]:
    """The names of the ncnn layers that must stay float for these nodes; nodes without weights are float anyway.

    Raises VendorError that names the nodes that are not in the graph, or whose layer cannot be told.
    """
    by_output = {output: node for node in graph.nodes for output in node.outputs}
    index = WeightIndex(network)
    found: set[str] = set()
    missing, unknown = [], []
    for one in kept:
        node = next((by_output[output] for output in one.outputs if output in by_output), None)
        if node is None or node.operator != one.operator:
            missing.append(one.node)
            continue
        weights = weights_of(node, graph)
        layers = [layer for weight in weights for layer in index.layers_with(weight)]
        if weights and not layers and node.operator in WEIGHTED:
            unknown.append(f"{one.node} ({one.operator})")
        found.update(layer.name for layer in layers if index.can_be_int8(layer))
    if missing:
        raise VendorError(f"keep_float names nodes that are not in the graph: {', '.join(missing)}", "run make again")
    if unknown:
        raise VendorError(
            f"no ncnn layer has the weights of {', '.join(unknown)}: pnnx merged them into something else",
            "keep a neighbouring node float instead, or use PRECISION=fp32",
        )
    return frozenset(found)


def tensors_of_layers(graph: Graph, network: Network) -> dict[str, list[str]]:
    """{ncnn layer: ONNX tensors that it makes}, where a single node's weights tell.

    A layer that pnnx fused with an activation makes that node's tensor.
    """
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    index = WeightIndex(network)
    found: dict[str, list[list[str]]] = {}
    for node in graph.nodes:
        if node.operator not in (*WEIGHTED, "ConvTranspose"):
            continue
        layers = {layer.name: layer for weight in weights_of(node, graph) for layer in index.layers_with(weight)}
        for layer in layers.values():
            output, after = node.outputs[0], readers.get(node.outputs[0], [])
            fused = layer.parameters.get(9, 0) != 0
            if fused and len(after) != 1:
                continue
            found.setdefault(layer.name, []).append([after[0].outputs[0] if fused else output])
    return {name: tensors[0] for name, tensors in found.items() if len(tensors) == 1}
