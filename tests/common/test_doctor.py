"""`make doctor` says what is there and what is not, in two seconds, on a bare Python, and never stumbles itself."""

import os
import subprocess
import sys
import time

import pytest

from common import doctor
from common.declarations.spec import chip_names, load_chip
from common.doctor import MISSING, OK, OPTIONAL, in_parallel
from common.engines import machine_facts
from common.engines.machine_facts import Answer, Engine, declared, engine, processor_features, version_in
from common.engines.vendor_checkup import Environment, VendorFolder
from tests.conftest import ROOT

PYTHON = [sys.executable, "-S", "-E"]  # without site-packages: what a bare machine has


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """programs(name, shell text): a folder of programs that stands before all others on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def add(name, text):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)

    return add


def doctor_runs(folder=ROOT, **environment):
    command = [*PYTHON, "-m", "common", "doctor"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ | environment
    )


@pytest.fixture
def bare(tmp_path):
    """A checkout in which nothing was made: common/ and vendors/ alone."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("common", "vendors"):
        (folder / name).symlink_to(ROOT / name)
    return folder


# --- The whole of it --------------------------------------------------------------------------------------------------
def test_a_bare_python_answers_and_writes_nothing(bare):
    done = doctor_runs(bare)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1)
    assert ("make demo can run" in done.stdout) == (done.returncode == 0)
    for word in ("Python", "GNU make", "disk", "memory", "docker", "podman", ".venv/common is not made yet"):
        assert word in done.stdout
    for name in {load_chip(chip).chips[0] for chip in chip_names()}:
        assert name in done.stdout
    assert sorted(path.name for path in bare.iterdir()) == ["common", "vendors"]
    assert "\x1b" not in done.stdout


def test_a_program_that_hangs_holds_up_nobody(bare, programs):
    for name in ("docker", "podman"):
        programs(name, "exec sleep 30")
    started = time.monotonic()
    done = doctor_runs(bare)
    assert time.monotonic() - started < 10  # 2 s on a machine that does nothing else
    assert "no answer in" in done.stdout or "does not answer" in done.stdout


def test_what_does_not_answer_is_none_and_a_failure_too():
    def broken():
        raise OSError("nothing there")

    started = time.monotonic()
    found = in_parallel({"late": lambda: time.sleep(5), "broken": broken, "good": lambda: 7}, 0.3)
    assert found == {"late": None, "broken": None, "good": 7}
    assert time.monotonic() - started < 4


def test_an_old_make_is_missing_and_the_exit_is_red(bare, programs):
    for name in ("make", "gmake"):
        programs(name, "echo 'GNU Make 3.81'")
    done = doctor_runs(bare)
    assert done.returncode == 1
    assert "3.81 is older than 4.3" in done.stdout
    assert "make demo cannot run: " in done.stdout
    assert "GNU make" in done.stdout.splitlines()[-1]


# --- Line by line -----------------------------------------------------------------------------------------------------
def test_make_under_its_other_name_is_told():
    old, new = Answer(0, "GNU Make 3.81\n..."), Answer(0, "GNU Make 4.4.1\nBuilt for")
    assert doctor.make_line({"make": old, "gmake": new}).state == OK
    assert "called gmake" in doctor.make_line({"make": old, "gmake": new}).detail
    assert doctor.make_line({"make": None, "gmake": Answer(None, "not there")}).state == MISSING
    assert doctor.make_line({"make": Answer(0, "bmake 20230909"), "gmake": None}).state == MISSING


def test_a_python_outside_the_range_is_missing_unless_nothing_is_left_to_make(monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 8, 1))
    assert doctor.python_line(False).state == MISSING
    assert "PYTHON=python3.10" in doctor.python_line(False).cure
    assert doctor.python_line(True).state == OPTIONAL


def test_a_python_without_venv_is_named_with_debians_cure(monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    line = doctor.python_line(False)
    assert line.state == MISSING
    assert "python3-venv" in line.cure


def test_too_little_disk_or_memory_is_missing(monkeypatch):
    monkeypatch.setattr(machine_facts, "free_bytes", lambda folder: 1_000_000_000)
    assert doctor.disk_line(False).state == MISSING
    assert doctor.disk_line(True).state == OK  # nothing is left to install
    monkeypatch.setattr(doctor, "machine_bytes", lambda: 1_000_000_000)
    assert doctor.memory_line().state == MISSING


def test_a_folder_that_cannot_be_written_is_missing(monkeypatch):
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert "this folder" in doctor.disk_line(True).detail


# --- Engines ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("echo '20.10.24\n/var/lib/docker'", "ready"),
        ("echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock' >&2; exit 1", "silent"),
        ("echo 'Got permission denied while trying to connect' >&2; exit 1", "forbidden"),
        ("exec sleep 20", "slow"),
    ],
)
def test_an_engine_is_asked_what_it_can_do(programs, monkeypatch, text, state):
    monkeypatch.setattr(machine_facts.ask, "__defaults__", (0.5,))
    programs("docker", text)
    found = engine("docker")
    assert found.state == state
    line = doctor.engine_line(found, "docker")
    assert line.state == (OK if state == "ready" else OPTIONAL)
    assert state == "ready" or line.cure


def test_an_engine_that_is_not_installed_is_needed_only_for_containers(monkeypatch):
    monkeypatch.setenv("PATH", "")
    line = doctor.engine_line(engine("docker"), "docker")
    assert (line.state, line.detail) == (OPTIONAL, "not installed")


def test_the_storage_of_another_machine_is_not_asked_for_space(programs, monkeypatch):
    programs("docker", "echo '20.10.24\n/var/lib/docker'")
    assert engine("docker").storage == "/var/lib/docker"
    monkeypatch.setenv("DOCKER_HOST", "ssh://me@bigger")
    assert engine("docker").storage == ""


