"""The parts that need no toolkit: ranges, the search for layers, the rewritten graph."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

_spec = importlib.util.spec_from_file_location("rk3588_conftest_search", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
sys.path.append(str(_conftest.VENDOR))  # last: other vendor folders have files of the same names

from graph_preparation import prepare  # noqa: E402
from layer_search import Run, choose, measure_runs, output_error  # noqa: E402
from range_search import BINS, best_range, histogram  # noqa: E402


def quantised(values: np.ndarray, low: float, high: float) -> np.ndarray:
    step = (high - low) / 255
    zero = np.clip(np.round(-low / step) - 128, -128, 127)
    return (np.clip(np.round(values / step) + zero, -128, 127) - zero) * step


def test_the_range_of_least_squared_error_beats_the_largest_value_and_its_neighbours():
    values = np.random.default_rng(0).standard_normal(200_000)
    values[:3] = [14, -9, 12]
    low, high = float(values.min()), float(values.max())
    best = best_range(histogram(values, low, high), low, high)

    def error(ends: tuple[float, float]) -> float:
        return float(((quantised(values, *ends) - values) ** 2).mean())

    assert error(best) < 0.7 * error((low, high))
    assert error(best) <= min(error((best[0] * factor, best[1] * factor)) for factor in (0.7, 1.4))


def test_the_ends_of_the_histogram_count():
    counts = histogram(np.array([-9.0, 0.0, 1.0, 9.0]), 0, 1)
    assert counts.sum() == 4 and counts[0] == 2 and counts[BINS - 1] == 2


def test_one_sided_values_keep_zero_exact():
    values = np.abs(np.random.default_rng(1).standard_normal(10_000))
    low, high = best_range(histogram(values, 0.0, float(values.max())), 0.0, float(values.max()))
    assert low == 0.0 and 0 < high <= values.max()


def test_the_search_finds_the_layers_that_hurt_within_its_trials():
    harm = np.full(50, 0.001)
    harm[[7, 31]] = [0.5, 0.2]
    asked = []

    def alone(start: int, stop: int) -> float:
        asked.append((start, stop))
        return float(harm[start:stop].sum())

    runs = measure_runs(50, alone, 24)
    assert len(asked) <= 24 and [run.start for run in runs] == [0, *(run.stop for run in runs[:-1])]
    assert runs[-1].stop == 50
    chosen = choose(runs, 10, 0.06)
    assert {7, 31} <= set(chosen) and len(chosen) <= 10


def test_no_more_layers_than_allowed_and_none_without_need():
    runs = [Run(0, 3, 0.9), Run(3, 4, 0.1), Run(4, 5, 0.0001)]
    assert choose(runs, 1, 0.01) == [3]
    assert choose(runs, 5, 2.0) == []
    assert choose(runs, 5, 0.05) == [0, 1, 2, 3]
    assert choose(runs, 0, 0.0) == []


@pytest.mark.parametrize("count", [1, 2, 5])
def test_small_networks_are_measured_layer_by_layer(count):
    runs = measure_runs(count, lambda start, stop: float(stop - start), 40)
    assert [(run.start, run.stop) for run in runs] == [(index, index + 1) for index in range(count)]


def test_the_error_of_outputs():
    exact = [np.ones((2, 3, 4, 4), np.float32)]
    assert output_error(exact, exact) == pytest.approx(0, abs=2e-12)
    assert output_error(exact, [exact[0] * 1.1]) == pytest.approx(0.01, rel=1e-3)


def test_the_prepared_graph_computes_the_same_with_fewer_nodes(tmp_path):
    original = _conftest.network()
    onnx.save(original, tmp_path / "a.onnx")
    changes, layers = prepare(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert layers == 7
    assert [change.split(":")[0] for change in changes] == ["norm", "up"]
    prepared = onnx.load(tmp_path / "b.onnx")
    onnx.checker.check_model(prepared)
    operators = [node.op_type for node in prepared.graph.node]
    assert "BatchNormalization" not in operators and len(operators) == len(original.graph.node) - 1
    assert not any(attribute.name == "group" for node in prepared.graph.node for attribute in node.attribute)
    sample = {"image": np.random.default_rng(2).standard_normal((1, *_conftest.SHAPE)).astype(np.float32)}
    pair = [onnxruntime.InferenceSession(str(tmp_path / f"{name}.onnx")).run(None, sample) for name in "ab"]
    for before, after in zip(*pair, strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)
