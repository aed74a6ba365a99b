"""What a graph does to its input before its first layer: a normalisation that it holds itself, a turned layout.

    image -> Transpose? -> Sub, Div, Mul, Add, BatchNormalization by constants -> ... -> first layer

Together these are y = gain x + offset for each channel, that is (x - mean) / std with mean = -offset / gain and
std = 1 / gain. From their size follows what the graph wants to be fed: pixels of 0..255, or of 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from common.graphs.onnx_graph import graph_inputs

CHANNELS_FIRST, CHANNELS_LAST = "channels first", "channels last"
PASSED_OVER = {"Identity", "Cast", "Dropout"}
# Of natural photographs the mean is near the middle and the standard deviation about a quarter of the range (ImageNet:
# 0.4 to 0.5, and 0.23); of a range merely mapped to -1..1 or 0..1 they are its middle or 0, and half of it or all.
# Statistics that a first BatchNormalization learned on normalised images are near 0 and 1: they are none of these.
PIXEL_MEANS, PIXEL_STDS = (0.0, 160.0), (40.0, 260.0)
UNIT_MEANS, UNIT_STDS = (0.2, 0.7), (0.15, 0.65)


@dataclass
class Opening:
    """What comes before the first layer. mean, std: float64 [C], so that the graph computes (x - mean) / std; None
    where it computes nothing of the kind. fed: what x is then, "0..255", "0..1" or None where that is not clear."""

    operators: list[str] = field(default_factory=list)
    layout: str = CHANNELS_FIRST
    mean: np.ndarray | None = None
    std: np.ndarray | None = None
    swaps_colors: bool = False

    @property
    def fed(self) -> str | None:
        if self.mean is None or self.std is None:
            return None
        for words, means, stds in (("0..255", PIXEL_MEANS, PIXEL_STDS), ("0..1", UNIT_MEANS, UNIT_STDS)):
            if _within(self.mean, means) and _within(self.std, stds):
                return words
        return None

    @property
    def arithmetic(self) -> str:
        """The normalisation in words; empty where there is none."""
        if self.mean is None or self.std is None:
            return ""
        return f"(x - {_listed(self.mean)}) / {_listed(self.std)} by {', '.join(self.operators)}"

    @property
    def words(self) -> str:
        """One line for a person; what the graph holds, or that it holds nothing."""
        said = [f"its input is turned from {CHANNELS_LAST}"] if self.layout == CHANNELS_LAST else []
        if self.swaps_colors:
            said.append("exchanges the first and the third channel")
        if self.arithmetic:
            wants = f"so it wants {self.fed}" if self.fed else "what range it wants is not clear from that"
            said.append(f"{self.arithmetic}; {wants}")
        return "; ".join(said) or "none in the graph: it is fed what model.yaml declares"


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The values of all weights and Constant nodes by name; an Identity of one is one, too."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    found[node.output[0]] = numpy_helper.to_array(attribute.t)
                elif attribute.name in ("value_float", "value_floats"):
                    found[node.output[0]] = np.asarray(helper.get_attribute_value(attribute), np.float32)
        elif node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def opening_of(model: onnx.ModelProto) -> Opening:
    """Follow the image input through the nodes that only shift, scale or turn it. An empty Opening for a graph with
    several inputs, or one whose first node is a layer already."""
    opening = Opening()
    inputs = graph_inputs(model)
    shape = inputs[0].shape if len(inputs) == 1 else None
    if shape is None or len(shape) != 4:
        return opening
    axis = 1
    if shape[3] in (1, 3) and shape[1] not in (1, 3):
        axis, opening.layout = 3, CHANNELS_LAST
    channels = shape[axis] if isinstance(shape[axis], int) else 3
    gain, offset = np.ones(channels), np.zeros(channels)
    values, readers = constants(model), _readers(model)
    name = inputs[0].name
    while len(readers.get(name, [])) == 1:
        node = readers[name][0]
        if node.op_type == "Transpose":
            order = next((list(one.ints) for one in node.attribute if one.name == "perm"), [3, 2, 1, 0])
            axis = order.index(axis)
        elif node.op_type == "Gather" and _swaps(node, axis, values):
            gain, offset = gain[::-1], offset[::-1]
            opening.swaps_colors = not opening.swaps_colors
        elif node.op_type not in PASSED_OVER:
            step = _step(node, name, axis, channels, values)
            if step is None:
                break
            gain, offset = step[0] * gain, step[0] * offset + step[1]
            opening.operators.append(node.op_type)
        name = node.output[0]
    if opening.operators and np.all(gain > 0):
        opening.mean, opening.std = -offset / gain + 0.0, 1 / gain
        if opening.swaps_colors:  # told in the order in which the graph is fed
            opening.mean, opening.std = opening.mean[::-1], opening.std[::-1]
    return opening


def _readers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in dict.fromkeys(node.input):
            readers.setdefault(name, []).append(node)
    return readers


def _swaps(node: onnx.NodeProto, axis: int, values: dict[str, np.ndarray]) -> bool:
    along = next((one.i for one in node.attribute if one.name == "axis"), 0)
    indices = values.get(node.input[1])
    return indices is not None and along % 4 == axis and indices.ravel().tolist() == [2, 1, 0]


def _step(
    node: onnx.NodeProto, name: str, axis: int, channels: int, values: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray] | None:
    """(gain, offset), float64 [C], of a node that does nothing but shift and scale each channel; None for others."""
    if node.op_type == "BatchNormalization" and axis == 1 and all(one in values for one in node.input[1:5]):
        scale, bias, mean, variance = (values[one].astype(np.float64).ravel() for one in node.input[1:5])
        if len(scale) != channels:
            return None
        epsilon = next((one.f for one in node.attribute if one.name == "epsilon"), 1e-5)
        gain = scale / np.sqrt(variance + epsilon)
        return gain, bias - gain * mean
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.input) != 2:
        return None
    first = node.input[0] == name
    other = _per_channel(values.get(node.input[1] if first else node.input[0]), axis, channels)
    if other is None or (node.op_type == "Div" and (not first or not other.all())):
        return None
    one, zero = np.ones(channels), np.zeros(channels)
    if node.op_type == "Add":
        return one, other
    if node.op_type == "Sub":
        return (one, -other) if first else (-one, other)
    return (other, zero) if node.op_type == "Mul" else (1 / other, zero)


def _per_channel(value: np.ndarray | None, axis: int, channels: int) -> np.ndarray | None:
    """A constant as one number for each channel, float64 [C]; None for one that varies otherwise."""
    if value is None or value.ndim > 4 or value.dtype.kind not in "fiu":
        return None
    whole = value.reshape((1,) * (4 - value.ndim) + value.shape)
    if whole.size != whole.shape[axis] or whole.size not in (1, channels):
        return None
    return np.broadcast_to(whole.ravel().astype(np.float64), (channels,)).copy()


def _within(values: np.ndarray, bounds: tuple[float, float]) -> bool:
    return bool(np.all(values >= bounds[0] - 1e-6) and np.all(values <= bounds[1]))


def _listed(values: np.ndarray) -> str:
    same = np.allclose(values, values[0])
    return f"{values[0]:.4g}" if same else "[" + ", ".join(f"{value:.4g}" for value in values) + "]"
