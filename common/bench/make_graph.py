"""How long make takes to find that there is nothing to do: 10 networks x 7 chips x 2 precisions, all of it built.

    python -m common common.bench.make_graph [--models 10] [--chips 7] [--repeats 5]

A copy of the project holds the demo's network and the demo chip's vendor folder under many names. One of the cells is
really built there; its results are copied into all the others, whose requests `make all` itself writes. What is timed
must build nothing: files that make would look at again are compared, and a grid that is not up to date is an error.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shlex
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.basics.errors import UserError, run
from common.basics.files import read_json, to_json
from common.declarations.spec import MODELS_FOLDER, VENDORS_FOLDER, chip_names, load_chip, load_model, model_names

MODELS, CHIPS, REPEATS = 10, 7, 5
LIMIT = 1.0  # seconds, of `make all` and `make -n all` on two cores that have nothing else to do
QUICKLY = ("LIMIT=2", "CALIB_COUNT=8", "FORCE=1")  # the one cell that is built; what is in its results does not matter
SOURCES = ("Makefile", "requirements.txt", "requirements-test.txt", "constraints.txt")
# What make has written rules for; everything else of a cell is read, if at all, through a link to the built cell's.
TARGETS = (".json", "outputs.npz", "samples.npz")
NOT_COPIED = ("cache", "rungs", "eval")  # folders of a cell that no rule names


def demo_names() -> tuple[str, str]:
    """(network, chip) of `make demo`: those whose files say `demo: true`."""
    model = next(path.parent.name for path in model_names().values() if load_model(path.parent.name).demo)
    return model, next(name for name in chip_names() if load_chip(name).demo)


def lay_project(folder: Path, models: int, chips: int) -> None:
    """A project in `folder` with the networks m0, m1, ... and the chips c0, c1, ..., in this one's environments."""
    model, chip = demo_names()
    vendor = load_chip(chip).folder
    ignored = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        shutil.copy2(name, folder / name)
    shutil.copytree("common", folder / "common", ignore=ignored)
    shutil.copytree("calib", folder / "calib", ignore=ignored)  # make renders the sets there, where they are not yet
    for name in ("arch", "__init__.py"):
        (folder / MODELS_FOLDER).mkdir(exist_ok=True)
        (folder / MODELS_FOLDER / name).symlink_to((MODELS_FOLDER / name).resolve())
    lend_environment(Path(".venv/common"), folder / ".venv/common")
    # No agreement is too small for the one cell: it is built on two images.
    gates = {precision: {"oks": 0, "ap_drop": 1} for precision in load_chip(chip).precisions}
    for number in range(models):
        target = folder / MODELS_FOLDER / f"m{number}"
        shutil.copytree(MODELS_FOLDER / model, target, ignore=ignored)
        text = (target / "model.yaml").read_text(encoding="utf-8")
        text = re.sub(r"(?m)^(name|aliases|demo):.*\n", "", text)
        (target / "model.yaml").write_text(f"name: m{number}\n{text}gate: {to_json(gates)}", encoding="utf-8")
    for number in range(chips):
        target = folder / VENDORS_FOLDER / f"c{number}"
        shutil.copytree(vendor, target, ignore=ignored)
        text = (target / "chip.yaml").read_text(encoding="utf-8")
        text = re.sub(r"(?m)^(chips|demo):.*\n", "", text)
        (target / "chip.yaml").write_text(f"chips: [c{number}]\n{text}", encoding="utf-8")
        lend_environment(Path(".venv", vendor.name), folder / ".venv" / f"c{number}")


def lend_environment(real: Path, lent: Path) -> None:
    """An environment of this project for the copy. The folder and `ready` are its own: no make of the copy, whatever it
    holds for out of date, can reach the real one."""
    lent.mkdir(parents=True)
    for path in real.iterdir():
        if path.name != "ready":
            (lent / path.name).symlink_to(path.resolve())
    (lent / "ready").touch()


