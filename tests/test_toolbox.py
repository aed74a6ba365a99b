"""The toolbox: its image, what it sees of this machine, and what is said when it cannot run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.fake_toolbox_engine import parsed
from tests.toolbox_fixture import OWN, SCRIPTS, Toolbox, toolbox

__all__ = ["toolbox"]  # a fixture


def test_the_project_is_read_only_but_for_what_the_stage_writes(toolbox):
    project = str(toolbox.project)

    def seen(stage: str) -> tuple[dict[str, str], dict[str, list[str]]]:
        toolbox.run("run", "python", "-m", "common", stage)
        return toolbox.mounts(), parsed(toolbox.calls("run")[-1][1:])[0]

    mounts, options = seen("export")
    assert mounts == {project: "ro", f"{project}/out": "rw"}
    assert (options["--network"], options["--user"], options["--cap-drop"]) == (["none"], [OWN], ["ALL"])
    assert options["--security-opt"] == ["no-new-privileges"]
    assert options["--workdir"] == [project]
    assert not {"--privileged", "--volume", "--tty"} & set(options)
    mounts, options = seen("weights")
    assert mounts == {project: "ro", f"{project}/models": "rw"}
    assert "--network" not in options
    assert seen("calib.renderer.__main__")[0] == {project: "ro", f"{project}/calib": "rw"}
    assert seen("new_model")[0] == {project: "ro", f"{project}/models": "rw"}
    assert seen("new_chip")[0] == {project: "ro", f"{project}/vendors": "rw"}
    assert seen("readme")[0] == {project: "rw", f"{project}/.venv": "ro"}


def test_a_link_to_another_disk_for_out(toolbox, tmp_path):
    (tmp_path / "disk").mkdir()
    (toolbox.project / "out").symlink_to(tmp_path / "disk")
    toolbox.run("run", "true")
    assert toolbox.mounts() == {str(toolbox.project): "ro", str(tmp_path / "disk"): "rw"}


def test_files_that_the_user_names_are_seen_where_they_are(toolbox, tmp_path):
    photos, other = tmp_path / 'my, "photos"', tmp_path / "disk" / "val"
    for folder in (photos, other, tmp_path / "nets"):
        folder.mkdir(parents=True)
    (other / "1.jpg").touch()
    (photos / "1.jpg").symlink_to(other / "1.jpg")
    (photos / "val2017").symlink_to(other)
    (tmp_path / "set").symlink_to(photos)
    (tmp_path / "net.onnx").write_bytes(b"...")
    (tmp_path / "nets" / "large.onnx").write_bytes(b"...location...")
    (toolbox.project / "own.yaml").touch()

    def further(*words: str, **variables: str) -> set[str]:
        assert toolbox.run("run", "true", *words, **variables).returncode == 0
        mounts = toolbox.mounts()
        assert mounts.pop(str(toolbox.project)) == "ro" and mounts.pop(f"{toolbox.project}/out") == "rw"
        assert set(mounts.values()) <= {"ro"}
        return set(mounts)

    assert further("--onnx", "", "--spec", "own.yaml", "hello", "out/net/chip", "/nowhere/x") == set()
    assert further(f"--option=FILE={tmp_path}/net.onnx", "--option", f"FILE={tmp_path}/net.onnx") == {
        f"{tmp_path}/net.onnx"
    }
    assert further(ONNX="../net.onnx") == {f"{tmp_path}/net.onnx"}
    assert further(ONNX=f"{tmp_path}/nets/large.onnx") == {f"{tmp_path}/nets/large.onnx", f"{tmp_path}/nets"}
    assert further(MINE=f"{tmp_path}/net.onnx") == set()
    assert further(MINE=f"{tmp_path}/net.onnx", TOOLBOX_NAMES="ONNX MINE") == {f"{tmp_path}/net.onnx"}
    assert further(CALIB=f"{tmp_path}/disk/", EVAL="../disk/val") == {f"{tmp_path}/disk", f"{tmp_path}/disk/val"}
    # CSV has its own quotes: the stand-in's reading of them is not the engine's, so the words themselves are compared.
    toolbox.run("run", "true", EVAL=f"{tmp_path}/set")
    values = parsed(toolbox.calls("run")[-1][1:])[0]["--mount"]
    escaped = str(photos).replace('"', '""')
    assert f'type=bind,"source={escaped}","target={escaped}",readonly' in values
    assert {f"type=bind,source={path},target={path},readonly" for path in (tmp_path / "set", other)} <= set(values)


@pytest.mark.parametrize("place", ["/", "/tmp", "/tmp/", "/usr", "/etc"])
def test_a_folder_that_would_hide_the_toolbox_itself(toolbox, place):
    done = toolbox.run("run", "true", CALIB=place)
    assert done.returncode == 1
    assert done.stderr == (
        f"ERROR: {place.rstrip('/') or '/'} cannot be mounted into the toolbox: it has one of its own\n"
        "HINT: name a folder or a file below it\n"
    )
    assert toolbox.calls("run") == []


# --- Its image --------------------------------------------------------------------------------------------------------
def test_the_image_is_built_when_what_it_is_made_from_changes_or_its_base(toolbox):
    said = toolbox.run("build")
    assert said.returncode == 0
    assert said.stderr.startswith("toolbox     building npumake-toolbox:")
    assert toolbox.run("build").stderr == ""
    assert toolbox.run("run", "true").stderr == ""
    assert len(toolbox.calls("build")) == 1
    words = toolbox.calls("build")[-1]
    declared = re.search(r"^ARG BASE=(\S+)$", (ROOT / "common" / "Dockerfile").read_text(), re.MULTILINE)[1]
    assert {f"BASE={declared}", f"npumake.base={declared}"} <= set(words)
    assert words[-1] == "." and words[words.index("--file") + 1] == "common/Dockerfile"
    for name in ("requirements.txt", "constraints.txt", "common/Dockerfile"):
        with (toolbox.project / name).open("a") as file:
            file.write("# another\n")
        toolbox.run("build")
        toolbox.run("build")
    assert len(toolbox.calls("build")) == 4
    tags = {words[words.index("--tag") + 1] for words in toolbox.calls("build")}
    assert len(tags) == 4 and all(re.fullmatch("npumake-toolbox:[0-9a-f]{12}", tag) for tag in tags)
    toolbox.run("run", "true", TOOLBOX_BASE="mine:1", TOOLBOX_INDEX="index")
    toolbox.run("run", "true", TOOLBOX_BASE="mine:1")
    assert len(toolbox.calls("build")) == 5
    assert {"BASE=mine:1", "INDEX=index"} <= set(toolbox.calls("build")[-1])


def test_its_dockerfile_takes_no_more_than_it_needs():
    """The build context is the whole project, so the allow-list has to name what is copied, and nothing else."""
    dockerfile = (ROOT / "common" / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE)
    listed = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert listed[0] == "*"
    assert sorted(line.removeprefix("!") for line in listed[1:]) == sorted(" ".join(copied).split())


# --- What is said when it cannot run ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("variables", "code", "message", "hint"),
    [
        ({"TOOLBOX": "lxc"}, 2, "TOOLBOX=lxc: there is no such container engine", "TOOLBOX=docker or TOOLBOX=podman"),
        ({"TOOLBOX": "podman"}, 1, "TOOLBOX=podman: there is no podman on this machine", "leave TOOLBOX= out"),
        ({"ENGINE": "local"}, 2, "TOOLBOX=docker with ENGINE=local", "leave ENGINE= out"),
        ({"DOCKER_HOST": "ssh://me@there"}, 1, "DOCKER_HOST is another machine's engine", "leave DOCKER_HOST out"),
        ({"FAKE_ENGINE": "down"}, 1, "docker does not answer: Cannot connect to the Docker daemon", "is it running?"),
        ({"FAKE_ENGINE": "denied"}, 1, "docker does not answer: permission denied", "usermod -aG docker"),
        ({"FAKE_ENGINE": "disk-full"}, 1, "docker build of npumake-toolbox", "the disk is full: `docker system prune`"),
        ({"FAKE_ENGINE": "unreachable"}, 1, "docker build of npumake-toolbox", "TOOLBOX_BASE=an image"),
    ],
)
@pytest.mark.parametrize("words", [("build",), ("run", "true")])
def test_what_is_missing_is_said(toolbox, variables, code, message, hint, words):
    if shutil.which("podman", path="/usr/bin:/bin") and "podman" in variables.values():
        pytest.skip("podman is installed here")
    done = toolbox.run(*words, **variables)
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    hints = [line for line in done.stderr.splitlines() if line.startswith("HINT: ")]
    assert (done.returncode, len(errors), len(hints)) == (code, 1, 1), done.stderr
    assert message in errors[0] and hint in hints[0]
    assert list((toolbox.project / ".venv" / "toolbox").glob("relay.*")) == []


@pytest.mark.parametrize("words", [(), ("biuld",), ("run",)])
def test_a_wrong_call(toolbox, words):
    done = toolbox.run(*words)
    assert done.returncode == 2 and done.stderr.startswith("ERROR: ") and "\nHINT: " in done.stderr


@pytest.fixture
def another_user():
    """A project that everybody may read, and how to run a command as somebody who does not own it."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        toolbox = Toolbox(Path(folder))
        toolbox.log.touch()
        toolbox.log.chmod(0o666)
        for name in ("out", ".venv"):
            (toolbox.project / name).mkdir()
            (toolbox.project / name).chmod(0o777)
        (Path(folder) / "images").chmod(0o777)
        yield toolbox, {"user": 12345, "group": 12345, "extra_groups": []} if os.getuid() == 0 else {}


