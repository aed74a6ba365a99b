"""COCO keypoint AP of predicted people, with a confidence interval from resampled images.

The point estimate is pycocotools' own. The interval needs the AP of hundreds of resampled sets; a resample is a
weight per image, so the matching is done once and only the precision-recall curve is redrawn.
"""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from common.annotations import Annotations
from common.imageset import Instance
from common.keypoints import KeypointSet
from common.oks import oks_nms
from common.preprocess import PIXELS_PER_SCALE

OKS_NMS_THRESHOLD = 0.9  # HRNet TEST.OKS_THRE
RESAMPLES = 300
SEED = 20170717
# COCOeval.summarize's order for iouType "keypoints".
_NAMES = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L")


@dataclass(frozen=True)
class Accuracy:
    """numbers: {"AP": ..., "AP50": ...}, None where the set has no such people. curve: for resampling."""

    numbers: dict[str, float | None]
    curve: Curve


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

    def average_precision(self, weights: np.ndarray) -> float | None:
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


def suppress_duplicates(
    instances: Sequence[Instance], people: np.ndarray, scores: np.ndarray, scales: np.ndarray, sigmas: np.ndarray
) -> list[int]:
    """Indices that OKS-NMS keeps, image by image (HRNet lib/dataset/coco.py evaluate; area = prod(scale * 200))."""
    by_image: dict[int, list[int]] = defaultdict(list)
    for index, instance in enumerate(instances):
        by_image[instance.image_id].append(index)
    areas = np.prod(np.asarray(scales, np.float64) * PIXELS_PER_SCALE, axis=1)
    kept: list[int] = []
    for indices in by_image.values():
        chosen = oks_nms(people[indices], scores[indices], areas[indices], sigmas, OKS_NMS_THRESHOLD)
        kept += [indices[index] for index in chosen]
    return kept


def measure(
    annotations: Annotations,
    instances: Sequence[Instance],
    people: np.ndarray,
    scores: np.ndarray,
    scales: np.ndarray,
    keypoints: KeypointSet,
) -> Accuracy:
    """Evaluate people against ground truth with pycocotools COCOeval "keypoints" (maxDets 20) after OKS-NMS at 0.9.

    people: [N, K, 3] in image pixels; scores: [N]; scales: [N, 2] of the crops. One category, all images of the set.
    """
    results = [
        {
            "image_id": instances[index].image_id,
            "category_id": annotations.category,
            "keypoints": people[index].astype(np.float64).reshape(-1).tolist(),
            "score": float(scores[index]),
        }
        for index in suppress_duplicates(instances, people, scores, scales, keypoints.sigmas)
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = COCO()
        truth.dataset = annotations.as_coco()
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.params.kpt_oks_sigmas = keypoints.sigmas
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # COCOeval says -1 where there is nobody to find.
    numbers = {name: None if value < 0 else float(value) for name, value in zip(_NAMES, evaluation.stats, strict=True)}
    return Accuracy(numbers, _curve(evaluation))


def _curve(evaluation: Any) -> Curve:
    """Collect the matches of area range "all" from COCOeval.evalImgs, as COCOeval.accumulate does."""
    parameters = evaluation.params
    matched = evaluation.evalImgs[: len(parameters.imgIds)]  # one category; its first area range is "all"
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
    order = np.argsort(-np.concatenate(scores), kind="mergesort")
    return Curve(
        image=np.concatenate(image)[order],
        hits=np.concatenate(hits, axis=1)[:, order],
        misses=np.concatenate(misses, axis=1)[:, order],
        truths=truths,
        recalls=np.asarray(parameters.recThrs),
    )


def resample(curves: Sequence[Curve], count: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """AP of each curve on resampled images, float64 [count, len(curves)]; all curves see the same resamples.

    The images are drawn with replacement (bootstrap); resamples without people are left out.
    """
    random = np.random.default_rng(seed)
    images = len(curves[0].truths)
    rows = []
    for _ in range(count):
        weights = np.bincount(random.integers(0, images, images), minlength=images)
        row = [curve.average_precision(weights) for curve in curves]
        if None not in row:
            rows.append(row)
    return np.array(rows, np.float64).reshape(-1, len(curves))


def interval(values: np.ndarray) -> list[float] | None:
    """The central 95 % of resampled values, [low, high]; None when there are none."""
    return [float(value) for value in np.percentile(values, [2.5, 97.5])] if len(values) else None
