"""The toolbox in a real container: the same words and bytes as on this machine, and no more rights than it needs.

SLOW=1 builds its image where it is missing (minutes), and runs the whole demo in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from common.basics.files import read_json
from tests.conftest import ROOT, Project, copy_of_project

SLOW = os.environ.get("SLOW") == "1"
HOST_TOOLS = ("bash", "sh", "make", "git", "docker", "awk", "grep", "sed", "find", "fold", "env")
COREUTILS = ["cat", "cut", "sort", "tr", "wc", "tail", "head", "mkdir", "mktemp", "touch", "rm", "mv", "ls", "ln", "cp"]
COREUTILS += ["id", "basename", "dirname", "readlink", "sha256sum", "sleep", "printf", "date", "chmod", "tee"]


def base_here() -> str:
    """TOOLBOX_BASE for this machine: empty where it has, or can have, the base that the Dockerfile names."""
    lines = (ROOT / "common" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    declared = next(line.removeprefix("ARG BASE=") for line in lines if line.startswith("ARG BASE="))
    for base in (declared, declared.partition("@")[0]):
        if subprocess.run(["docker", "image", "inspect", base], capture_output=True, check=False).returncode == 0:
            return "" if base == declared else base
    return ""


@pytest.fixture(scope="module")
def contained(tmp_path_factory) -> Project:
    """A copy of the project beside a toolbox whose image is there."""
    if not shutil.which("docker"):
        pytest.skip("no docker here")
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
        pytest.skip("docker does not answer here")
    sources = (ROOT / name for name in ("common/Dockerfile", "requirements.txt", "constraints.txt"))
    name = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    found = subprocess.run(["docker", "image", "inspect", f"npumake-toolbox:{name}"], capture_output=True, check=False)
    if found.returncode != 0 and not SLOW:
        pytest.skip("the toolbox's image is not here: SLOW=1 builds it, or make list TOOLBOX=docker")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # another user works in it
        project = copy_of_project(Path(folder) / "project")
        project.path(".venv").unlink()
        done = toolbox(project, "build")
        assert done.returncode == 0, done.stderr
        yield project


def toolbox(project: Project, *words: str, **options) -> subprocess.CompletedProcess:
    environment = os.environ | {"TOOLBOX": "docker", "TOOLBOX_BASE": base_here()}
    environment.pop("ENGINE", None)
    command = ["bash", "common/toolbox.sh", *words]
    return subprocess.run(
        command, cwd=project.folder, env=environment, capture_output=True, text=True, check=False, **options
    )


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "hrnet_tiny/nochip/int8", "--model", "hrnet_tiny"),
        ("plan", "x/x/int8", "--model", "hrnet_tinny"),
        ("plan", "unnamed/x/int8", "--onnx", "/nowhere/net.onnx", "--spec", "/nowhere/net.yaml"),
        ("export", "out/none/float"),
        (),
    ],
)
def test_bad_input_is_told_in_the_same_words(contained, words):
    command = ["-m", "common", *words]
    here = subprocess.run([sys.executable, *command], cwd=contained.folder, capture_output=True, text=True, check=False)
    there = toolbox(contained, "run", "python", *command)
    assert "ERROR: " in here.stderr and "HINT: " in here.stderr
    assert (there.returncode, there.stdout, there.stderr) == (here.returncode, here.stdout, here.stderr)


LOOK = """
import json, os, pathlib, socket
def attempt(what):
    try:
        what()
    except OSError as error:
        return error.strerror or str(error)
    return "done"
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "capabilities": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "networks": sorted(name for _, name in socket.if_nameindex()),
    "written": {place: attempt(lambda: pathlib.Path(place, "written").write_text("x"))
                for place in ("out", "common", "vendors", "models", ".", "calib", "/tmp",
                              "/run/npumake/replies")},
    "socket": os.path.exists("/var/run/docker.sock"),
}))
"""


def test_it_may_do_no_more_than_it_has_to(contained):
    owner = (12345, 12345) if os.getuid() == 0 else (os.getuid(), os.getgid())
    user = {"user": owner[0], "group": owner[1], "extra_groups": [docker_group()]} if os.getuid() == 0 else {}
    for name in ("out", ".venv"):
        contained.path(name).mkdir(exist_ok=True)
        for path in (contained.path(name), *contained.path(name).rglob("*")):
            os.chown(path, *owner)
    done = toolbox(contained, "run", "python", "-c", LOOK, **user)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["user"] == list(owner)
    assert (seen["capabilities"], seen["no_new_privileges"]) == (0, "1")
    assert (seen["networks"], seen["socket"]) == (["lo"], False)
    assert seen["written"].pop("out") == seen["written"].pop("/tmp") == "done"
    assert set(seen["written"].values()) == {"Read-only file system"}
    state = contained.path("out", "written").stat()
    assert (state.st_uid, state.st_gid) == owner  # also a user whom no passwd file knows


def docker_group() -> int:
    """The group that may use the engine."""
    path = Path("/var/run/docker.sock")
    return path.stat().st_gid if path.exists() else os.getgid()


def test_the_engine_outside_answers_and_refuses(contained):
    ask = "import subprocess, sys; sys.exit(subprocess.call(['docker', *sys.argv[1:]]))"
    told = subprocess.run(["docker", "info", "--format", "{{.NCPU}}"], capture_output=True, text=True, check=True)
    assert toolbox(contained, "run", "python", "-c", ask, "info", "--format", "{{.NCPU}}").stdout == told.stdout
    refused = toolbox(contained, "run", "python", "-c", ask, "run", "--privileged", "x")
    assert refused.returncode == 126 and "ERROR: the toolbox may not ask for this" in refused.stderr


def test_ctrl_c_on_a_terminal(contained):
    script = "import sys, time; print('tty', sys.stdout.isatty(), sys.stderr.isatty(), flush=True); time.sleep(60)"
    environment = os.environ | {"TOOLBOX": "docker", "TOOLBOX_BASE": base_here()}
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(contained.folder)
        os.execvpe("bash", ["bash", "common/toolbox.sh", "run", "python", "-c", script], environment)
    seen, sent, end = b"", False, time.monotonic() + 40
    while time.monotonic() < end:
        try:
            if select.select([terminal], [], [], 0.1)[0]:
                seen += os.read(terminal, 4096) or b""
        except OSError:  # the other end is closed
            break
        # After the whole line: the terminal echoes ^C at once, into the middle of what is still being written.
        if b"\n" in seen.partition(b"tty ")[2] and not sent:
            sent = os.write(terminal, b"\x03") == 1
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert b"tty True True" in seen
    assert code == 130 and seen.count(b"KeyboardInterrupt") == 1
    assert list(contained.path(".venv", "toolbox").glob("relay.*")) == []


@pytest.mark.skipif(not SLOW, reason="SLOW=1 runs the whole demo in the toolbox")
def test_the_demo_in_the_toolbox_gives_the_demos_bytes(contained, demo, tmp_path):
    """On a machine without Python: only the tools that the toolbox is said to need are on PATH."""
    for name in (*HOST_TOOLS, *COREUTILS):
        (tmp_path / name).symlink_to(Path(shutil.which(name)).resolve())
    command = ["make", "demo", "TOOLBOX=docker", f"TOOLBOX_BASE={base_here()}", f"BASE={base_here()}"]
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=contained.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    compared = 0
    for path in demo[0].path("out").glob("*/*/*/compile.json"):
        files = read_json(contained.folder / path.relative_to(demo[0].folder))["files"]
        assert {name: one["sha256"] for name, one in files.items()} == {
            name: one["sha256"] for name, one in read_json(path)["files"].items()
        }
        compared += 1
    assert compared == 2
