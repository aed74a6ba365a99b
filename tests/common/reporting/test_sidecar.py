"""The sidecar of networks that see whole photographs; test_proof.py has that of a top-down one."""

import pytest

from common.basics.files import read_json
from common.declarations.keypoints import COCO17
from common.job import Cell
from common.reporting.sidecar import decoding
from common.tasks import task_of
from tests.common.cell_fixture import CHIP
from tests.common.cell_networks import CLASSES, spec_of

WHOLE = ("bottomup_pose", "detection")


def sidecar_of(whole_cells, task):
    folder = whole_cells / "out" / task / CHIP / "int8"
    return read_json(folder / "artifact.json"), Cell(folder)


@pytest.mark.parametrize("task", WHOLE)
def test_preprocessing_and_decoding_are_the_task_s_own_words(whole_cells, task):
    sidecar, cell = sidecar_of(whole_cells, task)
    expected, job = task_of(cell.spec), read_json(cell.folder / "job.json")
    assert sidecar["task"] == task
    assert sidecar["preprocessing"]["steps"] == expected.preprocessing_steps()
    assert sidecar["decode"]["steps"] == expected.decoding_steps(job["outputs"])
    assert len(sidecar["preprocessing"]["steps"]) >= 4 and len(sidecar["decode"]["steps"]) >= 3


@pytest.mark.parametrize(("task", "border"), [("bottomup_pose", 0), ("detection", 114)])
def test_preprocessing_in_numbers(whole_cells, task, border):
    sidecar, cell = sidecar_of(whole_cells, task)
    ready, declared = sidecar["preprocessing"], cell.spec.input
    assert (ready["border"], ready["sizes"], ready["shape"]) == (border, [[128, 128]], [1, 3, 128, 128])
    assert (ready["color"], ready["scale"], ready["mean"], ready["std"]) == (
        declared.color, declared.scale, declared.mean, declared.std,
    )  # fmt: skip
    assert "padding" not in ready and "aspect_ratio" not in ready
    mean = [float(value) for value in ready["chip_flags"]["--mean"].split(",")]
    assert mean == pytest.approx([255 * value for value in declared.mean], rel=1e-5)


def test_a_detector_s_numbers_and_classes(whole_cells):
    sidecar, _ = sidecar_of(whole_cells, "detection")
    decode = sidecar["decode"]
    assert sidecar["labels"] == CLASSES
    assert "keypoints" not in decode
    numbers = ("regression_bins", "strides", "score_threshold", "shown_score", "overlap_threshold",
               "maximum_detections")  # fmt: skip
    assert [decode[key] for key in numbers] == [16, [8, 16, 32], 0.001, 0.25, 0.7, 300]
    assert {output["name"]: (output["shape"], output["stride"]) for output in decode["outputs"]} == {
        f"{role}_{stride}": ([1, channels, 128 // stride, 128 // stride], [stride, stride])
        for role, channels in (("box", 64), ("class", 3))
        for stride in (8, 16, 32)
    }


def test_a_bottom_up_network_s_numbers_and_joints(whole_cells):
    sidecar, _ = sidecar_of(whole_cells, "bottomup_pose")
    decode = sidecar["decode"]
    assert sidecar["labels"] == decode["keypoints"] == list(COCO17.names)
    numbers = ("detection_threshold", "nms_kernel", "tag_threshold", "use_detection_value", "ignore_too_much",
               "maximum_people", "adjust", "refine")  # fmt: skip
    assert [decode[key] for key in numbers] == [0.1, 5, 1.0, True, False, 30, True, True]
    assert [(output["shape"], output["stride"]) for output in decode["outputs"]] == [
        ([1, 34, 32, 32], [4, 4]), ([1, 17, 64, 64], [2, 2]),
    ]  # fmt: skip
    assert decode["sigmas"] == COCO17.sigmas.tolist()


@pytest.mark.parametrize(("task", "similarity"), [("bottomup_pose", "OKS"), ("detection", "IoU")])
def test_the_proof_in_short_names_metric_and_similarity(whole_cells, task, similarity):
    sidecar, cell = sidecar_of(whole_cells, task)
    metrics, compared = read_json(cell.folder / "metrics.json"), read_json(cell.folder / "compare.json")
    proof = sidecar["proof"]
    assert (proof["similarity"], proof["agreement"]) == (similarity, compared["agreement"])
    assert (proof["metric"], proof["AP_float"], proof["AP_chip"]) == (
        "AP", metrics["float"]["AP"], metrics["chip"]["AP"],
    )  # fmt: skip
    assert sidecar["provenance"]["calibration"]["boxes"] == "whole_images"


def test_a_pose_detector_has_classes_as_labels_and_keypoints_beside_them():
    spec = spec_of("detection")
    spec = spec.model_copy(update={"decode": spec.decode.model_copy(update={"keypoints": "coco17"})})
    outputs = [{"name": f"{role}{stride}", "shape": [1, channels, 128 // stride, 128 // stride]}
               for stride in (8, 16, 32) for role, channels in (("b", 64), ("c", 3), ("k", 51))]  # fmt: skip
    decode = decoding(task_of(spec), {"outputs": outputs})
    assert decode["keypoints"] == list(COCO17.names) and len(decode["outputs"]) == 9
