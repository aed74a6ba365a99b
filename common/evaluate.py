"""The task metric: AP of the float network and of the chip, on the same people.

python -m common.evaluate out/<model>/<chip>/<variant>     writes predictions.json and metrics.json
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import engine
from common.accuracy import Accuracy, interval, measure, resample
from common.errors import run
from common.files import write_json
from common.imageset import ImageSet, Instance
from common.job import Cell
from common.keypoints import keypoint_set
from common.predictions import Runner, instance_scores, predict, read_predictions, write_predictions
from common.samples import evaluation_instances, geometry, load_arrays

_REFINEMENTS = {"quarter": "quarter-pixel shift", "dark": "DARK refinement", "none": "no sub-pixel refinement"}
_REPORTED = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR")


def chip_runner(cell: Cell, input_name: str) -> Runner:
    """A runner that hands a chunk of inputs to the vendor's infer.py and reads its outputs back."""

    def run_chunk(inputs: np.ndarray) -> dict[str, np.ndarray]:
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=cell.folder) as folder:
            samples, outputs = Path(folder) / "samples.npz", Path(folder) / "outputs.npz"
            np.savez(samples, **{input_name: inputs})
            engine.infer(cell.folder, samples, outputs)
            return load_arrays(outputs)

    return run_chunk


def protocol(image_set: ImageSet, instances: Sequence[Instance], spec: Any) -> str:
    """What was measured and how, in words."""
    boxes = "ground-truth boxes"
    if spec.decode.ground_truth_boxes == "hrnet":
        boxes += " (one pixel smaller, as HRNet takes them)"
    if not image_set.has_keypoints:
        return f"no AP: {len(instances)} detected people in {len(image_set.images)} images of {image_set.folder.name}"
    people = len(image_set.annotations.people())
    return (
        f"COCO keypoint AP (OKS 0.50:0.95, {spec.decode.keypoints}), {people} people with keypoints in "
        f"{len(image_set.images)} images of {image_set.folder.resolve().name}, {boxes}, no flip test, single scale, "
        f"{_REFINEMENTS[spec.decode.refine]}, OKS-NMS 0.9; interval: 95 % bootstrap over images"
    )


def metrics(
    image_set: ImageSet, instances: Sequence[Instance], spec: Any, float_people: np.ndarray, chip_people: np.ndarray
) -> dict[str, Any]:
    """The content of metrics.json for float and chip keypoints [N, K, 3] of the same instances.

    AP, its interval and the drop are null, with a reason, when the set has no ground truth.
    """
    result: dict[str, Any] = {
        "protocol": protocol(image_set, instances, spec),
        "instances": len(instances),
        "images": len(image_set.images),
    }
    if not image_set.has_keypoints:
        reason = f"{image_set.folder} has no person_keypoints.json with annotated keypoints"
        nothing = dict.fromkeys(_REPORTED) | {"interval": None}
        return {"float": nothing, "chip": nothing, "drop": {"AP": None, "interval": None}, "reason": reason} | result
    keypoints = keypoint_set(spec.decode.keypoints)
    _, scales = geometry(instances, spec)
    boxes = np.array([instance.score for instance in instances])
    measured: list[Accuracy] = [
        measure(image_set.annotations, instances, people, instance_scores(people, boxes), scales, keypoints)
        for people in (float_people, chip_people)
    ]
    resampled = resample([accuracy.curve for accuracy in measured])
    numbers = [
        {name: accuracy.numbers[name] for name in _REPORTED} | {"interval": interval(resampled[:, column])}
        for column, accuracy in enumerate(measured)
    ]
    drop = {
        "AP": numbers[0]["AP"] - numbers[1]["AP"],
        "interval": interval(resampled[:, 0] - resampled[:, 1]),
    }
    return {"float": numbers[0], "chip": numbers[1], "drop": drop} | result


def evaluate_cell(cell: Cell) -> None:
    """Run the chip over all evaluation instances and write predictions.json and metrics.json."""
    spec = cell.spec
    image_set = ImageSet.open(cell.evaluation_folder)
    instances = evaluation_instances(image_set, spec)
    float_people = read_predictions(
        cell.float_folder / "predictions.json", instances, keypoint_set(spec.decode.keypoints)
    )
    samples = np.load(cell.folder / "samples.npz", allow_pickle=False)
    name = samples.files[0]
    samples.close()
    known = load_arrays(cell.folder / "outputs.npz")
    chip_people = predict(image_set, instances, spec, known, chip_runner(cell, name), f"{cell.name} on the chip")
    result = metrics(image_set, instances, spec, float_people, chip_people)
    write_predictions(cell.folder / "predictions.json", instances, chip_people)
    write_json(cell.folder / "metrics.json", result)  # last: make goes by this file


def main() -> None:
    """python -m common.evaluate CELL"""
    evaluate_cell(Cell(sys.argv[1]))


if __name__ == "__main__":
    run(main)
