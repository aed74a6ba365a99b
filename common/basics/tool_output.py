"""What another program prints: to its log as plain lines, and to whoever watches no more than its last words.

With V=1 all of it is shown as well: on a terminal as it comes, in a file as plain lines.
"""

from __future__ import annotations

import codecs
import os
import sys
from typing import BinaryIO, TextIO

from common.basics.progress import Progress
from common.basics.terminal import COLOR, colored, plain, verbose, watched

BLOCK = 1 << 14  # bytes


class ToolOutput:
    """Takes a program's output piece by piece. log: gets complete lines only; None: there is no log."""

    def __init__(self, log: TextIO | None, progress: Progress | None = None):
        self._log, self._progress = log, progress
        self._line = ""  # not ended yet
        self._raw = verbose() and watched()
        self._unshown = ""  # of a raw piece: its end may be half a control sequence

    def write(self, text: str) -> None:
        """The next piece, of any length."""
        if self._raw:
            self._show_raw(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._end_line(plain(line))
        earlier, again, last = self._line.rpartition("\r")
        if again:  # a bar that is written anew and anew: its last state will do
            self._line = f"{plain(earlier)}\r{last}"
        words = plain(self._line) or next((line for line in map(plain, reversed(lines)) if line), "")
        if words and self._progress is not None:
            self._progress.tell(words)

    def close(self) -> None:
        """The program has ended: what is left is a line, too."""
        if self._line:
            self._end_line(plain(self._line))
            self._line = ""
        if self._unshown:
            self._show(self._unshown)
            self._unshown = ""

    def _end_line(self, line: str) -> None:
        if self._log is not None:
            self._log.write(f"{line}\n")
            self._log.flush()  # readable while the program still runs
        if verbose() and not self._raw:
            self._show(f"{line}\n")

    def _show_raw(self, text: str) -> None:
        text = self._unshown + text
        end = max(text.rfind("\n"), text.rfind("\r")) + 1
        self._unshown = text[end:]
        if end:
            self._show(text[:end] if colored(sys.stderr) else COLOR.sub("", text[:end]))

    def _show(self, text: str) -> None:
        from tqdm import tqdm  # only here: it takes its time to load

        with tqdm.external_write_mode(file=sys.stderr):
            sys.stderr.write(text)
            sys.stderr.flush()


def copy_output(source: BinaryIO, log: TextIO | None, progress: Progress | None = None) -> None:
    """Read a program's output until it ends; progress: of the step that waits for it."""
    output, decoder = ToolOutput(log, progress), codecs.getincrementaldecoder("utf-8")("replace")
    while block := os.read(source.fileno(), BLOCK):
        output.write(decoder.decode(block))
    output.write(decoder.decode(b"", final=True))
    output.close()
