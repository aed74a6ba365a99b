"""Input tensors in the NPU's layouts: how a .nef describes them, and how the chip reads them back, element by element.

[tutorial/chapter/model_inference_with_data_inference.md; plus_c/appendix/supported_npu_data_layout_format.md]
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np

from kp.values import ModelTensorDataLayout, ModelTensorShapeInformationVersion

DEFAULTS = {"730": "RAW_8B", "520": "4W4C8B", "720": "16W1C8B", "630": "1W16C8B", "530": "4W4C8B"}
WIDE = ("8W1C16B", "RAW_16B", "4W4C8BHL", "1W16C8BHL", "16W1C8BHL")


def strides_of(layout: str, shape: tuple[int, ...]) -> list[int]:
    """Version 2: how far apart the elements of each axis lie, in elements."""
    _, channels, height, width = shape
    if layout.startswith("4W4C8B"):
        row = 4 * math.ceil(width / 4) * 4
        return [row * height, 1, row, 4]
    if layout.startswith("1W16C8B"):
        return [16 * width * height, 1, 16 * width, 16]
    row = {"16W1C8B": 16, "16W1C8BHL": 16, "8W1C16B": 8}.get(layout, 1)
    row = row * math.ceil(width / row)
    return [row * height * channels, row * height, row, 1]


def descriptor(platform: str, name: str, shape: tuple[int, ...], largest: float, layout: str) -> SimpleNamespace:
    """kp.TensorDescriptor of an input [value.md]."""
    layout = layout or DEFAULTS[platform]
    factor = (32767 if layout in WIDE else 127) / largest
    radix = math.floor(math.log2(factor))
    scale = SimpleNamespace(value=factor / 2.0**radix)
    points = [SimpleNamespace(radix=radix, scale=scale)]
    kinds = ModelTensorShapeInformationVersion
    if platform == "730":
        dense = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
        data = SimpleNamespace(shape=list(shape), stride_onnx=dense, stride_npu=strides_of(layout, shape))
        information = SimpleNamespace(version=kinds.KP_MODEL_TENSOR_SHAPE_INFO_VERSION_2, v2=data, data=data)
    else:
        data = SimpleNamespace(shape_npu=list(shape), shape_onnx=list(shape), axis_permutation_onnx_to_npu=[0, 1, 2, 3])
        information = SimpleNamespace(version=kinds.KP_MODEL_TENSOR_SHAPE_INFO_VERSION_1, v1=data, data=data)
    return SimpleNamespace(
        index=0,
        name=name,
        data_layout=ModelTensorDataLayout[f"KP_MODEL_TENSOR_DATA_LAYOUT_{layout}"],
        tensor_shape_info=information,
        quantization_parameters=SimpleNamespace(
            v1=SimpleNamespace(quantized_axis=1, quantized_fixed_point_descriptor_list=points)
        ),
    )


def read_back(buffer: bytes, node: SimpleNamespace, platform: str) -> np.ndarray:
    """The float32 input [1, C, H, W] that a buffer holds. Raises ValueError for one of another length."""
    layout = node.data_layout.name.removeprefix("KP_MODEL_TENSOR_DATA_LAYOUT_")
    point = node.quantization_parameters.v1.quantized_fixed_point_descriptor_list[0]
    information = node.tensor_shape_info.data
    shape = tuple(information.shape if platform == "730" else information.shape_npu)
    integers = np.zeros(shape, np.int64)
    if platform == "730":
        strides = information.stride_npu
        count = max(size * stride for size, stride in zip(shape, strides, strict=True))
        _check_length(
            buffer, count * (2 if layout in WIDE else 1) if "HL" not in layout else math.ceil(count / 16) * 32
        )
        for index in np.ndindex(*shape):
            place = sum(one * stride for one, stride in zip(index, strides, strict=True))
            integers[index] = _element(buffer, place, layout)
    else:
        _, channels, height, width = shape
        multiple, block = {"4W4C8B": (4, 4), "1W16C8B": (1, 16), "16W1C8B": (16, 1)}[layout]
        multiple = 16 if platform == "520" else multiple  # "for the KL520 hardware limitation"
        row, blocks = multiple * math.ceil(width / multiple), math.ceil(channels / block)
        _check_length(buffer, blocks * block * height * row)
        for _, channel, y, x in np.ndindex(*shape):
            outer, inner = (y, channel // block) if platform == "520" else (channel // block, y)
            line = outer * (blocks if platform == "520" else height) + inner
            integers[0, channel, y, x] = _element(buffer, (line * row + x) * block + channel % block, layout)
    return (integers / (point.scale.value * 2.0**point.radix)).astype(np.float32)


def _element(buffer: bytes, place: int, layout: str) -> int:
    if layout not in WIDE:
        return int.from_bytes(buffer[place : place + 1], "little", signed=True)
    if "HL" not in layout:
        return int.from_bytes(buffer[2 * place : 2 * place + 2], "little", signed=True)
    low = place // 16 * 32 + place % 16
    bits = (buffer[low + 16] << 7 | buffer[low]) << 1
    return bits - 65536 if bits >= 32768 else bits


def _check_length(buffer: bytes, expected: int) -> None:
    if len(buffer) != expected:
        raise ValueError(f"the input buffer has {len(buffer)} bytes, not {expected}")
