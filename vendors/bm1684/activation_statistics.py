"""What the tensors of the float graph look like on calibration samples: magnitudes, ranges, ranges of the channels."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from failure import VendorError, quiet
from graph_runner import GraphRunner
from tqdm import tqdm

BINS = 4096
SMALLEST = 1e-5  # the vendor's own lower limit of a threshold (kld_calibrator.py)
SIGNED, UNSIGNED = 127, 255  # int8 levels on one side of zero; a tensor without negative values is stored as uint8


@dataclass
class TensorStatistics:
    """Of one tensor over all samples. counts: int64 [BINS], of |value| in 0..limit. channels: largest |value| of each.

    channels is float64 [C] for a tensor [N, C, ...], and [1] for one of another rank.
    """

    minimum: float = np.inf
    maximum: float = -np.inf
    limit: float = 0.0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    channels: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def largest(self) -> float:
        return max(abs(self.minimum), abs(self.maximum), SMALLEST)

    def add(self, value: np.ndarray) -> None:
        """Take in one tensor; the histogram's range doubles whenever a larger value comes."""
        magnitudes = np.abs(value)
        largest = float(magnitudes.max(initial=0.0))
        if not self.limit:
            self.limit = max(largest, SMALLEST) * 1.0001
        while largest >= self.limit:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)])
            self.limit *= 2
        self.counts += np.bincount((magnitudes.ravel() * (BINS / self.limit)).astype(np.int64), minlength=BINS)[:BINS]
        self.minimum, self.maximum = min(self.minimum, float(value.min())), max(self.maximum, float(value.max()))
        axes = tuple(axis for axis in range(value.ndim) if axis != 1)
        channels = magnitudes.max(axis=axes) if value.ndim > 1 else magnitudes.max(keepdims=True)
        self.channels = np.maximum(self.channels, channels) if len(self.channels) else channels.astype(np.float64)


def collect(graph: Path, batches: Sequence[np.ndarray]) -> dict[str, TensorStatistics]:
    """Run the float graph on all batches, float32 [B, C, H, W] each: {tensor: its statistics}.

    Memory does not grow with the number of batches. Raises VendorError when a tensor is NaN or infinite.
    """
    runner = GraphRunner(graph, keep_all=True)
    found: dict[str, TensorStatistics] = {}
    for index, batch in enumerate(tqdm(batches, desc="statistics", disable=quiet(), file=sys.stderr)):
        runner.run({runner.inputs[0]: batch})
        for name, value in runner.tensors().items():
            if not np.isfinite(value).all():
                raise VendorError(
                    f"tensor {name} holds NaN or infinity on calibration batch {index}",
                    "look at that sample, and at the network",
                )
            found.setdefault(name, TensorStatistics()).add(value)
    return found


def largest_value(statistics: TensorStatistics) -> float:
    return statistics.largest


def percentile(statistics: TensorStatistics, share: float = 0.99999) -> float:
    """The magnitude that this share of all values does not exceed."""
    cumulated = statistics.counts.cumsum()
    index = int(np.searchsorted(cumulated, share * cumulated[-1]))
    return max(min((index + 1) * statistics.limit / BINS, statistics.largest), SMALLEST)


def least_squares(statistics: TensorStatistics) -> float:
    """The threshold that makes the mean squared rounding and clipping error smallest, by trial over the histogram."""
    levels = UNSIGNED if statistics.minimum >= 0 else SIGNED
    centres = (np.arange(BINS) + 0.5) * (statistics.limit / BINS)
    best = (np.inf, statistics.largest)
    for threshold in statistics.largest * np.linspace(1.0, 0.2, 81):
        step = threshold / levels
        rounded = np.clip(np.rint(centres / step), 0, levels) * step
        error = float((statistics.counts * (centres - rounded) ** 2).sum())
        if error < best[0]:
            best = (error, float(threshold))
    return max(best[1], SMALLEST)


METHODS = {"max": largest_value, "percentile99999": percentile, "mse": least_squares}
