"""Keypoint sets: names, left/right pairs, the edges of the skeleton, and the OKS sigmas."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from common.basics.errors import UserError

if TYPE_CHECKING:  # each make reads the names of the sets, and few of them any array
    import numpy as np


@dataclass(frozen=True)
class KeypointSet:
    """One convention of naming and numbering the keypoints of a person.

    name: the key that model.yaml uses.
    names: K names, in the order of the network's channels.
    flip_pairs: (left, right) indices that change places when the image is mirrored.
    edges: index pairs that are drawn as limbs.
    deviations: K numbers, the per-keypoint constant of OKS (standard deviation relative to the root of the area).
    """

    name: str
    names: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    edges: tuple[tuple[int, int], ...]
    deviations: tuple[float, ...] = field(repr=False)

    @cached_property
    def sigmas(self) -> np.ndarray:
        """float64 [K]: the deviations."""
        import numpy as np

        return np.array(self.deviations)

    @property
    def count(self) -> int:
        """K, the number of keypoints."""
        return len(self.names)

    @property
    def flip_order(self) -> np.ndarray:
        """int64 [K]: the permutation that undoes a mirror image, flipped[:, flip_order]."""
        import numpy as np

        order = np.arange(self.count)
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return order


# Names, pairs, edges and sigmas as in COCO's person_keypoints category and pycocotools.cocoeval.Params.kpt_oks_sigmas.
COCO17 = KeypointSet(
    name="coco17",
    names=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    edges=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
        (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    deviations=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087,
        0.089, 0.089,
    ),
)  # fmt: skip

# Order and pairs: MPII Human Pose annotation; sigmas: mmpose configs/_base_/datasets/mpii.py ("adapted from COCO").
MPII16 = KeypointSet(
    name="mpii16",
    names=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
        "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow",
        "left_wrist",
    ),
    flip_pairs=((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)),
    edges=(
        (0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (8, 12), (12, 11), (11, 10), (8, 13),
        (13, 14), (14, 15),
    ),
    deviations=(
        0.089, 0.083, 0.107, 0.107, 0.083, 0.089, 0.026, 0.026, 0.026, 0.026, 0.062, 0.072, 0.179, 0.179, 0.072,
        0.062,
    ),
)  # fmt: skip

KEYPOINT_SETS: dict[str, KeypointSet] = {keypoints.name: keypoints for keypoints in (COCO17, MPII16)}


def keypoint_set(name: str) -> KeypointSet:
    """The keypoint set that model.yaml names; UserError that lists the known ones otherwise."""
    try:
        return KEYPOINT_SETS[name]
    except KeyError:
        known = ", ".join(sorted(KEYPOINT_SETS))
        raise UserError(f"unknown keypoint set {name!r} (decode.keypoints)", f"known sets: {known}") from None
