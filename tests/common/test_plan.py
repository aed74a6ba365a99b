"""What was asked becomes files that change only when the question changes."""

import os
import re
from pathlib import Path

import pytest

from common.basics.errors import UserError
from common.basics.files import folder_fingerprint, read_json
from common.plan import write_plan
from tests.common.plan_fixture import SPEC, asked, family, own_network, project, written

__all__ = ["family", "project"]  # fixtures


def test_request_files_of_two_precisions(project):
    write_plan(own_network("mine/ncnn/fp32", "mine/ncnn/int8", force="1"))
    assert written(project) == [
        "out/mine/float/evaluation_set.json",
        "out/mine/float/source.json",
        "out/mine/ncnn/fp32/climb.json",
        "out/mine/ncnn/fp32/request.json",
        "out/mine/ncnn/int8/calibration_set.json",
        "out/mine/ncnn/int8/climb.json",
        "out/mine/ncnn/int8/request.json",
        "out/mine/plan.json",
    ]
    assert read_json("out/mine/float/source.json")["source"]["origin"] == "onnx"
    assert read_json("out/mine/ncnn/int8/calibration_set.json")["force"] is True


def test_nothing_is_touched_when_the_question_is_the_same(project):
    write_plan(own_network("mine/ncnn/int8"))
    for path in written(project):
        os.utime(path, ns=(1, 1))
    write_plan(own_network("mine/ncnn/int8"))
    assert {Path(path).stat().st_mtime_ns for path in written(project)} == {1}


def changed_files(project, **changes):
    write_plan(own_network("mine/ncnn/int8"))
    for path in written(project):
        os.utime(path, ns=(1, 1))
    write_plan(own_network("mine/ncnn/int8", **changes))
    return [Path(path).name for path in written(project) if Path(path).stat().st_mtime_ns != 1]


def test_another_evaluation_set_asks_for_no_new_artifact(project):
    (project / "others").mkdir()
    assert changed_files(project, eval="others") == ["evaluation_set.json"]


def test_another_calibration_set_changes_only_the_calibration(project):
    (project / "others").mkdir()
    assert changed_files(project, calib="others") == ["calibration_set.json"]


@pytest.mark.parametrize(
    ("changes", "content"),
    [
        ({"gate": "0.99"}, {"gate": 0.99, "rung": None, "keep_float": ""}),
        ({"rung": "1"}, {"gate": None, "rung": 1, "keep_float": ""}),
        ({"keep_float": "last:2"}, {"gate": None, "rung": None, "keep_float": "last:2"}),
    ],
)
def test_another_gate_rung_or_float_layer_changes_only_what_the_climb_goes_by(project, family, changes, content):
    write_plan(own_network("mine/small/int8"))
    for path in written(project):
        os.utime(path, ns=(1, 1))
    write_plan(own_network("mine/small/int8", **changes))
    assert [path for path in written(project) if Path(path).stat().st_mtime_ns != 1] == [
        "out/mine/small/int8/climb.json"
    ]
    assert read_json("out/mine/small/int8/climb.json") == content | {"options": {}, "files": {}}


def test_what_quantised_precisions_are_asked_for_leaves_the_float_one_alone(project, family):
    write_plan(own_network("mine/large/fp16", "mine/large/int8", gate="0.9", rung="2", keep_float="last:1"))
    plain, asked_for = (read_json(f"out/mine/large/{name}/climb.json") for name in ("fp16", "int8"))
    assert (plain["gate"], plain["rung"], plain["keep_float"]) == (None, None, "")
    assert (asked_for["gate"], asked_for["rung"], asked_for["keep_float"]) == (0.9, 2, "last:1")


def test_a_batch_is_a_variant_of_its_own(project, family):
    write_plan(own_network("mine/small/int8-b4", "mine/small/int8"))
    assert read_json("out/mine/small/int8-b4/request.json")["batch"] == 4
    assert read_json("out/mine/small/int8-b4/request.json")["precision"] == "int8"
    assert read_json("out/mine/small/int8/request.json")["batch"] == 1
    assert Path("out/mine/small/int8-b4/calibration_set.json").exists()


@pytest.mark.parametrize(
    ("cell", "changes", "message", "hint"),
    [
        ("small/fp16", {}, "chip 'small' does not build precision 'fp16'", "PRECISION=fp32 or PRECISION=int8"),
        ("small/int8-b3", {}, "chip 'small' does not build BATCH=3", "BATCH=1 or BATCH=4"),
        ("small/int8-bx", {}, "BATCH=x is no number", "BATCH=4"),
        ("small/int8", {"rung": "3"}, "small has no RUNG=3 in int8", "its rungs are: 1 plain, 2 better"),
        ("small/int8", {"rung": "0"}, "RUNG=0 is no number of 1 or more", "RUNG"),
        ("small/int8", {"gate": "98"}, "GATE=98 is no number of 0 to 1", "GATE=0.98"),
        ("small/int8", {"gate": "high"}, "GATE=high is no number of 0 to 1", "GATE=0.98"),
    ],
)
def test_what_the_chip_does_not_have_is_refused_with_what_it_has(project, family, cell, changes, message, hint):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        write_plan(own_network(f"mine/{cell}", **changes))
    assert hint in error.value.hint
    assert not (project / "out").exists()


