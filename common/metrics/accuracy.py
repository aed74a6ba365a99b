"""COCO AP with a confidence interval from resampled images.

The point estimate is pycocotools' own. The interval needs the AP of hundreds of resampled sets; a resample is a
weight per image, so the matching is done once and only the precision-recall curve is redrawn.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from common.declarations.keypoints import KeypointSet

if TYPE_CHECKING:
    from pycocotools.cocoeval import COCOeval

RESAMPLES = 300
SEED = 20170717
# COCOeval.summarize's order for iouType "keypoints".
KEYPOINT_NAMES = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L")


class Statistic(Protocol):
    """A metric that can be computed again on a resampled set. images: how many images the set has."""

    images: int

    def value(self, weights: np.ndarray) -> float | None:
        """The metric when image i is in the set weights[i] times (int [images]); None when nothing is to be found."""


@dataclass(frozen=True)
class Accuracy:
    """numbers: {"AP": ..., "AP50": ...}, None where the set has nothing of that kind. metric: the one that counts.

    statistic: that one, for resampling.
    """

    numbers: dict[str, float | None]
    metric: str
    statistic: Statistic


@dataclass(frozen=True)
class Curve:
    """All that a precision-recall curve needs, once people are matched.

    image: int [D], the index of each detection's image; hits, misses: bool [T, D] for T OKS thresholds, detections
    in falling order of score; truths: int [M], countable people per image.
    """

    image: np.ndarray
    hits: np.ndarray
    misses: np.ndarray
    truths: np.ndarray
    recalls: np.ndarray

    @property
    def images(self) -> int:
        return len(self.truths)

    def value(self, weights: np.ndarray) -> float | None:
        """AP over all thresholds when image i is in the set weights[i] times; None without people.

        Source: pycocotools/cocoeval.py accumulate (101 recall points, precision made monotonic from the right).
        """
        people = float((self.truths * weights).sum())
        if people == 0:
            return None
        weight = weights[self.image].astype(np.float64)
        true_positives = np.cumsum(self.hits * weight, axis=1)
        false_positives = np.cumsum(self.misses * weight, axis=1)
        found = true_positives + false_positives
        precision = np.divide(true_positives, found, out=np.zeros_like(found), where=found > 0)
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        total = 0.0
        for row, reached in zip(precision, true_positives / people, strict=True):
            index = np.searchsorted(reached, self.recalls, side="left")
            total += row[index[index < len(row)]].sum()
        return total / (len(precision) * len(self.recalls))


def coco_evaluation(truth: dict[str, Any], results: list[dict[str, Any]], kind: str, **parameters: Any) -> COCOeval:
    """Run COCOeval, quietly: truth as COCO's dictionary, results as COCO's list, kind "keypoints" or "bbox".

    parameters: of COCOeval.params, kpt_oks_sigmas for one. Everything of both must be in the truth's images.
    """
    from pycocotools.coco import COCO  # here: it takes a moment to import, and not every stage measures
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        expected = COCO()
        expected.dataset = truth
        expected.createIndex()
        if results:
            found = expected.loadRes(results)
        else:  # loadRes looks at the first entry to learn the kind
            found = COCO()
            found.dataset = {"images": truth["images"], "annotations": [], "categories": truth["categories"]}
            found.createIndex()
        evaluation = COCOeval(expected, found, kind)
        for name, value in parameters.items():
            setattr(evaluation.params, name, value)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def named_numbers(evaluation: COCOeval, names: Sequence[str]) -> dict[str, float | None]:
    """COCOeval.stats by name; it says -1 where there is nothing to find, which is None here."""
    return {name: None if value < 0 else float(value) for name, value in zip(names, evaluation.stats, strict=True)}


def measure_keypoints(truth: dict[str, Any], results: list[dict[str, Any]], keypoints: KeypointSet) -> Accuracy:
    """COCOeval "keypoints" (maxDets 20) over all images of the truth, for one category of people."""
    evaluation = coco_evaluation(truth, results, "keypoints", kpt_oks_sigmas=keypoints.sigmas)
    return Accuracy(named_numbers(evaluation, KEYPOINT_NAMES), "AP", curve_of(evaluation))


def curve_of(evaluation: COCOeval, category_index: int = 0) -> Curve:
    """Collect the matches of one category, area range "all", from COCOeval.evalImgs, as COCOeval.accumulate does."""
    parameters = evaluation.params
    # evalImgs goes by category, then area range, then image; the first area range is "all".
    first = category_index * len(parameters.areaRng) * len(parameters.imgIds)
    matched = evaluation.evalImgs[first : first + len(parameters.imgIds)]
    most = parameters.maxDets[-1]
    scores, image, hits, misses = [], [], [], []
    truths = np.zeros(len(matched), np.int64)
    for index, entry in enumerate(matched):
        if entry is None:  # neither people nor results in this image
            continue
        truths[index] = int((np.asarray(entry["gtIgnore"]) == 0).sum())
        found = np.asarray(entry["dtMatches"])[:, :most] != 0
        counted = ~np.asarray(entry["dtIgnore"], bool)[:, :most]
        scores.append(np.asarray(entry["dtScores"], np.float64)[:most])
        image.append(np.full(len(scores[-1]), index))
        hits.append(found & counted)
        misses.append(~found & counted)
    thresholds = len(parameters.iouThrs)
    nothing = np.zeros((thresholds, 0), bool)
    order = np.argsort(-np.concatenate([*scores, np.zeros(0)]), kind="mergesort")
    return Curve(
        image=np.concatenate([*image, np.zeros(0, np.int64)])[order],
        hits=np.concatenate([*hits, nothing], axis=1)[:, order],
        misses=np.concatenate([*misses, nothing], axis=1)[:, order],
        truths=truths,
        recalls=np.asarray(parameters.recThrs),
    )


def resample(statistics: Sequence[Statistic], count: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Each statistic on resampled images, float64 [count, len(statistics)]; all of them see the same resamples.

    The images are drawn with replacement (bootstrap); resamples with nothing to be found are left out.
    """
    random = np.random.default_rng(seed)
    images = statistics[0].images
    rows = []
    for _ in range(count):
        weights = np.bincount(random.integers(0, images, images), minlength=images)
        row = [statistic.value(weights) for statistic in statistics]
        if None not in row:
            rows.append(row)
    return np.array(rows, np.float64).reshape(-1, len(statistics))


def interval(values: np.ndarray) -> list[float] | None:
    """The central 95 % of resampled values, [low, high]; None when there are none."""
    return [float(value) for value in np.percentile(values, [2.5, 97.5])] if len(values) else None
