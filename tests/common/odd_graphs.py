"""Graphs as odd as those that people bring, built here, with their outputs from torch as an independent yardstick."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

INPUT_SHAPE = [1, 3, 32, 24]
OUTPUT_SHAPE = [1, 17, 16, 12]
EPSILON = 1e-3


def weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    return {
        "w1": random.standard_normal((8, 3, 3, 3)).astype(np.float32) * 0.3,
        "scale": random.uniform(0.5, 1.5, 8).astype(np.float32),
        "bias": random.standard_normal(8).astype(np.float32),
        "mean": random.standard_normal(8).astype(np.float32),
        "variance": random.uniform(0.01, 0.02, 8).astype(np.float32),  # small, so that epsilon matters
        "w2": random.standard_normal((8, 1, 3, 3)).astype(np.float32) * 0.3,
        "scale2": random.uniform(0.5, 1.5, 8).astype(np.float32),
        "bias2": random.standard_normal(8).astype(np.float32),
        "mean2": random.standard_normal(8).astype(np.float32),
        "variance2": random.uniform(0.5, 2.0, 8).astype(np.float32),
        "w3": random.standard_normal((17, 8, 1, 1)).astype(np.float32),
        "b3": random.standard_normal(17).astype(np.float32),
    }


def odd_model(statistics_shape: tuple[int, ...] | None = None, **replaced: np.ndarray) -> onnx.ModelProto:
    """Opset 8, IR 3: weights among the inputs, BatchNormalization with spatial=0, Upsample, Dropout, a dead node.

    Conv 3x3 s2 -> BN -> Clip -> depthwise Conv s2 -> Upsample x2 -> Dropout -> Identity -> BN -> Conv 1x1: 17 heatmaps.
    The first BN can be merged into the convolution before it (onnxruntime does, and forgives it); the second cannot.
    statistics_shape: give the first BN's four statistics that shape instead of (8,).
    """
    values = weights() | replaced
    if statistics_shape:
        for name in ("scale", "bias", "mean", "variance"):
            values[name] = np.broadcast_to(values[name].reshape(8, 1, 1), statistics_shape).copy()
    nodes = [
        helper.make_node("Conv", ["data", "w1"], ["c1"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization", ["c1", "scale", "bias", "mean", "variance"], ["n1"], "bn", epsilon=EPSILON, spatial=0
        ),
        helper.make_node("Clip", ["n1"], ["r1"], "same_name", min=0.0, max=6.0),
        helper.make_node(
            "Conv", ["r1", "w2"], ["c2"], "same_name", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], group=8
        ),
        helper.make_node("Upsample", ["c2"], ["u2"], "up", mode="nearest", scales=[1.0, 1.0, 2.0, 2.0]),
        helper.make_node("Dropout", ["u2"], ["d2"], "drop", ratio=0.5),
        helper.make_node("Identity", ["d2"], ["i2"], "same"),
        helper.make_node("Relu", ["u2"], ["nobody_reads_this"], "dead"),
        helper.make_node(
            "BatchNormalization", ["i2", "scale2", "bias2", "mean2", "variance2"], ["n2"], "bn2", spatial=0
        ),
        helper.make_node("Conv", ["n2", "w3", "b3"], ["maps"], "head", kernel_shape=[1, 1]),
    ]
    inputs = [helper.make_tensor_value_info("data", TensorProto.FLOAT, INPUT_SHAPE)]
    inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in values.items()]
    outputs = [helper.make_tensor_value_info("maps", TensorProto.FLOAT, OUTPUT_SHAPE)]
    initializers = [numpy_helper.from_array(array, name) for name, array in values.items()]
    graph = helper.make_graph(nodes, "odd", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=3)


def odd_outputs(x: np.ndarray) -> np.ndarray:
    """What odd_model computes on x [N, 3, 32, 24], by torch: float32 [N, 17, 16, 12]."""
    w = {name: torch.from_numpy(array) for name, array in weights().items()}
    y = F.conv2d(torch.from_numpy(x), w["w1"], stride=2, padding=1)
    y = F.batch_norm(y, w["mean"], w["variance"], w["scale"], w["bias"], training=False, eps=EPSILON)
    y = F.conv2d(y.clamp(0, 6), w["w2"], stride=2, padding=1, groups=8)
    y = y.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    y = F.batch_norm(y, w["mean2"], w["variance2"], w["scale2"], w["bias2"], training=False, eps=1e-5)
    return F.conv2d(y, w["w3"], w["b3"]).numpy()


def images(count: int = 2) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((count, *INPUT_SHAPE[1:])).astype(np.float32)


def save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def spec_content(name: str = "odd", shape: list[int] | None = None) -> dict:
    """A model.yaml's content for odd_model."""
    return {
        "name": name,
        "task": "topdown_pose",
        "input": {
            "shape": shape or INPUT_SHAPE,
            "color": "rgb",
            "scale": 255,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
        "decode": {"kind": "heatmap", "keypoints": "coco17"},
    }
