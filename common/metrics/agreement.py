"""How much of what one network found another one found too: OKS or IoU, for a known person or for whole images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.decoding.predictions import Predictions
from common.metrics.oks import oks

# A person without an annotated segment area counts as 0.53 of the box: what mmpose uses for data sets without
# segments (datasets/aic, crowdpose); the mean in COCO is close to it.
BOX_TO_AREA = 0.53

Similarity = Callable[[Predictions, Predictions], np.ndarray]


@dataclass(frozen=True)
class Agreement:
    """overall: 0..1, what the gate looks at; per_instance: float64 [N], of each network input; joints: mean of each
    joint by name, or None; explanation: what was compared and how, in words.

    compared: how many things of either side `overall` is the mean of; 0: nothing was found, which proves nothing.
    """

    overall: float
    per_instance: np.ndarray
    compared: int
    joints: dict[str, float] | None
    explanation: str


def person_areas(instances: Sequence[Any]) -> np.ndarray:
    """Areas for OKS in square pixels, float64 [N]: COCO's annotated segment area, else 0.53 of the box."""
    return np.array(
        [instance.area if instance.area else BOX_TO_AREA * instance.box[2] * instance.box[3] for instance in instances],
        np.float64,
    )


def match_predictions(
    reference: Predictions, value: Predictions, count: int, similarity: Similarity, shown: float
) -> tuple[float, np.ndarray, int]:
    """Compare two lists of found things, input by input, when neither says which is which.

    count: N network inputs. similarity: gives [n, m] in 0..1 for the things of one input. Each side's things with a
    score of at least `shown` look for a partner, one to one and best in sum, among the other side's of at least half
    of `shown` (a score that moves across the limit is no loss); one without a partner counts 0.
    Returns (mean over all that looked, float64 [N]: the mean within each input, how many looked). Where neither side
    shows anything they agree: 1.
    """
    per_instance = np.ones(count, np.float64)
    sums, looked = 0.0, 0
    for index in range(count):
        sides = reference.of(index), value.of(index)
        terms = np.concatenate([_partners(sides[0], sides[1], similarity, shown),
                                _partners(sides[1], sides[0], similarity, shown)])  # fmt: skip
        if len(terms):
            per_instance[index] = terms.mean()
            sums, looked = sums + float(terms.sum()), looked + len(terms)
    return (sums / looked if looked else 1.0), per_instance, looked


def _partners(seeking: Predictions, offered: Predictions, similarity: Similarity, shown: float) -> np.ndarray:
    """The similarity of each shown thing of one side to its partner on the other; 0 without one."""
    seeking = seeking.select(seeking.scores >= shown)
    offered = offered.select(offered.scores >= shown / 2)
    found = np.zeros(len(seeking), np.float64)
    if len(seeking) and len(offered):
        from scipy.optimize import linear_sum_assignment  # here: it takes a moment, and top-down networks need no match

        table = similarity(seeking, offered)
        rows, columns = linear_sum_assignment(table, maximize=True)
        found[rows] = table[rows, columns]
    return found


def oks_of_pairs(first: Predictions, second: Predictions, sigmas: np.ndarray) -> np.ndarray:
    """OKS of every pair of people, float64 [n, m]; area: 0.53 of the mean of both boxes; all keypoints count."""
    areas = [found.boxes[:, 2].astype(np.float64) * found.boxes[:, 3] for found in (first, second)]
    rows, columns = np.indices((len(first), len(second))).reshape(2, -1)
    area = BOX_TO_AREA * (areas[0][rows] + areas[1][columns]) / 2
    terms, _ = oks(second.keypoints[columns], first.keypoints[rows], area, sigmas)
    return terms.reshape(len(first), len(second))
