"""The task metric of the float network and of the chip, on the same images.

python -m common.evaluate out/<model>/<chip>/<variant>     writes predictions.json and metrics.json
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from common.basics.errors import run
from common.basics.files import write_json
from common.basics.progress import Progress
from common.compare import marks
from common.datasets.imageset import ImageSet, Instance
from common.decoding.predictions import Predictions, read_predictions, write_predictions
from common.evaluation.inference import chip_runner, predict
from common.job import Cell
from common.metrics.accuracy import Accuracy, interval, resample
from common.samples import evaluation_set, load_arrays
from common.tasks import Task, task_of

BOOTSTRAP = "interval: 95 % bootstrap over images"


def metrics(
    task: Task,
    image_set: ImageSet,
    instances: Sequence[Instance],
    float_found: Predictions,
    chip_found: Predictions,
) -> dict[str, Any]:
    """The content of metrics.json for what the float network and the chip found in the same instances.

    The metric, its interval and the drop are null, with a reason, when the set has no ground truth for it.
    """
    result: dict[str, Any] = {
        "protocol": task.protocol(image_set, instances),
        "instances": len(instances),
        "images": len(image_set.images),
    }
    if missing := task.ground_truth_missing(image_set):
        nothing = {"AP": None, "interval": None}
        return {"metric": "AP", "float": nothing, "chip": nothing, "drop": nothing, "reason": missing} | result
    result["protocol"] += f"; {BOOTSTRAP}"
    measured: list[Accuracy] = [task.measure(image_set, instances, found) for found in (float_found, chip_found)]
    metric = measured[0].metric
    resampled = resample([accuracy.statistic for accuracy in measured])
    before, after = (
        accuracy.numbers | {"interval": interval(resampled[:, column])} for column, accuracy in enumerate(measured)
    )
    known = before[metric] is not None and after[metric] is not None
    drop = {
        metric: before[metric] - after[metric] if known else None,
        "interval": interval(resampled[:, 0] - resampled[:, 1]),
    }
    if not known:
        result["reason"] = f"{image_set.folder} has nothing that the metric counts"
    return {"metric": metric, "float": before, "chip": after, "drop": drop} | result


def evaluate_cell(cell: Cell) -> None:
    """Run the chip over all evaluation instances and write predictions.json and metrics.json."""
    task = task_of(cell.spec)
    image_set = evaluation_set(cell.float)
    instances = task.instances(image_set)
    float_found = read_predictions(cell.float_folder / "predictions.json", instances)
    samples = np.load(cell.folder / "samples.npz", allow_pickle=False)
    name = samples.files[0]
    samples.close()
    known = load_arrays(cell.folder / "outputs.npz")
    chip_found = predict(task, image_set, instances, known, chip_runner(cell, name), f"evaluate {cell.name}")
    with Progress(f"evaluate {cell.name}, metric"):
        result = metrics(task, image_set, instances, float_found, chip_found)
    write_predictions(cell.folder / "predictions.json", instances, chip_found)
    write_json(cell.folder / "metrics.json", result | marks(cell))  # last: make goes by this file


def main() -> None:
    """python -m common.evaluate CELL"""
    evaluate_cell(Cell(sys.argv[1]))


if __name__ == "__main__":
    run(main)
