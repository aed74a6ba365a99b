"""The same on a trained network and photographs that nobody here made, where they are present."""

import json

import onnx
import pytest

from tests.conftest import SHARED

REAL = SHARED / "real"


@pytest.mark.skipif(not REAL.is_dir(), reason="no real network and photographs beside the project")
def test_a_real_network_keeps_its_accuracy(project):
    project.path("simplepose.yaml").write_text(
        "name: simplepose\n"
        "task: topdown_pose\n"
        "input: {shape: [1, 3, 256, 192], color: rgb, scale: 255, mean: [0.485, 0.456, 0.406], "
        "std: [0.229, 0.224, 0.225]}\n"
        "decode: {kind: heatmap, keypoints: coco17}\n"
    )
    result = project.make(
        "ncnn",
        f"ONNX={REAL}/simplepose_256x192.onnx",
        "SPEC=simplepose.yaml",
        f"CALIB={REAL}/coco_val_20",
        f"EVAL={REAL}/coco_val_4",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    cell = project.path("out/simplepose/ncnn")
    fp32, int8 = (json.loads((cell / variant / "compare.json").read_text()) for variant in ("fp32", "int8"))
    assert fp32["oks"] > 0.9999
    assert int8["oks"] >= 0.975
    metrics = json.loads((cell / "int8/metrics.json").read_text())
    assert metrics["float"]["AP"] == pytest.approx(0.594, abs=0.001)
    fixed = onnx.load(cell / "int8/model.onnx")
    assert (fixed.opset_import[0].version, fixed.ir_version) == (11, 7)
