"""One person as a top-down network sees them: the crop's region of the photograph, with the skeleton on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.declarations.keypoints import KeypointSet, keypoint_set
from common.drawing.evidence import Evidence, Pair
from common.drawing.skeleton import draw_skeleton, panel_size, person_panel, points_on_panel
from common.preprocessing.preprocess import read_image

NAMED_JOINTS = 3
MOVED_PIXELS = 0.5  # a joint that moved less is not worth naming


@dataclass(frozen=True)
class Sample:
    """One person, float against chip. points: [K, 3] in image pixels and score."""

    index: int
    file: str
    center: list[float]
    scale: list[float]
    float_points: np.ndarray
    chip_points: np.ndarray
    agreement: float


def load_sample(evidence: Evidence, index: int) -> Sample:
    """Decode one person from both networks' outputs."""
    described = evidence.described[index]
    points = [found.keypoints[0] for found in evidence.found(index)]
    place = described["center"], described["scale"]
    return Sample(index, described["file"], *place, *points, evidence.agreement(index))


def worst_joints(sample: Sample, keypoints: KeypointSet) -> list[tuple[str, float]]:
    """The joints that moved furthest for their kind: (name, pixels), by distance over sigma, those worth naming."""
    distance = np.linalg.norm(sample.chip_points[:, :2] - sample.float_points[:, :2], axis=1)
    order = np.argsort(-distance / keypoints.sigmas, kind="stable")[:NAMED_JOINTS]
    return [(keypoints.names[joint], float(distance[joint])) for joint in order if distance[joint] > MOVED_PIXELS]


def joints_in_words(sample: Sample, keypoints: KeypointSet) -> str:
    """The worst joints as one line of text, in pixels of the photograph."""
    worst = worst_joints(sample, keypoints)
    if not worst:
        return f"no joint moved by more than {MOVED_PIXELS} px"
    named = [f"{name.replace('_', ' ')} {distance:.1f} px" for name, distance in worst]
    return f"furthest off: {', '.join(named)}"


def person_pair(evidence: Evidence, index: int, longest: int) -> Pair:
    """Float's and the chip's skeleton on the person's region; longest: the panels' longer side in pixels."""
    sample, declared = load_sample(evidence, index), evidence.cell.spec.input
    keypoints = keypoint_set(evidence.cell.spec.keypoints)
    size = panel_size(declared.width, declared.height, longest)
    panel = person_panel(read_image(evidence.image_folder / sample.file), sample.center, sample.scale, size)
    drawn = [
        draw_skeleton(panel, points_on_panel(points, sample.center, sample.scale, size), points[:, 2], keypoints)
        for points in (sample.float_points, sample.chip_points)
    ]
    return Pair(index, sample.file, sample.agreement, *drawn, joints_in_words(sample, keypoints))
