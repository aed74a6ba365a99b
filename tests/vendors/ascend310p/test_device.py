"""device.py on the stand-ins of ais_bench and pyACL; and what can fail in a build."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

_spec = importlib.util.spec_from_file_location("ascend310p_conftest_device", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)

run_script, write_job, change_job, failed, left_over, error, pixels, DOUBLE = (
    _conftest.run_script, _conftest.write_job, _conftest.change_job, _conftest.failed, _conftest.left_over,
    _conftest.error, _conftest.pixels, _conftest.DOUBLE,
)  # fmt: skip


@pytest.fixture
def copied(tmp_path):
    """copied(folder) -> a copy that a test may change."""
    return lambda folder: Path(shutil.copytree(folder, tmp_path / f"copy{len(list(tmp_path.iterdir()))}"))


@pytest.fixture
def only_acl(tmp_path) -> dict[str, str]:
    """Variables with which acl is found and ais_bench is not."""
    place = tmp_path / "only"
    place.mkdir()
    for name in ("acl", "om_file.py"):
        (place / name).symlink_to(DOUBLE / name)
    return {"PYTHONPATH": str(place)}


def test_the_board_gives_the_networks_outputs(compiled, copied):
    folder = copied(compiled("fp16"))
    done = run_script("device.py", folder)
    assert done.returncode == 0, done.stderr
    assert 0 < error(folder) < 1e-5  # float16, and nothing else
    record = json.loads((folder / "device.json").read_text())
    assert record["simulated"] is False and record["samples"] == 3 and record["latency_ms"] > 0
    assert "Ascend310P3 NPU by ais_bench" in record["device"]
    assert "image dtype.float32 [1, 3, 16, 12]" in done.stderr


def test_pixels_on_the_board_by_pyacl(compiled, copied, only_acl):
    folder = copied(compiled("fp16", {"INPUT": "u8"}))
    assert run_script("device.py", folder, **only_acl).returncode == 0
    assert 0 < error(folder) < 1e-5
    assert "pyACL on Ascend310P3; takes uint8 NHWC" in json.loads((folder / "device.json").read_text())["device"]
    failed(run_script("device.py", folder, **only_acl, ACL_DOUBLE_SOC="Ascend310P1"), "this board has an Ascend310P1")
    failed(
        run_script("device.py", folder, **only_acl, ACL_DOUBLE_FAILS="mdl.execute"),
        "acl.mdl.execute() failed with 507011",
    )
    failed(run_script("device.py", folder, **only_acl, ACL_DOUBLE_FAILS="rt.set_device"), "acl.rt.set_device(0) failed")


def test_the_latency_of_every_size_is_a_table(compiled, copied):
    folder = copied(compiled("fp16", {"DYNAMIC": "image_size"}))
    done = run_script("device.py", folder, "--latency", 2)
    assert done.returncode == 0, done.stderr
    table = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("| ")]
    assert table == ["height x width", "16x12", "12x16", "32x24"]
    measured = json.loads((folder / "latency.json").read_text())
    assert measured["double"] is True and measured["runs"] == 2 and len(measured["rows"]) == 3
    assert all(row["median_ms"] > 0 and row["images_per_second"] > 0 for row in measured["rows"])
    failed(run_script("device.py", folder, "--latency", "often"), "--latency often is not a number")


def test_every_input_of_a_folder_at_its_own_size(compiled, copied, tmp_path, only_acl):
    folder = copied(compiled("fp16", {"DYNAMIC": "image_size"}))
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    arrays = {"a": pixels(1), "b": np.ones((1, 3, 12, 16), np.float32), "c": np.zeros((1, 3, 32, 24), np.float32)}
    for name, array in arrays.items():
        np.save(inputs / f"{name}.npy", array)
    results = []
    for place, variables in (("first", {}), ("second", only_acl)):
        done = run_script("device.py", folder, "--dump", inputs, tmp_path / place, **variables)
        assert done.returncode == 0 and "3 inputs run" in done.stdout, done.stderr
        results.append({name: dict(np.load(tmp_path / place / f"{name}.npz")) for name in arrays})
    assert results[0]["b"]["large"].shape == (1, 5, 24, 32) and results[0]["c"]["small"].shape == (1, 4, 32, 24)
    for name in arrays:
        for output in ("small", "large"):
            np.testing.assert_array_equal(results[0][name][output], results[1][name][output])
    np.save(inputs / "d.npy", np.zeros((1, 3, 24, 32), np.float32))
    failed(run_script("device.py", folder, "--dump", inputs, tmp_path / "third"), "and not 1 of 24x32")
    np.save(inputs / "d.npy", np.zeros((1, 3, 16, 12)))
    failed(run_script("device.py", folder, "--dump", inputs, tmp_path / "third"), "d.npy is float64")
    failed(run_script("device.py", folder, "--dump", tmp_path / "none", tmp_path), "none holds no .npy")


def test_a_batch_of_four_is_one_inference(compiled, copied, tmp_path):
    folder = copied(compiled("fp16", {"DYNAMIC": "batch"}, batch=4, graph=_conftest.network(4)))
    assert run_script("device.py", folder).returncode == 0
    assert 0 < error(folder) < 1e-5
    done = run_script("device.py", folder, "--latency", 1)
    rows = json.loads((folder / "latency.json").read_text())["rows"]
    assert done.returncode == 0 and [row["batch"] for row in rows] == [1, 2, 4, 8]


def test_a_board_without_a_runtime_or_with_another_chip(compiled, copied):
    folder = copied(compiled("fp16"))
    failed(run_script("device.py", folder, PYTHONPATH=""), "ais_bench: No module", "acl: No module", "set_env.sh")
    failed(
        run_script("device.py", folder, ASCEND_DOUBLE_FAILS="chip"), "ais_bench cannot load", "does not match the soc"
    )
    failed(
        run_script("device.py", folder, ASCEND_DOUBLE_FAILS="infer"), "cannot run float32 [1, 3, 16, 12] in mode static"
    )
    change_job(folder, double=False)
    failed(run_script("device.py", folder), "is for double True, and job.json for False")


@pytest.mark.parametrize(
    ("knob", "words"),
    [
        ("atc", ["exit code 255", "E19010", "export with opset 11"]),
        ("abort", ["killed by SIGABRT"]),
        ("silent", ["says that it succeeded, and left no .om"]),
        ("empty", ["the real one was found"]),
        ("no line", ["without its line 'ATC run success'"]),
        ("json", ["cannot read its own network.om back", "E10007"]),
        ("outputs", ["the .om's output is small_fused"]),
    ],
)
def test_what_atc_can_get_wrong(tmp_path, knob, words):
    folder = write_job(tmp_path / "job", "fp16")
    (folder / "net.double.om").write_bytes(b"of an earlier build")
    (folder / "compile.json").write_text(json.dumps({"artifact": ["net.double.om"], "files": {"net.double.om": {}}}))
    failed(run_script("compile.py", folder, ASCEND_DOUBLE_FAILS=knob), *words)
    assert left_over(folder) == [] and (folder / "atc.log").exists()


@pytest.mark.parametrize(
    ("knob", "words"),
    [
        ("quantize_model", ["AMCT's quantize_model failed: RuntimeError"]),
        ("crash", ["AMCT ended with killed by SIGABRT", "another onnxruntime"]),
        ("record", ["AMCT's calibration failed", "wrote no record.txt in 12 batches"]),
        ("so", ["AMCT_SO is None"]),
    ],
)
def test_what_amct_can_get_wrong(tmp_path, knob, words):
    folder = write_job(tmp_path / "job", "int8")
    failed(run_script("compile.py", folder, AMCT_DOUBLE_FAILS=knob), *words)
    assert left_over(folder) == []


def test_a_stand_in_never_passes_for_the_tool_nor_the_tool_for_a_stand_in(tmp_path):
    folder = write_job(tmp_path / "job", "fp16", double=False)
    failed(run_script("compile.py", folder), "the atc found here is a stand-in")
    folder = write_job(tmp_path / "other", "int8", double=False)
    failed(run_script("compile.py", folder), "the AMCT found here is a stand-in")
    assert left_over(folder) == []


def working_in(folder: Path) -> list[str]:
    """The processes whose working folder lies in `folder`, removed or not."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(process / "cwd").startswith(str(folder)):
                found.append(process.name)
    return found


