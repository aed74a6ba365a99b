"""`make inspect`: what is in a graph, what it looks like, where a detector is cut, and which chips would take it."""

import json
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from common import inspect_onnx
from common.basics.errors import UserError
from common.declarations.spec import chip_names, load_chip
from common.graphs.chip_verdicts import graph_for_chips
from common.graphs.likely_task import known_shapes, likely_task
from common.inspect_onnx import describe, nodes_of, warnings_of
from tests.common.detectors import detector_onnx
from tests.common.odd_graphs import odd_model, save


def network(*outputs, image=(1, 3, 64, 48), tail="Relu", dtype=TensorProto.FLOAT):
    """A convolution for each output (channels, stride), then `tail`."""
    nodes, values, weights = [], [], []
    for number, (channels, stride) in enumerate(outputs):
        kernel = np.random.default_rng(number).normal(0, 0.1, (channels, image[1], 1, 1)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{number}"))
        nodes.append(
            helper.make_node("Conv", ["image", f"w{number}"], [f"c{number}"], f"conv{number}", strides=[stride] * 2)
        )
        nodes.append(helper.make_node(tail, [f"c{number}"], [f"maps{number}"], f"tail{number}"))
        values.append(helper.make_tensor_value_info(f"maps{number}", TensorProto.FLOAT, (None, channels, None, None)))
    shape = [helper.make_tensor_value_info("image", dtype, image)]
    return helper.make_model(
        helper.make_graph(nodes, "network", shape, values, weights),
        opset_imports=[helper.make_opsetid("", 11)],
        ir_version=7,
    )


def likeness(model):
    return likely_task(known_shapes(model, "a.onnx"))


def inspect(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["inspect", *words])
    inspect_onnx.main()
    return capsys.readouterr().out


# --- What it looks like -----------------------------------------------------------------------------------------------
def test_maps_of_a_known_number_at_a_quarter_are_heatmaps():
    found = likeness(network((17, 4)))
    assert (found.task, found.joints, found.obstacle) == ("topdown_pose", 17, None)
    assert "17 maps of 16x12, 1/4 of the input" in found.why


def test_twice_as_many_maps_and_a_second_stage_are_heatmaps_with_tags():
    for outputs in ([(34, 4), (17, 2)], [(34, 4)]):
        found = likeness(network(*outputs))
        assert (found.task, found.joints) == ("bottomup_pose", 17)


def test_several_stages_have_to_be_exported_with_the_last_alone():
    found = likeness(network((17, 4), (17, 4)))
    assert found.task == "topdown_pose"
    assert "maps1" in found.obstacle[1]


@pytest.mark.parametrize(("classes", "keypoints"), [(2, 0), (1, 17)])
def test_a_detectors_head_is_found_behind_its_decode(classes, keypoints):
    found = likeness(detector_onnx(classes, keypoints))
    assert (found.task, found.classes, found.joints) == ("detection", classes, keypoints or None)
    assert found.strides == (8, 16, 32)
    assert len(found.cut) == (9 if keypoints else 6)
    assert {shape[1] for shape in found.cut.values()} == {64, classes} | ({51} if keypoints else set())


def test_what_an_exporter_noted_gives_the_names_of_the_classes():
    model = detector_onnx(2)
    entry = model.metadata_props.add()
    entry.key, entry.value = "names", "{0: 'cat, small', 1: \"dog\"}"
    assert likeness(model).class_names == ("cat, small", "dog")


def test_a_head_with_anchors_is_named_and_refused():
    found = likeness(network((255, 8), (255, 16), (255, 32), image=(1, 3, 64, 64)))
    assert "YOLOv5" in found.obstacle[0]


def test_suppression_within_the_graph_is_an_obstacle():
    model = detector_onnx(2)
    model.graph.node.append(helper.make_node("TopK", ["output0", "k"], ["v", "i"], "top"))
    found = likely_task(inspect_shapes(model))
    assert "TopK" in found.obstacle[0]


def inspect_shapes(model):
    shapes = known_shapes(detector_onnx(2), "a.onnx")
    shapes.model = model
    return shapes


def test_something_else_is_not_taken_for_any_of_them():
    found = likeness(network((3, 1)))  # a picture of the input's size has few maps, but may be three keypoints
    assert found.task == "topdown_pose"
    assert likeness(network((1, 4))).task is None
    assert likeness(network((17, 4), tail="GlobalAveragePool")).task is None


# --- Warnings ---------------------------------------------------------------------------------------------------------
def test_each_oddity_is_a_warning(tmp_path):
    model = network((17, 4), image=("batch", 3, 64, 48))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3), "precise"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float16), "half"))
    model.graph.input.append(helper.make_tensor_value_info("w0", TensorProto.FLOAT, (17, 3, 1, 1)))
    path = tmp_path / "a.onnx"
    onnx.save(model, path, save_as_external_data=True, location="a.weights", size_threshold=0)
    text = "\n".join(warnings_of(onnx.load(path), path))
    for expected in (
        "axis 0 ('batch')",
        "double (float64)",
        "precise",
        "half precision",
        "a.weights",
        "1 weights are listed",
    ):
        assert expected in text


