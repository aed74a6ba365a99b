"""A strict stand-in for ais_bench.infer.interface.InferSession, as in Huawei's public source (msit, interface.py).

Types and layouts are the .om's own and nothing is converted; "dymhw" looks for the free height and width where NCHW has
them. ASCEND_DOUBLE_FAILS: "load" or "infer" fails; "chip" loads nothing, as a board with another chip.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from om_file import output_shapes, read_om

NPUMAKE_DOUBLE = True


class Port(NamedTuple):
    name: str
    shape: list[int]
    datatype: str


class InferSession:
    def __init__(self, device_id, model_path, acl_json_path=None, debug=False, loop=1):
        assert device_id == 0, f"there is no device {device_id}"
        assert isinstance(model_path, str), "the path is a str"
        assert acl_json_path is None and debug is False and loop == 1, "an argument that is not asked for here"
        if os.environ.get("ASCEND_DOUBLE_FAILS") in ("load", "chip") or not Path(model_path).is_file():
            raise RuntimeError("[1][ACL: model load failed] 145000: the om does not match the soc version")
        self._om = read_om(model_path)
        self._open = True

    def get_inputs(self):
        assert self._open, "the session was freed"
        entry = self._om.header["input"]
        batch, channels, height, width = entry["shape"]
        if entry["pixels"]:
            return [Port(entry["name"], [batch, height, width, channels], "dtype.uint8")]
        return [Port(entry["name"], entry["shape"], "dtype.float32")]

    def get_outputs(self):
        assert self._open, "the session was freed"
        header = self._om.header
        ends = output_shapes(
            self._om.model, header["input"]["name"], self._om.shape(self._om.batches()[0], self._om.sizes()[0])
        )
        return [Port(name, ends[index], "dtype.float32") for index, name in enumerate(self._om.output_names())]

    def infer(self, feeds, mode="static", custom_sizes=100000, out_array=True):
        assert self._open, "the session was freed"
        assert custom_sizes == 100000 and out_array is True, "an argument that is not asked for here"
        if os.environ.get("ASCEND_DOUBLE_FAILS") == "infer":
            raise RuntimeError("[1][ACL: execute model failed] 507011")
        assert isinstance(feeds, list) and len(feeds) == 1, "a list of the one input"
        (feed,) = feeds
        port = self.get_inputs()[0]
        assert isinstance(feed, np.ndarray) and feed.flags["C_CONTIGUOUS"], "a contiguous array"
        # The bytes are copied as they are: another type of the same size would compute rubbish.
        if f"dtype.{feed.dtype}" != port.datatype:
            raise RuntimeError(f"the om takes {port.datatype}, and {feed.dtype} was fed")
        batches, sizes, pixels = self._om.batches(), self._om.sizes(), self._om.header["input"]["pixels"]
        wanted = "dymhw" if self._om.header["sizes"] else "dymbatch" if self._om.header["batches"] else "static"
        if mode != wanted:
            raise RuntimeError(f"mode {mode}: not a {mode} model!")
        if mode == "dymhw" and port.shape[2:] != [-1, -1]:
            raise RuntimeError("not a dymhw model!")  # NHWC: (1, -1, -1, 3)
        allowed = [self._om.shape(batch, size) for batch in batches for size in sizes]
        if pixels:
            allowed = [(batch, height, width, channels) for batch, channels, height, width in allowed]
        if feed.shape not in allowed:
            raise RuntimeError(f"the om takes {allowed}, not {feed.shape}")
        return self._om.compute(feed)

    def free_resource(self):
        self._open = False

    @staticmethod
    def finalize():
        pass
