"""Which layers lose the most when they are int8: measured on the network's outputs, in a bounded number of trials.

Errors of different layers add up nearly independently, and so a run of layers is judged alone: it is int8, and all
others are float16. Runs that hurt are halved until the trials are used up. Work is counted, never timed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Run:
    """Layers start..stop-1 of the network, and the error of the outputs when only they are int8."""

    start: int
    stop: int
    error: float

    def __len__(self) -> int:
        return self.stop - self.start


def output_error(reference: Sequence[np.ndarray], value: Sequence[np.ndarray]) -> float:
    """Squared error over squares of the outputs, geometric mean over the samples: 0 is equal, 1 is worthless.

    reference, value: the outputs, float32 [N, ...] each; for several outputs the mean of theirs.
    """
    per_output = []
    for index, expected in enumerate(reference):
        found = value[index]
        axes = tuple(range(1, expected.ndim))
        signal = np.sum(expected.astype(np.float64) ** 2, axis=axes)
        noise = np.sum((expected.astype(np.float64) - found) ** 2, axis=axes)
        per_output.append(noise / np.maximum(signal, 1e-30))
    per_sample = np.maximum(np.mean(per_output, axis=0), 1e-12)
    return float(np.exp(np.mean(np.log(per_sample))))


def measure_runs(count: int, alone: Callable[[int, int], float], trials: int) -> list[Run]:
    """Runs that cover all layers, in their order. alone(start, stop): the error when only those are int8."""
    first = max(1, min(count, trials // 2))
    ends = [round(index * count / first) for index in range(first + 1)]
    runs = [Run(start, stop, alone(start, stop)) for start, stop in zip(ends, ends[1:])]  # noqa: B905, RUF007 - 3.9
    for _ in range((trials - first) // 2):
        worst = max((run for run in runs if len(run) > 1), key=lambda run: run.error, default=None)
        if worst is None:
            break
        middle = (worst.start + worst.stop) // 2
        halves = [Run(start, stop, alone(start, stop)) for start, stop in ((worst.start, middle), (middle, worst.stop))]
        place = runs.index(worst)
        runs[place : place + 1] = halves
    return runs


def choose(runs: Sequence[Run], most: int, target: float) -> list[int]:
    """The layers to keep float16: those of the largest error a layer first, until the rest adds up to the target.

    most: at most so many layers. Runs that would exceed it are passed over.
    """
    chosen: list[int] = []
    remaining = sum(run.error for run in runs)
    for run in sorted(runs, key=lambda run: (-run.error / len(run), run.start)):
        if remaining <= target:
            break
        if len(chosen) + len(run) <= most:
            chosen += range(run.start, run.stop)
            remaining -= run.error
    return sorted(chosen)
