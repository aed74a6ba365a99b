"""Reads the .hef of the double of Hailo's compiler."""

import json
import os

import onnx

MARK = b"NPUMAKE DOUBLE: not an artifact\n"


class read_hef:  # noqa: N801 - used as a function
    """arch, inputs, outputs, nms, model of a file. Raises OSError where there is none, AssertionError for another."""

    def __init__(self, path):
        data = path.read_bytes()
        assert data.startswith(MARK), "no .hef of the double"
        head, _, rest = data[len(MARK) :].partition(b"\n")
        header = json.loads(head)
        self.arch, self.inputs, self.outputs = header["arch"], header["inputs"], header["outputs"]
        self.nms = header["nms"]
        assert not self.nms, "this stand-in runs raw tensors only"
        assert len(self.inputs) == 1, "this stand-in runs networks of one input"
        if os.environ.get("HAILORT_DOUBLE_RENAMES"):
            for number, one in enumerate(self.outputs):
                one["name"] = f"renamed/{number}"
        assert list(header["blobs"].values()) == [len(rest)], "truncated"
        self.model = onnx.load_from_string(rest)
