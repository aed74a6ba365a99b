import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from common.decoding.assignment import assign


def test_the_cheapest_pairs_win_over_the_cheapest_first():
    np.testing.assert_array_equal(assign(np.array([[1.0, 2.0], [1.0, 9.0]])), [1, 0])


def test_among_equal_sums_each_row_takes_its_first_free_zero():
    np.testing.assert_array_equal(assign(np.array([[-3.0, -3.0, 97.0], [-2.0, -2.0, 98.0]])), [0, 1])
    np.testing.assert_array_equal(assign(np.zeros((4, 4))), [0, 1, 2, 3])


def test_a_row_that_was_served_moves_for_one_that_has_no_choice():
    # Rows 0 and 1 star columns 0 and 1; row 2 wants column 0 only: the search goes back along the last zero of a row.
    cost = np.array([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, 5.0, 5.0]])
    np.testing.assert_array_equal(assign(cost), [2, 1, 0])


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (0, 3)])
def test_small_ones(shape):
    cost = np.arange(np.prod(shape), dtype=float).reshape(shape)[:, ::-1]
    np.testing.assert_array_equal(assign(cost), np.full(shape[0], shape[1] - 1))


def test_more_rows_than_columns():
    with pytest.raises(ValueError, match="3 rows"):
        assign(np.zeros((3, 2)))


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(0, 6), st.integers(0, 9999), st.sampled_from(["whole", "real", "rounded"]))
def test_the_sum_is_the_least(rows, more, seed, kind):
    random = np.random.default_rng(seed)
    cost = random.normal(0, 2, (rows, rows + more))
    if kind == "whole":
        cost = np.round(cost)
    elif kind == "rounded":
        cost = np.round(np.abs(cost)) * 100 - random.random((rows, 1))
    columns = assign(cost)
    assert len(set(columns.tolist())) == rows
    best = cost[linear_sum_assignment(cost)].sum()
    assert cost[np.arange(rows), columns].sum() == pytest.approx(best, abs=1e-9)
