r"""PCKh, the metric of MPII: which share of the joints lies within half a head size of the truth.

predicted o
           \  distance / head size <= 0.5: a hit     head size = 0.6 * diagonal of the annotated head box
   truth    x
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from common.declarations.keypoints import MPII16
from common.decoding.predictions import Predictions
from common.metrics.accuracy import Accuracy

if TYPE_CHECKING:
    from common.datasets.imageset import Instance
    from common.datasets.mpii import GroundTruth

THRESHOLD = 0.5
# What HRNet prints as Mean@0.1 is entry 11 of the thresholds 0.00, 0.01, ...: 0.11. The published numbers are those.
STRICT_THRESHOLD = 0.11
NOT_COUNTED = ("pelvis", "thorax")  # HRNet masks joints 6 and 7 in the mean
_GROUPS = {"Head": "head_top", "Shoulder": "shoulder", "Elbow": "elbow", "Wrist": "wrist", "Hip": "hip",
           "Knee": "knee", "Ankle": "ankle"}  # fmt: skip


@dataclass(frozen=True)
class PckStatistic:
    """The mean PCKh of a set in which image i occurs weights[i] times.

    hits, visible: int64 [images], counted joints within the threshold, and all counted joints, of each image.
    """

    hits: np.ndarray
    visible: np.ndarray

    @property
    def images(self) -> int:
        return len(self.visible)

    def value(self, weights: np.ndarray) -> float | None:
        """The share of hits, 0..1; None for a set without a visible joint."""
        total = int((self.visible * weights).sum())
        return float((self.hits * weights).sum()) / total if total else None


def measure_pckh(ground_truth: GroundTruth, instances: Sequence[Instance], predictions: Predictions) -> Accuracy:
    """Measure keypoints [P, 16, 3] in image pixels (counted from 0) of MPII people, over every annotated person.

    An annotated person without a prediction misses all joints. Numbers are shares, 0..1: "PCKh" (the mean of all
    joints but pelvis and thorax, each visible joint counting the same), "PCKh@0.1", and the mean of the left and the
    right one per joint. Source: HRNet lib/dataset/mpii.py evaluate.
    """
    rows = {row: index for index, row in enumerate(ground_truth.rows)}
    # 1-based, as MATLAB counts pixels and the truth is stored.
    found = np.full((len(rows), MPII16.count, 2), np.inf)
    for index, keypoints in zip(predictions.instance, predictions.keypoints, strict=True):
        found[rows[instances[int(index)].annotation_id]] = keypoints[:, :2].astype(np.float64) + 1.0
    distance = np.linalg.norm(found - ground_truth.joints, axis=2) / ground_truth.head_sizes[:, None]
    visible = ground_truth.visible
    hits = (distance <= THRESHOLD) & visible
    counted = np.array([name not in NOT_COUNTED for name in MPII16.names])
    numbers: dict[str, float | None] = {
        "PCKh": _share(hits[:, counted], visible[:, counted]),
        "PCKh@0.1": _share(((distance <= STRICT_THRESHOLD) & visible)[:, counted], visible[:, counted]),
    }
    for group, ending in _GROUPS.items():
        members = [index for index, name in enumerate(MPII16.names) if name.endswith(ending)]
        shares = [_share(hits[:, [member]], visible[:, [member]]) for member in members]
        numbers[group] = None if None in shares else float(np.mean(shares))
    statistic = PckStatistic(
        _per_image(ground_truth, hits[:, counted].sum(axis=1)),
        _per_image(ground_truth, visible[:, counted].sum(axis=1)),
    )
    return Accuracy(numbers, "PCKh", statistic)


def _share(hits: np.ndarray, visible: np.ndarray) -> float | None:
    return float(hits.sum()) / int(visible.sum()) if visible.any() else None


def _per_image(ground_truth: GroundTruth, counts: np.ndarray) -> np.ndarray:
    return np.bincount(ground_truth.image_of, counts, len(ground_truth.files)).astype(np.int64)
