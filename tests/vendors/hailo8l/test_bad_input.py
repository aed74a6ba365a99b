"""Everything from outside that can be wrong: one message, one hint, nothing half-written."""

from __future__ import annotations

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

_spec = importlib.util.spec_from_file_location("hailo8l_conftest_bad", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
run_script, write_job, change_job, failed, left_over = (
    _conftest.run_script, _conftest.write_job, _conftest.change_job, _conftest.failed, _conftest.left_over,
)  # fmt: skip


def fresh(folder: Path) -> Path:
    """Without what a rerun would resume from."""
    shutil.rmtree(folder / "cache")
    return folder


@pytest.mark.parametrize(
    ("fails", "words"),
    [
        ("import:licence expired", ["import", "licence expired"]),
        ("translate_onnx_model:UnsupportedShuffleLayerError in op /a", ["translate_onnx_model", "does not fit"]),
        ("translate_onnx_model:abort", ["SIGABRT", "translate_onnx_model"]),
        ("optimize:exit", ["exit code 0", "optimize", "without an answer"]),
        ("save_har:empty", ["save_har", "wrote no"]),
        ("get_hn_dict:empty", ["not as expected", "get_hn_dict", "original_names"]),
        ("compile:Mapping Failed: Agent infeasible", ["compile failed", "performance_param"]),
        ("compile:empty", ["compile", "the bytes of a .hef"]),
    ],
)
def test_a_call_of_the_sdk_that_fails(copied, fails, words):
    failed(run_script("compile.py", fresh(copied), HAILO_DOUBLE_FAILS=fails), *words)
    assert left_over(copied) == []


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"HAILO_DOUBLE_OLDER": "translate_onnx_model"}, ["it has translate_onnx_model()", "Expected", "Unproven"]),
        ({"HAILO_DOUBLE_LACKS": "optimize"}, ["no optimize", "translate_onnx_model", "3.33.1"]),
        ({"HAILO_DOUBLE_VERSION": "5.1.0"}, ["5.1.0", "takes 3.x"]),
    ],
)
def test_another_sdk_than_the_one_written_for(copied, variables, words):
    failed(run_script("compile.py", fresh(copied), **variables), *words)
    assert left_over(copied) == []


def test_a_newer_sdk_is_noted(copied):
    done = run_script("compile.py", copied, HAILO_DOUBLE_VERSION="3.39.0")
    assert done.returncode == 0 and "3.39.0 is none of the versions" in done.stderr
    failed(run_script("infer.py", copied), "3.39.0", "this is 3.33.1")


def test_the_double_and_the_real_one_are_never_taken_for_each_other(copied, tmp_path):
    change_job(copied, double=False)
    failed(run_script("compile.py", copied), "stand-in")
    change_job(copied, double=True)
    failed(run_script("compile.py", copied, paths=""), "hailo_sdk_client cannot be imported", "sdk/README.md")
    real = tmp_path / "real" / "hailo_sdk_client"
    real.mkdir(parents=True)
    (real / "__init__.py").write_text("__version__ = '3.33.1'\n")
    failed(run_script("compile.py", copied, paths=str(real.parent)), "the SDK is the real one")
    assert left_over(copied) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch": 2}, ["[2,"]),
        ({"rung": {"options": {"level": 3}}}, ["level is 3"]),
        ({"rung": {"options": {"equalization": "off"}}}, ["equalization"]),
        ({"rung": {"options": {"finetune": True, "level": 0}}}, ["finetune at level 0"]),
        ({"rung": {"options": {"speed": 1}}}, ["speed"]),
        ({"keep_float": [{"node": "/small/Conv", "operator": "Conv", "outputs": ["small"]}]}, ["KEEP_FLOAT"]),
        ({"graph": "none.onnx"}, ["none.onnx is missing"]),
    ],
)
def test_a_job_that_cannot_be(copied, change, words):
    change_job(copied, **change)
    failed(run_script("compile.py", copied), *words)
    assert not [name for name in left_over(copied) if name.startswith(".partial")]