@pytest.mark.parametrize("name", ["out", ".venv"])
def test_a_folder_that_the_caller_may_not_write(another_user, name):
    toolbox, user = another_user
    toolbox.run("build")
    shutil.rmtree(toolbox.project / ".venv" / "toolbox")
    (toolbox.project / name).chmod(0o555)
    done = subprocess.run(toolbox.command("run", "true"), env=toolbox.environment, capture_output=True, text=True,
                          check=False, **user)  # fmt: skip
    (toolbox.project / name).chmod(0o755)
    assert done.returncode == 1
    expected = f"not allowed to write {name}/ (owner {os.getuid()}" if name == "out" else ".venv/toolbox"
    assert expected in done.stderr and "HINT: " in done.stderr
    assert toolbox.calls("run") == []


def test_the_scripts_are_clean():
    shellcheck = shutil.which("shellcheck") or str(Path(sys.executable).parent / "shellcheck")
    if not Path(shellcheck).exists():
        pytest.skip("no shellcheck here: requirements-test.txt brings it")
    done = subprocess.run([shellcheck, "-x", *SCRIPTS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert all(os.access(ROOT / name, os.X_OK) for name in ("common/toolbox.sh", "common/toolbox/engine_client.py"))
    # bash 3.2, which macOS has, knows none of these.
    newer = r"mapfile|readarray|declare -A|local -A|\$\{\w+@|\$\{\w+,,|\$\{\w+\^\^|wait -n|\|&|&>>|local -n|EPOCH"
    for name in SCRIPTS:
        assert not re.search(newer, (ROOT / name).read_text()), name
