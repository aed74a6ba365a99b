"""What a machine has, asked of the machine itself. Standard library only: `make doctor` runs before any environment.

Every question that starts a program has a time limit, and an answer for a program that is not there or hangs.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SECONDS = 1.4  # for one program to answer: the whole of doctor takes no longer than the slowest of them
ARCHITECTURES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class Answer(NamedTuple):
    """How a program answered. code: its exit status; None where it is not there or said nothing in time."""

    code: int | None
    text: str  # standard output; where that is empty, standard error


class Engine(NamedTuple):
    """docker or podman. state: "ready", "absent", "silent" (no daemon), "forbidden" or "slow"; detail: in words."""

    name: str
    state: str
    detail: str
    storage: str  # the folder of its images, where it is one of this machine
    images: list[str]  # name:tag of npumake's own


def ask(command: Sequence[str], seconds: float = SECONDS) -> Answer:
    """Run a program and wait no longer than so many seconds; never raises."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            list(command), capture_output=True, text=True, errors="replace", check=False, timeout=seconds,
            stdin=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
    except FileNotFoundError:
        return Answer(None, "not there")
    except subprocess.TimeoutExpired:
        return Answer(None, f"no answer in {seconds:g} s")
    except OSError as error:
        return Answer(None, str(error.strerror))
    return Answer(done.returncode, (done.stdout.strip() or done.stderr.strip()))


def version_in(text: str) -> str | None:
    """The first thing in a text that looks like a version, "4.3"."""
    found = re.search(r"\d+\.\d+(\.\d+)*", text)
    return found[0] if found else None


def numbers(version: str) -> list[int]:
    """A version as numbers, to compare: [4, 3]."""
    return [int(part) for part in version.split(".")]


def architecture() -> str:
    """As docker names it: amd64, arm64, or what the machine itself says."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


def processor_features(path: Path = Path("/proc/cpuinfo")) -> list[str] | None:
    """The features of the processor as Linux names them (avx, avx2, neon ...); None where the system does not tell."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return found[1].split() if found else None


def free_bytes(folder: Path) -> int | None:
    """Free space where a folder is, or will be; None where that cannot be asked."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def engine(name: str) -> Engine:
    """Ask a container engine: is it there, does it answer, may this user use it, and which images of ours it has."""
    if shutil.which(name) is None:
        return Engine(name, "absent", "not installed", "", [])
    root = "{{.Store.GraphRoot}}" if name == "podman" else "{{.DockerRootDir}}"
    version = "{{.Version.Version}}" if name == "podman" else "{{.ServerVersion}}"
    answer = ask([name, "info", "--format", f"{version}\n{root}"])
    if answer.code is None:
        return Engine(name, "slow", answer.text, "", [])
    lines = answer.text.splitlines()
    if answer.code != 0 or not lines or version_in(lines[0]) is None:
        told = next((line for line in lines if line.strip()), "no message")
        forbidden = "permission denied" in answer.text.lower()
        return Engine(name, "forbidden" if forbidden else "silent", told, "", [])
    listed = ask([name, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference=*npumake-*"])
    images = [line.rpartition("/")[2] for line in listed.text.splitlines()] if listed.code == 0 else []
    elsewhere = os.environ.get("DOCKER_HOST", "").startswith(("ssh:", "tcp:"))
    storage = "" if elsewhere or len(lines) < 2 else lines[1].strip()
    return Engine(name, "ready", lines[0].strip(), storage, images)


def declared(path: Path) -> dict[str, list[str]]:
    """The one-line keys of a chip.yaml, without a YAML library: {"chips": ["a", "b"], "platform": ["linux/amd64"]}.

    Of a mapping on one line, {megabytes: 4000, ...}, the pairs are the words; "files" is that of `sdk`. A key whose
    value goes on over further lines is left out.
    """
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match = re.match(r"([a-z_]+|  files): *(\S.*)", line)
        if match:
            value = re.sub(r"\s+#.*$", "", match[2]).strip()
            listed = re.fullmatch(r"\[(.*)\]|\{(.*)\}", value)
            words = (listed[1] or listed[2] or "").split(",") if listed else [value]
            found[match[1].strip()] = [word.replace('"', "").replace("'", "").strip() for word in words if word.strip()]
    return found
