"""Everything from outside that can be wrong: one message, one hint, nothing half-written."""

from __future__ import annotations

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

from tests.vendors.kl730.jobs import (
    VENDOR,
    change_job,
    environment,
    evaluated,
    failed,
    left_over,
    network,
    record_of,
    run_script,
    write_job,
)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A job folder that every failing compilation leaves as it was."""
    return write_job(tmp_path_factory.mktemp("bad") / "job")


@pytest.mark.parametrize(
    ("knob", "words"),
    [
        ("optimize=raise,onnx2onnx_flow=raise", ["optimize failed", "told that optimize fails", "onnx2onnx_flow"]),
        ("compile=abort", ["killed by SIGABRT", "compile"]),
        ("analysis=exit", ["analysis failed", "exit(0)"]),
        ("analysis=lie", ["analysis returned", "not there"]),
        ("compile=raise", ["compile failed", "told that compile fails"]),
        ("compile=lie", ["compile returned", "models_730.nef", "not there"]),
        ("compile=empty", ["compile returned", "empty"]),
    ],
)
def test_a_call_of_the_toolchain_that_fails(job, knob, words):
    shutil.rmtree(job / "cache", ignore_errors=True)
    (job / "net.double.nef").write_bytes(b"of an earlier build")
    (job / "compile.json").write_text(json.dumps({"artifact": ["net.double.nef"], "files": {"net.double.nef": {}}}))
    failed(run_script("compile.py", job, KTC_DOUBLE=knob), *words)
    assert left_over(job) == [] and (job / "toolchain.log").exists()


def test_a_simulator_that_fails(compiled, copied):
    folder = copied(compiled())
    for name in ("infer.json", "outputs.npz"):
        (folder / name).unlink()
    for knob, words in (
        ("abort", ["killed by SIGABRT"]),
        ("short", ["gives 1 outputs, not 2"]),
    ):
        failed(run_script("infer.py", folder, KTC_DOUBLE=f"kneron_inference={knob}"), *words)
    assert not (folder / "infer.json").exists() and not (folder / "outputs.npz").exists()


def test_damaged_and_foreign_files(compiled, copied):
    folder = copied(compiled())
    record = record_of(folder)
    path = folder / "net.double.bie"
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    failed(run_script("infer.py", folder), "truncated")
    path.write_bytes(content[:-1] + b"x")
    failed(run_script("infer.py", folder), "sha256")
    path.write_bytes(content)
    for change, word in (
        ({"bie_name": "../x.bie"}, "bie_name"),
        ({"nef_name": None}, "nef_name"),
        ({"tools": {"kneron-toolchain": "v0.30.0"}}, "v0.30.0"),
        ({"chip": "kl720"}, "kl720"),
    ):
        (folder / "compile.json").write_text(json.dumps(record | change))
        failed(run_script("infer.py", folder), word)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chip": "kl830"}, ["kl830"]),
        ({"precision": "fp16"}, ["fp16"]),
        ({"chip": "kl520", "precision": "int16"}, ["int16"]),
        ({"options": {"ALLS": "x"}}, ["ALLS"]),
        ({"double": False}, ["stand-in"]),
        ({"graph": "none.onnx"}, ["none.onnx is missing"]),
        ({"graph": "samples.npz"}, ["onnx.load failed", "DecodeError"]),
    ],
)
def test_a_job_that_cannot_be(job, tmp_path, change, words):
    folder = tmp_path / "job"
    shutil.copytree(job, folder)
    change_job(folder, **change)
    failed(run_script("compile.py", folder), *words)
    assert left_over(folder) == []


OPTIONS = """
import json
from dataclasses import replace
from pathlib import Path
from failure import VendorError
from job_file import read_job
from rung_options import read_options
job = read_job(Path(FOLDER))
found = []
for rung in RUNGS:
    try:
        found.append(sorted(set(read_options(replace(job, rung=rung)).widths.values())))
    except VendorError as error:
        assert error.hint
        found.append(error.message)