# --- Chips ------------------------------------------------------------------------------------------------------------
CHIP = """chips: [kx900, kx901]
precisions: [fp16, int8]  # a comment
engines: [docker, podman]
memory: {megabytes: 4000, per_model_megabyte: 40}
sdk:
  name: Tool
  files: {int8: "sdk/tool-*.whl"}
"""
READY = Engine("docker", "ready", "20.10", "", ["npumake-kx900:latest", "npumake-kx900:0123456789ab"])


def vendor(tmp_path, text=CHIP, further=""):
    folder = tmp_path / "vendors" / "kx900"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "chip.yaml").write_text(text + further)
    return VendorFolder(folder, declared(folder / "chip.yaml"))


def cures(found, environment=None, engines=(READY,)):
    return [(lack.cure, lack.fatal) for lack in found.lacks(environment or Environment(False, None), engines)]


def test_chip_yaml_is_read_by_lines(tmp_path):
    keys = vendor(tmp_path).keys
    assert keys["chips"] == ["kx900", "kx901"]
    assert keys["precisions"] == ["fp16", "int8"]
    assert keys["files"] == ["int8: sdk/tool-*.whl"]
    assert keys["memory"] == ["megabytes: 4000", "per_model_megabyte: 40"]


def test_what_doctor_reads_by_lines_is_what_the_loader_reads():
    for name in chip_names():
        chip = load_chip(name)
        keys = declared(chip.folder / "chip.yaml")
        assert keys["chips"] == chip.chips
        assert keys["engines"] == list(chip.engines)
        assert keys.get("platform", [""])[0] == chip.platform
        assert keys.get("cpu", []) == chip.cpu
        assert {word.split(": ")[1] for word in keys.get("files", [])} == set(chip.sdk.files.values())


def test_an_sdk_file_is_looked_for_and_says_which_precisions_want_it(tmp_path):
    ((text, fatal),) = cures(vendor(tmp_path))
    assert "sdk/tool-*.whl" in text
    assert "only int8 needs it" in text
    assert not fatal
    (tmp_path / "vendors/kx900/sdk").mkdir()
    (tmp_path / "vendors/kx900/sdk/tool-1.whl").write_bytes(b"x")
    assert cures(vendor(tmp_path)) == []


def test_an_image_counts_only_under_the_folders_own_name(tmp_path):
    plain = CHIP.partition("sdk:")[0]
    found = vendor(tmp_path, plain)
    assert cures(found) == []
    assert found.detail(None, [READY]) == "image npumake-kx900:0123456789ab is built"
    other = READY._replace(images=["npumake-kx9001:0123456789ab", "npumake-kx900:latest"])
    ((text, fatal),) = cures(found, engines=(other,))
    assert "make image CHIP=kx900" in text
    assert not fatal
    assert cures(found, engines=())[0][1]


@pytest.mark.parametrize(
    ("further", "expected"),
    [
        ("platform: linux/s390x\n", "its SDK is for s390x only"),
        ("cpu: [no_such_feature]\n", "needs no_such_feature, which this processor lacks"),
        ("memory: {megabytes: 999999999}\n", "its compiler takes"),
    ],
)
def test_what_this_machine_cannot_do_is_said_first(tmp_path, monkeypatch, further, expected):
    monkeypatch.setattr("common.engines.vendor_checkup.processor_features", lambda: ["sse", "avx"])
    text = "".join(line + "\n" for line in CHIP.partition("sdk:")[0].splitlines() if not line.startswith("memory"))
    assert expected in cures(vendor(tmp_path, text, further))[0][0]


def test_features_that_the_system_does_not_tell_are_no_lack(tmp_path, monkeypatch):
    monkeypatch.setattr("common.engines.vendor_checkup.processor_features", lambda: None)
    assert cures(vendor(tmp_path, CHIP.partition("sdk:")[0], "cpu: [avx]\n")) == []


def test_a_local_sdk_wants_its_python_or_a_container(tmp_path):
    text = CHIP.partition("sdk:")[0].replace("[docker, podman]", "[local, docker]")
    found = vendor(tmp_path, text)
    (tmp_path / "vendors/kx900/.python-version").write_text("3.9\n3.8\n")
    ((text, fatal),) = cures(found, engines=())
    assert "install CPython 3.9 or 3.8" in text
    assert fatal
    ((text, fatal),) = cures(found)
    assert "ENGINE=docker" in text
    assert not fatal
    assert cures(found, Environment(True, None)) == []
    assert not cures(found, Environment(False, "/usr/bin/python3.9"))[0][1]
    assert "did not answer in time" in found.lacks(None, [READY])[0].cure


# --- Small things -----------------------------------------------------------------------------------------------------
def test_the_processor_is_asked_under_both_names(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor : 0\nflags\t\t: fpu avx avx2\n")
    assert processor_features(path) == ["fpu", "avx", "avx2"]
    path.write_text("Features\t: fp asimd\n")
    assert processor_features(path) == ["fp", "asimd"]
    assert processor_features(tmp_path / "nowhere") is None


def test_versions_are_found_and_compared_as_numbers():
    assert version_in("GNU Make 4.10") == "4.10"
    assert machine_facts.numbers("4.10") > machine_facts.numbers("4.3")
    assert version_in("none") is None


def test_a_folder_that_is_not_there_yet_has_its_parents_space(tmp_path):
    assert machine_facts.free_bytes(tmp_path / "a" / "b") == pytest.approx(machine_facts.free_bytes(tmp_path), rel=0.2)
