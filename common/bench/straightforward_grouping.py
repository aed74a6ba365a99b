"""Grouping by tags as one would write it down first: joint by joint, person by person, every pixel looked at each time.

What common.decoding.associative_embedding.group_people() is measured against, and tested against: it has to find the
same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.declarations.decode_spec import AssociativeEmbeddingSpec
from common.decoding.assignment import assign


def group_straightforwardly(
    heatmaps: np.ndarray, tags: np.ndarray, settings: AssociativeEmbeddingSpec, order: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Takes and gives what group_people() does: maps [K, h, w] and [T, K, h, w]; people [P, K, 3] and scores [P]."""
    joints = len(heatmaps)
    groups: dict[float, dict] = {}
    for joint in order:
        candidates = _peaks(heatmaps[joint], settings)
        if not candidates:
            continue
        known = list(groups)[: settings.maximum_people]
        if known and settings.ignore_too_much and len(known) == settings.maximum_people:
            continue
        distances = np.zeros((len(candidates), len(known)))
        for row, (_, x, y) in enumerate(candidates):
            for column, key in enumerate(known):
                mean = np.mean(groups[key]["tags"], axis=0)
                distances[row, column] = np.sqrt(((tags[:, joint, y, x].astype(float) - mean) ** 2).sum())
        cost = distances
        if settings.use_detection_value:
            scores = np.array([float(score) for score, _, _ in candidates])
            cost = np.round(distances) * 100 - scores[:, None]
        while known and cost.shape[1] < len(candidates):
            cost = np.concatenate([cost, np.full((len(candidates), 1), 1e10)], axis=1)
        columns = assign(cost) if known else [0] * len(candidates)
        for (score, x, y), row, column in zip(candidates, range(len(candidates)), columns, strict=True):
            tag = tags[:, joint, y, x]
            if column < len(known) and distances[row, column] < settings.tag_threshold:
                key = known[column]
                groups[key]["tags"].append(tag)
            else:
                key = float(tag[0])
                groups.setdefault(key, {"joints": np.zeros((joints, 3), np.float32)})
                groups[key]["tags"] = [tag]
            groups[key]["joints"][joint] = x, y, score
    people = np.array([group["joints"] for group in groups.values()], np.float32).reshape(-1, joints, 3)
    if settings.adjust:
        for person in people:
            for joint in range(joints):
                if person[joint, 2] > 0:
                    person[joint, :2] = _moved(heatmaps[joint], int(person[joint, 0]), int(person[joint, 1]))
    scores = np.array([person[:, 2].mean() for person in people], np.float64)
    if settings.refine:
        for person in people:
            _fill(person, heatmaps, tags)
    return people, scores


def _peaks(heatmap: np.ndarray, settings: AssociativeEmbeddingSpec) -> list[tuple[float, int, int]]:
    """(score, x, y) of the strongest local maxima, the strongest first."""
    height, width = heatmap.shape
    reach = settings.nms_kernel // 2
    found = []
    for y in range(height):
        for x in range(width):
            score = heatmap[y, x]
            if float(score) > settings.detection_threshold:
                around = heatmap[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
                if score == around.max():
                    found.append((score, x, y))
    return sorted(found, key=lambda peak: -peak[0])[: settings.maximum_people]


def _moved(heatmap: np.ndarray, x: int, y: int) -> tuple[float, float]:
    """A quarter of a pixel towards the larger neighbour, to the left and up among equal ones; and the half pixel."""
    height, width = heatmap.shape
    right = heatmap[y, min(x + 1, width - 1)] > heatmap[y, max(x - 1, 0)]
    lower = heatmap[min(y + 1, height - 1), x] > heatmap[max(y - 1, 0), x]
    return x + 0.5 + (0.25 if right else -0.25), y + 0.5 + (0.25 if lower else -0.25)


def _fill(person: np.ndarray, heatmaps: np.ndarray, tags: np.ndarray) -> None:
    """Look for each missing joint in the whole map, wherever the tags are near."""
    own = [tags[:, j, int(person[j, 1]), int(person[j, 0])] for j in range(len(person)) if person[j, 2] > 0]
    mean = np.mean(own, axis=0)
    for joint in range(len(person)):
        if person[joint, 2] == 0:
            distance = np.sqrt(((tags[:, joint] - mean[:, None, None]) ** 2).sum(axis=0))
            worth = heatmaps[joint] - np.round(distance)
            y, x = np.unravel_index(worth.argmax(), worth.shape)
            if heatmaps[joint, y, x] > 0:
                person[joint, :2] = _moved(heatmaps[joint], x, y)
                person[joint, 2] = heatmaps[joint, y, x]
