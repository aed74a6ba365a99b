"""A whole photograph with all that a network found in it: people as skeletons, objects as boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.declarations.keypoints import KeypointSet, keypoint_set
from common.declarations.spec import ModelSpec
from common.decoding.predictions import Predictions
from common.drawing.evidence import Evidence, Pair
from common.drawing.skeleton import CASING, draw_skeleton, panel_size
from common.preprocessing.preprocess import read_image

MOST_SHOWN = 50  # the best ones: more hide the photograph, and random weights find hundreds
LONGEST_LIMB = 170  # pixels of a person's longer side per pixel of a limb's width
BOLDEST = 1.6  # a limb's width goes by the person, so a larger panel alone makes it no thicker than this
# Okabe and Ito (2008) in OpenCV's order, blue first; a class always has the same one.
COLORS = ((0, 159, 230), (233, 180, 86), (115, 158, 0), (66, 228, 240), (178, 114, 0), (0, 94, 213), (167, 121, 204))


def image_pair(evidence: Evidence, index: int, longest: int) -> Pair:
    """What float and the chip find in one photograph; longest: the panels' longer side in pixels."""
    file = evidence.described[index]["file"]
    photograph = read_image(evidence.image_folder / file)
    spec = evidence.cell.spec
    limit = shown_score(spec)
    shown = [found.select(found.scores >= limit) for found in evidence.found(index)]
    keypoints = keypoint_set(spec.keypoints) if spec.keypoints else None
    labels = evidence.task.labels() if spec.task == "detection" else None
    panel = fit_panel(photograph, longest)
    zoom = panel.shape[1] / photograph.shape[1], panel.shape[0] / photograph.shape[0]
    drawn = [draw_found(panel, best_of(found), zoom, keypoints, labels) for found in shown]
    words = counts_in_words([len(found) for found in shown], limit, "people" if keypoints else "objects")
    return Pair(index, file, evidence.agreement(index), *drawn, words)


def shown_score(spec: ModelSpec) -> float:
    """The least score of what is drawn: what people would call found."""
    return spec.decode.shown_score if spec.task == "detection" else spec.decode.detection_threshold


def fit_panel(photograph: np.ndarray, longest: int) -> np.ndarray:
    """The photograph with this longer side: uint8 [h, w, 3] BGR, at least one pixel each way."""
    import cv2

    height, width = photograph.shape[:2]
    size = tuple(max(1, side) for side in panel_size(width, height, longest))
    shrinks = longest < max(height, width)
    return cv2.resize(photograph, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def best_of(found: Predictions) -> Predictions:
    """The best MOST_SHOWN, the best last: what is drawn later lies on top."""
    return found.select(np.argsort(-found.scores, kind="stable")[:MOST_SHOWN][::-1])


def counts_in_words(counts: Sequence[int], limit: float, what: str) -> str:
    """How many are shown on either side, as one line of text."""
    words = f"{what} with a score of {limit:g} or more: {counts[0]} by float, {counts[1]} by the chip"
    return f"{words}; the best {MOST_SHOWN} are drawn" if max(counts) > MOST_SHOWN else words


def draw_found(
    panel: np.ndarray,
    found: Predictions,
    zoom: tuple[float, float],
    keypoints: KeypointSet | None,
    labels: Sequence[str] | None,
    weight: float = 1.0,
) -> np.ndarray:
    """Draw people and objects on a copy of the panel, in their order.

    zoom: panel pixels per image pixel in x and y. labels: class names, for boxes with their words; None: no boxes.
    weight: how much thicker the lines are, and larger the letters, than on the report's panels.
    """
    drawn = panel.copy()
    corners = np.concatenate([found.boxes[:, :2], found.boxes[:, :2] + found.boxes[:, 2:]], axis=1)
    corners = np.rint(corners.astype(np.float64) * (*zoom, *zoom)).astype(int)
    if labels is not None:
        for box, label, score in zip(corners, found.classes, found.scores, strict=True):
            draw_box(drawn, box, label_in_words(labels, int(label), float(score)), COLORS[label % len(COLORS)],
                     weight)  # fmt: skip
    if keypoints is not None:
        for person in found.keypoints:
            there = person[:, 2] > 0  # a joint that no candidate was found for has no place
            if not there.any():
                continue
            spots = np.where(there[:, None], person[:, :2].astype(np.float64) * zoom, np.nan)
            extent = float(np.ptp(spots[there], axis=0).max())
            line = int(np.clip(round(min(weight, BOLDEST) * extent / LONGEST_LIMB), 1, round(4 * weight)))
            drawn = draw_skeleton(drawn, spots, person[:, 2], keypoints, line)
    return drawn


def label_in_words(labels: Sequence[str], label: int, score: float) -> str:
    """'dog 0.87'; OpenCV's letters are ASCII, so other names are given by their number."""
    name = labels[label]
    return f"{name if name.isascii() else f'class {label}'} {score:.2f}"


def draw_box(
    image: np.ndarray, box: Sequence[int], words: str, color: tuple[int, int, int], weight: float = 1.0
) -> None:
    """One box [x1, y1, x2, y2] with its words at the top left, inside the image where the box leaves it.

    weight: see draw_found().
    """
    import cv2

    line = max(1, round(2 * weight))
    low, high = (int(box[0]), int(box[1])), (int(box[2]), int(box[3]))
    cv2.rectangle(image, low, high, CASING, line + 2)  # dark below, so that it shows on any ground
    cv2.rectangle(image, low, high, color, line)
    font, size, pen = cv2.FONT_HERSHEY_SIMPLEX, 0.38 * max(1.0, weight), max(1, round(0.7 * weight))
    (width, height), below = cv2.getTextSize(words, font, size, pen)
    x = int(np.clip(low[0], 0, max(0, image.shape[1] - width - 4)))
    y = int(np.clip(low[1], height + below + 2, max(height + below + 2, image.shape[0])))
    cv2.rectangle(image, (x, y - height - below - 2), (x + width + 4, y), color, cv2.FILLED)
    cv2.putText(image, words, (x + 2, y - below), font, size, CASING, pen, cv2.LINE_AA)
