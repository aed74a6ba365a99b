"""Which magnitude an int8 blob should clip at: the calibration methods.

Each takes a MagnitudeHistogram and gives the clipping magnitude (> 0): what becomes 127. A blob that was always zero
gets 1, as any scale is right for it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from histogram import BINS, MagnitudeHistogram

LEVELS = 127  # ncnn's int8 is symmetric: -127..127
_STEPS = 100


def largest(histogram: MagnitudeHistogram) -> float:
    """Clip nothing."""
    return histogram.largest or 1.0


def percentile(histogram: MagnitudeHistogram, percent: float) -> float:
    """Clip what is above the given percentile of the magnitudes that are not zero."""
    total = histogram.counts.sum()
    if not total:
        return 1.0
    index = int(np.searchsorted(np.cumsum(histogram.counts), percent / 100.0 * total))
    return min(histogram.largest, (index + 1) * histogram.limit / BINS)


def squared_error(histogram: MagnitudeHistogram, clip: float) -> float:
    """Mean squared difference between the magnitudes and their int8 values when clipped at `clip`."""
    step = clip / LEVELS
    centers = histogram.centers
    restored = np.minimum(np.round(centers / step), LEVELS) * step
    # Within a bin the values spread evenly; a step below a bin's width would otherwise look free of error.
    width = histogram.limit / BINS
    return float(histogram.counts @ ((centers - restored) ** 2 + min(step, width) ** 2 / 12.0))


def least_squares(histogram: MagnitudeHistogram) -> float:
    """The clip with the least squared error, sought on a grid of 1/100 of the largest magnitude."""
    if not histogram.largest:
        return 1.0
    clips = histogram.largest * np.arange(1, _STEPS + 1) / _STEPS
    errors = [squared_error(histogram, clip) for clip in clips]
    return float(clips[int(np.argmin(errors))])


def divergence(histogram: MagnitudeHistogram) -> float:
    """The clip whose 128 levels lose the least information (Kullback-Leibler), as TensorRT and ncnn2table seek it.

    Source of the method: S. Migacz, "8-bit Inference with TensorRT", GTC 2017. 2048 bins, every eighth tried.
    """
    if not histogram.largest:
        return 1.0
    bins, levels = 2048, LEVELS + 1
    counts = _rebin(histogram, bins)
    best, best_clip = np.inf, histogram.largest
    for end in range(levels, bins + 1, 8):
        reference = counts[:end].copy()
        reference[-1] += counts[end:].sum()
        edges = np.arange(levels) * end // levels
        inside = counts[:end]
        total = np.add.reduceat(inside, edges)
        filled = np.add.reduceat((inside > 0).astype(np.float64), edges)
        level = np.repeat(total / np.maximum(filled, 1.0), np.diff(np.append(edges, end)))
        quantized = np.where(inside > 0, level, 0.0)
        distance = _kullback_leibler(reference, quantized)
        if distance < best:
            best, best_clip = distance, (end + 0.5) / bins * histogram.largest
    return float(min(best_clip, histogram.largest))


def _rebin(histogram: MagnitudeHistogram, bins: int) -> np.ndarray:
    """The counts over 0..largest in another number of bins: float64 [bins]."""
    index = np.minimum((histogram.centers / histogram.largest * bins).astype(np.int64), bins - 1)
    return np.bincount(index, weights=histogram.counts, minlength=bins)


def _kullback_leibler(reference: np.ndarray, quantized: np.ndarray) -> float:
    reference, quantized = reference / reference.sum(), quantized / max(quantized.sum(), 1e-30)
    used = reference > 0
    return float((reference[used] * np.log(reference[used] / np.maximum(quantized[used], 1e-12))).sum())


METHODS: dict[str, Callable[[MagnitudeHistogram], float]] = {
    "absmax": largest,
    "percentile_99.999": lambda histogram: percentile(histogram, 99.999),
    "percentile_99.99": lambda histogram: percentile(histogram, 99.99),
    "percentile_99.9": lambda histogram: percentile(histogram, 99.9),
    "mse": least_squares,
    "kl": divergence,
}
