"""ncnn's weight file (.bin): the layers' weights one after the other, without names or lengths.

A weight is stored in one of two ways, each padded with zeros to a multiple of 4 bytes:

    tagged   4 bytes that say how: 0 float32 | 0x01306B47 float16 | 0x01348B83 bfloat16 | 0x000D4B38 int8
             | 0x0002C056 float32 | any other: 256 float32 values, then one byte an element that picks one of them
    plain    float32

How many elements a weight has follows from the layer's parameters. Facts: ncnn release 20261020, src/modelbin.cpp,
src/layer/*.cpp (load_model); upstream tools/modelwriter.h (fwrite_weight_tag_data, fwrite_weight_data).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from failure import VendorError
from param_file import Layer, Network

FLOAT16_TAG, BFLOAT16_TAG, INT8_TAG, FLOAT32_TAG = 0x01306B47, 0x01348B83, 0x000D4B38, 0x0002C056
HINT = "convert the ONNX again with pnnx; .param and .bin must come from the same run"
_CONVOLUTIONS = frozenset(
    f"{kind}{dimensions}"
    for kind in ("Convolution", "ConvolutionDepthWise", "Deconvolution", "DeconvolutionDepthWise")
    for dimensions in ("", "1D", "3D")
) | {"DeformableConv2D"}
_NORMALIZATIONS = {"GroupNorm": (1, 3), "InstanceNorm": (0, 2), "LayerNorm": (0, 2)}


def weight_specification(layer: Layer, value: dict[int, int]) -> list[tuple[str, bool, int]]:
    """The layer's weights in file order: (name, tagged, number of elements); value: parameters with defaults."""
    kind = layer.type
    if kind in _CONVOLUTIONS:
        if value.get(28 if kind.startswith("Deconv") else 19, 0):  # weights arrive as blobs
            return []
        return [("weight", True, value[6])] + ([("bias", False, value[0])] if value[5] else [])
    if kind == "InnerProduct":
        return [("weight", True, value[2])] + ([("bias", False, value[0])] if value[1] else [])
    if kind == "BatchNorm":
        return [(name, False, value[0]) for name in ("slope", "mean", "variance", "bias")]
    if kind in _NORMALIZATIONS:
        size, affine = (value[number] for number in _NORMALIZATIONS[kind])
        return [("gamma", False, size), ("beta", False, size)] if affine else []
    if kind == "RMSNorm":
        return [("gamma", False, value[0])] if value[2] else []
    if kind == "Scale":
        if value[0] == -233:
            return []
        return [("scale", False, value[0])] + ([("bias", False, value[0])] if value[1] else [])
    if kind == "MemoryData":
        shape = [value[0], value[1], value[11], value[2]]
        tagged = layer.parameters.get(21, 1) == 0
        return [("data", tagged, int(np.prod([size for size in shape if size])))]
    if kind == "Padding":
        return [("value", False, value[6])] if value[6] else []
    single = {"Bias": ("bias", 0), "PReLU": ("slope", 0), "Normalize": ("scale", 3)}
    if kind in single:
        name, number = single[kind]
        return [(name, False, value[number])]
    return _matrix_weights(kind, value)


def _matrix_weights(kind: str, value: dict[int, int]) -> list[tuple[str, bool, int]]:
    if kind == "Embed":
        return [("weight", True, value[3])] + ([("bias", False, value[0])] if value[2] else [])
    if kind == "Gemm":
        rows, columns, inner = value[7], value[8], value[9]
        c_size = {0: 1, 1: rows, 2: rows, 3: rows * columns, 4: columns, -1: 0}[value[10]] if value[6] else 0
        sizes = [("A", rows * inner if value[4] else 0), ("B", columns * inner if value[5] else 0), ("C", c_size)]
        return [(name, True, size) for name, size in sizes if size]
    if kind in ("RNN", "LSTM", "GRU"):
        directions = 2 if value[2] == 2 else 1
        gates = {"RNN": 1, "LSTM": 4, "GRU": 3}[kind]
        hidden = value[3] if kind == "LSTM" else value[0]
        biases = hidden * (1 if kind == "RNN" else 4)  # a GRU keeps the new gate's two biases apart
        found = [("input", True, value[1]), ("bias", True, biases * directions)]
        found.append(("hidden", True, value[0] * hidden * gates * directions))
        if kind == "LSTM" and value[0] != hidden:
            found.append(("projection", True, hidden * value[0] * directions))
        return found
    if kind == "MultiHeadAttention":
        embedding, query = value[0], value[2] // value[0]
        found = []
        for name, size in (("query", query), ("key", value[3]), ("value", value[4])):
            found += [(f"{name}_weight", True, embedding * size), (f"{name}_bias", False, embedding)]
        return [*found, ("output_weight", True, query * embedding), ("output_bias", False, query)]
    return []


