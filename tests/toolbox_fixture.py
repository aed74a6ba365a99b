"""A project of the toolbox's own files with a stand-in for docker, for the tests of common/toolbox.sh."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from common.declarations.spec import chip_names, load_chip
from tests.conftest import ROOT
from tests.fake_toolbox_engine import install, parsed

SCRIPTS = ["common/toolbox.sh", *(f"common/toolbox/{name}.sh" for name in ("allowed", "image", "mounts", "relay"))]
SOURCES = ("common/Dockerfile", "requirements.txt", "constraints.txt")
OWN = f"{os.getuid()}:{os.getgid()}"
FOLDERS = sorted({load_chip(name).folder.name for name in chip_names()})


class Toolbox:
    """A project of the toolbox's own files, and a stand-in for docker. run() calls common/toolbox.sh."""

    def __init__(self, folder: Path):
        self.project, self.log = folder / "project", folder / "log"
        for name in (*SCRIPTS, *SOURCES, "common/toolbox/engine_client.py"):
            target = self.project / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        for name in FOLDERS:
            (self.project / "vendors" / name).mkdir(parents=True)
            shutil.copy2(ROOT / "vendors" / name / "Dockerfile", self.project / "vendors" / name)
        (folder / "images").mkdir()
        self.environment = {
            "PATH": f"{install(folder / 'bin')}:/usr/bin:/bin",
            "HOME": str(folder),
            "FAKE_LOG": str(self.log),
            "FAKE_IMAGES": str(folder / "images"),
        }

    def command(self, *words: str) -> list[str]:
        return ["bash", str(self.project / "common" / "toolbox.sh"), *words]

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess:
        environment = self.environment | variables
        return subprocess.run(self.command(*words), env=environment, capture_output=True, text=True, check=False)

    def calls(self, first: str) -> list[list[str]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [words for words in map(json.loads, lines) if words[0] == first]

    def mounts(self) -> dict[str, str]:
        """{path: "ro" or "rw"} of the last toolbox that ran; each mounted at its own path, but for the relay's."""
        found = {}
        for value in parsed(self.calls("run")[-1][1:])[0]["--mount"]:
            source, target = re.findall(r'(?:source|target)=([^",]*)', value)
            if not target.startswith(("/run/npumake", "/usr/local/bin/docker")):
                assert source == target
                found[target] = "ro" if value.endswith(",readonly") else "rw"
        return found


@pytest.fixture
def toolbox(tmp_path: Path) -> Toolbox:
    return Toolbox(tmp_path)


def asks(*words: str) -> tuple[str, ...]:
    """A command that asks for `docker WORDS` from inside the toolbox, as a stage does."""
    return "run", "python", "-c", f"import subprocess, sys; sys.exit(subprocess.call(['docker', *{list(words)!r}]))"


@pytest.fixture
def asked_run(toolbox: Toolbox) -> list[str]:
    """What common/engines/container.py asks for to run a script in a vendor's container."""
    job = toolbox.project / "out" / "net" / "chip" / "int8"
    job.mkdir(parents=True)
    words = ["run", "--rm", "--init", "--network", "none", "--user", OWN, "--cap-drop", "ALL"]
    words += [
        "--security-opt",
        "no-new-privileges",
        "--memory",
        "7000000000",
        "--cpus",
        "2",
        "--platform",
        "linux/amd64",
    ]
    words += ["--env", "PROGRESS=1", "--volume", f"{job}:/job", "--volume", f"{toolbox.project}/common:/common:ro"]
    return [*words, f"npumake-{FOLDERS[0]}:0123456789ab", "infer.py", "/job", "/job/samples.npz", "/job/outputs.npz"]
