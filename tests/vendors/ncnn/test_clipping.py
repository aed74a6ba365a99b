"""Calibration methods on distributions whose best clip is known."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

_spec = importlib.util.spec_from_file_location("ncnn_conftest", Path(__file__).parent / "conftest.py")
_spec.loader.exec_module(importlib.util.module_from_spec(_spec))

from clipping import METHODS, divergence, largest, least_squares, percentile, squared_error  # noqa: E402
from histogram import BINS, MagnitudeHistogram  # noqa: E402


def histogram_of(*arrays: np.ndarray) -> MagnitudeHistogram:
    histogram = MagnitudeHistogram()
    for array in arrays:
        histogram.add(np.asarray(array, np.float32))
    return histogram


def normal_quantiles(count: int) -> np.ndarray:
    """A standard normal sample without chance: the inverse of its distribution at even steps."""
    grid = np.linspace(-8, 8, 200_001)
    cumulative = np.cumsum(np.exp(-(grid**2) / 2))
    return np.interp((np.arange(count) + 0.5) / count, cumulative / cumulative[-1], grid)


def test_an_outlier_moves_absmax_only():
    values = normal_quantiles(100_000)
    clean, dirty = histogram_of(values), histogram_of(values, np.array([60.0]))
    assert largest(clean) == pytest.approx(np.abs(values).max(), rel=1e-6)
    assert largest(dirty) == 60.0
    for method in ("percentile_99.99", "percentile_99.9", "kl"):
        assert METHODS[method](dirty) < 8.0, method
    # One value in 100,000 costs (60 - clip)^2 once, finer steps gain (step^2)/12 on all: the balance is in between.
    clip = least_squares(dirty)
    assert 8.0 < clip < 60.0
    assert squared_error(dirty, clip) < min(squared_error(dirty, 60.0), squared_error(dirty, 8.0))


def test_percentile_of_a_uniform_distribution():
    histogram = histogram_of(np.linspace(0.0, 2.0, 100_001)[1:])
    assert percentile(histogram, 99.0) == pytest.approx(1.98, abs=2 * histogram.limit / BINS)


def test_zeros_do_not_count():
    values = np.linspace(0.0, 2.0, 10_001)[1:]
    sparse = histogram_of(np.concatenate([values, np.zeros(10_000_000 // 100)]))
    assert percentile(sparse, 99.0) == percentile(histogram_of(values), 99.0)
    assert sparse.zeros == 100_000 and sparse.counts.sum() == 10_000


def test_least_squares_clips_where_the_error_is_least():
    # For a normal distribution at 8 bits the least squared error lies near 4 standard deviations (Banner et al.,
    # "Post training 4-bit quantization of convolutional networks", NeurIPS 2019: alpha* = 3.92 sigma for 8 bits).
    histogram = histogram_of(normal_quantiles(400_000), np.array([12.0]))
    assert 3.5 < least_squares(histogram) < 4.4


def test_squared_error_of_rounding_is_a_twelfth_of_the_squared_step():
    histogram = histogram_of(np.random.default_rng(0).uniform(0, 1, 200_000))
    total = squared_error(histogram, 1.0) / 200_000
    assert total == pytest.approx((1 / 127) ** 2 / 12, rel=0.05)


def test_divergence_keeps_a_uniform_distribution_whole():
    histogram = histogram_of(np.linspace(0.001, 3.0, 300_000))
    assert divergence(histogram) > 2.9


def test_order_of_samples_does_not_matter():
    parts = [np.linspace(0.1, size, 5000) for size in (1.0, 900.0, 3.0, 40.0)]
    first, second = histogram_of(*parts), histogram_of(*parts[::-1])
    assert first.limit == second.limit == 1024.0 and first.largest == second.largest
    # Merging bins rounds a value once more than filling the wide bins directly: neighbours may differ by one.
    assert np.abs(np.cumsum(first.counts) - np.cumsum(second.counts)).max() <= 20


def test_a_blob_of_zeros_gets_a_clip():
    histogram = histogram_of(np.zeros(100))
    assert all(method(histogram) == 1.0 for method in METHODS.values())


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        histogram_of(np.array([1.0, np.nan]))
