"""A strict double of sophon.sail, from the written facts on its API alone: it refuses what they do not allow.

The facts: "Vendor SDK API digest", section 4.4 "sophon.sail (device)", line 539, cited below as [539]. What that line
marks as uncertain can be switched by a test: the types and scales of inputs and outputs.

SOPHON_DOUBLE names a folder: board.json {"chip": magic words that a BModel for it holds, "processors": n, "graph",
"inputs": {name: {"shape", "dtype", "scale"}}, "outputs": {name: {"dtype", "scale"}}}, and known.npz: input arrays
[N, ...] and output arrays [N, ...] by name, in float32. An inference looks its input up in them.
"""

import enum
import json
import os
from pathlib import Path

import numpy as np


class IOMode(enum.Enum):
    SYSIO = 0  # [539] sail.IOMode.SYSIO: numpy arrays in system memory


class Dtype(enum.Enum):
    BM_FLOAT32 = 0
    BM_INT8 = 1
    BM_UINT8 = 2


_NUMPY = {"BM_FLOAT32": np.float32, "BM_INT8": np.int8, "BM_UINT8": np.uint8}


def _rounded(value, description):
    """What an integer tensor of this type and scale holds for float values."""
    kind = _NUMPY[description["dtype"]]
    if kind is np.float32:
        return value.astype(np.float32)
    limits = np.iinfo(kind)
    return np.clip(np.rint(value * np.float32(description["scale"])), limits.min, limits.max).astype(kind)


class Engine:
    """[539] sail.Engine(bmodel_path, tpu_id, sail.IOMode.SYSIO)"""

    def __init__(self, bmodel_path, tpu_id, mode):
        if type(bmodel_path) is not str or type(tpu_id) is not int or not isinstance(mode, IOMode):
            raise TypeError(f"Engine(str, int, IOMode), not {bmodel_path!r}, {tpu_id!r}, {mode!r}")
        self._folder = Path(os.environ["SOPHON_DOUBLE"])
        self._board = json.loads((self._folder / "board.json").read_text())
        if not 0 <= tpu_id < self._board["processors"]:
            raise RuntimeError(f"no device {tpu_id}")  # [539] device and driver are required
        if self._board["chip"].encode() + b"\0" not in Path(bmodel_path).read_bytes():
            raise RuntimeError("bmodel is not for this chip")
        with np.load(self._folder / "known.npz", allow_pickle=False) as archive:
            self._known = {name: archive[name] for name in archive.files}

    def _check(self, graph, name=None, kind="inputs"):
        if graph != self._board["graph"]:
            raise RuntimeError(f"no graph {graph!r}")
        if name is not None and name not in self._board[kind]:
            raise RuntimeError(f"graph {graph} has no {kind[:-1]} {name!r}")

    def get_graph_names(self):  # [539]
        return [self._board["graph"]]

    def get_input_names(self, graph):  # [539] get_input_names(g)
        self._check(graph)
        return list(self._board["inputs"])

    def get_output_names(self, graph):  # [539] get_output_names(g)
        self._check(graph)
        return list(self._board["outputs"])

    def get_input_shape(self, graph, name):  # [539] get_input_shape(g, n)
        self._check(graph, name)
        return list(self._board["inputs"][name]["shape"])

    def get_input_dtype(self, graph, name):  # [539] to be asked at run time
        self._check(graph, name)
        return Dtype[self._board["inputs"][name]["dtype"]]

    def get_input_scale(self, graph, name):  # [539] to be asked at run time
        self._check(graph, name)
        return self._board["inputs"][name]["scale"]

    def get_output_scale(self, graph, name):  # [539]
        self._check(graph, name, "outputs")
        return self._board["outputs"][name]["scale"]

    def process(self, graph, inputs):
        """[539] process(g, {name: ndarray}) -> {name: ndarray} in system memory"""
        self._check(graph)
        if type(inputs) is not dict or set(inputs) != set(self._board["inputs"]):
            raise RuntimeError(f"process() needs exactly {list(self._board['inputs'])}")
        for name, value in inputs.items():
            wanted = self._board["inputs"][name]
            if not isinstance(value, np.ndarray) or not value.flags.c_contiguous:
                raise TypeError(f"{name} is no contiguous ndarray")
            if value.dtype != _NUMPY[wanted["dtype"]] or list(value.shape) != wanted["shape"]:
                raise RuntimeError(f"{name} is {value.dtype} {value.shape}, not {wanted}")
        rows = [self._row(inputs, index) for index in range(len(next(iter(inputs.values()))))]
        return {name: self._output(name, rows) for name in self._board["outputs"]}

    def _row(self, inputs, index):
        for row in range(len(self._known[next(iter(inputs))])):
            if all(
                np.array_equal(value[index], _rounded(self._known[name][row], self._board["inputs"][name]))
                for name, value in inputs.items()
            ):
                return row
        raise AssertionError("the double was given a tensor that is none of the job's samples")

    def _output(self, name, rows):
        description = self._board["outputs"][name]
        value = self._known[name][rows]
        if description["dtype"] == "BM_FLOAT32":
            return value
        return _rounded(value, description | {"scale": 1 / description["scale"]})
