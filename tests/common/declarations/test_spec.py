"""model.yaml and chip.yaml are checked where they enter."""

import copy

import pytest
import yaml

from common.basics.errors import UserError
from common.declarations.spec import chip_names, load_chip, load_model, model_from_dict, model_names

SPEC = {
    "name": "mine",
    "task": "topdown_pose",
    "input": {
        "shape": [1, 3, 256, 192],
        "color": "rgb",
        "scale": 255,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    },
    "decode": {"kind": "heatmap", "keypoints": "coco17"},
}


def changed(path, value):
    content = copy.deepcopy(SPEC)
    *parents, last = path.split(".")
    place = content
    for key in parents:
        place = place[key]
    place[last] = value
    return content


def test_the_users_spec_is_read_as_it_stands_in_the_readme(tmp_path):
    path = tmp_path / "simplepose.yaml"
    path.write_text(yaml.safe_dump(SPEC))
    spec = load_model(path)
    assert (spec.name, spec.input.height, spec.input.width) == ("mine", 256, 192)
    assert spec.decode.refine == "quarter"
    assert spec.decode.padding == 1.25


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("input.meen", [0, 0, 0], "meen"),
        ("input.mean", [0.5], "need 3 values"),
        ("input.std", [0.2, 0.2, 0.0], "input.std.2"),
        ("input.color", "yuv", "input.color"),
        ("input.shape", [1, 3, 256], "input.shape"),
        ("input.shape", [2, 3, 256, 192], "should be"),
        ("input.shape", [1, 3, -256, 192], "input.shape.2"),
        ("input.mean", [123.675, 116.28, 103.53], "units of 0..255"),
        ("input.scale", 1, "leaves pixels at 0..255"),
        ("decode.keypoints", "coco18", "coco18"),
        ("decode.kind", "simcc", "decode.kind"),
        ("task", "segmentation", "task"),
        ("name", "../escape", "folder"),
        ("name", "float", "npumake uses itself"),
        ("gate", {"int8": {"oks": 1.5, "ap_drop": 0.1}}, "gate.int8.oks"),
    ],
)
def test_each_slip_is_named(path, value, expected):
    with pytest.raises(UserError, match=r"mine\.yaml") as error:
        model_from_dict(changed(path, value), "mine.yaml")
    assert expected in error.value.message


def test_means_in_pixel_units_are_fine_with_scale_1():
    content = changed("input.mean", [123.675, 116.28, 103.53])
    content["input"] |= {"scale": 1, "std": [58.395, 57.12, 57.375]}
    assert model_from_dict(content, "mine.yaml").input.scale == 1


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "name: [unclosed", "\x00\x01"])
def test_a_damaged_yaml_is_one_message(tmp_path, text):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"broken\.yaml"):
        load_model(path)


def test_an_unknown_model_gets_the_list_and_a_suggestion():
    with pytest.raises(UserError) as error:
        load_model("hrnet_w23")
    assert error.value.exit_code == 2
    assert "hrnet_w32_256x192" in error.value.message
    assert error.value.hint == "did you mean hrnet_w32?"


def test_an_alias_is_the_same_model():
    assert load_model("hrnet_w32") == load_model("hrnet_w32_256x192")
    assert model_names()["hrnet_w32"] == model_names()["hrnet_w32_256x192"]


def test_every_model_and_chip_of_the_project_is_valid():
    for name in model_names():
        assert load_model(name).input.shape[0] == 1
    for name in chip_names():
        chip = load_chip(name)
        assert set(chip.calibrated) <= set(chip.precisions)
        assert not set(chip.operators) & set(chip.unsupported)


def test_an_unknown_chip_gets_the_list():
    with pytest.raises(UserError, match="unknown chip 'nccn'") as error:
        load_chip("nccn")
    assert error.value.hint == "did you mean ncnn?"
