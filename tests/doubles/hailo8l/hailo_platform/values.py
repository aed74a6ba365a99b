"""What both ways of running a .hef share: the enumerations, the streams, the HEF, one inference."""

import enum
import os
from pathlib import Path

import numpy as np
from fake_quantisation import run_onnx

from hailo_platform.double_hef import read_hef


class HailoRTException(Exception):  # noqa: N818 - HailoRT's name
    pass


class FormatType(enum.Enum):
    AUTO = 0
    UINT8 = 1
    UINT16 = 2
    FLOAT32 = 3


class HailoSchedulingAlgorithm(enum.Enum):
    NONE = 0
    ROUND_ROBIN = 1


class HailoStreamInterface(enum.Enum):
    PCIe = 0


INPUT_TYPES = {FormatType.UINT8: np.uint8, FormatType.FLOAT32: np.float32}


def fail(call):
    """Raise where HAILORT_DOUBLE_FAILS asks for it."""
    if os.environ.get("HAILORT_DOUBLE_FAILS") == call:
        raise HailoRTException(f"{call} failed: HAILO_INTERNAL_FAILURE(8)")


class Stream:
    """An input or output of the network: its shape is [H, W, C]."""

    def __init__(self, name, shape):
        self.name, self.shape, self.format, self.configured = name, list(shape), FormatType.AUTO, False

    def set_format_type(self, type):
        assert isinstance(type, FormatType), "a FormatType is needed"
        assert not self.configured, "the format is set before configure()"  # the real one no longer looks at it
        self.format = type


class HEF:
    def __init__(self, hef_source):
        assert isinstance(hef_source, str), "the path of a .hef is a str"
        fail("HEF")
        self.content = read_hef(Path(hef_source))

    def get_input_vstream_infos(self):
        return [Stream(one["name"], one["shape"]) for one in self.content.inputs]

    def get_output_vstream_infos(self):
        return [Stream(one["name"], one["shape"]) for one in self.content.outputs]

    def get_original_names_from_vstream_name(self, vstream_name):
        found = [one["original_names"] for one in self.content.outputs if one["name"] == vstream_name]
        if not found:
            raise HailoRTException(f"no vstream {vstream_name!r}: HAILO_NOT_FOUND(61)")
        return found[0]


def check_chip(content):
    """The board is a Hailo-8L or Hailo-8: their networks only [README of hailo-ai/hailort]."""
    if content.arch not in ("hailo8", "hailo8l"):
        raise HailoRTException(f"a .hef for {content.arch}: HAILO_HEF_NOT_COMPATIBLE_WITH_DEVICE(93)")


def infer(content, stream, array):
    """One image [H, W, C], of the stream's own type -> {output name: float32 [H, W, C]}."""
    expected = INPUT_TYPES[stream.format]
    assert isinstance(array, np.ndarray) and array.dtype == expected, f"the input has to be a {expected.__name__} array"
    assert list(array.shape) == stream.shape, f"{array.shape} is not {stream.shape}"
    name = content.model.graph.input[0].name
    found = run_onnx(content.model, {name: np.ascontiguousarray(array.transpose(2, 0, 1)[None], np.float32)})
    return {one["name"]: found[one["tensor"]][0].transpose(1, 2, 0) for one in content.outputs}
