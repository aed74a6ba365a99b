"""Object keypoint similarity: COCO's measure of how close two sets of keypoints of one person are."""

from __future__ import annotations

import numpy as np


def oks(
    prediction: np.ndarray,
    reference: np.ndarray,
    area: np.ndarray,
    sigmas: np.ndarray,
    visible: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compare keypoints with reference keypoints, person by person.

    prediction, reference: [N, K, 2 or more], x and y in image pixels first.
    area: [N], the person's area in square pixels. sigmas: [K].
    visible: bool [N, K] or None; only keypoints marked so count in the mean (COCO: v > 0). None: all count.
    Returns (per instance float64 [N], per joint terms float64 [N, K]), each 0..1, where a term is
    exp(-d^2 / (2 * area * (2 * sigma)^2)). An instance without a visible keypoint gets 0.
    Source: pycocotools/cocoeval.py computeOks, with its np.spacing(1) against division by zero.
    """
    prediction, reference = np.asarray(prediction, np.float64), np.asarray(reference, np.float64)
    squared = ((prediction[..., :2] - reference[..., :2]) ** 2).sum(axis=-1)
    variance = (2.0 * np.asarray(sigmas, np.float64)) ** 2
    area = np.asarray(area, np.float64).reshape(-1, 1) + np.spacing(1)
    terms = np.exp(-squared / (2.0 * area * variance))
    if visible is None:
        return terms.mean(axis=-1), terms
    visible = np.asarray(visible, bool)
    counted = visible.sum(axis=-1)
    return np.where(counted > 0, (terms * visible).sum(axis=-1) / np.maximum(counted, 1), 0.0), terms


def oks_nms(keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray, sigmas: np.ndarray,
            threshold: float = 0.9) -> list[int]:  # fmt: skip
    """Drop people that repeat a better scored one; returns the kept indices, best first.

    keypoints: [N, K, 2 or more] in image pixels; scores, areas: [N]. A person goes when its OKS with a kept
    one is above the threshold. The OKS between two predictions uses the mean of both areas.
    Source: HRNet lib/nms/nms.py oks_nms / oks_iou, TEST.OKS_THRE 0.9; areas there are prod(scale * 200).
    """
    remaining = list(np.argsort(-np.asarray(scores), kind="stable"))
    areas = np.asarray(areas, np.float64)
    kept: list[int] = []
    while remaining:
        best = int(remaining.pop(0))
        kept.append(best)
        if not remaining:
            break
        others = np.asarray(remaining)
        reference = np.broadcast_to(keypoints[best], keypoints[others].shape)
        overlap, _ = oks(keypoints[others], reference, (areas[best] + areas[others]) / 2, sigmas)
        remaining = [int(index) for index in others[overlap <= threshold]]
    return kept
