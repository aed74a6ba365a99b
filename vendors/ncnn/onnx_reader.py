"""An ONNX file's nodes and float weights, read without the onnx package: this folder's environment has none.

Only what is asked for is decoded. Facts: onnx.proto3 (field numbers of ModelProto, GraphProto, NodeProto,
AttributeProto, TensorProto) and Protocol Buffers' encoding (varints, length-delimited fields).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from failure import VendorError

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_FLOAT = 1  # TensorProto.DataType


@dataclass(frozen=True)
class Node:
    """One node: its name, operator, and the names of the tensors that it reads and makes."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """The nodes in file order, and the constant float32 tensors by name (initializers and Constant nodes)."""

    nodes: list[Node]
    weights: dict[str, np.ndarray]


def read_onnx(path: Path) -> Graph:
    """Read nodes and weights. Raises VendorError when the file is damaged or keeps its weights elsewhere."""
    try:
        graphs = [value for number, value in _fields(memoryview(path.read_bytes())) if number == 7]
        return _graph(graphs[0])
    except FileNotFoundError:
        raise VendorError(f"{path} is missing", "run make again: it writes the graph") from None
    except (ValueError, IndexError, TypeError) as error:
        raise VendorError(f"{path} is not a readable ONNX file ({error})", "run make again: it writes it") from None


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of one message: an integer, or the bytes of anything else."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        size = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(kind)
        if kind == _BYTES:
            size, position = _varint(data, position)
        if size is None or position + size > len(data):
            raise ValueError("cut off or damaged")
        yield number, data[position : position + size]
        position += size


def _graph(data: memoryview) -> Graph:
    nodes, weights = [], {}
    for number, value in _fields(data):
        if number == 1:
            node, constant = _node(value)
            nodes.append(node)
            if constant is not None and node.outputs:
                weights[node.outputs[0]] = constant
        elif number == 5:
            name, array = _tensor(value)
            if array is not None:
                weights[name] = array
    return Graph(nodes, weights)


def _node(data: memoryview) -> tuple[Node, np.ndarray | None]:
    texts: dict[int, list[str]] = {1: [], 2: [], 3: [], 4: []}
    constant = None
    for number, value in _fields(data):
        if number in texts:
            texts[number].append(str(value, "utf-8"))
        elif number == 5:
            for inner, tensor in _fields(value):
                if inner == 5:  # AttributeProto.t: the value of a Constant
                    constant = _tensor(tensor)[1]
    name, operator = ("".join(texts[number]) for number in (3, 4))
    return Node(name, operator, tuple(texts[1]), tuple(texts[2])), constant if operator == "Constant" else None


def _tensor(data: memoryview) -> tuple[str, np.ndarray | None]:
    """Name and values; None for another type than float32, or for values that lie in another file."""
    shape: list[int] = []
    name, kind, elsewhere, pieces = "", 0, 0, []
    for number, value in _fields(data):
        if number == 1:
            shape += [value] if isinstance(value, int) else _packed(value)
        elif number == 2:
            kind = value
        elif number in (4, 9):  # float_data, raw_data: both little-endian float32 here
            pieces.append(bytes(value))
        elif number == 8:
            name = str(value, "utf-8")
        elif number == 14:
            elsewhere = value
    if kind != _FLOAT or elsewhere:
        return name, None
    return name, np.frombuffer(b"".join(pieces), "<f4").reshape(shape)


def _packed(data: memoryview) -> list[int]:
    values, position = [], 0
    while position < len(data):
        value, position = _varint(data, position)
        values.append(value)
    return values
