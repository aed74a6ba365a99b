#!/usr/bin/env python3
"""What `docker` and `podman` are inside the toolbox: hands its arguments to the machine outside, and its output back.

common/toolbox/relay.sh, outside, says what the files are. Exits with the command's own exit code.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import BinaryIO

FOLDER = Path(os.environ.get("NPUMAKE_RELAY", "/run/npumake"))
POLL_SECONDS = 0.05
NOT_THERE = 127  # as a shell says of a command that it does not find


def number() -> int:
    """A number that no other request of this toolbox has."""
    return time.time_ns() // 1000 * 1000 + os.getpid() % 1000


def write(path: Path, content: bytes) -> None:
    """The file appears whole."""
    temporary = path.with_suffix(".new")
    temporary.write_bytes(content)
    os.replace(temporary, path)


class Copier:
    """Copies a file that somebody else is still writing; it may not be there yet."""

    def __init__(self, source: Path, target: BinaryIO):
        self.source, self.target, self.copied = source, target, 0

    def copy(self) -> None:
        """What came since the last time."""
        if not self.source.exists():
            return
        with open(self.source, "rb") as file:
            file.seek(self.copied)
            while block := file.read(1 << 16):
                self.target.write(block)
                self.target.flush()
                self.copied += len(block)


def main() -> int:
    """Ask, copy what the command prints, and return its exit code."""
    requests, replies = FOLDER / "requests", FOLDER / "replies"
    if not requests.is_dir():
        print("there is no engine in here: common/toolbox.sh starts a toolbox that has one", file=sys.stderr)
        return NOT_THERE
    name = str(number())

    def cancel(*_: object) -> None:
        (requests / f"{name}.cancel").touch()

    signal.signal(signal.SIGINT, cancel)
    signal.signal(signal.SIGTERM, cancel)
    write(requests / f"{name}.words", b"".join(os.fsencode(word) + b"\0" for word in sys.argv[1:]))
    copiers = [Copier(replies / f"{name}.out", sys.stdout.buffer), Copier(replies / f"{name}.err", sys.stderr.buffer)]
    code = replies / f"{name}.code"
    ended = False
    while not ended:
        ended = code.exists()  # looked at before the last copying: nothing is written after it
        for copier in copiers:
            copier.copy()
        if not ended:
            time.sleep(POLL_SECONDS)
    return int(code.read_text())


if __name__ == "__main__":
    sys.exit(main())
