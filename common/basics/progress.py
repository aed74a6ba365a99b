"""How far a long step is: a bar where somebody watches, now and then a line where the output goes to a file.

A step that nobody can count shows the time that it has taken, how long it took before if that is known, and the last
words of the tool that works on it. Of steps within steps only the outermost is shown, with the inner one's words.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from common.basics.terminal import verbose, watched

if TYPE_CHECKING:
    from tqdm import tqdm

LINE_EVERY = 60.0  # seconds; a tenth of the time so far, once that is more
SELDOM = 5  # times LINE_EVERY: no step is silent for longer
TICK = 0.5  # seconds
Item = TypeVar("Item")

_steps: list[Progress] = []  # the open ones of this process, the outermost first


class Progress:
    """One long step, from its making to close(), or a `with` block.

    total: None for what cannot be counted. done: those that an earlier run has left; the time left goes by the others.
    usual: seconds that the same step took before, where that is known.
    """

    def __init__(self, what: str, total: int | None = None, done: int = 0, unit: str = "", usual: float | None = None):
        self.what, self.total, self.done, self.unit, self.usual = what, total, done, unit, usual
        self._at_start = done
        self._words = ""
        self._begun = self._said = time.monotonic()
        self._outer = _steps[0] if _steps else None
        self._bar: tqdm | None = None
        # With V=1 a tool's own output says more than one line about it could, and would be written over by that.
        self._on_terminal = watched() and not (verbose() and total is None)
        self._ended, self._lock = threading.Event(), threading.Lock()
        _steps.append(self)
        if self._outer is None:
            threading.Thread(target=self._tick_on, daemon=True).start()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        with self._lock:
            self.done += count
            if self._bar is not None:
                self._bar.update(count)
            elif self._outer is None and not self._on_terminal:
                self._say()
        if self._outer is not None:
            self._outer.tell(f"{self.what} {self.done}/{self.total}")

    def tell(self, words: str) -> None:
        """What the tool said last, or how far an inner step is; shown behind the bar."""
        self._words = words
        if self._outer is not None:
            self._outer.tell(words)

    def line(self, seconds: float) -> str:
        """In words, after so many seconds: "1200 of 6352 people (19 %), 12 min left"; "3 min, about 5 min left"."""
        if self.total is None:
            return f"{duration(seconds)}{self._left_as_usual(seconds)}"
        share = 100 * self.done // max(1, self.total)
        speed = (self.done - self._at_start) / max(seconds, 1e-9)
        left = f", {duration((self.total - self.done) / speed)} left" if speed else ""
        return f"{self.done} of {self.total} {self.unit} ({share} %){left}"

    def close(self) -> None:
        """Leave the terminal as it should be."""
        if self in _steps:
            _steps.remove(self)
        if self._outer is not None:
            self._outer.tell("")
        with self._lock:
            self._ended.set()
            if self._bar is not None:
                self._bar.close()

    def _left_as_usual(self, seconds: float) -> str:
        if self.usual is None:
            return ""
        if seconds < self.usual:
            return f", about {duration(self.usual - seconds)} left"
        return f", {duration(self.usual)} the last time"

    def _tick_on(self) -> None:
        """A thread's: the time goes on while the step is busy, and so does what is said about it."""
        while not self._ended.wait(TICK):
            with self._lock:
                if self._ended.is_set():  # a closed bar must not come back
                    return
                if self._on_terminal:
                    self._draw()
                else:
                    self._say()

    def _draw(self) -> None:
        from tqdm import tqdm  # only here: it takes its time to load, and most steps are over by now

        if self.total is not None:
            if self._bar is None:
                self._bar = tqdm(total=self.total, initial=self.done, desc=self.what, unit=f" {self.unit}", leave=False,
                                 dynamic_ncols=True)  # fmt: skip
            self._bar.set_postfix_str(self._words[: width() // 2])  # redraws it; the bar needs its room, too
            return
        if self._bar is None:
            self._bar = tqdm(bar_format="{desc}", leave=False)
        seconds = time.monotonic() - self._begun
        text = f"{self.what}: {tqdm.format_interval(seconds)}{self._left_as_usual(seconds)}"
        text += f"; {self._words}" if self._words else ""
        self._bar.set_description_str(text[: width() - 1])

    def _say(self) -> None:
        """Now and then a line, where nobody watches."""
        now = time.monotonic()
        taken = now - self._begun
        if now - self._said >= max(LINE_EVERY, min(SELDOM * LINE_EVERY, taken / 10)):
            self._said = now
            print(f"{self.what}: {self.line(taken)}", file=sys.stderr, flush=True)


def track(items: Sequence[Item], what: str, unit: str) -> Iterator[Item]:
    """The items, one by one, with a Progress over them."""
    with Progress(what, len(items), unit=unit) as progress:
        for item in items:
            yield item
            progress.advance()


def width() -> int:
    """Columns of the terminal that the progress is shown on; 80 where it does not say."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80


def duration(seconds: float) -> str:
    """Seconds as people say them: 48 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
