"""What a chip's integers do to a network, in onnxruntime: the arithmetic behind the doubles of closed SDKs.

A double has to compute something real: weights and activations are rounded to the integers of the vendor's kind, each
tensor with its own scale, and everything else stays float. It is no vendor's simulator, and never meant to be one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
SAMPLES_KEPT = 4096  # values of a tensor that are remembered for percentiles, evenly over all feeds


@dataclass(frozen=True)
class Range:
    """What a tensor's values were: the smallest, the largest, and some of them, sorted."""

    low: float
    high: float
    values: np.ndarray

    def percentile(self, share: float) -> tuple[float, float]:
        """The bounds that hold this share (0..1) of the values, the same number cut from either end."""
        cut = (1.0 - share) / 2
        low, high = np.quantile(self.values, [cut, 1.0 - cut])
        return float(low), float(high)


@dataclass(frozen=True)
class Format:
    """An integer format. power_of_two: the scale is one (a radix point). symmetric: no zero point."""

    bits: int = 8
    symmetric: bool = True
    power_of_two: bool = False
    per_channel: bool = False  # of weights only

    def grid(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, int]:
        """Scale, zero point, lowest and highest integer for values of low..high (arrays of one shape)."""
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
        if self.symmetric:
            lowest, highest = -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1
            scale = np.maximum(np.maximum(-low, high), 1e-12) / highest
        else:
            lowest, highest = 0, 2**self.bits - 1
            scale = np.maximum(high - low, 1e-12) / highest
        if self.power_of_two:
            scale = 2.0 ** np.ceil(np.log2(scale))
        zero = np.zeros_like(scale) if self.symmetric else np.rint(-low / scale)
        return scale, zero, lowest, highest


def run_onnx(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs by name, for one feed."""
    session = _session(model)
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def observe(model: onnx.ModelProto, feeds: Iterable[Mapping[str, np.ndarray]]) -> dict[str, Range]:
    """The ranges of the network's inputs and of every node's float outputs, over all feeds.

    Raises ValueError without any feed.
    """
    feeds = list(feeds)
    probe = copy.deepcopy(model)
    known = {value.name for value in probe.graph.output}
    produced = [name for node in probe.graph.node if node.op_type != "Constant" for name in node.output if name]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in produced if name not in known)
    session = _session(probe)
    names = [value.name for value in session.get_outputs()]
    each = max(SAMPLES_KEPT // max(len(feeds), 1), 1)
    seen: dict[str, list[tuple[float, float, np.ndarray]]] = {}
    for feed in feeds:
        for name, array in [*feed.items(), *zip(names, session.run(names, dict(feed)), strict=True)]:
            if array.dtype == np.float32 and array.size:
                some = array.ravel()[:: max(array.size // each, 1)].copy()
                seen.setdefault(name, []).append((float(array.min()), float(array.max()), some))
    if not seen:
        raise ValueError("no feed to observe")
    ranges = {}
    for name, parts in seen.items():
        lows, highs, values = zip(*parts, strict=True)
        ranges[name] = Range(min(lows), max(highs), np.sort(np.concatenate(values)))
    return ranges


def fake_quantised(
    model: onnx.ModelProto,
    ranges: Mapping[str, tuple[float, float]],
    activations: Format,
    weights: Format,
    formats: Mapping[str, Format] | None = None,
    skip: Iterable[str] = (),
) -> onnx.ModelProto:
    """A copy whose weights are rounded, and where every tensor that `ranges` names is rounded where it is made.

    ranges: (low, high) by tensor name; one that is not named stays float. formats: other formats for single tensors.
    skip: nodes (by name) whose weights and outputs stay float. Outputs of the graph keep their names.
    """
    formats, skip = dict(formats or {}), set(skip)
    made = copy.deepcopy(model)
    graph = made.graph
    kept_float = {name for node in graph.node if node.name in skip for name in node.output}
    _round_weights(graph, weights, skip)
    outputs = {value.name for value in graph.output}
    nodes: list[onnx.NodeProto] = []
    renamed: dict[str, str] = {}

    def rounded(name: str) -> None:
        """Append the nodes that round `name`; from here on readers read the rounded tensor."""
        source, target = (f"{name}.exact", name) if name in outputs else (name, f"{name}.rounded")
        if name in outputs:
            for index, output in enumerate(nodes[-1].output):
                if output == name:
                    nodes[-1].output[index] = source
        else:
            renamed[name] = target
        nodes.extend(_rounding(graph, source, target, formats.get(name, activations), ranges[name]))

    wanted = set(ranges) - kept_float
    for value in graph.input:
        if value.name in wanted:
            rounded(value.name)
    for node in graph.node:
        nodes.append(copy.deepcopy(node))
        for index, name in enumerate(node.input):
            nodes[-1].input[index] = renamed.get(name, name)
        for name in node.output:
            if name in wanted:
                rounded(name)
    del graph.node[:]
    graph.node.extend(nodes)
    return made


def _rounding(
    graph: onnx.GraphProto, source: str, target: str, form: Format, bounds: tuple[float, float]
) -> list[onnx.NodeProto]:
    """clip(round(x / scale) + zero, lowest, highest), and back: five nodes and their constants."""
    scale, zero, lowest, highest = form.grid(*(np.array(bound, np.float64) for bound in bounds))
    constants = {"scale": scale, "lowest": lowest - zero, "highest": highest - zero}
    for word, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), f"{target}.{word}"))
    steps = [("Div", ["scale"]), ("Round", []), ("Max", ["lowest"]), ("Min", ["highest"]), ("Mul", ["scale"])]
    nodes, current = [], source
    for number, (operator, words) in enumerate(steps):
        following = target if number == len(steps) - 1 else f"{target}.step{number}"
        inputs = [current, *(f"{target}.{word}" for word in words)]
        nodes.append(helper.make_node(operator, inputs, [following], f"{target}.{operator}"))
        current = following
    return nodes


def _round_weights(graph: onnx.GraphProto, form: Format, skip: set[str]) -> None:
    """Round the weights (not the biases) of the nodes that multiply."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type not in WEIGHTED or node.name in skip:
            continue
        tensor = tensors.get(node.input[1])
        if tensor is None:
            continue
        values = numpy_helper.to_array(tensor).astype(np.float64)
        axis = 1 if node.op_type == "ConvTranspose" else 0
        others = tuple(index for index in range(values.ndim) if index != axis) if form.per_channel else None
        low, high = values.min(axis=others, keepdims=True), values.max(axis=others, keepdims=True)
        scale, zero, lowest, highest = form.grid(low, high)
        rounded = (np.clip(np.rint(values / scale) + zero, lowest, highest) - zero) * scale
        tensor.CopyFrom(numpy_helper.from_array(rounded.astype(np.float32), tensor.name))
