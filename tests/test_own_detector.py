"""A detector of the user's own, whose input is a whole photograph, from its ONNX to the proof; and bad ones."""

import json

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.test_bad_input import assert_refused

SPEC = """name: mine
task: detection
input: {shape: [1, 3, 64, 64], color: rgb, scale: 255, mean: [0, 0, 0], std: [1, 1, 1], border: 114}
decode: {kind: yolov8, classes: [dog, person, ball]}
gate: {int8: {iou: 0, ap_drop: 1}}
"""
HEADS = [(stride, role, channels) for stride in (8, 16, 32) for role, channels in (("box", 64), ("class", 3))]


def detector(heads=tuple(HEADS), suppressed=False):
    """Every head is one convolution of the picture, as large as its stride."""
    random, nodes, weights, outputs = np.random.default_rng(0), [], [], []
    for stride, role, channels in heads:
        name, shape = f"{role}{stride}", [1, channels, 64 // stride, 64 // stride]
        kernel = random.normal(0, 3 / stride, (channels, 3, stride, stride)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"{name}_w"))
        nodes.append(helper.make_node("Conv", ["image", f"{name}_w"], [name], name, strides=[stride, stride]))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    if suppressed:
        nodes.append(helper.make_node("TopK", ["class8", "count"], ["best", "places"], "best", axis=1))
        weights.append(numpy_helper.from_array(np.array([2], np.int64), "count"))
        outputs.append(helper.make_tensor_value_info("best", TensorProto.FLOAT, [1, 2, 8, 8]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 64])
    graph = helper.make_graph(nodes, "detector", [image], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)


@pytest.fixture
def own(demo_copy):
    """The built demo's folder (its image sets are there), with the declaration of a detector."""
    demo_copy.path("mine.yaml").write_text(SPEC)

    def build(model, *words):
        demo_copy.path("mine.onnx").write_bytes(model.SerializeToString())
        return demo_copy.make("ncnn", "ONNX=mine.onnx", "SPEC=mine.yaml", *words)

    return demo_copy, build


def test_an_own_detector_goes_through_in_float_and_int8(own):
    project, build = own
    result = build(detector(), "LIMIT=20")
    assert result.returncode == 0, result.stdout + result.stderr
    cells = {variant: project.path("out/mine/ncnn", variant) for variant in ("fp32", "int8")}
    compared = json.loads((cells["fp32"] / "compare.json").read_text())
    assert compared["similarity"] == "IoU" and compared["agreement"] == compared["iou"] > 0.999
    assert compared["found"][0] > 0
    for output in compared["outputs"].values():
        assert output["cosine"] > 0.9999
    sidecar = json.loads((cells["int8"] / "artifact.json").read_text())
    assert sidecar["labels"] == ["dog", "person", "ball"] and len(sidecar["decode"]["outputs"]) == 6
    assert sidecar["preprocessing"]["border"] == 114
    manifest = json.loads((cells["int8"] / "calib/manifest.json").read_text())
    assert manifest["boxes"] == "whole_images"
    assert {finding["state"] for finding in manifest["lint"]} <= {"ok", "warn"}
    metrics = json.loads((cells["int8"] / "metrics.json").read_text())
    assert metrics["images"] == 20 and metrics["metric"] == "AP" and metrics["chip"]["AP"] is not None
    assert (cells["int8"] / "boxes_worst.png").exists()
    assert "IoU" in result.stdout and "mine/ncnn/int8" in result.stdout


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (detector(suppressed=True), ("suppresses overlapping boxes itself (TopK", "nms=False")),
        (detector(HEADS[:4]), ("has 4 head outputs", "expects 6")),
        (detector([(s, r, 5 if r == "class" else c) for s, r, c in HEADS]), ("1x5x8x8", "1x3x8x8")),
    ],
    ids=["suppression inside", "two strides", "other classes"],
)
def test_another_head_is_refused_with_what_was_found_and_what_is_expected(own, model, expected):
    project, build = own
    assert_refused(build(model, "PRECISION=fp32"), *expected)
    assert not project.path("out/mine/ncnn/fp32/compile.json").exists()
