"""`make new-model`: what a graph tells is written, what only its owner knows is refused until it is filled in."""

import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import helper, numpy_helper

from common import new_model
from common.basics.errors import UserError
from common.declarations.open_places import OPEN, open_places, refuse_open_places
from common.declarations.spec import load_model, model_from_dict
from tests.common.detectors import detector_onnx
from tests.common.test_inspect_onnx import network
from tests.conftest import ROOT


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working folder with an empty models/ and the real vendors/."""
    (tmp_path / "models").mkdir()
    (tmp_path / "vendors").symlink_to(ROOT / "vendors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["new_model", *words])
    new_model.main()


def written(monkeypatch, model, *words):
    """The content of the declaration that is made of a graph, and its text."""
    onnx.save(model, "mine.onnx")
    make(monkeypatch, "--name", "mynet", "--onnx", "mine.onnx", *words)
    text = Path("models/mynet/model.yaml").read_text()
    return yaml.safe_load(text), text


def filled(content, **values):
    """The declaration with every open place filled; values: those of `input` and `decode` that stand open."""
    for part in ("input", "decode"):
        for key, value in content[part].items():
            if value == OPEN:
                content[part][key] = values[key]
    if content.get("weights", {}).get("licence") == OPEN:
        content["weights"]["licence"] = "my own"
    return model_from_dict(content, "test")


IMAGENET = {"color": "rgb", "scale": 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def test_a_heatmap_network_is_declared_as_far_as_its_graph_tells(project, monkeypatch, capsys):
    content, text = written(monkeypatch, network((17, 4)))
    assert (content["name"], content["task"]) == ("mynet", "topdown_pose")
    assert content["input"]["shape"] == [1, 3, 64, 48]
    assert content["decode"] | {"kind": "heatmap", "keypoints": OPEN, "padding": OPEN} == content["decode"]
    assert {key for key, value in content["input"].items() if value == OPEN} == {"color", "scale", "mean", "std"}
    assert "coco17 has as many, 17" in text
    spec = filled(content, **IMAGENET, keypoints="coco17", padding=1.25)
    assert (spec.task, spec.weights.file) == ("topdown_pose", "mynet.onnx")
    assert (project / "models/mynet/weights/mynet.onnx").read_bytes() == (project / "mine.onnx").read_bytes()
    said = capsys.readouterr().out
    assert "make CHIP MODEL=mynet" in said
    for place in open_places(project / "models/mynet/model.yaml"):
        assert f"line {place.line:3}  {place.key}" in said


def test_every_open_place_has_a_comment_before_it_or_before_its_group(project, monkeypatch):
    _, text = written(monkeypatch, network((17, 4)))
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.rstrip().endswith(f": {OPEN}"):
            before = [one for one in lines[:number] if not one.rstrip().endswith(f": {OPEN}")][-1]
            assert before.lstrip().startswith("#"), line
    assert max(map(len, lines)) <= 120


def test_bottom_up_and_detector_get_their_own_keys(project, monkeypatch):
    content, _ = written(monkeypatch, network((34, 4), (17, 2)))
    assert content["input"]["border"] == OPEN
    spec = filled(content, **IMAGENET, border=0, keypoints="coco17")
    assert spec.decode.kind == "associative_embedding"


def test_a_detector_asks_for_the_names_of_its_classes(project, monkeypatch):
    content, text = written(monkeypatch, detector_onnx(2))
    assert content["decode"] == {"kind": "yolov8", "classes": OPEN}
    assert "its 2 classes" in text
    assert filled(content, **IMAGENET, border=114, classes=["a", "b"]).task == "detection"


def test_what_ultralytics_noted_is_not_asked_again(project, monkeypatch):
    model = detector_onnx(1, 17)
    notes = {"author": "Ultralytics", "names": "{0: 'person: \"who\"'}", "kpt_shape": "[17, 3]"}
    for key, value in notes.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    content, _ = written(monkeypatch, model)
    assert (
        content["input"] | {"color": "rgb", "scale": 255, "mean": [0] * 3, "std": [1] * 3, "border": 114}
        == content["input"]
    )
    assert content["decode"]["classes"] == ['person: "who"']
    assert filled(content, keypoints="coco17").decode.classes == ['person: "who"']


def test_a_normalisation_in_the_graph_is_not_declared_twice(project, monkeypatch):
    model = network((17, 4))
    model.graph.node[0].input[0] = "pixels"
    model.graph.node.insert(0, helper.make_node("Div", ["image", "by"], ["pixels"]))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(255), "by"))
    content, text = written(monkeypatch, model)
    assert {key: content["input"][key] for key in ("scale", "mean", "std")} == {
        "scale": 1,
        "mean": [0] * 3,
        "std": [1] * 3,
    }
    assert content["input"]["color"] == OPEN
    assert "The graph normalises by itself" in text


def test_a_grey_network_and_one_of_no_known_kind(project, monkeypatch):
    content, text = written(monkeypatch, network((23, 4), image=(1, 1, 64, 48)))
    assert content["input"]["color"] == "gray"
    assert "no known set has 23" in text
    assert "with scale 255: [0.5] and [0.5]" in text.replace("\n  #", "")


def test_an_unknown_task_stays_open(project, monkeypatch):
    content, text = written(monkeypatch, network((1, 4)))
    assert (content["task"], content["decode"]) == (OPEN, OPEN)
    assert "One of topdown_pose, bottomup_pose, detection" in text.replace("\n#", "")


def test_a_free_batch_is_one_in_the_copy(project, monkeypatch, capsys):
    written(monkeypatch, network((17, 4), image=("N", 3, 64, 48)))
    copied = onnx.load("models/mynet/weights/mynet.onnx")
    assert [one.dim_value for one in copied.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 64, 48]
    assert "has a batch of 1" in capsys.readouterr().out


def test_weights_in_another_file_come_along(project, monkeypatch):
    onnx.save(network((17, 4)), "mine.onnx", save_as_external_data=True, location="mine.weights", size_threshold=0)
    make(monkeypatch, "--name", "mynet", "--onnx", "mine.onnx")
    (project / "mine.weights").unlink()
    assert len(onnx.load("models/mynet/weights/mynet.onnx").graph.initializer[0].raw_data) == 17 * 3 * 4


def test_spec_writes_that_file_alone(project, monkeypatch, capsys):
    onnx.save(network((17, 4)), "mine.onnx")
    make(monkeypatch, "--name", "mynet", "--onnx", "mine.onnx", "--spec", "here/mynet.yaml")
    content = yaml.safe_load((project / "here/mynet.yaml").read_text())
    assert "weights" not in content
    assert list((project / "models").iterdir()) == []
    assert "make CHIP ONNX=mine.onnx SPEC=here/mynet.yaml" in capsys.readouterr().out


# --- Refused until it is filled in ------------------------------------------------------------------------------------
def test_the_loader_refuses_what_is_open(project, monkeypatch):
    written(monkeypatch, network((17, 4)))
    with pytest.raises(UserError, match=r"models/mynet/model\.yaml.*input\.color"):
        load_model("mynet")


def test_each_open_place_is_named_with_its_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"name: a\ninput:\n  # FILL_IN is a word of comments, too\n  color: {OPEN}\n  mean: [0, {OPEN}, 0]\n"
    )
    assert [tuple(place) for place in open_places(path)] == [("input.color", 4), ("input.mean.1", 5)]
    with pytest.raises(UserError) as error:
        refuse_open_places(path)
    assert f"{path}:4: input.color" in error.value.message
    assert "2 places are still to be filled in" in error.value.message
    assert "at line 4" in error.value.hint
    path.write_text("name: a\n# FILL_IN\n")
    refuse_open_places(path)


@pytest.mark.parametrize("content", [b"a: [FILL_IN", b"\xff\xfeFILL_IN"])
def test_a_damaged_file_is_left_to_its_reader(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    assert open_places(path) == []
    assert open_places(tmp_path / "nowhere.yaml") == []


# --- Wrong calls ------------------------------------------------------------------------------------------------------
def refused(monkeypatch, pattern, *words):
    with pytest.raises(UserError, match=pattern) as error:
        make(monkeypatch, *words)
    assert error.value.hint
    return error.value


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--onnx", "mine.onnx"], "NAME= is not set"),
        (["--name", "mynet"], "ONNX= is not set"),
        (["--name", "mynet", "--onnx", "nowhere.onnx"], r"ONNX=nowhere\.onnx is not a file"),
        (["--name", "../x", "--onnx", "mine.onnx"], "a name is letters"),
        (["--name", "a b", "--onnx", "mine.onnx"], "a name is letters"),
        (["--name", "float", "--onnx", "mine.onnx"], "npumake uses itself"),
        (["--name", "ncnn", "--onnx", "mine.onnx"], "is a chip"),
        (["--name", "mynet", "--onnx", "mine.onnx", "--spec", "mine.txt"], r"does not end in \.yaml"),
    ],
)
def test_a_wrong_call_gets_one_message_and_exit_2(project, monkeypatch, words, expected):
    onnx.save(network((17, 4)), "mine.onnx")
    assert refused(monkeypatch, expected, *words).exit_code == 2
    assert list((project / "models").iterdir()) == []


def test_nothing_is_overwritten(project, monkeypatch):
    written(monkeypatch, network((17, 4)))
    before = {path: path.read_bytes() for path in (project / "models").rglob("*.*")}
    refused(monkeypatch, "is taken by models/mynet", "--name", "mynet", "--onnx", "mine.onnx")
    (project / "own.yaml").write_text("mine")
    refused(monkeypatch, "is there already", "--name", "other", "--onnx", "mine.onnx", "--spec", "own.yaml")
    assert (project / "own.yaml").read_text() == "mine"
    assert {path: path.read_bytes() for path in (project / "models").rglob("*.*")} == before


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (b"not ONNX at all", r"mine\.onnx"),
        (network((17, 4), image=(1, 3, "h", "w")), "height or width is free"),
        (network((17, 4), (17, 4)), "2 outputs of 17 maps"),
        (network((17, 4), image=(1, 4, 64, 48)), "4 channels"),
    ],
    ids=["no onnx", "free size", "two stages", "four channels"],
)
def test_a_graph_that_cannot_be_built_is_refused_and_leaves_nothing(project, monkeypatch, model, expected):
    (project / "mine.onnx").write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    assert refused(monkeypatch, expected, "--name", "mynet", "--onnx", "mine.onnx").exit_code == 1
    assert list((project / "models").iterdir()) == []


def test_channels_last_are_refused(project, monkeypatch):
    model = network((17, 4))
    model.graph.node[0].input[0] = "turned"
    model.graph.node.insert(0, helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 3, 1, 2]))
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 64, 48, 3), strict=True):
        dim.dim_value = size
    onnx.save(model, "mine.onnx")
    refused(monkeypatch, "channels last", "--name", "mynet", "--onnx", "mine.onnx")


def test_the_comments_name_keys_that_the_loader_knows(project, monkeypatch):
    """Every key of a new declaration is one of the loader's: it would refuse others."""
    _, text = written(monkeypatch, network((17, 4)))
    keys = set(re.findall(r"^ *(\w+):", text, re.MULTILINE)) - {"gate", "int8"}
    known = {"name", "task", "input", "decode", "weights", "shape", "color", "scale", "mean", "std", "kind",
             "keypoints", "refine", "padding", "file", "licence"}  # fmt: skip
    assert keys == known
