"""Munkres' assignment algorithm, with its own choice among equally good assignments.

    cost [n, m]   -3 -3 97     every row gets a column of its own, at the least sum;
                  -2 -2 98     here (0, 1) and (1, 0) are equally good: the first free zero of each row wins

scipy.optimize.linear_sum_assignment finds the same sum. But grouping by tags rounds its costs, so that two people with
similar tags are a tie, and then it matters which optimum is taken: HigherHRNet's published code takes this one.
"""

from __future__ import annotations

import numpy as np


def assign(cost: np.ndarray) -> np.ndarray:
    """The column of each row, int64 [n], for cost [n, m] with n <= m: one to one, at the least sum.

    The order of search is that of the Python package munkres 1.x (Munkres 1957, in the six steps that R. Pilgrim
    wrote down): rows and columns are padded to a square with zeros, zeros are starred row by row.
    """
    rows, columns = cost.shape
    if rows > columns:
        raise ValueError(f"{rows} rows cannot have a column each of {columns}")
    table = np.zeros((columns, columns))
    table[:rows] = cost
    table -= table.min(axis=1, keepdims=True)
    starred = _star_greedily(table)
    while (starred < 0).any():
        _star_one_more(table, starred)
    return starred[:rows]


def _star_greedily(table: np.ndarray) -> np.ndarray:
    """Each row takes its first zero in a column that is still free: the column, or -1. int64 [n]."""
    starred = np.full(len(table), -1)
    free = np.ones(len(table), bool)
    for row, zeros in enumerate(table == 0):
        usable = zeros & free
        column = int(usable.argmax())
        if usable[column]:
            starred[row] = column
            free[column] = False
    return starred


def _star_one_more(table: np.ndarray, starred: np.ndarray) -> None:
    """Give one more row a column, moving others where needed. Changes both arrays.

    Zeros that no line covers are primed until one lies in a row without a star; from there stars and primes change
    places along the alternating path. Where no uncovered zero is left, the smallest uncovered value makes one.
    """
    primed = np.full(len(table), -1)
    row_free = np.ones(len(table), bool)
    column_free = np.ones(len(table), bool)
    column_free[starred[starred >= 0]] = False
    row = column = 0
    while True:
        found = _find_zero(table, row_free, column_free, row, column)
        if found is None:
            smallest = table[np.ix_(row_free, column_free)].min()
            table[~row_free] += smallest
            table[:, column_free] -= smallest
            row = column = 0
            continue
        row, column = found
        primed[row] = column
        if starred[row] < 0:
            break
        column = starred[row]
        row_free[row], column_free[column] = False, True
    column = primed[row]
    while True:
        owner = np.flatnonzero(starred == column)
        starred[row] = column
        if not len(owner):
            return
        row = owner[0]
        column = primed[row]


def _find_zero(
    table: np.ndarray, row_free: np.ndarray, column_free: np.ndarray, row: int, column: int
) -> tuple[int, int] | None:
    """An uncovered zero: in the first row, cyclically from `row`, that has one, the last, cyclically from `column`."""
    zeros = (table == 0) & row_free[:, None] & column_free
    rows = np.flatnonzero(zeros.any(axis=1))
    if not len(rows):
        return None
    first = int(rows[np.searchsorted(rows, row) % len(rows)])
    columns = np.flatnonzero(zeros[first])
    # Cyclically from `column` the last one is the nearest before it, or else the last of the row.
    return first, int(columns[np.searchsorted(columns, column) - 1])