def test_an_interrupt_ends_atc_and_leaves_nothing(tmp_path):
    folder = write_job(tmp_path / "job", "fp16")
    environment = {**os.environ, **_conftest.ENVIRONMENT, "ASCEND_DOUBLE_FAILS": "hang"}
    command = [sys.executable, str(_conftest.VENDOR / "compile.py"), str(folder)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (folder / "atc.log").exists() or "NPUMAKE DOUBLE" not in (folder / "atc.log").read_text():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    assert working_in(folder)
    process.send_signal(signal.SIGTERM)
    message = process.communicate(timeout=30)[1]
    assert process.returncode == 130 and "ERROR: interrupted" in message and "Traceback" not in message
    assert left_over(folder) == []
    assert not working_in(folder)


def test_jobs_that_cannot_be(tmp_path):
    folder = write_job(tmp_path / "job", "int8", rung={"number": 3, "name": "x", "options": {"float_share": 0.2}})
    for path in sorted((folder / "calib").glob("*.npy"))[7:]:
        path.unlink()
    failed(run_script("compile.py", folder), "needs 8 calibration tensors, there are 7", code=3)
    (folder / "calib" / "0001.npy").write_bytes(b"no")
    failed(run_script("compile.py", folder), "0001.npy is not a readable .npy")
    change_job(folder, precision="int4")
    failed(run_script("compile.py", folder), "'int4' is none of fp16, int8")
    failed(run_script("compile.py"), "one argument")
    assert left_over(folder) == []


def test_a_changed_fake_quantised_network_is_not_run(compiled, copied):
    folder = copied(compiled("int8"))
    path = folder / "net.double.fake_quant.onnx"
    path.write_bytes(path.read_bytes() + b" ")
    failed(run_script("infer.py", folder), "truncated or not the compiled one")
