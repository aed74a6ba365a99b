"""A command on a pseudo terminal, as a person starts it: what it writes there, and how it ends."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path

COLUMNS = 100
COLOR = re.compile(r"\x1b\[[0-9;]*m")


def on_terminal(command: Sequence[str], folder: Path, seconds: float = 120, **variables: str) -> tuple[int, str]:
    """(exit code, all that was written to the terminal) of a command that is started in `folder`.

    variables: of its environment; V and NO_COLOR are unset unless given. Fails after `seconds`.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    for name in ("V", "NO_COLOR", "COLUMNS"):
        environment.pop(name, None)
    environment |= {"TERM": "xterm"} | variables
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    written = bytearray()
    deadline = time.monotonic() + seconds
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        try:
            while time.monotonic() < deadline:
                if not select.select([ours], [], [], 0.1)[0]:
                    continue
                try:
                    block = os.read(ours, 65536)
                except OSError:  # nobody has the other end open any more
                    break
                if not block:
                    break
                written += block
            else:
                raise AssertionError(f"{command} is not done after {seconds} s: {bytes(written[-2000:])!r}")
        finally:
            if time.monotonic() >= deadline:
                process.kill()
            os.close(ours)
    return process.returncode, written.decode(errors="replace")


def last_states(text: str) -> list[str]:
    """The lines as they stand on the terminal at the end: of what was written anew the last state."""
    return [line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
