"""How far a long step is: a bar where somebody watches, now and then a line where the output goes to a file."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

LINE_EVERY = 60.0  # seconds


class Progress:
    """Counts instances. done: those that an earlier run has left; the time left goes by the others."""

    def __init__(self, what: str, total: int, done: int, unit: str):
        self.what, self.total, self.done, self.unit = what, total, done, unit
        self._begun = self._said = time.monotonic()
        self._at_start = done
        self._bar = tqdm(total=total, initial=done, desc=what, unit=f" {unit}") if sys.stderr.isatty() else None

    def advance(self, count: int) -> None:
        """So many more are done."""
        self.done += count
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(count)
        elif now - self._said >= LINE_EVERY:
            self._said = now
            print(f"{self.what}: {self.line(now - self._begun)}", file=sys.stderr, flush=True)

    def line(self, seconds: float) -> str:
        """In words, after so many seconds: "1200 of 6352 people (19 %), 12 min left"."""
        share = 100 * self.done // max(1, self.total)
        speed = (self.done - self._at_start) / max(seconds, 1e-9)
        left = (self.total - self.done) / speed if speed else 0
        return f"{self.done} of {self.total} {self.unit} ({share} %), {duration(left)} left"

    def close(self) -> None:
        """Leave the terminal as it should be."""
        if self._bar is not None:
            self._bar.close()


def duration(seconds: float) -> str:
    """Seconds as people say them: 48 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