def test_calibration_that_are_no_pixels(copied):
    np.save(copied / "calib" / "0003.npy", np.full((1, 3, 16, 12), 0.123456, np.float32))
    failed(run_script("compile.py", fresh(copied)), "calib", "no pixels")
    np.save(copied / "calib" / "0003.npy", np.full((1, 3, 16, 12), np.nan, np.float32))
    failed(run_script("compile.py", copied), "0003.npy", "NaN")
    assert left_over(copied) == []


def test_emulation_that_cannot_be(copied):
    (copied / "outputs.npz").unlink()
    har = copied / "net.double.quantised.har"
    data = har.read_bytes()
    har.write_bytes(data[:-1])
    failed(run_script("infer.py", copied), "truncated")
    har.write_bytes(data)
    failed(run_script("infer.py", copied, HAILO_DOUBLE_FAILS="infer:BadInputsShape"), "infer failed", "(N, H, W, C)")
    failed(run_script("infer.py", copied, HAILO_DOUBLE_FAILS="infer:abort"), "SIGABRT", "infer")
    failed(run_script("infer.py", copied, HAILO_DOUBLE_FAILS="infer:empty"), "5 samples gave (0,")
    record = json.loads((copied / "compile.json").read_text())
    (copied / "compile.json").write_text(json.dumps(record | {"outputs": []}))
    failed(run_script("infer.py", copied), "another version of compile.py")
    assert not (copied / "outputs.npz").exists() and left_over(copied) != []
    assert not [path for path in copied.iterdir() if path.name.startswith(".partial")]


SLEEPS = """
import hailo_sdk_client.failing as failing, os, time
def fail(call):
    if call == "optimize":
        open(os.environ["HAILO_DOUBLE_STARTED"], "w").close()
        time.sleep(60)
    return ""
failing.fail = fail
"""


def test_an_interrupt_ends_the_sdk_and_leaves_nothing(copied, tmp_path):
    fresh(copied)
    started = tmp_path / "started"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import importlib.abc, sys\n"
        "class Late(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'hailo_sdk_client.exposed_definitions' and self in sys.meta_path:\n"
        f"            sys.meta_path.remove(self); exec({SLEEPS!r}, {{}})\n"
        "sys.meta_path.insert(0, Late())\n"
    )
    paths = os.pathsep.join([str(tmp_path / "site"), _conftest.PATHS])
    process = subprocess.Popen(
        [sys.executable, str(_conftest.VENDOR / "compile.py"), str(copied)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "HAILO_DOUBLE_STARTED": str(started)},
    )
    deadline = time.monotonic() + 60
    while not started.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    message = process.communicate(timeout=20)[1]
    assert process.returncode == 130 and "ERROR: interrupted" in message and "Traceback" not in message
    assert left_over(copied) == []
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(b"sdk_child.py" in line and str(copied).encode() in line for line in running)


PROCESSOR = """
import sys
from pathlib import Path
from failure import VendorError
from machine import check_processor
path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("cpuinfo")
for text in ("flags\\t\\t: fpu sse2 avx avx2\\n", "flags\\t\\t: fpu sse2 avx2x\\n"):
    path.write_text("processor : 0\\n" + text)
    try:
        check_processor(path)
        print("taken")
    except VendorError as error:
        print(error.message, "|", error.hint)
"""


def test_a_processor_without_avx(tmp_path):
    said = _conftest.in_vendor_folder(PROCESSOR.replace('Path("cpuinfo")', f"Path({str(tmp_path / 'cpuinfo')!r})"))
    taken, refused = said.splitlines()
    assert taken == "taken" and "no AVX" in refused and "another machine" in refused


def test_wrong_number_of_arguments():
    failed(run_script("compile.py"), "one argument")
    failed(run_script("infer.py", "a", "b"), "one or three")


def test_a_job_that_is_no_folder(tmp_path):
    failed(run_script("compile.py", tmp_path / "none"), "is not a folder")
    failed(run_script("infer.py", write_job(tmp_path / "job")), "compile first")
