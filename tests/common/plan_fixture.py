"""Requests as make hands them to common/plan.py, in a folder with a network of the user's own."""

import argparse
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VARIABLES = ("model", "spec", "size", "onnx", "weights", "force", "limit", "gate", "rung", "keep_float", "job_only")
SPEC = """name: mine
task: topdown_pose
input: {shape: [1, 3, 64, 48], color: rgb, scale: 255, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
decode: {kind: heatmap, keypoints: coco17}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working folder with the real models/ and vendors/, an image set, a graph and its declaration."""
    for folder in ("models", "vendors"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"jpeg")
    (tmp_path / "mine.yaml").write_text(SPEC)
    (tmp_path / "mine.onnx").write_bytes(b"onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


FAMILY = """chips: [small, large]
title: a family of two
artifact: .bin
precisions: [fp32, fp16, int8]
calibrated: [int8]
lacks: [small:fp16]
batches: [1, 4]
float_layers: true
rungs: {int8: [{name: plain, title: one}, {name: better, title: two, options: {more: 1}}]}
engines: [local]
sdk: {name: Tool, version: "1", licence: none, get: nowhere}
simulator: none
proven: not at all
graph: {opset: [11, 17], ir_version: 7}
operators: {Conv: {}}
"""


@pytest.fixture
def family(project):
    """vendors/ holds one folder that serves two chips."""
    (project / "vendors").unlink()
    (project / "vendors" / "family").mkdir(parents=True)
    (project / "vendors" / "family" / "chip.yaml").write_text(FAMILY)


def asked(*cells, **changes):
    values = dict.fromkeys(VARIABLES, "")
    return argparse.Namespace(
        cells=list(cells),
        calib_count=100,
        option=changes.pop("option", []),
        **(values | {"calib": "photos", "eval": "photos"} | changes),
    )


def own_network(*cells, **changes):
    return asked(*cells, **({"spec": "mine.yaml", "onnx": "mine.onnx"} | changes))


def written(project):
    return sorted(str(path.relative_to(project)) for path in (project / "out").rglob("*.json"))
