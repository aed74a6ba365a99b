"""A network input as the NPU wants it in memory: quantised, and in the layout that the .nef declares.

Kneron document center, plus_python/tutorial/chapter/model_inference_with_data_inference.md and plus_c/appendix/
supported_npu_data_layout_format.md. Newer chips (KL730) declare how far apart the elements of each axis lie (shape
information of version 2), older ones only the name of the layout (version 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from failure import VendorError

# name of the layout: (width is a multiple of, channels of one block)
BLOCKS = {"4W4C8B": (4, 4), "1W16C8B": (1, 16), "16W1C8B": (16, 1)}
BYTES = (*BLOCKS, "RAW_8B")
WORDS = ("8W1C16B", "RAW_16B")
SPLIT_WORDS = ("4W4C8BHL", "1W16C8BHL", "16W1C8BHL")  # 16 low bytes, then 16 high bytes
KL520_WIDTH = 16  # on the KL520 the width of 4W4C8B is a multiple of 16, and rows come before blocks of channels
PREFIX = "KP_MODEL_TENSOR_DATA_LAYOUT_"


def layout_name(descriptor: Any) -> str:
    """ "4W4C8B", say: the name of the enumerator without what all have in common."""
    name = getattr(descriptor.data_layout, "name", str(descriptor.data_layout))
    return name.rpartition(".")[2].replace(PREFIX, "")


def quantised(values: np.ndarray, parameters: Any, lowest: int, highest: int) -> np.ndarray:
    """round(x * scale * 2^radix), clipped: float32 in, int64 of the same shape out. One scale, or one a channel."""
    listed = parameters.v1.quantized_fixed_point_descriptor_list
    factors = np.array([float(one.scale.value) * 2.0 ** int(one.radix) for one in listed])
    if len(factors) > 1:
        shape = [1] * values.ndim
        shape[int(parameters.v1.quantized_axis)] = len(factors)
        factors = factors.reshape(shape)
    return np.clip(np.round(values.astype(np.float64) * factors), lowest, highest).astype(np.int64)


def npu_buffer(values: np.ndarray, descriptor: Any, chip: str) -> bytes:
    """The bytes to send for an input, float32 [1, C, H, W]. descriptor: kp.TensorDescriptor of the loaded .nef.

    Raises VendorError for a layout that is not known, or a shape that is another than the tensor's.
    """
    name, information = layout_name(descriptor), descriptor.tensor_shape_info
    known = (*BYTES, *WORDS, *SPLIT_WORDS)
    if name not in known:
        raise VendorError(
            f"the .nef wants its input in the layout {name}, and known are {', '.join(known)}",
            "a newer Kneron PLUS may have it: npu_layout.py",
        )
    wide = name not in BYTES
    numbers = quantised(values, descriptor.quantization_parameters, *((-32768, 32767) if wide else (-128, 127)))
    if "VERSION_2" in str(getattr(information.version, "name", information.version)):
        shape, strides = list(information.v2.shape), list(information.v2.stride_npu)
        _check_shape(values, shape)
        return _strided(numbers, strides, name)
    shape = list(information.v1.shape_npu)
    _check_shape(values, shape)
    if name not in BLOCKS:
        raise VendorError(f"the .nef wants its input in the layout {name} without strides", "npu_layout.py")
    return _blocked(numbers[0].astype(np.int8), name, chip)


def _check_shape(values: np.ndarray, shape: list[int]) -> None:
    if list(values.shape) != [int(size) for size in shape]:
        raise VendorError(
            f"the .nef's input is of shape {shape}, and the job's of {list(values.shape)}",
            "compile again: job.json and the artifact do not belong together",
        )


def _strided(numbers: np.ndarray, strides: list[int], name: str) -> bytes:
    """Every element at the sum of its indices times the strides."""
    grid = np.indices(numbers.shape).reshape(numbers.ndim, -1)
    places = np.asarray(strides, np.int64) @ grid
    count = max(int(size) * int(stride) for size, stride in zip(numbers.shape, strides))  # noqa: B905  Python 3.9
    flat = numbers.reshape(-1)
    if name in BYTES:
        buffer = np.zeros(count, np.int8)
        buffer[places] = flat
    elif name in WORDS:
        buffer = np.zeros(count, np.int16)
        buffer[places] = flat & ~1  # the lowest bit is not the NPU's
    else:
        buffer = np.zeros((count + 15) // 16 * 32, np.uint8)
        bits = (flat & 0xFFFF) >> 1
        low = places // 16 * 32 + places % 16
        buffer[low] = bits & 0x7F
        buffer[low + 16] = bits >> 7
    return buffer.tobytes()


def _blocked(numbers: np.ndarray, name: str, chip: str) -> bytes:
    """int8 [C, H, W] as [blocks of channels, H, W, channels of a block]; on the KL520 rows come first."""
    channels, height, width = numbers.shape
    multiple, block = BLOCKS[name]
    multiple = KL520_WIDTH if chip == "kl520" else multiple
    blocks = -(-channels // block)
    padded = np.zeros((blocks * block, height, -(-width // multiple) * multiple), np.int8)
    padded[:channels, :, :width] = numbers
    split = padded.reshape(blocks, block, height, -1).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(split.transpose(1, 0, 2, 3) if chip == "kl520" else split).tobytes()
