"""How large the values of one blob are: a histogram of magnitudes that grows while samples stream through it."""

from __future__ import annotations

import numpy as np

BINS = 8192


class MagnitudeHistogram:
    """Counts of |x| in BINS equal bins over 0..limit; limit doubles (bins merge in pairs) when a larger value comes.

    Zeros are counted apart: after a ReLU they are many, every scale keeps them exactly, and they would hide the rest
    from a percentile or a divergence. Memory does not depend on the number of samples.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.limit = 0.0
        self.largest = 0.0
        self.zeros = 0

    def add(self, values: np.ndarray) -> None:
        """Count the magnitudes of float32 values of any shape. Raises ValueError on NaN or infinity."""
        magnitudes = np.abs(values, dtype=np.float32).reshape(-1)
        largest = float(magnitudes.max(initial=0.0))
        if not np.isfinite(largest):
            raise ValueError("NaN or infinity")
        if largest > self.limit:
            self._grow(largest)
        if largest == 0.0:
            self.zeros += magnitudes.size
            return
        self.largest = max(self.largest, largest)
        index = (magnitudes * np.float32(BINS / self.limit)).astype(np.int32)
        np.minimum(index, BINS - 1, out=index)
        counts = np.bincount(index, minlength=BINS)
        zeros = magnitudes.size - np.count_nonzero(magnitudes)
        counts[0] -= zeros
        self.counts += counts
        self.zeros += int(zeros)

    def _grow(self, largest: float) -> None:
        if self.limit == 0.0:
            # A power of two: the limit does not depend on which sample came first, once all are in.
            self.limit = float(2.0 ** np.ceil(np.log2(largest)))
            return
        while largest > self.limit:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)])
            self.limit *= 2.0

    @property
    def centers(self) -> np.ndarray:
        """The magnitudes in the middle of the bins: float64 [BINS]."""
        return (np.arange(BINS) + 0.5) * (self.limit / BINS)
