"""A copy of the project in which tests may run make and break things, with the environments of the real one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"  # a trained network and photographs, where somebody laid them; tests pass without


# A shell that starts the tests in the background has them ignore Ctrl-C, and so would all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass
class Project:
    """A working copy of the repository. make() runs a goal in it and returns the finished process."""

    folder: Path

    def make(self, *words: str, **options) -> subprocess.CompletedProcess:
        # MAKEFLAGS and friends of an outer make would make the inner one wait for a job server that is not there.
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
        return subprocess.run(
            ["make", *words], cwd=self.folder, env=environment, capture_output=True, text=True, check=False, **options
        )

    def path(self, *parts: str) -> Path:
        return self.folder.joinpath(*parts)


def project_files(*patterns: str) -> list[str]:
    """Names, relative to the root, of the files that are in git or would be."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def copy_of_project(target: Path) -> Project:
    """Every file of the project, with its times (make goes by them); the environments by a link."""
    for name in project_files():
        if not name.startswith("tests/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    (target / ".venv").symlink_to(ROOT / ".venv")
    return Project(target)


def lend_python(environment: Path) -> None:
    """Make a folder a vendor's environment: its python is the tests' own. A link to it would not find its packages."""
    python = environment / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A fresh copy for one test."""
    return copy_of_project(tmp_path / "project")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, subprocess.CompletedProcess]:
    """A copy in which `make demo` has run, and what it said. Look, do not touch: many tests share it."""
    built = copy_of_project(tmp_path_factory.mktemp("demo") / "project")
    return built, built.make("demo")


@pytest.fixture
def demo_copy(demo: tuple[Project, subprocess.CompletedProcess], tmp_path: Path) -> Project:
    """A copy of the built demo that one test may damage; hard links are broken up, times kept."""
    target = tmp_path / "project"
    shutil.copytree(demo[0].folder, target, symlinks=True)
    return Project(target)
