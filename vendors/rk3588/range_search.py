"""The range of int8 that gives the least squared error on a histogram of values.

A network's tensors have rare large values: a range that covers them leaves few of the 256 steps for the rest.
"""

from __future__ import annotations

import numpy as np

BINS = 2048
LEVELS = 255
FACTORS = np.linspace(1.0, 0.12, 45)  # of the range seen: how far it is narrowed at most


def centres(low: float, high: float) -> np.ndarray:
    """The middles of BINS equal parts of [low, high]: float64 [BINS]."""
    return low + (np.arange(BINS) + 0.5) * ((high - low) / BINS)


def histogram(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """How many values fall into each of BINS equal parts of [low, high]: float64 [BINS]; the rest count at the ends."""
    places = ((values.ravel() - low) * (BINS / (high - low))).astype(np.int32)
    return np.bincount(np.clip(places, 0, BINS - 1), minlength=BINS).astype(np.float64)


def best_range(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """The range within [low, high] whose 256 steps give the least squared error. counts: float64 [BINS]."""
    values = centres(low, high)

    def error(candidate: tuple[float, float]) -> float:
        step = (candidate[1] - candidate[0]) / LEVELS
        zero = np.clip(np.round(-candidate[0] / step) - 128, -128, 127)
        rounded = (np.clip(np.round(values / step) + zero, -128, 127) - zero) * step
        return float(counts @ (rounded - values) ** 2)

    best = min(((low * factor, high * factor) for factor in FACTORS), key=error)
    for _ in range(2):
        best = min(((best[0], high * factor) for factor in FACTORS), key=error)
        best = min(((low * factor, best[1]) for factor in FACTORS), key=error)
    return best
