"""The outputs themselves: which maps are drawn for a sample, and how far each output or channel is from float's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from common.compare import SQNR_LIMIT_DB
from common.declarations.keypoints import keypoint_set
from common.decoding.bottomup_maps import check_maps, merge_stages
from common.decoding.detection_head import head_levels
from common.drawing.evidence import Evidence
from common.tasks.topdown import heatmaps_of


@dataclass(frozen=True)
class Maps:
    """names: of the maps; float_maps, chip_maps: [h, w] each. title: what they are, in a word; each: one of them, in
    more words. top: the value that all are bright at; None: each one's own largest."""

    names: list[str]
    float_maps: list[np.ndarray]
    chip_maps: list[np.ndarray]
    title: str
    each: str
    top: float | None = None

    @property
    def largest_difference(self) -> float:
        """In units of the maps."""
        pairs = zip(self.float_maps, self.chip_maps, strict=True)
        return max(float(np.abs(chip - reference).max()) for reference, chip in pairs)


def maps_of(evidence: Evidence, index: int) -> Maps:
    """A pose network's joint heatmaps, of a bottom-up one the mean of both stages; a detector's largest class score at
    each place."""
    spec = evidence.cell.spec
    one = [{name: value[index : index + 1] for name, value in outputs.items()} for outputs in evidence.sides]
    if spec.task == "detection":
        from scipy.special import expit  # here: it takes a moment to import

        levels = head_levels({name: value.shape for name, value in one[0].items()}, spec, evidence.cell.name)
        maps = [[expit(outputs[level.classes][0].max(axis=0)) for level in levels] for outputs in one]
        names = [f"stride {level.stride}" for level in levels]
        # One scale, so that a level that sees nothing is dark.
        top = max(spec.decode.shown_score, *(float(one.max()) for one in (*maps[0], *maps[1])))
        return Maps(names, *maps, "class scores", "each stride, the largest class score at each place", top)
    keypoints, where = keypoint_set(spec.keypoints), evidence.cell.name
    if spec.task == "topdown_pose":
        maps = [list(heatmaps_of(outputs, keypoints, where)[0]) for outputs in one]
    else:
        stages = [check_maps(outputs, keypoints.count, where) for outputs in one]
        maps = [list(merge_stages(*(None if part is None else part[0] for part in pair))[0]) for pair in stages]
    return Maps(list(keypoints.names), *maps, "heatmaps", "each joint")


def heatmap_channels(evidence: Evidence) -> list[dict[str, Any]]:
    """compare.json's channels of a top-down network's heatmaps; equal ones have SQNR None."""
    names = list(keypoint_set(evidence.cell.spec.keypoints).names)
    outputs = evidence.compared["outputs"].values()
    fitting = [output["channels"] for output in outputs if [item["name"] for item in output["channels"]] == names]
    return [_without_limit(channel) for channel in fitting[-1]]


def output_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """[{"name", "cosine", "sqnr_db"}] of a whole-image network: a detector's outputs; else every channel, heatmaps
    and tags by their joint."""
    outputs, spec = evidence.compared["outputs"], evidence.cell.spec
    if spec.task == "detection":
        shapes = {name: value.shape for name, value in evidence.float_outputs.items()}
        rows = []
        for level in head_levels(shapes, spec, evidence.cell.name):
            for role, name in (("box", level.box), ("class", level.classes), ("keypoints", level.keypoints)):
                if name:
                    rows.append(_without_limit(outputs[name]) | {"name": f"{role}, stride {level.stride}"})
        return rows
    joints = keypoint_set(spec.keypoints).names
    rows = []
    for name, output in outputs.items():
        height = evidence.float_outputs[name].shape[2]
        labels = [*joints, *(f"tag of {joint}" for joint in joints)]
        for label, channel in zip(labels, output["channels"], strict=False):
            rows.append(_without_limit(channel) | {"name": f"{label}, 1/{spec.input.height // height}"})
    return rows


def _without_limit(measured: dict[str, Any]) -> dict[str, Any]:
    """The same with SQNR None where it is at its limit: nothing differs."""
    return measured | {"sqnr_db": None if measured["sqnr_db"] >= SQNR_LIMIT_DB else measured["sqnr_db"]}
