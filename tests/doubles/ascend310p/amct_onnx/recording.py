"""What AMCT's own operators do inside onnxruntime: they see what the network to calibrate is fed.

Real ones sit in the graph; here onnxruntime.InferenceSession is watched instead.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

KEY = "amct_onnx double"
_real_session = onnxruntime.InferenceSession
fed: list[dict[str, np.ndarray]] = []
expected = {"batches": 0, "record": ""}


def mark(model: onnx.ModelProto, word: str) -> onnx.ModelProto:
    """A copy that says what it is: "modified", "deploy" or "fake"."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.metadata_props.add(key=KEY, value=word)
    return copy


class WatchedSession:
    """An InferenceSession on a network of AMCT's: with AMCT_SO, not optimised, on the CPU."""

    def __init__(self, path, sess_options, providers, amct_options, word):
        # AMCT: "InferenceSession(model, amct.AMCT_SO)"; without its operators a session cannot load the file.
        assert sess_options is amct_options and amct_options is not None, "AMCT_SO is missing: unknown operators"
        # AMCT, known problem with onnxruntime 1.8 on: optimised graphs fail.
        disabled = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        assert sess_options.graph_optimization_level == disabled, "graph optimisations are on"
        assert providers == ["CPUExecutionProvider"], "calibration runs on the CPU"
        self._session = _real_session(path, sess_options, providers=providers)
        self._word = word

    def get_inputs(self):
        return self._session.get_inputs()

    def get_outputs(self):
        return self._session.get_outputs()

    def run(self, names, feeds):
        if self._word == "modified":
            for array in feeds.values():
                assert array.dtype == np.float32, f"calibration in {array.dtype}"
            fed.append({name: array.copy() for name, array in feeds.items()})
            if len(fed) == expected["batches"] and os.environ.get("AMCT_DOUBLE_FAILS") != "record":
                Path(expected["record"]).write_text('record {\n  key: "all layers"\n}\n')
        return self._session.run(names, feeds)


def watch(amct_options) -> None:
    """From here on sessions on AMCT's networks are watched ones."""

    def session(path, sess_options=None, providers=None, **more):
        model = onnx.load_from_string(path) if isinstance(path, bytes) else onnx.load(path)
        word = next((entry.value for entry in model.metadata_props if entry.key == KEY), None)
        if word is None:
            return _real_session(path, sess_options, providers=providers, **more)
        assert not more, f"unknown arguments {sorted(more)}"
        return WatchedSession(path, sess_options, providers, amct_options, word)

    onnxruntime.InferenceSession = session
