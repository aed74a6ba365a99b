"""Bad input: one clear message, a hint, a non-zero exit, and nothing half-written."""

import json
import shutil

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

CELL = "out/hrnet_tiny/ncnn"
SPEC = """name: mine
task: topdown_pose
input: {shape: [1, 3, 64, 48], color: rgb, scale: 255, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
decode: {kind: heatmap, keypoints: coco17}
"""


def small_network(operator="Relu", weight=None, shape=(1, 3, 64, 48), opset=11):
    """Conv (stride 4) -> operator: 17 maps at a quarter of the input, like a heatmap network."""
    if weight is None:
        weight = np.random.default_rng(0).normal(0, 0.2, (17, 3, 5, 5)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["features"], "head", strides=[4, 4], pads=[2, 2, 2, 2]),
        helper.make_node(operator, ["features"], ["maps"], "last"),
    ]
    sizes = [size if isinstance(size, int) else None for size in shape[2:]]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, (1, 17, *(size and size // 4 for size in sizes)))],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)


@pytest.fixture
def own(demo_copy):
    """The built demo's folder (its image sets are there), with a declaration for a network of the user's own."""
    demo_copy.path("mine.yaml").write_text(SPEC)

    def build(model, *words):
        path = demo_copy.path("mine.onnx")
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return demo_copy.make("ncnn", "ONNX=mine.onnx", "SPEC=mine.yaml", *words)

    return demo_copy, build


def assert_refused(result, *expected):
    assert result.returncode != 0, result.stdout
    for text in expected:
        assert text in result.stderr
    assert "HINT:" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_users_own_network_goes_through(own):
    project, build = own
    result = build(small_network(), "PRECISION=fp32")
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads(project.path("out/mine/ncnn/fp32/compare.json").read_text())["oks"] > 0.9999
    assert project.path("out/mine/ncnn/fp32/artifact.json").exists()


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (small_network().SerializeToString()[:700], "mine.onnx"),
        (b"", "mine.onnx"),
        (b"<!DOCTYPE html><html>Sign in</html>", "mine.onnx"),
        (small_network(shape=(1, 3, 128, 96)), "128"),
        (small_network(shape=(1, 3, "height", "width")), "height"),
        (small_network(weight=np.full((17, 3, 5, 5), np.nan, np.float32)), "w"),
        (small_network("Softsign"), "last"),
    ],
    ids=["truncated", "empty", "web page", "wrong size", "dynamic", "nan", "operator"],
)
def test_a_bad_network_is_refused_before_anything_is_compiled(own, model, expected):
    project, build = own
    assert_refused(build(model, "PRECISION=fp32"), expected)
    assert not project.path("out/mine/ncnn/fp32/compile.json").exists()


def photographs(project, name, count=None):
    """A copy of the calibration set, cut down to `count` images with their annotations."""
    folder = project.path(name)
    shutil.copytree(project.path("calib/people_calibration"), folder)
    truth = json.loads((folder / "person_keypoints.json").read_text())
    for image in truth["images"][count:] if count is not None else []:
        (folder / image["file_name"]).unlink()
    kept = {image["id"] for image in truth["images"][:count]}
    truth["images"] = [image for image in truth["images"] if image["id"] in kept]
    truth["annotations"] = [one for one in truth["annotations"] if one["image_id"] in kept]
    (folder / "person_keypoints.json").write_text(json.dumps(truth))
    return folder


def calibrate(project, calib):
    return project.make("ncnn", "MODEL=hrnet_tiny", "PRECISION=int8", f"CALIB={calib.name}")


def test_an_unreadable_photograph_among_good_ones_is_named(demo_copy):
    folder = photographs(demo_copy, "photos")
    bad = sorted(folder.glob("*.jpg"))[3]
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 3])
    assert_refused(calibrate(demo_copy, folder), bad.name)


def test_an_empty_calibration_folder_is_refused(demo_copy):
    demo_copy.path("photos").mkdir()
    assert_refused(calibrate(demo_copy, demo_copy.path("photos")), "photos")


def test_a_tiny_calibration_set_is_refused(demo_copy):
    assert_refused(calibrate(demo_copy, photographs(demo_copy, "photos", 2)), "calib")


def test_whole_photographs_are_refused_for_a_top_down_network(demo_copy):
    folder = photographs(demo_copy, "photos")
    (folder / "person_keypoints.json").unlink()
    assert_refused(calibrate(demo_copy, folder), "person")


def test_calibrating_on_the_evaluation_images_is_refused_unless_forced_and_then_recorded(demo_copy):
    words = ("ncnn", "MODEL=hrnet_tiny", "PRECISION=int8", "CALIB=calib/people_evaluation")
    assert_refused(demo_copy.make(*words), "evaluation")
    result = demo_copy.make(*words, "FORCE=1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "force" in json.dumps(json.loads(demo_copy.path(CELL, "int8/artifact.json").read_text())).lower()


def test_annotations_that_name_missing_images_are_refused(demo_copy):
    folder = photographs(demo_copy, "photos")
    gone = sorted(folder.glob("*.jpg"))[0]
    gone.unlink()
    assert_refused(calibrate(demo_copy, folder), gone.name)
