"""COCO box AP over many classes, as pycocotools measures it, and its value on resampled images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from common.metrics.accuracy import Accuracy, Curve, coco_evaluation, curve_of, named_numbers

# COCOeval.summarize's order for iouType "bbox"; AR is that of 100 detections an image, COCO's AR100.
BOX_NAMES = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AR1", "AR10", "AR", "AR_S", "AR_M", "AR_L")


@dataclass(frozen=True)
class MeanPrecision:
    """The mean AP of the classes that have objects, each class by its own precision-recall curve."""

    curves: tuple[Curve, ...]

    @property
    def images(self) -> int:
        return self.curves[0].images

    def value(self, weights: np.ndarray) -> float | None:
        """The mean when image i is in the set weights[i] times. A class that loses all its objects does not count,
        as pycocotools has it; None without any object."""
        values = [value for curve in self.curves if (value := curve.value(weights)) is not None]
        return float(np.mean(values)) if values else None


def measure_boxes(truth: dict[str, Any], results: list[dict[str, Any]]) -> Accuracy:
    """COCOeval "bbox" (IoU 0.50:0.95, the 100 best of each class and image) over all images and classes of the truth.

    truth: as Objects.truth() gives it. results: COCO's list; those of other classes or images do not count.
    """
    images = {image["id"] for image in truth["images"]}
    categories = {category["id"] for category in truth["categories"]}
    counted = [entry for entry in results if entry["image_id"] in images and entry["category_id"] in categories]
    evaluation = coco_evaluation(truth, counted, "bbox")
    curves = tuple(_shortened(curve_of(evaluation, index)) for index in range(len(evaluation.params.catIds)))
    return Accuracy(named_numbers(evaluation, BOX_NAMES), "AP", MeanPrecision(curves))


def _shortened(curve: Curve) -> Curve:
    """Without what comes after the last hit: recall rises no more, so nothing of it is ever read. A detector's tail of
    weak boxes is most of its results, and each resample would go over it again."""
    hits = np.flatnonzero(curve.hits.any(axis=0))
    length = hits[-1] + 1 if len(hits) else 0
    return Curve(curve.image[:length], curve.hits[:, :length], curve.misses[:, :length], curve.truths, curve.recalls)