print(json.dumps(found))
"""


def test_rungs_that_make_no_sense(job):
    rungs = {
        "speed": {"speed": 3},
        "widest": {"ranges": "widest"},
        "int12": {"datapath": "int12"},
        "mix light": {"outputs": "mix light"},
        "0.5": {"percentage": 0.5},
        "samples": {"samples": 1.5},
        "True": {"bias_adjustment": True},
        "percentage_16b": {"percentage": 1.0, "percentage_16b": 0.999},
    }
    code = OPTIONS.replace("FOLDER", repr(str(job))).replace("RUNGS", repr(list(rungs.values())))
    for word, message in zip(rungs, evaluated(code), strict=True):
        assert word in message
    change_job(job, precision="int16")
    try:
        code = OPTIONS.replace("FOLDER", repr(str(job))).replace("RUNGS", repr([{}, {"datapath": "int16"}]))
        taken, refused = evaluated(code)
    finally:
        change_job(job, precision="int8")
    assert taken == ["int16"] and "weights int8" in refused


def test_calibration_tensors_that_cannot_be(tmp_path):
    folder = write_job(tmp_path / "job")
    np.save(folder / "calib" / "0003.npy", np.full((1, 3, 16, 12), np.nan, np.float32))
    failed(run_script("compile.py", folder), "0003.npy", "NaN")
    assert left_over(folder) == []


def test_a_graph_of_a_newer_format_is_refused_in_the_toolchains_words(tmp_path):
    graph = network()
    graph.ir_version = 10
    failed(run_script("compile.py", write_job(tmp_path / "job", graph=graph)), "max supported IR version: 9")


def test_without_the_toolchain(job):
    failed(run_script("compile.py", job, PYTHONPATH=""), "no Kneron toolchain", "ktc")


def test_a_temporary_folder_with_special_characters(job, tmp_path):
    odd = tmp_path / "a folder"
    odd.mkdir()
    failed(run_script("compile.py", job, TMPDIR=str(odd)), "a folder")
    assert list(odd.iterdir()) == []


def test_an_interrupt_leaves_nothing_and_no_process(tmp_path):
    folder = write_job(tmp_path / "job")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(VENDOR / "compile.py"), str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(KTC_DOUBLE="analysis=slow", TMPDIR=str(temporary)),
    )
    deadline = time.monotonic() + 60
    while "analysis(" not in ((folder / "toolchain.log").read_text() if (folder / "toolchain.log").exists() else ""):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "ERROR: interrupted" in message and "Traceback" not in message
    assert left_over(folder) == [] and list(temporary.iterdir()) == []
    for entry in os.scandir("/proc"):
        try:
            variables = (Path(entry.path) / "environ").read_bytes() if entry.name.isdecimal() else b""
        except OSError:
            continue
        assert str(temporary).encode() not in variables, entry.name


SHORT = """
import json, time
from pathlib import Path
import host_limits, toolchain
from failure import VendorError
from job_file import read_job
with toolchain.Toolchain(read_job(Path(FOLDER))) as tool:
    toolchain.available_bytes = lambda: 1_000_000
    toolchain.floor_bytes = lambda: 10_000_000
    began = time.monotonic()
    try:
        tool.call("evaluate", graph=str(tool.put(Path(FOLDER) / "optimised.onnx", "x.onnx")), arguments={}, folder="/")
        found = "it went on"
    except toolchain.ToolchainMemoryError as error:
        found = error.message
    toolchain.available_bytes = host_limits.available_bytes
    tool.restart()
    print(json.dumps([found, time.monotonic() - began < 30]))
"""


def test_the_toolchain_is_stopped_before_the_machine_freezes(job, compiled, tmp_path):
    folder = tmp_path / "job"
    shutil.copytree(job, folder)
    shutil.copyfile(compiled() / "net.double.optimised.onnx", folder / "optimised.onnx")
    found, soon = evaluated(SHORT.replace("FOLDER", repr(str(folder))), KTC_DOUBLE="evaluate=slow")
    assert soon and "stopped during evaluate" in found and "0.0 GB of memory were left" in found
