"""A tool of the vendor in a process of its own: everything it prints is kept, and all of it ends when this ends."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finished:
    """What a tool did: its exit code (negative: the signal that killed it) and all that it printed."""

    code: int
    text: str

    @property
    def ended(self) -> str:
        """How it ended, in words."""
        if self.code >= 0:
            return f"exit code {self.code}"
        return f"killed by {signal.Signals(-self.code).name}"


def run_tool(command: Sequence[str], environment: dict[str, str], folder: Path, log: Path) -> Finished:
    """Run a command in `folder`, its messages appended to `log`. Its whole process group is killed on an interrupt:
    atc starts compilers of its own."""
    with log.open("ab") as file:
        file.write(f"$ {' '.join(command)}\n".encode())
        file.flush()
        start = file.tell()
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    with log.open("rb") as file:
        file.seek(start)
        return Finished(code, file.read().decode("utf-8", errors="replace"))
