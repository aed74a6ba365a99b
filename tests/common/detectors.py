"""A very small YOLOv8 for the tests: its spec, its ONNX, and head outputs that say what a test wants."""

from __future__ import annotations

import io
import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx

from common.declarations.spec import ModelSpec, model_from_dict

SIZE = 64
NOTHING = -20.0  # a class logit that no threshold lets through


def detector_spec(classes: Any = ("cat", "dog"), size: tuple[int, int] = (SIZE, SIZE), **decode: Any) -> ModelSpec:
    """A detection spec of [height, width] size; further keys go into decode."""
    content = {
        "name": "spotter",
        "task": "detection",
        "input": {"shape": [1, 3, *size], "color": "rgb", "scale": 255, "mean": [0] * 3, "std": [1] * 3, "border": 114},
        "decode": {"kind": "yolov8", "classes": classes if isinstance(classes, str) else list(classes), **decode},
    }
    return model_from_dict(content, "the test's spec")


def pose_detector_spec(**decode: Any) -> ModelSpec:
    return detector_spec(["person"], keypoints="coco17", **decode)


@cache
def _exported(classes: int, keypoints: int, opset: int) -> bytes:
    import torch

    from models.arch.yolov8 import YOLOv8

    torch.manual_seed(0)
    network = YOLOv8(classes, keypoints, width=0.0625, depth=0.01).eval()
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.zeros(1, 3, SIZE, SIZE),), stream, dynamo=False, opset_version=opset,
            input_names=["images"], output_names=["output0"],
        )  # fmt: skip
    return stream.getvalue()


def detector_onnx(classes: int = 2, keypoints: int = 0, opset: int = 11) -> onnx.ModelProto:
    """A graph as Ultralytics exports it, decode inside: images 1x3x64x64 -> output0 1x(4 + classes + 3 K)x84."""
    return onnx.load_model_from_string(_exported(classes, keypoints, opset))


def images(count: int = 2) -> dict[str, np.ndarray]:
    return {"images": np.random.default_rng(5).random((count, 3, SIZE, SIZE), np.float32)}


def quiet_head(spec: ModelSpec, count: int = 1) -> dict[str, np.ndarray]:
    """Head outputs of `count` photographs in which nothing is found; box_8, class_8 ... float32 [count, C, h, w]."""
    joints = 17 if spec.decode.keypoints else 0
    outputs = {}
    for stride in spec.decode.strides:
        cells = (spec.input.height // stride, spec.input.width // stride)
        outputs[f"box_{stride}"] = np.zeros((count, 4 * spec.decode.regression_bins, *cells), np.float32)
        outputs[f"class_{stride}"] = np.full((count, len(spec.decode.classes), *cells), NOTHING, np.float32)
        if joints:
            outputs[f"keypoints_{stride}"] = np.zeros((count, 3 * joints, *cells), np.float32)
    return outputs


def put_object(
    outputs: dict[str, np.ndarray], stride: int, cell: tuple[int, int], sides: tuple[float, ...], label: int = 0,
    logit: float = 2.0, image: int = 0,
) -> None:  # fmt: skip
    """Let one cell (column, row) say: an object of that class, its sides that far away, in cells (left, top, ...)."""
    column, row = cell
    bins = outputs[f"box_{stride}"].shape[1] // 4
    distributions = np.full((4, bins), -30.0, np.float32)
    for side, distance in enumerate(sides):
        low = min(int(distance), bins - 2)
        share = distance - low  # the mean of two neighbouring bins with these shares is the distance
        for place, part in ((low, 1 - share), (low + 1, share)):
            distributions[side, place] = np.log(max(part, 1e-12))
    outputs[f"box_{stride}"][image, :, row, column] = distributions.reshape(-1)
    outputs[f"class_{stride}"][image, label, row, column] = logit
