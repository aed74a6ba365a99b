"""device.py against a strict double of HailoRT's documented Python API."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

_spec = importlib.util.spec_from_file_location("hailo8l_conftest_device", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
run_script, failed = _conftest.run_script, _conftest.failed


@pytest.mark.parametrize(
    ("variables", "way"),
    [
        ({}, "InferModel"),
        ({"HAILORT_DOUBLE_OLD": "1"}, "InferVStreams"),
        ({"HAILORT_DOUBLE_RENAMES": "1"}, "InferModel"),
    ],
)
def test_the_board_gives_the_networks_outputs(copied, variables, way):
    emulated = dict(np.load(copied / "outputs.npz"))
    (copied / "outputs.npz").unlink()
    done = run_script("device.py", copied, **variables)
    assert done.returncode == 0, done.stderr
    found = np.load(copied / "outputs.npz")
    assert sorted(found.files) == sorted(emulated)
    for name in found.files:
        np.testing.assert_allclose(found[name], emulated[name], atol=1e-5)
    told = json.loads((copied / "device.json").read_text())
    assert told["simulated"] is False and told["samples"] == 5 and told["latency_ms"] > 0
    assert way in told["device"] and "HAILO8L" in told["device"] and "4.23.0" in told["device"]


@pytest.mark.parametrize("call", ["VDevice", "configure", "run"])
def test_a_failing_runtime(copied, call):
    failed(run_script("device.py", copied, HAILORT_DOUBLE_FAILS=call), f"{call} failed", "fw-control identify")
    assert not (copied / "device.json").exists()


def test_without_the_runtime(copied):
    failed(run_script("device.py", copied, paths=""), "hailo_platform cannot be imported", "hailo-all")


def test_an_artifact_of_another_job(copied):
    record = json.loads((copied / "compile.json").read_text())
    for entry in record["outputs"]:
        entry["shape"][1] += 1
    (copied / "compile.json").write_text(json.dumps(record))
    failed(run_script("device.py", copied), "compile again")


def test_the_double_and_the_real_one_are_never_taken_for_each_other(copied):
    record = json.loads((copied / "compile.json").read_text())
    (copied / "compile.json").write_text(json.dumps(record | {"double": False}))
    _conftest.change_job(copied, double=False)
    failed(run_script("device.py", copied), "hailo_platform found here is a stand-in")


def test_samples_that_are_no_pixels(copied):
    np.savez(copied / "samples.npz", image=np.full((1, 3, 16, 12), 0.123456, np.float32))
    failed(run_script("device.py", copied), "no pixels")


def test_nothing_but_the_runtime_and_numpy_is_needed_on_the_board():
    waiting, seen, foreign = ["device"], set(), set()
    while waiting:
        path = _conftest.VENDOR / f"{waiting.pop()}.py"
        seen.add(path.stem)
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in (name.split(".")[0] for name in names):
                if (_conftest.VENDOR / f"{name}.py").exists():
                    waiting += [name] if name not in seen else []
                elif name not in sys.stdlib_module_names:
                    foreign.add(name)
    assert foreign == {"hailo_platform", "numpy", "tqdm"}
