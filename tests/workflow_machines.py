"""Machines for tests of workflows and of docs/many_machines.md: copies of the project, with the demo's cells or not."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import ROOT, Project, copy_of_project

LIMIT = 18  # images of an evaluation
SET = f"people_evaluation-gt-first{LIMIT}"
SMALL_PIECES = "CHUNK_BYTES = 1_000_000"  # 6 people in a piece, so that a small set has several


def fresh_machine(folder: Path, demo: Project, built: bool = False) -> Project:
    """What a checkout has, and the image sets that a machine would first render. built: the demo's cells, too."""
    project = copy_of_project(folder)
    (folder / "tests").mkdir()
    (folder / "tests" / "doubles").symlink_to(ROOT / "tests" / "doubles")
    for declared in (demo.folder / "calib").glob("*/set.yaml"):
        shutil.copytree(declared.parent, folder / "calib" / declared.parent.name, dirs_exist_ok=True)
    if built:
        shutil.copytree(demo.folder / "out", folder / "out", symlinks=True)
    code = project.path("common", "full_evaluation.py")
    text, count = re.subn(r"^CHUNK_BYTES = \d[\d_]*", SMALL_PIECES, code.read_text(), flags=re.MULTILINE)
    assert count == 1
    code.write_text(text)
    return project


_WHOLE: dict[Path, Project] = {}  # by the demo's folder: two modules ask for the same


def whole_evaluation(demo: Project) -> Project:
    """One machine that does all of an evaluation, float network and chip, without any shard. Only to look at."""
    if demo.folder not in _WHOLE:
        project = fresh_machine(Path(tempfile.mkdtemp(dir=demo.folder.parent)) / "project", demo, built=True)
        for words in (("CHIP=float",), ("CHIP=ncnn", "VARIANT=int8")):
            said = project.make("eval", "MODEL=hrnet_tiny", f"LIMIT={LIMIT}", *words)
            assert said.returncode == 0, said.stderr
        _WHOLE[demo.folder] = project
    return _WHOLE[demo.folder]


def set_limit(project: Project, images: int) -> None:
    """Let every list of ci/ measure on so many images: a user's own setting."""
    for path in project.path("ci").glob("*.yaml"):
        path.write_text(re.sub(r"^limit: \d+$", f"limit: {images}", path.read_text(), flags=re.MULTILINE))


def commit(project: Project, changed: Sequence[str]) -> None:
    """Make the project a git repository whose last commit changes these files, as a merged pull request's does."""

    def git(*words: str) -> None:
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        subprocess.run(["git", *identity, *words], cwd=project.folder, check=True, capture_output=True)

    git("init", "--quiet", ".")
    git("add", "ci", "common", "docs", "models", "vendors", "README.md")
    git("commit", "--quiet", "-m", "base")
    for name in changed:
        path = project.path(*name.split("/"))
        path.write_text(path.read_text() + "\n")
    git("commit", "--quiet", "--allow-empty", "-a", "-m", "change")


def numbers(project: Project, *place: str) -> tuple[str, str]:
    """metrics.json and results.json of an evaluation below out/hrnet_tiny, as they stand there."""
    folder = project.path("out", "hrnet_tiny", *place)
    return (folder / "metrics.json").read_text(), (folder / "results.json").read_text()
