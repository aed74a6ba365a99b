"""One network of each architecture, with random weights, through the real compiler in float: the chip must be float."""

import json

import pytest

from tests.conftest import copy_of_project

# HRNet goes through in test_pipeline (the demo). The smallest network of each other kind; outputs by their shapes.
NETWORKS = {
    "higherhrnet_w32_512": {(1, 34, 128, 128), (1, 17, 256, 256)},
    "hourglass52_256x256": {(1, 17, 64, 64)},
    "yolov8n": {(1, channels, side, side) for channels in (64, 80) for side in (80, 40, 20)},
    "yolov8n_pose": {(1, channels, side, side) for channels in (64, 1, 51) for side in (80, 40, 20)},
}


@pytest.fixture(scope="module")
def shared_project(tmp_path_factory):
    return copy_of_project(tmp_path_factory.mktemp("architectures") / "project")


@pytest.mark.parametrize("model", NETWORKS)
def test_in_fp32_the_chip_is_float(shared_project, model):
    result = shared_project.make("ncnn", f"MODEL={model}", "WEIGHTS=random", "PRECISION=fp32", "LIMIT=2")
    assert result.returncode == 0, result.stdout + result.stderr
    folder = shared_project.path("out", model)
    exported = json.loads((folder / "float/export.json").read_text())
    assert {tuple(output["shape"]) for output in exported["outputs"]} == NETWORKS[model]
    compared = json.loads((folder / "ncnn/fp32/compare.json").read_text())
    for name, output in compared["outputs"].items():
        assert output["cosine"] > 0.9999, name
    proof = json.loads((folder / "ncnn/fp32/proof.json").read_text())
    assert (proof["state"], proof["reason"]) == ("not judged", "random weights")
