"""What a terminal is given and a file is not: progress and colours; and V=1, which shows everything anywhere.

Standard library only: the stages that find everything built load nothing else.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from typing import TextIO

# What a program sends to move or to colour: ESC [ ... letter, ESC ] ... BEL, and the two-character ones.
CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_()=>78])")
COLOR = re.compile(r"\x1b\[[0-9;:]*m")
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def verbose() -> bool:
    """Whether V=1 was given: everything that a tool prints is shown."""
    return os.environ.get("V", "") not in ("", "0")


def show_command(command: Sequence[object]) -> None:
    """With V=1: the command that is about to run, as a shell takes it."""
    if verbose():
        print(shlex.join(map(str, command)), file=sys.stderr, flush=True)


def watched(stream: TextIO | None = None) -> bool:
    """Whether somebody looks at this stream (stderr), on a terminal that can write a line anew."""
    stream = sys.stderr if stream is None else stream
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def colored(stream: TextIO | None = None) -> bool:
    """Whether this stream (stdout) takes colours: it is a terminal, and NO_COLOR is not set (no-color.org)."""
    return watched(sys.stdout if stream is None else stream) and not os.environ.get("NO_COLOR")


def plain(line: str) -> str:
    """A line as a terminal shows it at last: of what was written anew only the last state; no colours, no controls."""
    states = [UNPRINTABLE.sub("", CONTROL.sub("", state)).rstrip() for state in line.split("\r")]
    return next((state for state in reversed(states) if state), "")
