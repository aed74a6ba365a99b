"""The same on a trained network and photographs that nobody here made, where they are present."""

import json
import os

import onnx
import pytest

from tests.conftest import SHARED
from tests.test_chip_families import environment, with_one_rung

REAL = SHARED / "real"


SPEC = """name: simplepose
task: topdown_pose
input: {shape: [1, 3, 256, 192], color: rgb, scale: 255, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}
decode: {kind: heatmap, keypoints: coco17}
"""
slow = pytest.mark.skipif(os.environ.get("SLOW") != "1", reason="ten minutes on two cores: SLOW=1 make test runs it")
present = pytest.mark.skipif(not REAL.is_dir(), reason="no real network and photographs beside the project")


def build(project, chip, *words):
    project.path("simplepose.yaml").write_text(SPEC)
    return project.make(
        chip,
        f"ONNX={REAL}/simplepose_256x192.onnx",
        "SPEC=simplepose.yaml",
        f"CALIB={REAL}/coco_val_20",
        f"EVAL={REAL}/coco_val_4",
        *words,
    )


@present
def test_a_real_network_keeps_its_accuracy(project):
    result = build(project, "ncnn")
    assert result.returncode == 0, result.stdout + result.stderr
    cell = project.path("out/simplepose/ncnn")
    fp32, int8 = (json.loads((cell / variant / "compare.json").read_text()) for variant in ("fp32", "int8"))
    assert fp32["oks"] > 0.9999
    assert int8["oks"] >= 0.98
    metrics = json.loads((cell / "int8/metrics.json").read_text())
    assert metrics["float"]["AP"] == pytest.approx(0.594, abs=0.001)
    fixed = onnx.load(cell / "int8/model.onnx")
    assert (fixed.opset_import[0].version, fixed.ir_version) == (11, 7)


@present
@pytest.mark.parametrize(
    "chip",
    [
        pytest.param("bm1684", marks=[environment("bm1684"), slow]),
        pytest.param("bm1684x", marks=[environment("bm1684"), slow]),
        pytest.param("rk3588", marks=environment("rk3588")),
    ],
)
def test_the_default_command_reaches_the_gate(project, chip):
    result = build(project, chip, "PRECISION=int8")
    assert result.returncode == 0, result.stdout + result.stderr
    cell = project.path("out/simplepose", chip, "int8")
    assert json.loads((cell / "compare.json").read_text())["oks"] >= 0.98
    assert json.loads((cell / "proof.json").read_text())["state"] == "proven"


@present
@environment("bm1684")
def test_the_default_that_destroys_the_network_in_silence_is_red(project):
    """The vendor's default calibration builds without a warning; toolchains' measurement: OKS 0.236, AP 0.000."""
    path = project.path("vendors/bm1684/chip.yaml")
    path.write_text(with_one_rung(path.read_text(), '{name: kl, title: "the default", options: {calibration: kl}}'))
    result = build(project, "bm1684", "PRECISION=int8")
    assert result.returncode != 0
    assert "failed its proof" in result.stderr
    cell = project.path("out/simplepose/bm1684/int8")
    assert json.loads((cell / "compare.json").read_text())["oks"] < 0.5
    assert json.loads((cell / "metrics.json").read_text())["chip"]["AP"] < 0.02
