"""VDevice, by which both ways start. It is open within its `with` alone."""

import os

from hailo_platform.infer_model import InferModel
from hailo_platform.values import HEF, HailoSchedulingAlgorithm, check_chip, fail
from hailo_platform.virtual_streams import NetworkGroup


class _Identity:
    def __str__(self):
        return "Board Name: Hailo-8\nDevice Architecture: HAILO8L (double)"


class _Control:
    def identify(self):
        return _Identity()


class _PhysicalDevice:
    control = _Control()


class _Parameters:
    """Of a VDevice; what is not set has HailoRT's Python default, no scheduler."""

    scheduling_algorithm = HailoSchedulingAlgorithm.NONE

    def __setattr__(self, name, value):
        assert name == "scheduling_algorithm", f"VDevice has no parameter {name}"
        assert isinstance(value, HailoSchedulingAlgorithm), "a HailoSchedulingAlgorithm is needed"
        object.__setattr__(self, name, value)


class VDevice:
    def __init__(self, params=None):
        fail("VDevice")
        assert params is None or isinstance(params, _Parameters), "params is what create_params() gives"
        self.scheduled = params is not None and params.scheduling_algorithm is not HailoSchedulingAlgorithm.NONE
        self.open, self._released = False, False

    @staticmethod
    def create_params():
        return _Parameters()

    def __enter__(self):
        assert not self.open and not self._released, "a VDevice is entered once"
        self.open = True
        return self

    def __exit__(self, *_):
        self.open, self._released = False, True
        return False

    def _check_open(self):
        assert self.open, "the VDevice is not open"

    def get_physical_devices(self):
        self._check_open()
        return [_PhysicalDevice()]

    def configure(self, hef, configure_params_by_name):
        fail("configure")
        self._check_open()
        assert isinstance(hef, HEF), "a HEF is needed"
        assert configure_params_by_name == {"net": "params"}, "the parameters are those of create_from_hef()"
        check_chip(hef.content)
        return [NetworkGroup(self, hef.content)]

    if not os.environ.get("HAILORT_DOUBLE_OLD"):

        def create_infer_model(self, hef_source):
            self._check_open()
            assert isinstance(hef_source, str), "the path of a .hef is a str"
            fail("create_infer_model")
            return InferModel(self, hef_source)
