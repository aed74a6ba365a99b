"""Top-down evaluation as one writes it first: one person at a time, one joint at a time. For comparison only.

It computes what common/ computes (tests hold the two against each other), in the order of HRNet's own tools.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from common.datasets.image_file import image_size
from common.datasets.imageset import Instance
from common.declarations.keypoints import KeypointSet
from common.declarations.spec import ModelSpec


def read_photograph(path: Path) -> np.ndarray:
    """Check that the file is whole, then decode it: uint8 [H, W, 3] BGR."""
    image_size(path)
    return cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)


def center_and_scale(box: Sequence[float], spec: ModelSpec) -> tuple[np.ndarray, np.ndarray]:
    """The crop's centre in pixels, and its size in units of 200 px."""
    x, y, width, height = box
    aspect = spec.input.width / spec.input.height
    if width > aspect * height:
        height = width / aspect
    else:
        width = height * aspect
    return np.array([x + box[2] / 2, y + box[3] / 2]), np.array([width, height]) / 200 * spec.decode.padding


def affine(center: np.ndarray, scale: np.ndarray, size: Sequence[int], inverse: bool = False) -> np.ndarray:
    """The map from the photograph to the crop (or back) from three points, float64 [2, 3]."""
    reach = scale[0] * 200 / 2
    source = np.float32([center, center - (0, reach), center - (reach, reach)])
    middle = np.array(size) / 2
    target = np.float32([middle, middle - (0, size[0] / 2), middle - (size[0] / 2, size[0] / 2)])
    return cv2.getAffineTransform(target, source) if inverse else cv2.getAffineTransform(source, target)


def crop(image: np.ndarray, instance: Instance, spec: ModelSpec) -> np.ndarray:
    """Cut one person out: uint8 [height, width, 3]."""
    size = (spec.input.width, spec.input.height)
    return cv2.warpAffine(image, affine(*center_and_scale(instance.box, spec), size), size, flags=cv2.INTER_LINEAR)


def normalize(image: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """The network's input, float32 [3, height, width], pixel by pixel."""
    values = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.float32) / spec.input.scale
    return ((values - spec.input.mean) / spec.input.std).transpose(2, 0, 1).astype(np.float32)


def decode(heatmaps: np.ndarray, instance: Instance, spec: ModelSpec) -> np.ndarray:
    """The keypoints of one person's heatmaps [K, h, w], joint by joint: float64 [K, 3]."""
    joints, height, width = heatmaps.shape
    back = affine(*center_and_scale(instance.box, spec), (width, height), inverse=True)
    keypoints = np.zeros((joints, 3))
    for joint in range(joints):
        heatmap = heatmaps[joint]
        row, column = np.unravel_index(np.argmax(heatmap), heatmap.shape)
        score = heatmap[row, column]
        x, y = (float(column), float(row)) if score > 0 else (0.0, 0.0)
        column, row = int(x), int(y)
        if 1 < column < width - 1 and 1 < row < height - 1:
            x += 0.25 * np.sign(heatmap[row, column + 1] - heatmap[row, column - 1])
            y += 0.25 * np.sign(heatmap[row + 1, column] - heatmap[row - 1, column])
        keypoints[joint, :2] = back @ np.array([x, y, 1.0])
        keypoints[joint, 2] = score
    return keypoints


def similarity(first: np.ndarray, second: np.ndarray, areas: tuple[float, float], sigmas: np.ndarray) -> float:
    """OKS of two people [K, 3], joint by joint."""
    total = 0.0
    for joint, sigma in enumerate(sigmas):
        squared = (first[joint, 0] - second[joint, 0]) ** 2 + (first[joint, 1] - second[joint, 1]) ** 2
        total += np.exp(-squared / (2 * (2 * sigma) ** 2 * ((areas[0] + areas[1]) / 2 + np.spacing(1))))
    return total / len(sigmas)


def rescore_and_suppress(
    people: Sequence[np.ndarray], instances: Sequence[Instance], spec: ModelSpec, keypoints: KeypointSet
) -> list[int]:
    """Indices of the people that OKS-NMS keeps, pair by pair, best first in each photograph."""
    scores = []
    for person, instance in zip(people, instances, strict=True):
        counted = [value for value in person[:, 2] if value > 0.2]
        scores.append(instance.score * (sum(counted) / len(counted) if counted else 0.0))
    areas = [float(np.prod(center_and_scale(instance.box, spec)[1] * 200)) for instance in instances]
    kept = []
    for image_id in dict.fromkeys(instance.image_id for instance in instances):
        remaining = [index for index, instance in enumerate(instances) if instance.image_id == image_id]
        remaining.sort(key=lambda index: -scores[index])
        while remaining:
            best = remaining.pop(0)
            kept.append(best)
            remaining = [
                index
                for index in remaining
                if similarity(people[best], people[index], (areas[best], areas[index]), keypoints.sigmas) <= 0.9
            ]
    return kept
