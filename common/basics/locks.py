"""Two makes of the same cell take turns: each stage holds its folder while it works.

A stage is quick to notice that the other one has already done its work, and files are renamed into place whole, so
waiting is all it takes. The system releases a lock when its process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = ".locks"  # in out/


def lock_of(folder: Path) -> Path:
    """The lock file of out/<model>/float or out/<model>/<chip>/<variant>."""
    return folder.parents[len(folder.parts) - 2] / FOLDER / "--".join(folder.parts[1:])


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder below out/; say so while another process has it."""
    path = lock_of(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "?"
            print(
                f"waiting: another make is at work on {folder} (process {other})\n"
                "HINT: this one goes on by itself; Ctrl-C ends it and leaves the other alone",
                file=sys.stderr,
                flush=True,
            )
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def folder_of(arguments: list[str]) -> Path | None:
    """The folder that a stage works on, where its first argument is one below out/."""
    folder = Path(arguments[0]) if arguments else Path()
    return folder if len(folder.parts) in (3, 4) and folder.parts[0] == "out" and folder.is_dir() else None
