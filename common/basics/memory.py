"""Memory-hungry steps take turns: a budget that all processes share which work on the same out/ folder.

Every step says what it expects to take. Its share is a file in out/.memory/ that it holds locked while it runs; the
system unlocks it when the process ends, however it ends, so that a dead step never blocks the others.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from common.basics.errors import UserError
from common.basics.files import read_json

if TYPE_CHECKING:  # of the annotations: `make doctor` asks machine_bytes() before pydantic is installed
    from common.job import Cell

PLANNED_SHARE = 0.8  # of the machine's memory; the rest is for the system and for steps that are not hungry
POLL_SECONDS = 0.5
FOLDER = ".memory"  # in out/
CGROUPS = Path("/sys/fs/cgroup")


def machine_bytes() -> int:
    """The memory of this machine, or of the container if that is allowed less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([total, *cgroup_limits(CGROUPS, Path("/proc/self/cgroup"))])


def cgroup_limits(root: Path, own: Path) -> list[int]:
    """The memory limits in bytes of this process's cgroups and all above them; [] where there are none.

    root: where cgroups are mounted; own: the process's own paths. Version 2 (memory.max, "max" for none) and version 1
    (memory.limit_in_bytes): Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return []
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, name = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        place = top / path.strip("/")
        for folder in (place, *place.parents):
            # In a container the own path may be seen from outside, and not be there; the top is.
            if folder == top or top in folder.parents:
                text = _text(folder / name)
                limits += [int(text)] if text.isdecimal() else []
    return limits


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def expected_bytes(cell: Cell) -> int:
    """The memory that compiling the cell will take: what it took last time, else what its chip.yaml expects."""
    try:
        measured = read_json(cell.folder / "compile.json").get("peak_memory_bytes")
    except (UserError, AttributeError):  # not compiled yet, or damaged
        measured = None
    if isinstance(measured, int) and measured > 0:
        return measured
    memory = cell.chip_spec.memory
    model = cell.folder / "model.onnx"
    megabytes = model.stat().st_size / 1e6 if model.exists() else 0.0
    return round(1e6 * (memory.megabytes + memory.per_model_megabyte * megabytes))


@contextmanager
def reserved(cell: Cell, expected: int) -> Iterator[None]:
    """Run the block when all that run at once are expected to fit into 80 % of the memory; say so while waiting.

    expected: bytes. With no other step running it always goes on, whatever it expects: it may fit after all.
    """
    folder = cell.folder.parents[2] / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    budget = round(PLANNED_SHARE * machine_bytes())
    said = False
    while isinstance(share := _try_to_reserve(folder, expected, budget), int):
        if not said:
            free = max(0, budget - share)
            print(
                f"waiting for memory: {cell.name} needs {expected / 1e9:.1f} GB, {free / 1e9:.1f} GB of "
                f"{budget / 1e9:.1f} GB are free to plan with",
                file=sys.stderr,
            )
            said = True
        time.sleep(POLL_SECONDS)
    descriptor, path = share
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _try_to_reserve(folder: Path, expected: int, budget: int) -> tuple[int, Path] | int:
    """The own share, locked, as (descriptor, path), if it fits beside the others; else the bytes that they expect."""
    with open(folder / "lock", "w", encoding="utf-8") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # nobody else looks or adds meanwhile
        others = _others(folder)
        if others and sum(others) + expected > budget:
            return sum(others)
        descriptor, name = tempfile.mkstemp(prefix="share-", dir=folder)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, str(expected).encode())
        return descriptor, Path(name)


def _others(folder: Path) -> list[int]:
    """The bytes that running steps expect. The file of a dead one is not locked any more, and is removed."""
    found = []
    for path in folder.glob("share-*"):
        try:
            with open(path, encoding="utf-8") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    text = file.read()
                    found.append(int(text) if text.isdecimal() else 0)
                    continue
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            continue  # it ended just now
    return found
