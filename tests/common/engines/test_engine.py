"""The engine believes files, not exit codes. The vendor scripts here are made to lie."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from common.basics.errors import UserError
from common.basics.files import read_json
from common.engines import engine
from common.job import Cell
from tests.conftest import lend_python

ROOT = Path(__file__).resolve().parents[3]
CHIP = """chips: [pretend]
title: Pretend
runs_on: nothing
artifact: .bin
precisions: [int8]
calibrated: [int8]
engines: [local]
sdk: {name: Tool, version: "1", licence: none, get: nowhere}
simulator: none
proven: not at all
graph: {opset: [11, 17], ir_version: 7}
operators: {Conv: {}}
"""
GOOD_COMPILE = """
    import hashlib, json, pathlib, sys
    job = pathlib.Path(sys.argv[1])
    print("compiling")
    (job / "net.bin").write_bytes(b"artifact")
    digest = hashlib.sha256(b"artifact").hexdigest()
    (job / "compile.json").write_text(json.dumps({
        "artifact": ["net.bin"], "files": {"net.bin": {"bytes": 8, "sha256": digest}},
        "artifact_bytes": 8, "sha256": digest, "seconds": 0.5, "tools": {}, "precision": "int8",
        "peak_memory_bytes": 123_456}))
"""


@pytest.fixture
def cell(tmp_path, monkeypatch):
    """A cell of a chip whose vendor scripts each test writes."""
    vendor = tmp_path / "vendors" / "pretend"
    vendor.mkdir(parents=True)
    (vendor / "chip.yaml").write_text(CHIP)
    lend_python(tmp_path / ".venv" / "pretend")
    folder = tmp_path / "out" / "net" / "pretend" / "int8"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(
        json.dumps({"model": "net", "chip": "pretend", "variant": "int8", "precision": "int8"})
    )
    monkeypatch.chdir(tmp_path)
    return Cell(Path("out/net/pretend/int8"))


def script(name, text):
    Path("vendors/pretend", name).write_text(textwrap.dedent(text))


def test_a_good_compile_gains_the_whole_time_and_keeps_the_rest(cell):
    script("compile.py", GOOD_COMPILE)
    engine.compile_cell(cell)
    result = read_json(cell.folder / "compile.json")
    assert result["seconds"] > 0 and result["script_seconds"] == 0.5
    assert result["peak_memory_bytes"] == 123_456  # what the script says: this process's own memory is none of it
    assert (cell.folder / "compile.log").read_text() == "compiling\n"


def test_success_without_a_result_is_a_failure(cell):
    script("compile.py", "print('done')")
    with pytest.raises(UserError, match=r"wrote no compile\.json"):
        engine.compile_cell(cell)


def test_an_old_result_is_not_taken_for_the_new_one(cell):
    script("compile.py", GOOD_COMPILE)
    engine.compile_cell(cell)
    script("compile.py", "print('nothing')")
    with pytest.raises(UserError, match=r"wrote no compile\.json"):
        engine.compile_cell(cell)
    assert not (cell.folder / "compile.json").exists()


def test_an_artifact_other_than_described_is_refused(cell):
    script("compile.py", GOOD_COMPILE + "\n    (job / 'net.bin').write_bytes(b'artifac')\n")
    with pytest.raises(UserError, match="not the file that"):
        engine.compile_cell(cell)


def test_the_vendors_own_message_and_hint_come_through(cell):
    script(
        "compile.py",
        """
        import sys
        print("a long log")
        sys.exit("ERROR: operator Einsum is not known\\nHINT: cut the graph before node 7")
        """,
    )
    with pytest.raises(UserError, match="operator Einsum is not known") as error:
        engine.compile_cell(cell)
    assert error.value.hint == "cut the graph before node 7"
    assert "compile.log" in error.value.message


def test_a_crash_shows_the_end_of_the_log(cell):
    script("compile.py", "print('loading'); raise RuntimeError('npz compare FAILED')")
    with pytest.raises(UserError, match="npz compare FAILED") as error:
        engine.compile_cell(cell)
    assert "loading" in (cell.folder / "compile.log").read_text()
    assert "exited with 1" in error.value.message


def test_a_killed_tool_is_said_to_be_killed(cell):
    script("compile.py", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(UserError, match="killed by signal 9") as error:
        engine.compile_cell(cell)
    assert "memory" in error.value.hint


def test_a_simulator_that_writes_nothing_is_a_failure(cell):
    script("infer.py", "print('ran')")
    (cell.folder / "outputs.npz").write_bytes(b"of yesterday")
    with pytest.raises(UserError, match=r"wrote no outputs\.npz"):
        engine.infer(cell.folder, "samples.npz", cell.folder / "outputs.npz")


def test_a_missing_environment_names_the_command_that_makes_it(cell):
    Path(".venv/pretend/bin/python").unlink()
    script("compile.py", GOOD_COMPILE)
    with pytest.raises(UserError, match="environment of") as error:
        engine.compile_cell(cell)
    assert error.value.hint == "rm -rf .venv/pretend; make .venv/pretend/ready"


def test_check_artifact_finds_a_truncated_file(cell):
    content = b"0123456789"
    (cell.folder / "net.bin").write_bytes(content[:5])
    described = {"bytes": 10, "sha256": hashlib.sha256(content).hexdigest()}
    with pytest.raises(UserError, match="not the file that"):
        engine.check_artifact(cell, {"artifact": ["net.bin"], "files": {"net.bin": described}})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "cancelled"])
def test_an_interruption_ends_the_vendors_script_too(cell, number):
    script("compile.py", "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(60)")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    stage = subprocess.Popen(
        [sys.executable, "-m", "common.engines.engine", "compile", str(cell.folder)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 20
    while not (Path("pid").exists() and Path("pid").read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    vendor_process = int(Path("pid").read_text())
    stage.send_signal(number)
    _, errors = stage.communicate(timeout=30)
    assert stage.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    with pytest.raises(ProcessLookupError):
        os.kill(vendor_process, 0)
    assert sorted(path.name for path in cell.folder.iterdir()) == ["request.json"]