def test_float_layers_are_refused_where_the_chip_has_none(project, family):
    path = project / "vendors" / "family" / "chip.yaml"
    path.write_text(path.read_text().replace("float_layers: true", "float_layers: false"))
    with pytest.raises(UserError, match="cannot keep single layers float"):
        write_plan(own_network("mine/small/int8", keep_float="last:1"))


def test_an_image_more_a_changed_image_and_an_image_less_are_seen(project):
    first = folder_fingerprint(project / "photos")
    (project / "photos" / "b with space.jpg").write_bytes(b"jpeg")
    second = folder_fingerprint(project / "photos")
    (project / "photos" / "a.jpg").write_bytes(b"other")
    third = folder_fingerprint(project / "photos")
    (project / "photos" / "a.jpg").unlink()
    fourth = folder_fingerprint(project / "photos")
    (project / "photos" / "val2017").mkdir()
    (project / "photos" / "val2017" / "1.jpg").write_bytes(b"jpeg")
    assert len({first, second, third, fourth, folder_fingerprint(project / "photos")}) == 5


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"onnx": ""}, "SPEC= was given", "add ONNX"),
        ({"spec": ""}, "ONNX= was given", "add SPEC"),
        ({"onnx": "no.onnx"}, "ONNX=no.onnx does not exist", "path"),
        ({"calib": "nowhere"}, "CALIB=nowhere is not a folder", "folder of images"),
        ({"eval": "mine.yaml"}, "EVAL=mine.yaml is not a folder", "folder of images"),
    ],
)
def test_a_wrong_request_leaves_no_trace(project, changes, message, hint):
    with pytest.raises(UserError) as error:
        write_plan(own_network("mine/ncnn/int8", **changes))
    assert message in error.value.message
    assert hint in error.value.hint
    assert not (project / "out").exists()


def test_an_unknown_precision_is_answered_with_those_there_are(project):
    with pytest.raises(UserError, match="int4") as error:
        write_plan(own_network("mine/ncnn/int4"))
    assert error.value.exit_code == 2
    assert "PRECISION=int8" in error.value.hint


def test_missing_published_weights_name_the_command_that_gets_them(project):
    with pytest.raises(UserError, match="weights of hrnet_w48_384x288 are missing") as error:
        write_plan(asked("hrnet_w48_384x288/ncnn/fp32", model="hrnet_w48_384x288"))
    assert "make weights MODEL=hrnet_w48_384x288" in error.value.hint


def test_random_weights_are_recorded_as_such_and_the_alias_leads_to_the_results(project):
    write_plan(asked("hrnet_w32_256x192/ncnn/fp32", model="hrnet_w32", weights="random"))
    assert read_json("out/hrnet_w32/float/source.json")["source"]["origin"] == "random"
    assert (project / "out" / "hrnet_w32").is_symlink()


def test_the_users_network_may_not_take_the_name_of_another(project):
    (project / "mine.yaml").write_text(SPEC.replace("name: mine", "name: hrnet_tiny"))
    with pytest.raises(UserError, match="hrnet_tiny' is taken"):
        write_plan(own_network("hrnet_tiny/ncnn/fp32"))


def test_a_name_that_make_cannot_read_is_refused(project):
    with pytest.raises(UserError, match="make reads the name as 'unnamed'") as error:
        write_plan(own_network("unnamed/ncnn/fp32"))
    assert error.value.hint == "write it plainly: name: mine"


def test_another_size_is_a_network_of_its_own(project):
    higher = {"model": "higherhrnet_w32_512", "weights": "random", "size": "512x768"}
    write_plan(asked("higherhrnet_w32_512-512x768/ncnn/fp32", **higher))
    spec = read_json("out/higherhrnet_w32_512-512x768/float/source.json")["spec"]
    assert spec["input"]["shape"] == [1, 3, 512, 768] and spec["name"] == "higherhrnet_w32_512-512x768"
    for wrong in ("768", "500x500", "axb"):
        with pytest.raises(UserError, match=f"no SIZE={wrong}") as error:
            write_plan(asked(f"higherhrnet_w32_512-{wrong}/ncnn/fp32", **(higher | {"size": wrong})))
        assert "512x1024" in error.value.hint and error.value.exit_code == 2


def test_a_limit_is_part_of_the_evaluation_set(project):
    write_plan(own_network("mine/ncnn/fp32", limit="7"))
    assert read_json("out/mine/float/evaluation_set.json")["limit"] == 7
    write_plan(own_network("mine/ncnn/fp32"))
    assert read_json("out/mine/float/evaluation_set.json")["limit"] is None
    with pytest.raises(UserError, match="LIMIT=0"):
        write_plan(own_network("mine/ncnn/fp32", limit="0"))


def test_weights_that_are_a_whole_graph_are_taken_as_one(project):
    write_plan(asked("yolov8n/ncnn/fp32", model="yolov8n", weights="mine.onnx"))
    source = read_json("out/yolov8n/float/source.json")["source"]
    assert (source["kind"], source["origin"], source["path"]) == ("onnx", "path", "mine.onnx")
