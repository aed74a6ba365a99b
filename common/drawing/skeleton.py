"""Skeletons on photographs: the region that a top-down network saw, and one person's keypoints on a picture.

Left limbs are blue with round joints, right limbs orange with square ones, the middle is yellow: told apart by colour
for most eyes, by brightness and shape for all. A joint with a low score is hollow and its limbs are faint.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from common.declarations.keypoints import KeypointSet
from common.preprocessing.preprocess import PIXELS_PER_SCALE, crop_matrix

# Okabe and Ito, "Color Universal Design" (2008): sky blue, orange, yellow; here in OpenCV's order, blue first.
SIDE_COLORS = {"left": (233, 180, 86), "right": (0, 159, 230), "middle": (66, 228, 240)}
CASING = (20, 20, 20)
LOW_SCORE = 0.2  # below it HRNet does not count a joint (TEST.IN_VIS_THRE)
FAINT = 0.4


def panel_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """Width and height in pixels of a panel with the network's aspect ratio and this longest side."""
    zoom = longest / max(width, height)
    return round(width * zoom), round(height * zoom)


def person_panel(image: np.ndarray, center: Any, scale: Any, size: tuple[int, int]) -> np.ndarray:
    """The region that the network saw, at the photograph's own detail: uint8 [height, width, 3] BGR.

    image: uint8 [H, W, 3] BGR. center, scale: of box_to_center_scale(). size: (width, height) of the panel.
    """
    import cv2

    matrix = crop_matrix(center, scale, size)
    shrink = float(scale[0]) * PIXELS_PER_SCALE / size[0]
    if shrink > 2:  # warpAffine reads four pixels for each one that it makes: smooth first what it would skip
        image = cv2.GaussianBlur(image, (0, 0), shrink / 3)
    return cv2.warpAffine(image, matrix, tuple(size), flags=cv2.INTER_LINEAR)


def points_on_panel(points: np.ndarray, center: Any, scale: Any, size: tuple[int, int]) -> np.ndarray:
    """Image pixels [K, 2 or more] to panel pixels, float64 [K, 2]."""
    matrix = crop_matrix(center, scale, size)
    return np.asarray(points, np.float64)[:, :2] @ matrix[:, :2].T + matrix[:, 2]


def side_of(name: str) -> str:
    """'left', 'right' or 'middle', by the keypoint's name."""
    return name.split("_")[0] if name.startswith(("left_", "right_")) else "middle"


def side_of_edge(keypoints: KeypointSet, first: int, second: int) -> str:
    """The side of a limb: that of its joints; a limb from left to right is in the middle."""
    sides = {side_of(keypoints.names[first]), side_of(keypoints.names[second])} - {"middle"}
    return sides.pop() if len(sides) == 1 else "middle"


def draw_skeleton(
    panel: np.ndarray, points: np.ndarray, scores: np.ndarray, keypoints: KeypointSet, line: int | None = None
) -> np.ndarray:
    """Draw one person on a copy of the panel.

    panel: uint8 [h, w, 3] BGR. points: [K, 2] in panel pixels, NaN for a joint that is left out. scores: [K], the
    heatmaps' peaks; below LOW_SCORE a joint is hollow and its limbs are faint. line: a limb's width in pixels; None:
    for a person as large as the panel.
    """
    import cv2

    sure = np.asarray(scores) >= LOW_SCORE
    if line is None:
        line = max(2, round(max(panel.shape[:2]) / 170))
    there = np.isfinite(points).all(axis=1)
    spots = [(round(float(x)), round(float(y))) for x, y in np.nan_to_num(points)]
    faint = panel.copy()
    edges = [edge for edge in keypoints.edges if there[edge[0]] and there[edge[1]]]
    solid = [edge for edge in edges if sure[edge[0]] and sure[edge[1]]]
    for first, second in edges:
        if (first, second) not in solid:
            color = SIDE_COLORS[side_of_edge(keypoints, first, second)]
            cv2.line(faint, spots[first], spots[second], color, max(1, line // 2), cv2.LINE_AA)
    drawn = cv2.addWeighted(faint, FAINT, panel, 1 - FAINT, 0)
    for first, second in solid:  # a dark casing first, so that a limb shows on sky as well as on a black coat
        cv2.line(drawn, spots[first], spots[second], CASING, line + 2, cv2.LINE_AA)
    for first, second in solid:
        color = SIDE_COLORS[side_of_edge(keypoints, first, second)]
        cv2.line(drawn, spots[first], spots[second], color, line, cv2.LINE_AA)
    for index in np.flatnonzero(there):
        _draw_joint(drawn, spots[index], side_of(keypoints.names[index]), line + 1, bool(sure[index]))
    return drawn


def _draw_joint(image: np.ndarray, spot: tuple[int, int], side: str, radius: int, filled: bool) -> None:
    import cv2

    color = SIDE_COLORS[side]
    if side == "right":
        low, high = (spot[0] - radius, spot[1] - radius), (spot[0] + radius, spot[1] + radius)
        if filled:
            cv2.rectangle(image, low, high, color, cv2.FILLED)
        cv2.rectangle(image, low, high, CASING if filled else color, 1, cv2.LINE_AA)
        return
    if filled:
        cv2.circle(image, spot, radius, color, cv2.FILLED, cv2.LINE_AA)
    cv2.circle(image, spot, radius, CASING if filled else color, 1, cv2.LINE_AA)
