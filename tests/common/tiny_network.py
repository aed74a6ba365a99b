"""A very small heatmap network as ONNX, and the folders of a float reference and a cell around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from common.basics.files import write_json
from tests.common.image_sets import pose_spec


def tiny_network(path: Path, joints: int = 17, seed: int = 0, name: str = "image") -> Path:
    """Input [1, 3, 64, 48] -> average of 4x4 -> 1x1 convolution -> "heatmaps" [1, joints, 16, 12]."""
    weights = np.random.default_rng(seed).normal(0, 1, (joints, 3, 1, 1)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", [name], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
            helper.make_node("Conv", ["pooled", "weights"], ["heatmaps"]),
        ],
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 64, 48])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, [1, joints, 16, 12])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def make_reference(out: Path, evaluation: Path) -> Path:
    """out/float with the request files, and model.onnx already exported."""
    folder = out / "float"
    source = {"kind": "random", "origin": "random", "path": None}
    spec = pose_spec().model_dump(mode="json")
    write_json(folder / "source.json", {"version": 1, "model": "tester", "spec": spec, "source": source})
    write_json(folder / "evaluation_set.json", {"folder": str(evaluation), "fingerprint": "0"})
    tiny_network(folder / "model.onnx")
    return folder


def make_cell(out: Path, calibration: Path | None = None) -> Path:
    """out/chip/int8 with its request files."""
    folder = out / "chip" / "int8"
    request = {"version": 1, "model": "tester", "chip": "chip", "variant": "int8", "precision": "int8"}
    write_json(folder / "request.json", request)
    if calibration:
        wanted = {"folder": str(calibration), "fingerprint": "0", "count": 50, "force": False}
        write_json(folder / "calibration_set.json", wanted)
    return folder
