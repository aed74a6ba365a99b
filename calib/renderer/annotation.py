"""COCO's annotations of what was drawn: visibility flags, boxes, areas (COCO data format, keypoint detection task)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from calib.renderer.figure import LABELS
from calib.renderer.skeleton import FACE, Skeleton

# The names' order and the 1-based skeleton are those of COCO's person_keypoints_*.json.
KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
SKELETON = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10), (9, 11),
    (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip
CATEGORY = {
    "id": 1,
    "name": "person",
    "supercategory": "person",
    "keypoints": list(KEYPOINTS),
    "skeleton": [list(edge) for edge in SKELETON],
}
UNLABELLED, HIDDEN, VISIBLE = 0, 1, 2

# A face keypoint turned farther away than this cosine cannot be placed even by guessing: COCO leaves it unlabelled.
FACE_GUESSABLE = -0.35
# A hidden joint is guessed from what is seen beside it; farther than this share of body height from the visible person
# nobody could place it.
GUESS_REACH = 0.05


def carriers(keypoint: str) -> set[int]:
    """The parts whose pixels may show this keypoint; another label on it means that it is hidden."""
    if keypoint in FACE:
        return {LABELS["head"]}
    side, joint = keypoint.split("_")
    names = {
        "shoulder": ("trunk", f"{side}_upper_arm"),
        "elbow": (f"{side}_upper_arm", f"{side}_forearm"),
        "wrist": (f"{side}_forearm",),
        "hip": ("trunk", f"{side}_thigh"),
        "knee": (f"{side}_thigh", f"{side}_shin"),
        "ankle": (f"{side}_shin",),
    }[joint]
    return {LABELS[name] for name in names}


def label_keypoints(skeleton: Skeleton, labels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """COCO's x, y, v for every keypoint: float64 [17, 3], zeros where v is 0.

    skeleton: points in the picture. labels: uint8 HxW, LABELS of this person as if alone. mask: bool HxW, the pixels
    of this person that nothing in front of it hides.
    """
    height, width = mask.shape
    reach = max(3, int(GUESS_REACH * skeleton.height))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    near = cv2.dilate(mask.astype(np.uint8), kernel) > 0
    rows = np.zeros((len(KEYPOINTS), 3))
    for row, name in zip(rows, KEYPOINTS, strict=True):
        x, y = skeleton.points[name][:2]
        column, line = round(float(x)), round(float(y))
        if not (0 <= column < width and 0 <= line < height) or not near[line, column]:
            continue
        facing = skeleton.facing.get(name, 1.0)
        if facing < FACE_GUESSABLE:
            continue
        # An ear or a nose tip may stick out of the silhouette by a pixel: nothing hides it there.
        own = labels[line, column] in carriers(name) or labels[line, column] == 0
        shown = mask[line, column] or labels[line, column] == 0
        row[:] = round(float(x), 1), round(float(y), 1), VISIBLE if own and shown and facing > 0 else HIDDEN
    return rows


def annotate(number: int, image_id: int, keypoints: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    """One COCO annotation: the box and the area are those of the person's visible pixels."""
    lines, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(lines[0])
    flat = [int(value) if i % 3 == 2 else float(value) for i, value in enumerate(keypoints.ravel())]
    return {
        "id": number,
        "image_id": image_id,
        "category_id": CATEGORY["id"],
        "iscrowd": 0,
        "bbox": [x, y, int(columns[-1]) - x + 1, int(lines[-1]) - y + 1],
        "area": int(mask.sum()),
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
        "keypoints": flat,
    }