def run_make(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """make in that project, as from a shell of its own: an outer make has a job server that the inner one lacks."""
    own = ("MAKE", "MFLAGS", "TOOLBOX", "ENGINE", "BASE", "NPUMAKE", "PYTHONDONTWRITEBYTECODE")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    command = ["make", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def checked_make(folder: Path, *words: str) -> str:
    """What make printed. Raises UserError with the end of it when it fails."""
    done = run_make(folder, *words)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise UserError(f"make {' '.join(words)} failed in the benchmark's copy:\n{tail}", "does `make demo` work?")
    return done.stdout


def copy_results(source: Path, target: Path) -> None:
    """One built cell, or float network, under another name: make's targets as copies, what else there is as links."""
    for path in sorted(source.rglob("*")):
        place = path.relative_to(source)
        if path.is_dir() or place.parts[0] in NOT_COPIED:
            continue
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        if path.name.endswith(TARGETS):
            shutil.copy2(path, target / place)
        else:
            (target / place).symlink_to(path.resolve())


def build_one(folder: Path) -> Path:
    """Build m0 for c0, and lay that aside. Returns the folder that stands for out/m0."""
    checked_make(folder, "c0", "MODEL=m0", *QUICKLY)
    aside = folder / "built"
    (folder / "out/m0").rename(aside)
    shutil.rmtree(folder / "out/report")
    return aside


def lay_results(folder: Path, built: Path, models: int, chips: int) -> None:
    """Copy the built cell into all cells, let `make all` write its requests, and mark all files as made."""
    for model in range(models):
        copy_results(built / "float", folder / f"out/m{model}/float")
        for chip in range(chips):
            for cell in (built / "c0").iterdir():
                copy_results(cell, folder / f"out/m{model}/c{chip}" / cell.name)
    # The requests, with exactly the words that `make all` gives to the stage that writes them.
    told = checked_make(folder, "-n", "all", "V=1")
    words = next(shlex.split(line) for line in told.splitlines() if "common all_cells" in line)
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"the requests of `make all` failed in the benchmark's copy:\n{done.stderr.strip()}")
    checked_make(folder, "-t", "built", "CELL_LIST=out/all/cells.txt")


def made_files(folder: Path) -> dict[str, int]:
    """{file: its time in ns} of everything that the rules of make are about."""
    paths = (path for path in (folder / "out").glob("m*/*/**/*") if path.name.endswith(TARGETS))
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in paths}


def check_nothing_done(folder: Path, before: dict[str, int], words: Sequence[str]) -> None:
    """Raises UserError when a make has built something, though all was built."""
    changed = sorted(name for name, modified in made_files(folder).items() if before.get(name) != modified)
    if changed:
        raise UserError(
            f"make {' '.join(words)} was to find everything built, and has made {', '.join(changed[:3])}",
            "a defect of npumake: the same question must not build twice",
        )


def time_make(folder: Path, words: Sequence[str], repeats: int) -> dict[str, Any]:
    """One goal, over and over: {"command", "seconds": median, "least", "cpu_seconds": least of user + system}."""
    before = made_files(folder)
    seconds, processor = [], []
    for _ in range(repeats + 1):
        spent = _processor_seconds()
        begun = time.perf_counter()
        checked_make(folder, *words)
        seconds.append(time.perf_counter() - begun)
        processor.append(_processor_seconds() - spent)
        check_nothing_done(folder, before, words)
    # The first one may still write the report, and plan.json for other cells.
    del seconds[0], processor[0]
    told = {"seconds": statistics.median(seconds), "least": min(seconds), "cpu_seconds": min(processor)}
    return {"command": " ".join(["make", *words])} | {key: round(value, 3) for key, value in told.items()}


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_make_graph(models: int = MODELS, chips: int = CHIPS, repeats: int = REPEATS) -> dict[str, Any]:
    """{"models", "chips", "cells", "repeats", "limit": seconds, "goals": [{"command", "seconds" (wall, the median of
    the repeats), "least", "cpu_seconds" (user + system, the least), "limit"}]}.

    Raises UserError when the one cell cannot be built, or something is built twice.
    """
    goals = (["all"], ["-n", "all"], ["c0", "MODEL=m0"], ["-n", "c0", "MODEL=m0"])
    with tempfile.TemporaryDirectory(prefix="npumake-bench-") as name:
        folder = Path(name)
        lay_project(folder, models, chips)
        lay_results(folder, build_one(folder), models, chips)
        found = [time_make(folder, words, repeats) | {"limit": LIMIT} for words in goals]
        cells = len(read_json(folder / "out/all/asked.json")["cells"])
    return {"models": models, "chips": chips, "cells": cells, "repeats": repeats, "limit": LIMIT, "goals": found}


def make_graph_lines(measured: dict[str, Any] | None) -> list[str]:
    """What was measured, as lines of the table."""
    if measured is None:
        return []
    lines = [
        "",
        f"nothing to do: {measured['models']} networks x {measured['chips']} chips, {measured['cells']} cells, all "
        f"built; medians of {measured['repeats']}, limit {measured['limit']:g} s",
        f"{'':<28}{'seconds':>10}{'least':>10}{'processor':>11}",
    ]
    for row in measured["goals"]:
        over = "  above the limit" if row["least"] > row["limit"] else ""
        told = f"{row['seconds']:>10.2f}{row['least']:>10.2f}{row['cpu_seconds']:>11.2f}"
        lines.append(f"{row['command']:<28}{told}{over}")
    return lines


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description="how long make takes to find that there is nothing to do")
    parser.add_argument("--models", type=int, default=MODELS)
    parser.add_argument("--chips", type=int, default=CHIPS)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    arguments = parser.parse_args()
    measured = measure_make_graph(arguments.models, arguments.chips, arguments.repeats)
    print("\n".join(make_graph_lines(measured)[1:]))


if __name__ == "__main__":
    run(main)
