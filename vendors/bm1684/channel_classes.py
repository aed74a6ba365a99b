"""Which channels of a float graph may be multiplied by a factor without changing its outputs.

A positive factor passes through Relu, Add, pooling and resizing unchanged, and between two layers with weights it can
be taken into the weights: multiplied into those that make the channel, divided out of those that read it. Channels that
an Add ties together must share one factor: they form a class. A class that reaches an input, an output, or an operation
of any other kind keeps the factor 1.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from graph_runner import weight_file

HOMOGENEOUS = [
    "top.Relu",
    "top.LeakyRelu",
    "top.MaxPool",
    "top.AvgPool",
    "top.Upsample",
    "top.Interp",
    "top.Add",
    "top.Sub",
    "top.Concat",
]


@dataclass(frozen=True)
class WeightedLayer:
    """A convolution, transposed convolution or per-channel Scale with constant weights.

    source, target: the tensors that it reads and makes. weights, bias: names in the weight file. groups: of channels.
    """

    operator: str
    source: str
    target: str
    weights: str
    bias: str | None
    groups: int
    shape: tuple[int, ...]

    def grouped(self, values: np.ndarray) -> np.ndarray:
        """The weights as [groups, outputs of a group, inputs of a group, taps]."""
        if self.operator == "top.Scale":
            return values.reshape(-1, 1, 1, 1)
        if self.operator == "top.Deconv":  # [outputs of a group, all inputs, height, width]
            return values.reshape(self.shape[0], self.groups, self.shape[1] // self.groups, -1).transpose(1, 0, 2, 3)
        return values.reshape(self.groups, self.shape[0] // self.groups, self.shape[1], -1)

    def ungrouped(self, values: np.ndarray, like: np.ndarray) -> np.ndarray:
        """The inverse of grouped(), in the shape and type of `like`."""
        if self.operator == "top.Deconv":
            values = values.transpose(1, 0, 2, 3)
        return values.astype(like.dtype).reshape(like.shape)


@dataclass(frozen=True)
class ChannelClasses:
    """of: {tensor: int64 [C], the class of each channel}. free: bool [classes], may have a factor other than 1.

    limit: float64 [classes], the smallest upper limit of a Relu in the class (Relu6: 6), else infinity.
    """

    layers: list[WeightedLayer]
    of: dict[str, np.ndarray]
    free: np.ndarray
    limit: np.ndarray


def channel_classes(graph: Path) -> ChannelClasses:
    """Read the classes of a top graph (.mlir, its weights beside it)."""
    from tpu_mlir.python.utils.mlir_parser import MlirParser  # starts in half a second: only where it is needed

    parser = MlirParser(str(graph))
    with np.load(weight_file(graph), allow_pickle=False) as archive:
        constants = set(archive.files)
    readers = Counter(name for operation in parser.ops for name in operation.opds)
    constants = {name for name in constants if readers[name] == 1}  # weights of two layers cannot follow both
    start: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    count = 0
    for operation in parser.ops:
        for name, result in zip(operation.outputs, operation.op.results, strict=False):
            shapes[name] = _shape(result.type)
            start[name] = count
            count += shapes[name][1] if len(shapes[name]) > 1 else 1
    spans = {name: np.arange(first, first + (shapes[name][1] if len(shapes[name]) > 1 else 1))
             for name, first in start.items()}  # fmt: skip
    union = _Union(count)
    fixed = np.zeros(count, bool)
    limit = np.full(count, np.inf)
    layers = []
    for operation in parser.ops:
        sources = [name for name in operation.opds if name in spans]
        layer = _weighted(operation, sources, shapes, constants)
        if layer:
            layers.append(layer)
        elif not _ties(operation, sources, shapes, spans, union):
            for name in (*sources, *operation.outputs):
                if name in spans:
                    fixed[spans[name]] = True
        cap = _number(operation.attrs, "relu_limit", -1.0)
        if cap > 0 and (operation.type == "top.Relu" or operation.attrs.get("do_relu") == "true"):
            limit[spans[operation.outputs[0]]] = cap
    for operand in parser.return_op.operands:
        fixed[spans[_made_by(parser, operand)]] = True
    roots = np.array([union.root(index) for index in range(count)], np.int64)
    kinds, classes = np.unique(roots, return_inverse=True)
    free, smallest = np.ones(len(kinds), bool), np.full(len(kinds), np.inf)
    free[classes[fixed]] = False
    np.minimum.at(smallest, classes, limit)
    return ChannelClasses(layers, {name: classes[span] for name, span in spans.items()}, free, smallest)


class _Union:
    def __init__(self, count: int):
        self.parent = list(range(count))

    def root(self, index: int) -> int:
        while self.parent[index] != index:
            self.parent[index] = self.parent[self.parent[index]]
            index = self.parent[index]
        return index

    def join(self, first: np.ndarray, second: np.ndarray) -> None:
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            self.parent[self.root(one)] = self.root(other)


def _ties(operation, sources: list[str], shapes: dict, spans: dict, union: _Union) -> bool:
    """Join the channels that a homogeneous operation ties together; False when it is none."""
    if operation.type not in HOMOGENEOUS or len(operation.outputs) != 1 or len(sources) != len(operation.opds):
        return False  # an operand that is no tensor is a constant: adding one is not homogeneous
    target = operation.outputs[0]
    if any(len(shapes[name]) != 4 for name in (*sources, target)):
        return False
    if operation.type == "top.Concat":
        together = np.concatenate([spans[name] for name in sources])
        if int(_number(operation.attrs, "axis", 1.0)) != 1 or len(together) != len(spans[target]):
            return False
        union.join(together, spans[target])
        return True
    if any(len(spans[name]) != len(spans[target]) for name in sources):
        return False
    for name in sources:
        union.join(spans[name], spans[target])
    return True


def _weighted(operation, sources: list[str], shapes: dict, constants: set[str]) -> WeightedLayer | None:
    if operation.type not in ("top.Conv", "top.Deconv", "top.Scale") or len(sources) != 1:
        return None
    names = operation.opds[1:]
    if not names or any(name not in constants for name in names) or len(operation.outputs) != 1:
        return None
    channels = shapes[sources[0]][1]
    groups = channels if operation.type == "top.Scale" else int(_number(operation.attrs, "group", 1.0))
    shape = _shape(operation.op.operands[1].type)
    if operation.type != "top.Scale" and len(shape) != 4:
        return None
    bias = names[1] if len(names) > 1 else None
    return WeightedLayer(operation.type, sources[0], operation.outputs[0], names[0], bias, groups, shape)


def _shape(type_text: object) -> tuple[int, ...]:
    """Of tensor<1x16x64x48xf32>: (1, 16, 64, 48)."""
    found = re.search(r"tensor<((?:\d+x)+)", str(type_text))
    return tuple(int(size) for size in found[1].split("x") if size) if found else ()


def _number(attributes: dict[str, str], name: str, default: float) -> float:
    """An attribute such as "6.000000e+00 : f64"."""
    return float(attributes[name].partition(":")[0]) if name in attributes else default


def _made_by(parser, operand) -> str:
    for operation in parser.ops:
        for name, result in zip(operation.outputs, operation.op.results, strict=False):
            if result == operand:
                return name
    return parser.ops[-1].outputs[0]
