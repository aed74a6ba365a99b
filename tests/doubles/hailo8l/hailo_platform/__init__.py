"""A strict stand-in for hailo_platform, HailoRT 4.23's Python package, on the .hef of this folder's compiler.

Names, order and messages as in hailo-ai/hailort, libhailort/bindings/python/platform/hailo_platform/pyhailort. Where
the real one reads past a buffer or crashes, this one raises. HAILORT_DOUBLE_FAILS=<call> fails there;
HAILORT_DOUBLE_OLD=1 is a runtime before create_infer_model(); HAILORT_DOUBLE_RENAMES=1 gives outputs other names.
"""

import enum
import os
from pathlib import Path

import numpy as np
from fake_quantisation import run_onnx

from hailo_platform.double_hef import read_hef

NPUMAKE_DOUBLE = True
__version__ = "4.23.0"


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


def _fail(call):
    if os.environ.get("HAILORT_DOUBLE_FAILS") == call:
        raise HailoRTException(f"{call} failed: HAILO_INTERNAL_FAILURE(8)")


class _Stream:
    def __init__(self, name, shape):
        self.name, self.shape, self.format = name, list(shape), FormatType.AUTO

    def set_format_type(self, type):
        assert isinstance(type, FormatType)
        self.format = type


class HEF:
    def __init__(self, hef_source):
        assert isinstance(hef_source, str)
        _fail("HEF")
        self._hef = read_hef(Path(hef_source))

    def get_input_vstream_infos(self, name=None):
        return [_Stream(one["name"], one["shape"]) for one in self._hef.inputs]

    def get_output_vstream_infos(self, name=None):
        return [_Stream(one["name"], one["shape"]) for one in self._hef.outputs]

    def get_original_names_from_vstream_name(self, vstream_name, network_group_name=None):
        return next(one["original_names"] for one in self._hef.outputs if one["name"] == vstream_name)


class _Identity:
    def __str__(self):
        return "Board Name: Hailo-8\nDevice Architecture: HAILO8L (double)"


class _Control:
    def identify(self):
        return _Identity()


class _Device:
    control = _Control()


def _check_input(array, stream):
    expected = {FormatType.UINT8: np.uint8, FormatType.FLOAT32: np.float32}[stream.format]
    assert isinstance(array, np.ndarray) and array.dtype == expected, f"{array.dtype}, format {stream.format}"
    assert list(array.shape) == stream.shape and array.flags["C_CONTIGUOUS"], f"{array.shape} is not {stream.shape}"


def _run(hef, stream, array):
    """One image [H, W, C] -> {output name: [H, W, C]}."""
    _check_input(array, stream)
    assert hef.arch in ("hailo8", "hailo8l")
    name = hef.model.graph.input[0].name
    found = run_onnx(hef.model, {name: np.ascontiguousarray(array.transpose(2, 0, 1)[None], np.float32)})
    return {one["name"]: found[one["tensor"]][0].transpose(1, 2, 0) for one in hef.outputs}


class _Buffer:
    def __init__(self, stream):
        self.stream, self.buffer = stream, None

    def set_buffer(self, buffer):
        assert isinstance(buffer, np.ndarray) and list(buffer.shape) == self.stream.shape, "it would be read past"
        self.buffer = buffer


class _Bindings:
    def __init__(self, model):
        self._input, self._outputs = _Buffer(model.streams), {n: _Buffer(s) for n, s in model.out.items()}

    def input(self, name=""):
        return self._input

    def output(self, name=""):
        return self._outputs[name]


class _Configured:
    def __init__(self, model):
        self._model, self._open = model, False

    def __enter__(self):
        self._open = True
        return self

    def __exit__(self, *_):
        self._open = False

    def create_bindings(self, input_buffers=None, output_buffers=None):
        assert self._open and input_buffers is None and output_buffers is None
        return _Bindings(self._model)

    def run(self, bindings, timeout):
        assert self._open and isinstance(bindings, list) and len(bindings) == 1 and timeout >= 1000
        _fail("run")
        (one,) = bindings
        found = _run(self._model.hef, self._model.streams, one.input().buffer)
        for name, array in found.items():
            buffer = one.output(name).buffer
            assert buffer is not None and buffer.dtype == np.float32, "every output needs a float32 buffer"
            buffer[:] = array


class _InferModel:
    def __init__(self, path):
        self.hef = read_hef(Path(path))
        self.streams = _Stream(**{key: self.hef.inputs[0][key] for key in ("name", "shape")})
        self.out = {one["name"]: _Stream(one["name"], one["shape"]) for one in self.hef.outputs}
        self.output_names, self.input_names = list(self.out), [self.streams.name]

    def set_batch_size(self, batch_size):
        assert batch_size == 1

    def input(self, name=""):
        assert name in ("", self.streams.name)
        return self.streams

    def output(self, name=""):
        return self.out[name]

    def configure(self):
        _fail("configure")
        assert all(stream.format is FormatType.FLOAT32 for stream in self.out.values())
        return _Configured(self)


class _Parameters:
    scheduling_algorithm = HailoSchedulingAlgorithm.NONE


class VDevice:
    def __init__(self, params=None, *, device_ids=None):
        _fail("VDevice")
        assert params is None or isinstance(params, _Parameters)
        self._open = False

    @staticmethod
    def create_params():
        return _Parameters()

    def __enter__(self):
        self._open = True
        return self

    def __exit__(self, *_):
        self._open = False
        return False

    def get_physical_devices(self):
        assert self._open
        return [_Device()]

    def configure(self, hef, configure_params_by_name=None):
        _fail("configure")
        assert self._open and isinstance(hef, HEF) and configure_params_by_name == {"net": "params"}
        return [_NetworkGroup(hef._hef)]

    if not os.environ.get("HAILORT_DOUBLE_OLD"):

        def create_infer_model(self, hef_source, network_name=""):
            assert self._open and isinstance(hef_source, str)
            _fail("create_infer_model")
            return _InferModel(hef_source)


class ConfigureParams:
    @staticmethod
    def create_from_hef(hef, interface):
        assert isinstance(hef, HEF) and interface is HailoStreamInterface.PCIe
        return {"net": "params"}


class _NetworkGroup:
    def __init__(self, hef):
        self.hef, self.active = hef, False

    def create_params(self):
        return {}

    def activate(self, params=None):
        return self

    def __enter__(self):
        self.active = True

    def __exit__(self, *_):
        self.active = False


class _VStreamParams:
    @classmethod
    def make(cls, configured_network, quantized=None, format_type=None):
        assert isinstance(configured_network, _NetworkGroup) and quantized is None
        return cls, format_type


class InputVStreamParams(_VStreamParams):
    pass


class OutputVStreamParams(_VStreamParams):
    pass


class InferVStreams:
    def __init__(self, configured_net_group, input_vstreams_params, output_vstreams_params):
        assert input_vstreams_params[0] is InputVStreamParams
        assert output_vstreams_params == (OutputVStreamParams, FormatType.FLOAT32)
        self._group = configured_net_group
        first = configured_net_group.hef.inputs[0]
        self._stream = _Stream(first["name"], first["shape"])
        self._stream.set_format_type(input_vstreams_params[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def infer(self, input_data):
        assert self._group.active, "the network group is not activated"
        _fail("infer")
        ((name, array),) = input_data.items()
        assert name == self._stream.name and array.ndim == 4
        found = [_run(self._group.hef, self._stream, np.ascontiguousarray(image)) for image in array]
        return {key: np.stack([one[key] for one in found]) for key in found[0]}
