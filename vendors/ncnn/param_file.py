"""ncnn's graph file (.param): a text of one layer a line.

    7767517                                                     magic
    3 3                                                         number of layers, of blobs
    Input        in0     0 1 in0                                type, name, inputs, outputs, their blob names
    Convolution  conv_0  1 1 in0 1 0=16 1=3 -23310=2,0.0,6.0    ... then id=value; -23300-id=count,values for arrays
    Split        split_0 1 2 1 2 3

Facts: ncnn release 20261020, src/net.cpp (Net::load_param) and src/paramdict.cpp (ParamDict::load_param); ncnn's
documentation "param and model file structure". Float values are single precision, as ncnn keeps them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from failure import VendorError

MAGIC = "7767517"
SHAPE_HINTS = 30  # parameter id that any layer may carry: the shapes of its outputs
MAXIMUM_PARAMETER = 32  # NCNN_MAX_PARAM_COUNT
HINT = "make the .param again with pnnx; it was damaged or edited"

Value = int | np.float32 | list | str
_INTEGER = re.compile(r"[+-]?\d+\Z")
_FLOAT = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?\Z")


@dataclass
class Layer:
    """One line of the graph: parameters are {id: int | float32 | list of either | text}.

    weights: {name: array}, and offsets: {name: where it begins in the .bin}, both filled by weight_file.read_bin.
    """

    type: str
    name: str
    bottoms: list[str]
    tops: list[str]
    parameters: dict[int, Value] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)


@dataclass
class Network:
    """The layers in file order; blobs are known by their names."""

    layers: list[Layer]

    def blob_names(self) -> set[str]:
        return {name for layer in self.layers for name in (*layer.bottoms, *layer.tops)}


def parse_float(text: str) -> np.float32:
    """ncnn's own decimal reader: digits gathered in double precision, scaled once, then rounded to single.

    Not strtof: the last bit may differ, and a written model must carry the value that ncnn holds
    (src/paramdict.cpp, vstr_to_float). Raises ValueError when `text` is no decimal number.
    """
    match = _FLOAT.match(text)
    if not match or not (match[2] or match[3]):
        raise ValueError(text)
    value = 0.0
    for digit in match[2]:
        value = value * 10.0 + int(digit)
    fraction, scale = 0.0, 1.0
    for digit in match[3] or "":
        fraction = fraction * 10.0 + int(digit)
        scale *= 10.0
    value += fraction / scale
    if match[4] and value != 0.0:
        exponent = int(match[4])
        scale, base, remaining = 1.0, 10.0, min(abs(exponent), 1024)
        while remaining:
            if remaining & 1:
                scale *= base
            remaining >>= 1
            if remaining:
                base *= base
        value = value / scale if exponent < 0 else value * scale
    largest = float(np.finfo(np.float32).max)
    value = min(value, largest)
    return np.float32(-value if match[1] == "-" else value)


def _parse_number(text: str) -> int | np.float32:
    """A number is a float when it has a point or an exponent, else an integer (src/paramdict.cpp, vstr_is_float)."""
    if any(character in text for character in ".eE"):
        return parse_float(text)
    if not _INTEGER.match(text):
        raise ValueError(text)
    return int(text)


def _parse_value(identifier: int, text: str) -> tuple[int, Value]:
    if identifier <= -23300:
        count, *items = text.split(",")
        values = [_parse_number(item) for item in items]
        if int(count) != len(values):
            raise ValueError(text)
        return -(identifier + 23300), _one_type(values)
    if text[:1] == '"' or text[:1].isalpha():
        return identifier, text.strip('"')
    if "," in text:  # the newer form of an array: id=value,value (a single one ends with a comma)
        return identifier, _one_type([_parse_number(item) for item in text.rstrip(",").split(",")])
    return identifier, _parse_number(text)


def _one_type(values: list) -> list:
    if len({isinstance(value, int) for value in values}) > 1:
        raise ValueError("an array that mixes integers and floats")
    return values


def _split_parameters(text: str) -> list[str]:
    """Split at blanks outside quotes."""
    return re.findall(r'(?:[^\s"]|"[^"]*")+', text)


def _parse_layer(line: str, where: str) -> Layer:
    fields = line.split(None, 4)
    try:
        bottom_count, top_count = int(fields[2]), int(fields[3])
        rest = fields[4].split(None, bottom_count + top_count) if len(fields) > 4 else []
        names = rest[: bottom_count + top_count]
        if min(bottom_count, top_count) < 0 or len(names) < bottom_count + top_count or any("=" in n for n in names):
            raise ValueError("too few blob names")
        layer = Layer(fields[0], fields[1], names[:bottom_count], names[bottom_count:])
        for word in _split_parameters(rest[-1] if len(rest) > len(names) else ""):
            identifier, equals, text = word.partition("=")
            if not equals:
                raise ValueError(word)
            number, value = _parse_value(int(identifier), text)
            if not 0 <= number < MAXIMUM_PARAMETER:
                raise ValueError(word)
            layer.parameters[number] = value
    except (ValueError, IndexError) as error:
        raise VendorError(f"{where}: not a layer of an ncnn graph ({error}): {line[:120]}", HINT) from None
    return layer


def read_param(path: Path) -> Network:
    """Read and check a .param file. Raises VendorError that names file and line."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise VendorError(f"{path} is missing", "give the .param that pnnx wrote") from None
    except UnicodeDecodeError:
        raise VendorError(f"{path} is not an ncnn .param: it is not text", "give the .param, not the .bin") from None
    if lines[0].strip() != MAGIC:
        raise VendorError(f"{path} is not an ncnn .param: it begins with {lines[0][:20]!r}, not {MAGIC}", HINT)
    try:
        layer_count, blob_count = (int(word) for word in lines[1].split())
    except (ValueError, IndexError):
        raise VendorError(f"{path}:2: no number of layers and blobs", HINT) from None
    layers = [_parse_layer(line, f"{path}:{number}") for number, line in enumerate(lines[2:], start=3) if line.strip()]
    network = Network(layers)
    if len(layers) != layer_count:
        raise VendorError(f"{path} announces {layer_count} layers and holds {len(layers)}", HINT)
    _check_blobs(network, blob_count, path)
    return network


def _check_blobs(network: Network, blob_count: int, path: Path) -> None:
    produced: set[str] = set()
    for layer in network.layers:
        for name in layer.bottoms:
            if name not in produced:
                raise VendorError(f"{path}: layer {layer.name} reads blob {name} before any layer makes it", HINT)
        produced.update(layer.tops)
    if len(produced) > blob_count:
        raise VendorError(f"{path} announces {blob_count} blobs and holds {len(produced)}", HINT)
