"""The double's own .har and .hef: a marked line, a line of JSON, and the ONNX graphs."""

import json
from pathlib import Path

import onnx

MARK = b"NPUMAKE DOUBLE: not an artifact\n"


def pack(header, models):
    """header: what JSON takes; models: {name: ModelProto}."""
    blobs = {name: model.SerializeToString() for name, model in models.items()}
    head = json.dumps(header | {"blobs": {name: len(blob) for name, blob in blobs.items()}}).encode()
    return b"".join([MARK, head, b"\n", *blobs.values()])


def unpack(path):
    """(header, models) of a file that pack() made."""
    data = Path(path).read_bytes()
    if not data.startswith(MARK):
        raise ValueError(f"{path} is no file of this stand-in")
    head, _, rest = data[len(MARK) :].partition(b"\n")
    header = json.loads(head)
    models = {}
    for name, length in header["blobs"].items():
        models[name], rest = onnx.load_from_string(rest[:length]), rest[length:]
    return header, models