def test_a_plain_graph_has_none(tmp_path):
    path = save(network((17, 4), image=(1, 3, 64, 48)), tmp_path / "a.onnx")
    found = [line for line in warnings_of(onnx.load(path), path) if not line.startswith("output")]
    assert found == []


# --- The chips --------------------------------------------------------------------------------------------------------
def test_every_chip_is_asked_and_a_refusal_has_its_reason_and_node(tmp_path):
    described = describe(save(network((17, 4), tail="Softsign"), tmp_path / "a.onnx"))
    chips = {chip["chip"]: chip for chip in described["chips"]}
    assert set(chips) == set(chip_names())
    for name, chip in chips.items():
        supported = "Softsign" in load_chip(name).operators
        assert chip["takes_it"] == supported
        if not supported:
            assert "Softsign is not supported -> " in chip["reasons"][0]
            assert "tail0" in chip["reasons"][0]
    assert {chip["takes_it"] for chip in chips.values()} == {True, False}


def test_what_the_fix_passes_mend_is_no_refusal(tmp_path):
    """Opset 8, weights among the inputs, spatial=0, Upsample: every chip reads what the build would hand it."""
    described = describe(save(odd_model(), tmp_path / "odd.onnx"))
    assert described["opset"] == 8
    assert [chip["reasons"] for chip in described["chips"] if not chip["takes_it"]] == []


def test_a_detector_is_judged_without_its_decode(tmp_path):
    shapes = known_shapes(detector_onnx(2), "d.onnx")
    handed = graph_for_chips(shapes, likely_task(shapes))
    assert {tensor.name for tensor in handed.graph.output} == set(likely_task(shapes).cut)
    assert not {"Softmax", "Sub", "Div"} & {node.op_type for node in handed.graph.node}
    described = describe(save(detector_onnx(2), tmp_path / "d.onnx"))
    assert described["likely_task"] == "detection"
    assert described["cut"]["nodes_behind"] > 10
    network = {"Conv", "Sigmoid", "Mul", "Add", "Concat", "MaxPool", "Resize", "Split"}
    for chip in described["chips"]:
        assert chip["takes_it"] == (network <= set(load_chip(chip["chip"]).operators)), chip
    assert any(chip["takes_it"] for chip in described["chips"])


# --- The command ------------------------------------------------------------------------------------------------------
def test_the_page_is_aligned_and_lists_nodes_on_request(tmp_path, monkeypatch, capsys):
    path = save(network((17, 4)), tmp_path / "a.onnx")
    text = inspect(monkeypatch, capsys, "--onnx", str(path), "--nodes", "1")
    for expected in (
        "opset 11, IR 7",
        "image  1x3x64x48  float32",
        "parameters     51,",
        "Conv 1  Relu 1",
        "topdown_pose",
    ):
        assert expected in text
    assert "takes it" in text
    numbers = [line.split() for line in text.partition("Nodes:")[2].splitlines() if line]
    assert [line[:3] for line in numbers] == [["0", "conv0", "Conv"], ["1", "tail0", "Relu"]]
    assert "1x17x16x12" in nodes_of(path)[0][3]


def test_json_is_the_whole_of_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(inspect_onnx, "verdicts", lambda graph: [])
    path = save(network((17, 4)), tmp_path / "a.onnx")
    found = json.loads(inspect(monkeypatch, capsys, "--onnx", str(path), "--json", "1", "--nodes", "1"))
    assert found["operators"] == {"Conv": 1, "Relu": 1}
    assert found["node_list"][0]["name"] == "conv0"


def test_a_free_size_is_said_and_the_chips_are_not_asked(tmp_path, monkeypatch, capsys):
    path = save(network((17, 4), image=(1, 3, "height", "width")), tmp_path / "a.onnx")
    text = inspect(monkeypatch, capsys, "--onnx", str(path))
    assert "1x3xheightxwidth: its height or width is free" in text
    assert "make_static" in text
    assert "The chips were not asked" in text


def test_a_free_batch_is_set_to_one(tmp_path):
    described = describe(save(network((17, 4), image=("N", 3, 64, 48)), tmp_path / "a.onnx"))
    assert described["likely_task"] == "topdown_pose"
    assert any(chip["takes_it"] for chip in described["chips"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "ONNX= is not set"),
        (["--onnx", "nowhere.onnx"], "ONNX=nowhere.onnx is not a file"),
        (["--onnx", __file__, "--nodes", "yes"], "NODES=yes makes no sense"),
    ],
)
def test_a_wrong_call_is_one_message_and_exit_2(monkeypatch, capsys, words, expected):
    with pytest.raises(UserError, match=expected) as error:
        inspect(monkeypatch, capsys, *words)
    assert error.value.exit_code == 2
    assert error.value.hint


def test_a_file_that_is_no_onnx_is_refused(tmp_path, monkeypatch, capsys):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"<!DOCTYPE html><html>Sign in</html>")
    with pytest.raises(UserError, match=r"a\.onnx"):
        inspect(monkeypatch, capsys, "--onnx", str(path))
