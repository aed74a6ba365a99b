"""Grouping the people of one image by tags: here, and as one writes it down first."""

from __future__ import annotations

from typing import Any

import numpy as np

from common.bench.pipeline import median_milliseconds
from common.bench.straightforward_grouping import group_straightforwardly
from common.declarations.decode_spec import AssociativeEmbeddingSpec
from common.declarations.keypoints import COCO17
from common.decoding.associative_embedding import group_people, joint_order
from common.decoding.bottomup_maps import maps_of_input

SIZE = 512
MISSING = 0.15  # of the joints have no peak: they are looked for by their tags


def drawn_outputs(people: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What a good HigherHRNet gives for `people` people in an input of size x size.

    Returns (first stage float32 [34, size / 4, size / 4]: heatmaps and tags, second stage [17, size / 2, size / 2]).
    Peaks are Gaussians with a sigma of 2 pixels in either stage, as it is trained; tags are 0, 2, 4... around a joint.
    """
    random = np.random.default_rng(seed)
    # Side by side in two rows, each within a place of its own.
    columns = -(-people // 2)
    corners = np.array([[index % columns / columns, index // columns / 2] for index in range(people)])
    places = corners[:, None] + random.uniform(0.1, 0.9, (people, COCO17.count, 2)) * (1 / columns, 1 / 2)
    seen = random.random((people, COCO17.count)) > MISSING
    stages = []
    for side in (size // 4, size // 2):
        heatmaps = np.abs(random.normal(0, 0.01, (COCO17.count, side, side)))
        tags = random.normal(0, 0.05, (COCO17.count, side, side))
        y, x = np.mgrid[:side, :side]
        for person, joint in np.argwhere(seen):
            squared = (x - places[person, joint, 0] * side) ** 2 + (y - places[person, joint, 1] * side) ** 2
            heatmaps[joint] = np.maximum(heatmaps[joint], 0.9 * np.exp(-squared / 8))
            tags[joint][squared < 9] = 2 * person + random.normal(0, 0.05)
        stages.append((heatmaps, tags))
    first = np.concatenate(stages[0]).astype(np.float32)
    return first, stages[1][0].astype(np.float32)


def measure_grouping(people: int, repeats: int, size: int = SIZE) -> dict[str, Any]:
    """{"people", "found", "width", "height", "merge", "ours", "plain"}: milliseconds of one image, the medians.

    merge: adding up both stages at the input's size, which comes before grouping in either way.
    """
    stages = drawn_outputs(people, size)
    merge = lambda: maps_of_input(stages, None, COCO17.flip_order, (size, size))  # noqa: E731
    heatmaps, tags = merge()
    settings = AssociativeEmbeddingSpec(kind="associative_embedding", keypoints="coco17")
    order = joint_order(COCO17)
    found, _ = group_people(heatmaps, tags, settings, order)
    return {
        "people": people,
        "found": len(found),
        "width": size,
        "height": size,
        "merge": median_milliseconds(merge, 2 * repeats, 1),
        "ours": median_milliseconds(lambda: group_people(heatmaps, tags, settings, order), 4 * repeats, 1),
        "plain": median_milliseconds(
            lambda: group_straightforwardly(heatmaps, tags, settings, order), min(3, repeats), 1
        ),
    }
