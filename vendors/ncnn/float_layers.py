"""Which layers stay float: the most sensitive ones, one after the other, and then the whole tail.

Limits of number and size hold for what is chosen here, wider ones for the tail; layers that the user keeps float come
on top. They are there so that the artifact remains an int8 one: float16 weights alone are half of the float files.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from failure import quiet
from scale_table import ScaleTable
from tqdm import tqdm

if TYPE_CHECKING:  # it needs the ncnn package
    from scale_search import Judge

GOOD_ENOUGH = 0.001  # relative squared error of the output (30 dB) that is aimed at
BETTER = 0.25  # and at most this part of the error before: an output that is good already must get better, too
SENSITIVE_SHARE = 0.2  # at most this share of the layers stays float because it is sensitive
TAIL_SHARE = 0.5  # together with the tail
SIZE_LIMIT = 0.33  # of the float files: what the int8 files may reach when sensitive layers stay float
TAIL_SIZE_LIMIT = 0.43  # likewise, together with the tail
TRIES = 40  # groups of layers that are tried: each costs the inferences of one measurement


@dataclass
class FloatLayers:
    """kept: {layer: {"alone", "before", "after"}}, the errors that speak for it; error: of the network then."""

    kept: dict[str, dict[str, float]]
    error: float


def without(table: ScaleTable, names: Sequence[str]) -> ScaleTable:
    """The same table with the layers `names` left float."""
    for name in names:
        table = table.without(name)
    return table


def limit(count: int, share: float) -> int:
    """How many of `count` layers a share of them is."""
    return int(np.ceil(share * count))


def sensitive_layers(
    judge: Judge,
    table: ScaleTable,
    biases: Mapping[str, np.ndarray],
    alone: Mapping[str, float],
    error: float,
    float_size: int,
    allowed: int,
) -> FloatLayers:
    """Leave the most harmful layers out of the table, as long as the measured error falls.

    alone: {layer: relative error when it alone is int8}. error: of `table` as it is. float_size: bytes of the float
    files. allowed: how many layers at most. A large network's layers are tried in small groups. A step that does not
    help is taken back and the next one is tried.
    """
    found = FloatLayers({}, error)
    goal = min(GOOD_ENOUGH, BETTER * error)
    names = sorted(alone, key=lambda name: -alone[name])
    size = max(1, -(-allowed // (TRIES // 2)))
    groups = [names[start : start + size] for start in range(0, min(len(names), size * TRIES), size)]
    for group in tqdm(groups, desc="float layers", disable=quiet(), file=sys.stderr):
        group = group[: allowed - len(found.kept)]
        if found.error <= goal or not group or len(found.kept) + len(group) >= len(names):
            break
        attempt = without(table, group)
        if judge.size(attempt) > SIZE_LIMIT * float_size:
            continue
        measured = judge.error(attempt, biases)
        if measured < (1 - 0.01 * len(group)) * found.error:
            for name in group:
                found.kept[name] = {"alone": alone[name], "before": found.error, "after": measured}
            table, found.error = attempt, measured
    return found


def tail_layers(
    names: Sequence[str], kept: Sequence[str], allowed: int, fits: Callable[[list[str]], bool]
) -> list[str]:
    """The last layers, without a gap, as many as the limits allow; those that are in `kept` already are left out.

    names: all layers that could be int8, in the graph's order. allowed: together with `kept`. fits: whether the
    artifact stays small enough with these layers float as well.
    """
    candidates = [name for name in reversed(names) if name not in kept]
    fitting, most = 0, max(0, min(allowed - len(kept), len(candidates) - 1))
    while fitting < most:  # the more layers, the larger: bisection
        middle = (fitting + most + 1) // 2
        if fits(candidates[:middle]):
            fitting = middle
        else:
            most = middle - 1
    return candidates[:fitting][::-1]
