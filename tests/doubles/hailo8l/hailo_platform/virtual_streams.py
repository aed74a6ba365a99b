"""The way of runtimes before 4.17: a network group, activated, and InferVStreams [pyhailort.py]."""

import numpy as np

from hailo_platform.values import HEF, INPUT_TYPES, FormatType, HailoRTException, HailoStreamInterface, Stream, fail
from hailo_platform.values import infer as infer_one


class ConfigureParams:
    @staticmethod
    def create_from_hef(hef, interface):
        assert isinstance(hef, HEF), "a HEF is needed"
        assert interface is HailoStreamInterface.PCIe, "a HailoStreamInterface is needed"
        return {"net": "params"}


class _ActivationParams:
    pass


class NetworkGroup:
    """What VDevice.configure() gives; active within the `with` of activate()."""

    def __init__(self, device, content):
        self.device, self.content, self.active = device, content, False

    def create_params(self):
        return _ActivationParams()

    def activate(self, network_group_params):
        assert isinstance(network_group_params, _ActivationParams), "the parameters are those of create_params()"
        return _Activation(self)


class _Activation:
    def __init__(self, group):
        self._group = group

    def __enter__(self):
        assert self._group.device.open, "the VDevice is not open"
        if self._group.device.scheduled:  # core_op.cpp, activate()
            raise HailoRTException("Manually activate a core-op is not allowed when the core-op scheduler is active!")
        self._group.active = True

    def __exit__(self, *_):
        self._group.active = False


class _VStreamParams:
    @classmethod
    def make(cls, configured_network, *, format_type):
        assert isinstance(configured_network, NetworkGroup), "a configured network group is needed"
        assert isinstance(format_type, FormatType), "a FormatType is needed"
        return cls, format_type


class InputVStreamParams(_VStreamParams):
    pass


class OutputVStreamParams(_VStreamParams):
    pass


class InferVStreams:
    """infer() works within its `with` alone, while the network group is active."""

    def __init__(self, configured_net_group, input_vstreams_params, output_vstreams_params):
        assert isinstance(configured_net_group, NetworkGroup), "a configured network group is needed"
        kind, format_type = input_vstreams_params
        assert kind is InputVStreamParams, "the parameters of the inputs come first"
        assert format_type in INPUT_TYPES, "the format of the input"
        assert output_vstreams_params == (OutputVStreamParams, FormatType.FLOAT32), "the outputs, as FLOAT32"
        self._group, self._open = configured_net_group, False
        first = configured_net_group.content.inputs[0]
        self._stream = Stream(first["name"], first["shape"])
        self._stream.set_format_type(format_type)

    def __enter__(self):
        assert self._group.device.open, "the VDevice is not open"
        self._open = True
        return self

    def __exit__(self, *_):
        self._open = False

    def infer(self, input_data):
        assert self._open and self._group.device.open, "the streams are not open"
        assert self._group.active, "the network group is not activated"
        fail("infer")
        assert isinstance(input_data, dict) and set(input_data) == {self._stream.name}, "{name of the input: array}"
        array = input_data[self._stream.name]
        assert isinstance(array, np.ndarray) and array.ndim == 4 and len(array), "an array [N, H, W, C] is needed"
        found = [infer_one(self._group.content, self._stream, np.ascontiguousarray(image)) for image in array]
        return {key: np.stack([one[key] for one in found]) for key in found[0]}
