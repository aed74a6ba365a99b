"""The peak memory in compile.json is the compilation's own, whoever started it: Linux hands a peak on to a child."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path

import numpy as np
import pytest

from common.basics.files import read_json
from common.basics.memory import expected_bytes
from common.engines import engine
from common.job import Cell
from tests.conftest import ROOT, lend_python
from tests.test_structure import KIT

LARGE = 300_000_000  # bytes
COMPILE = """
    import os, subprocess, sys, time
    from pathlib import Path
    from artifact_record import finish
    from atomic_files import scratch_folder
    from job_file import read_job

    started = time.monotonic()
    job = read_job(Path(sys.argv[1]))
    own, of_child = int(os.environ["OWN"]), int(os.environ["CHILD"])
    held = bytearray(b"x") * own
    subprocess.run([sys.executable, "-c", f"held = bytearray(b'x') * {of_child}"], check=True)
    with scratch_folder(job.folder) as folder:
        (folder / "net.bin").write_bytes(b"artifact")
        finish(job, [folder / "net.bin"], [], started, {})
"""


@pytest.fixture
def cell(tmp_path, monkeypatch):
    """cell(own, child): a job whose compile.py takes so many bytes itself, and so many in a process that it starts."""
    vendor = tmp_path / "vendors/pretend"
    vendor.mkdir(parents=True)
    for name in KIT:
        shutil.copy(ROOT / "vendors/ncnn" / name, vendor / name)
    described = (ROOT / "vendors/ncnn/chip.yaml").read_text()
    (vendor / "chip.yaml").write_text(described.replace("chips: [ncnn]", "chips: [pretend]"))
    (vendor / "compile.py").write_text(textwrap.dedent(COMPILE))
    lend_python(tmp_path / ".venv/pretend")
    monkeypatch.chdir(tmp_path)

    def make(own: int, child: int) -> Cell:
        folder = Path("out/net/pretend/fp32")
        folder.mkdir(parents=True, exist_ok=True)
        job = json.loads((ROOT / "vendors/ncnn/job.example.json").read_text())
        job |= {"chip": "pretend", "precision": "fp32"}
        monkeypatch.setenv("OWN", str(own))
        monkeypatch.setenv("CHILD", str(child))
        (folder / "job.json").write_text(json.dumps(job))
        asked = {"model": "net", "chip": "pretend", "variant": "fp32", "precision": "fp32"}
        (folder / "request.json").write_text(json.dumps(asked))
        return Cell(folder)

    return make


def compiled_bytes(cell: Cell) -> int:
    engine.compile_cell(cell)
    return read_json(cell.folder / "compile.json")["peak_memory_bytes"]


def test_what_the_caller_holds_is_not_counted(cell):
    held = np.ones(LARGE, np.uint8)
    small = compiled_bytes(cell(1, 1))
    assert 5_000_000 < small < 0.4 * held.nbytes
    assert expected_bytes(cell(1, 1)) == small  # what the next compilation waits for


@pytest.mark.parametrize(("own", "child"), [(200_000_000, 1), (1, 200_000_000)])
def test_what_the_script_takes_and_what_its_children_take_is_counted(cell, own, child):
    assert 200_000_000 < compiled_bytes(cell(own, child)) < 300_000_000
