"""device.py against a strict double of rknnlite's documented API."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

_spec = importlib.util.spec_from_file_location("rk3588_conftest_device", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
run_script, failed = _conftest.run_script, _conftest.failed
DOUBLES = _conftest.ROOT / "tests" / "doubles"


def on_board(folder: Path, **variables: str):
    return run_script(
        "device.py", folder, PYTHONPATH=str(DOUBLES), RKNNLITE_DOUBLE_ONNX=str(folder / "model.onnx"), **variables
    )


def test_the_board_gives_the_networks_outputs(compiled, copied):
    folder = copied(compiled("fp16"))
    simulated = dict(np.load(folder / "outputs.npz"))
    done = on_board(folder)
    assert done.returncode == 0, done.stderr
    assert "core_mask 7" in done.stdout and "2.5.0" in done.stderr
    found = np.load(folder / "outputs.npz")
    assert sorted(found.files) == sorted(simulated)
    for name in found.files:  # the double computes in float32: had the layout been wrong, nothing would be near
        np.testing.assert_allclose(found[name], simulated[name], atol=0.05)
    record = json.loads((folder / "device.json").read_text())
    assert record["simulated"] is False and record["samples"] == 5 and record["latency_ms"] > 0
    assert "NPU_CORE_0_1_2" in record["device"] and "API: 2.5.0" in record["device"]


def test_four_at_a_time_on_the_board(compiled, copied):
    folder = copied(compiled("int8", {}, 4))
    done = on_board(folder)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "device.json").read_text())["batch"] == 4


@pytest.mark.parametrize(
    ("call", "word"), [("load_rknn", "refuses"), ("init_runtime", "cannot start"), ("inference", "returned nothing")]
)
def test_a_failing_runtime(compiled, copied, call, word):
    folder = copied(compiled("fp16"))
    failed(on_board(folder, RKNNLITE_DOUBLE_FAILS=call), word)
    assert not (folder / "device.json").exists()


def test_without_the_runtime(compiled, copied):
    failed(run_script("device.py", copied(compiled("fp16"))), "rknnlite cannot be imported")


def test_an_artifact_for_another_chip(compiled, copied):
    folder = copied(compiled("fp16"))
    _conftest.change_job(folder, chip="rk3566")
    failed(on_board(folder), "rk3588")
