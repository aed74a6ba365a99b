"""Compiled job folders that many tests look at, and the doubles for tests that call them directly."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vendors.kl730.jobs import DOUBLES, network, run_script, write_job


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """compiled(options=None, equal=False, **of_job) -> a compiled and simulated job folder, for looking at only."""
    made: dict[str, Path] = {}

    def build(options: dict | None = None, equal: bool = False, **more: object) -> Path:
        key = repr((options, equal, more))
        if key not in made:
            folder = write_job(tmp_path_factory.mktemp("job") / "job", options, network(equal), **more)
            for script in ("compile.py", "infer.py"):
                done = run_script(script, folder)
                assert done.returncode == 0, done.stdout + done.stderr
            made[key] = folder
        return made[key]

    return build


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    """copied(folder) -> a copy that a test may damage."""
    return lambda folder: Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doubles importable in the test itself."""
    monkeypatch.syspath_prepend(DOUBLES)
    monkeypatch.syspath_prepend(DOUBLES / "kl730")
