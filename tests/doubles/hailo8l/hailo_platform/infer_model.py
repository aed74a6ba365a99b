"""create_infer_model() and what it gives: the way of HailoRT 4.17 and later [pyhailort.py, InferModel]."""

from pathlib import Path

import numpy as np

from hailo_platform.double_hef import read_hef
from hailo_platform.values import INPUT_TYPES, FormatType, HailoRTException, Stream, check_chip, fail, infer


class _Buffer:
    """One edge of a set of bindings. dtype: of its stream's format."""

    def __init__(self, stream, dtype):
        self._stream, self._dtype, self.buffer = stream, dtype, None

    def set_buffer(self, buffer):
        assert isinstance(buffer, np.ndarray) and list(buffer.shape) == self._stream.shape, "it would be read past"
        assert buffer.dtype == self._dtype, f"a buffer of {self._dtype.__name__} is needed, not of {buffer.dtype}"
        assert buffer.flags["C_CONTIGUOUS"], "the buffer is not contiguous"
        self.buffer = buffer


class _Bindings:
    def __init__(self, model):
        self.model = model
        self._input = _Buffer(model.stream, INPUT_TYPES[model.stream.format])
        self._outputs = {name: _Buffer(stream, np.float32) for name, stream in model.outputs.items()}

    def input(self, name=""):
        self.model.check_input(name)
        return self._input

    def output(self, name):
        self.model.check_output(name)
        return self._outputs[name]


class _Configured:
    """A configured network: it runs within its `with` alone."""

    def __init__(self, model):
        self._model, self._open = model, False

    def __enter__(self):
        self._open = True
        return self

    def __exit__(self, *_):
        self._open = False

    def _check_open(self):
        assert self._open and self._model.device.open, "the configured network is not open"

    def create_bindings(self):
        self._check_open()
        return _Bindings(self._model)

    def run(self, bindings, timeout):
        """timeout in milliseconds: one below a second is a number of seconds, by mistake."""
        self._check_open()
        assert isinstance(bindings, list) and len(bindings) == 1, "a list of one set of bindings is needed"
        assert type(timeout) is int and timeout >= 1000, "the timeout is in milliseconds"
        (one,) = bindings
        assert isinstance(one, _Bindings) and one.model is self._model, "bindings are those of create_bindings()"
        if not self._model.device.scheduled:  # without a scheduler activate() comes first; device.py has one
            raise HailoRTException("the network is not activated: HAILO_NETWORK_GROUP_NOT_ACTIVATED(69)")
        fail("run")
        found = infer(self._model.hef, self._model.stream, one.input().buffer)
        for name, array in found.items():
            buffer = one.output(name).buffer
            assert buffer is not None, "every output needs a buffer"
            buffer[:] = array


class InferModel:
    def __init__(self, device, path):
        self.device, self.hef = device, read_hef(Path(path))
        self.stream = Stream(self.hef.inputs[0]["name"], self.hef.inputs[0]["shape"])
        self.outputs = {one["name"]: Stream(one["name"], one["shape"]) for one in self.hef.outputs}
        self.output_names, self.input_names = list(self.outputs), [self.stream.name]

    def check_input(self, name):
        if name not in ("", self.stream.name):
            raise HailoRTException(f"no input {name!r}: HAILO_NOT_FOUND(61)")

    def check_output(self, name):
        if name not in self.outputs:
            raise HailoRTException(f"no output {name!r}: HAILO_NOT_FOUND(61)")

    def set_batch_size(self, batch_size):
        assert type(batch_size) is int and batch_size == 1, "one image at a time"
        assert not self.stream.configured, "the batch is set before configure()"

    def input(self, name=""):
        self.check_input(name)
        return self.stream

    def output(self, name):
        self.check_output(name)
        return self.outputs[name]

    def configure(self):
        fail("configure")
        assert self.device.open, "the VDevice is not open"
        check_chip(self.hef)
        assert self.stream.format in INPUT_TYPES, "the format of the input is not set"
        for stream in self.outputs.values():
            assert stream.format is FormatType.FLOAT32, "an output of another format than FLOAT32 is not asked for here"
        for stream in (self.stream, *self.outputs.values()):
            stream.configured = True
        return _Configured(self)
