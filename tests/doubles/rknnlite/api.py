"""A strict stand-in for rknnlite.api.RKNNLite: the documented calls in the documented order, and nothing else.

Names, defaults and return codes as in Rockchip's rknn-toolkit-lite2 (user guide; examples/resnet18/test.py in
airockchip/rknn-toolkit2): load_rknn and init_runtime return 0 or -1, inference a list of arrays or None; inputs are
NHWC unless data_format says otherwise; a core mask is for chips with several cores. Where the real one would guess or
crash, this one raises AssertionError.

What it computes is the ONNX network that RKNNLITE_DOUBLE_ONNX names, by onnxruntime. RKNNLITE_DOUBLE_FAILS names a
call that fails.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import numpy as np
import onnxruntime


class RKNNLite:
    NPU_CORE_AUTO = 0
    NPU_CORE_0 = 1
    NPU_CORE_1 = 2
    NPU_CORE_2 = 4
    NPU_CORE_0_1 = 3
    NPU_CORE_0_1_2 = 7
    NPU_CORE_ALL = 0xFFFF

    def __init__(self, verbose=False, verbose_file=None):
        assert verbose in (True, False) and verbose_file is None
        self._description = None
        self._session = None
        self._fails = os.environ.get("RKNNLITE_DOUBLE_FAILS", "")

    def load_rknn(self, path):
        assert isinstance(path, str)
        if self._fails == "load_rknn" or not os.path.exists(path):
            return -1
        data = Path(path).read_bytes()
        assert data[:4] == b"RKNN"
        (length,) = struct.unpack_from("<Q", data, 16)
        self._description = json.loads(data[64 + length + 8 :])
        return 0

    def init_runtime(self, target=None, device_id=None, async_mode=False, core_mask=NPU_CORE_AUTO):
        assert target is None and device_id is None and async_mode is False, "on the board itself there is no target"
        if self._fails == "init_runtime" or self._description is None:
            return -1
        (chip,) = self._description["target_platform"]
        cores = {"rk3588": 7, "rk3576": 3}.get(chip)
        assert core_mask == 0 or (cores and core_mask & ~cores == 0), f"{chip} has no cores {core_mask}"
        self._session = onnxruntime.InferenceSession(
            os.environ["RKNNLITE_DOUBLE_ONNX"], providers=["CPUExecutionProvider"]
        )
        print(f"core_mask {core_mask}")
        return 0

    def inference(self, inputs, data_type=None, data_format=None, inputs_pass_through=None, get_frame_id=False):
        assert self._session is not None, "init_runtime comes first"
        assert data_type is None and inputs_pass_through is None and get_frame_id is False
        assert data_format is None, "this double takes the default, nhwc"
        if self._fails == "inference":
            return None
        assert isinstance(inputs, list) and len(inputs) == len(self._session.get_inputs())
        fed = {}
        for array, expected in zip(inputs, self._session.get_inputs(), strict=True):
            batch, channels, height, width = expected.shape
            assert isinstance(array, np.ndarray) and array.dtype == np.float32 and array.flags["C_CONTIGUOUS"]
            assert array.shape == (batch, height, width, channels), f"{array.shape} is not NHWC"
            fed[expected.name] = array.transpose(0, 3, 1, 2)
        return [np.ascontiguousarray(array) for array in self._session.run(None, fed)]

    def get_sdk_version(self):
        assert self._session is not None, "init_runtime comes first"
        return "API: 2.5.0 (double)\nDRV: rknn_server: none"

    def release(self):
        self._session = None
