"""ktc.kneron_inference [appendix/app_flow_manual.md]."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from ktc import double_file, rules
from ktc.graph_rules import input_shapes, is_optimised

_loaded: dict[tuple, tuple] = {}


def kneron_inference(
    pre_results, input_names, nef_file="", onnx_file="", bie_file="", model_id=None, data_type="float", reordering=None,
    platform=520,
):  # fmt: skip
    how = rules.told_to("kneron_inference")
    given = {kind: path for kind, path in (("nef", nef_file), ("onnx", onnx_file), ("bie", bie_file)) if path}
    if len(given) != 1:  # the real one takes the first of NEF, ONNX, BIE
        raise ValueError(f"one file, not {len(given)}")
    ((kind, path),) = given.items()
    if type(path) is not str or not path.endswith(f".{kind}") or not os.path.isfile(path):
        raise ValueError(f"{kind}_file {path!r} is no .{kind} file")
    rules.plain_path(f"{kind}_file", path)
    if type(platform) is not int or str(platform) not in rules.PLATFORMS:
        raise ValueError(f"platform {platform!r} is no int of {rules.PLATFORMS}")
    rules.one_of("data_type", data_type, ("float", "fixed"))
    if data_type == "fixed" or model_id is not None:
        raise NotImplementedError("this double gives float of the only model")
    session, shapes = _load(kind, path, platform)
    if not isinstance(input_names, list) or sorted(input_names) != sorted(shapes):
        raise ValueError(f"input_names {input_names!r} are not {sorted(shapes)}")
    if not isinstance(pre_results, list) or len(pre_results) != len(input_names):
        raise ValueError("pre_results is a list in the order of input_names")
    feeds = dict(zip(input_names, pre_results, strict=True))
    for name, array in feeds.items():
        if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.shape != shapes[name]:
            raise ValueError(f"{name}: float32 of shape {shapes[name]} is needed, channel first")
    outputs = [value.name for value in session.get_outputs()]
    if reordering is not None:
        if how == "unnamed" and kind == "nef":
            raise KeyError(reordering[0])
        if not isinstance(reordering, list) or sorted(reordering) != sorted(outputs):
            raise ValueError(f"reordering {reordering!r} does not list {outputs}")
    found = session.run(reordering or outputs, feeds)
    return found[:-1] if how == "short" else found


def _load(kind: str, path: str, platform: int) -> tuple:
    key = (path, os.stat(path).st_mtime_ns)
    if key not in _loaded:
        if kind == "onnx":
            model, made_for = onnx.load(path), None
            if not is_optimised(model):
                raise ValueError("every ONNX shall pass the optimiser first")
        else:
            header, model = double_file.read(Path(path))
            made_for = (header["kind"], header["platform"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        content = model.SerializeToString()
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        _loaded[key] = (session, input_shapes(model), made_for)
    session, shapes, made_for = _loaded[key]
    if made_for not in (None, (kind, str(platform))):
        raise ValueError(f"{path} is a {made_for[0]} for {made_for[1]}, not a {kind} for {platform}")
    return session, shapes