class _Reader:
    def __init__(self, path: Path, data: bytes):
        self.path, self.data, self.position = path, data, 0

    def take(self, size: int, where: str) -> bytes:
        piece = self.data[self.position : self.position + size]
        if len(piece) < size or size < 0:
            raise VendorError(f"{self.path} ends inside {where}: it is cut off or belongs to another .param", HINT)
        self.position += size
        return piece

    def floats(self, count: int, where: str) -> np.ndarray:
        return np.frombuffer(self.take(4 * count, where), "<f4")

    def tagged(self, count: int, where: str) -> np.ndarray:
        tag = int.from_bytes(self.take(4, where), "little")
        if tag == FLOAT16_TAG:
            return np.frombuffer(self.take(_aligned(2 * count), where)[: 2 * count], "<f2").astype(np.float32)
        if tag == BFLOAT16_TAG:
            half = np.frombuffer(self.take(_aligned(2 * count), where)[: 2 * count], "<u2")
            return (half.astype(np.uint32) << 16).view(np.float32)
        if tag == INT8_TAG:
            raise VendorError(f"{self.path}: {where} is int8 already", "give the float model that pnnx wrote")
        if tag in (0, FLOAT32_TAG):
            return self.floats(count, where)
        if sum(tag.to_bytes(4, "little")) == 0:
            raise VendorError(f"{self.path}: unknown storage {tag:#x} of {where}", HINT)
        palette = self.floats(256, where)
        return palette[np.frombuffer(self.take(_aligned(count), where)[:count], np.uint8)]


def _aligned(size: int) -> int:
    return (size + 3) // 4 * 4


def read_bin(path: Path, network: Network, values: list[dict[int, int]]) -> None:
    """Read every layer's weights into layer.weights (float32, flat). Raises VendorError when the file does not fit.

    values: for each layer its parameters with defaults filled in (graph_text.effective_parameters).
    """
    try:
        reader = _Reader(path, path.read_bytes())
    except FileNotFoundError:
        raise VendorError(f"{path} is missing", "give the .bin that pnnx wrote beside the .param") from None
    for layer, value in zip(network.layers, values, strict=True):
        for name, tagged, count in weight_specification(layer, value):
            where = f"{name} of layer {layer.name}"
            layer.offsets[name] = reader.position
            data = reader.tagged(count, where) if tagged else reader.floats(count, where)
            if not np.isfinite(data).all():
                raise VendorError(
                    f"{path}: {where} holds NaN or infinity", "the network's weights are broken: train again"
                )
            layer.weights[name] = data
    if reader.position != len(reader.data):
        rest = len(reader.data) - reader.position
        raise VendorError(f"{path} holds {rest} bytes more than {network.layers[-1].name} and all before it need", HINT)


def to_float16(values: np.ndarray) -> np.ndarray:
    """float32 [n] to float16 bits (uint16 [n]) as ncnn2int8 does it on x86 with F16C.

    Whole groups of 4 go through the processor: round to nearest even, subnormals kept. The last n % 4 go through
    ncnn's own routine: halves round away from zero, what is below the smallest normal float16 becomes zero
    (src/layer/x86/cast_fp16.h; src/mat.cpp, float32_to_float16).
    """
    whole = len(values) - len(values) % 4
    with np.errstate(over="ignore"):
        head = values[:whole].astype("<f2").view("<u2")
    bits = np.ascontiguousarray(values[whole:], "<f4").view("<u4")
    sign, exponent, significand = bits >> 31, (bits >> 23 & 0xFF).astype(np.int32) - 112, bits & 0x7FFFFF
    tail = (sign << 15) + (np.maximum(exponent, 0).astype(np.uint32) << 10) + (significand + 0x1000 >> 13)
    tail = np.where(exponent >= 31, (sign << 15) | 0x7C00, tail)
    tail = np.where(exponent <= 0, sign << 15, tail)
    return np.concatenate([head, tail.astype("<u2")])


def tagged_bytes(values: np.ndarray) -> bytes:
    """A tagged weight: int8 stays int8, float32 becomes float16 (ncnn2int8 sets storage_type 1)."""
    if values.dtype == np.int8:
        data = INT8_TAG.to_bytes(4, "little") + values.tobytes()
    else:
        data = FLOAT16_TAG.to_bytes(4, "little") + to_float16(values).tobytes()
    return data + bytes(_aligned(len(data)) - len(data))


def plain_bytes(values: np.ndarray) -> bytes:
    """A plain float32 weight; values below 1e-30 in magnitude become zero, as ncnn's writer does."""
    values = np.asarray(values, "<f4").copy()
    tiny = (np.abs(values) < np.float64(1e-30)) & (values != 0)
    values[tiny] = 0
    return values.tobytes()
