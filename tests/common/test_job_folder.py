"""make job packs exactly what a vendor's scripts read, with the same bytes every time, whole or not at all."""

from __future__ import annotations

import json
import os
import tarfile
import time
from pathlib import Path

import pytest

from common import job_folder
from common.basics.errors import UserError
from common.declarations.spec import chip_names, load_chip
from tests.conftest import ROOT

# A chip with options, of which one is a file; and one that needs no container.
CHIP = next(name for name in chip_names() if any(rule.file for rule in load_chip(name).option_rules.values()))
FILE = next(name for name, rule in load_chip(CHIP).option_rules.items() if rule.file)
WORD = next(name for name, rule in load_chip(CHIP).option_rules.items() if not rule.file)
LOCAL = next(name for name in chip_names() if load_chip(name).local)


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)  # where the chips are
    monkeypatch.setattr(job_folder, "OUT", tmp_path)
    monkeypatch.setattr(job_folder, "JOBS", tmp_path / "jobs")
    return tmp_path


def make_cell(out: Path, chip: str = CHIP, **more) -> str:
    """A cell's folder after a build: the job, and much that is none of the compiler's business."""
    name = f"net/{chip}/int8"
    folder = out / name
    job = {"model": "net", "chip": chip, "precision": "int8", "graph": "model.onnx", "samples": "samples.npz",
           "outputs_file": "outputs.npz", "calibration": "calib", "options": {}, "rung": None,
           "double": False}  # fmt: skip
    if chip == CHIP:
        job["options"] = {FILE: f"options/{FILE}.txt", WORD: "some words"}
    files = {"job.json": json.dumps(job | more), "model.onnx": "graph", "samples.npz": "samples", "request.json": "{}",
             "calib/0001.npy": "b" * 5000, "calib/0000.npy": "a" * 5000, "calib/manifest.json": "{}",
             "calib/contact_sheet.jpg": "x", "calib/.partial-1": "x", f"options/{FILE}.txt": "lines", "net.bin": "x",
             "compile.json": "{}", "compile.log": "x", "outputs.npz": "x", "cache/k/big": "x"}  # fmt: skip
    for inner, text in files.items():
        (folder / inner).parent.mkdir(parents=True, exist_ok=True)
        (folder / inner).write_text(text)
    return name


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive.getmembers()}


def test_what_the_scripts_read_is_in_it_and_nothing_else(out):
    name = make_cell(out)
    packed = job_folder.pack(name)
    assert packed == out / "jobs" / f"net-{CHIP}-int8.tar.gz"
    found = contents(packed)
    expected = {"job.json", "model.onnx", "samples.npz", "calib/0000.npy", "calib/0001.npy", "calib/manifest.json",
                f"options/{FILE}.txt"}  # fmt: skip
    assert set(found) == {f"net-{CHIP}-int8/{inner}" for inner in [*expected, "README.txt"]}
    for inner in expected:
        assert found[f"net-{CHIP}-int8/{inner}"] == (out / name / inner).read_bytes()
    made = contents(job_folder.pack(make_cell(out, LOCAL, calibration=None)))
    assert set(made) == {
        f"net-{LOCAL}-int8/{inner}" for inner in ("job.json", "model.onnx", "samples.npz", "README.txt")
    }


def test_the_same_job_is_the_same_bytes_whoever_packs_it_and_when(out):
    name = make_cell(out)
    first = job_folder.pack(name).read_bytes()
    for path in (out / name).rglob("*"):
        os.utime(path, (1, time.time() - 1000))
        path.chmod(0o700)
    assert job_folder.pack(name).read_bytes() == first
    with tarfile.open(out / "jobs" / f"net-{CHIP}-int8.tar.gz") as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {(member.mtime, member.uid, member.uname, oct(member.mode)) for member in members} == {(0, 0, "", "0o644")}
    (out / name / "model.onnx").write_text("another")
    assert job_folder.pack(name).read_bytes() != first


@pytest.mark.parametrize("missing", ["model.onnx", "samples.npz", "calib/manifest.json", f"options/{FILE}.txt"])
def test_a_job_that_lacks_a_file_is_not_packed_and_the_older_one_stays(out, missing):
    name = make_cell(out)
    older = job_folder.pack(name).read_bytes()
    (out / name / missing).unlink()
    with pytest.raises(UserError, match=f"{missing} is missing"):
        job_folder.pack(name)
    assert [path.read_bytes() for path in (out / "jobs").iterdir()] == [older]


def test_no_calibration_tensors_and_a_reader_that_fails_leave_nothing(out, monkeypatch):
    name = make_cell(out)
    for path in (out / name / "calib").glob("*.npy"):
        path.unlink()
    with pytest.raises(UserError, match=r"holds no \.npy"):
        job_folder.pack(name)
    name = make_cell(out)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full_disk)
    with pytest.raises(OSError, match="No space left"):
        job_folder.pack(name)
    assert list((out / "jobs").iterdir()) == []


def test_its_readme_has_the_commands_of_the_chips_folder_and_says_what_a_stand_in_is(out):
    vendor = load_chip(CHIP).folder.name
    text = contents(job_folder.pack(make_cell(out)))[f"net-{CHIP}-int8/README.txt"].decode()
    for script in ("compile.py", "infer.py"):
        assert f'-v "$PWD/net-{CHIP}-int8:/job" npumake-{vendor} {script} /job\n' in text
        assert f"python {vendor}/{script}" not in text
    assert ("--platform" in text) is bool(load_chip(CHIP).platform)
    assert "stand-in" not in text
    text = contents(job_folder.pack(make_cell(out, double=True)))[f"net-{CHIP}-int8/README.txt"].decode()
    assert "what it makes is no artifact" in text
    text = contents(job_folder.pack(make_cell(out, LOCAL)))[f"net-{LOCAL}-int8/README.txt"].decode()
    assert f"python {load_chip(LOCAL).folder.name}/compile.py net-{LOCAL}-int8\n" in text


def test_the_user_is_told_where_it_is_how_large_and_which_rung(out, capsys):
    rung = {"number": 1, "name": load_chip(CHIP).rungs["int8"][0].name, "options": {}}
    job_folder.pack_all([make_cell(out, rung=rung)])
    said = capsys.readouterr().out
    packed = out / "jobs" / f"net-{CHIP}-int8.tar.gz"
    assert said.startswith(f"{packed}: ") and " kB, the job of " in said
    assert f"rung 1 of {len(load_chip(CHIP).rungs['int8'])}, {rung['name']}; RUNG=n writes another" in said
    assert f"{load_chip(CHIP).folder}/README.md" in said
