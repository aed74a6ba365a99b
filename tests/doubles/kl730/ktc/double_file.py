"""Files of the double, that nobody can take for Kneron's: a line that says so, a line of JSON, an ONNX network."""

from __future__ import annotations

import json
from pathlib import Path

import onnx

MARK = b"NPUMAKE DOUBLE: not an artifact\n"


def write(path: Path, header: dict, model: onnx.ModelProto) -> None:
    path.write_bytes(MARK + json.dumps(header).encode() + b"\n" + model.SerializeToString())


def read(path: Path) -> tuple[dict, onnx.ModelProto]:
    content = path.read_bytes()
    if not content.startswith(MARK):
        raise RuntimeError(f"{path} was not written by this double")
    header, _, model = content[len(MARK) :].partition(b"\n")
    return json.loads(header), onnx.load_model_from_string(model)
