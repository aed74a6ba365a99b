"""What a cell says when nothing but the chip can run its artifact: that it was not simulated, and no numbers.

The float network's own metric is measured and stands in its own column; the chip's columns stay empty. What the
vendor's tools could show of the artifact instead stands in compile.json ("checks"); the ladder of proof quotes it.
"""

from __future__ import annotations

import numpy as np

from common.basics.files import replacing, write_json
from common.compare import marks
from common.decoding.predictions import read_predictions
from common.evaluate import BOOTSTRAP
from common.job import Cell
from common.metrics.accuracy import interval, resample
from common.samples import evaluation_set
from common.tasks import task_of

REASON = "nothing but the chip can run this artifact: not simulated"


def write_unsimulated(cell: Cell) -> None:
    """Write outputs.npz (empty), compare.json, metrics.json: {"simulated": false}, and no number of the chip."""
    task = task_of(cell.spec)
    image_set = evaluation_set(cell.float)
    instances = task.instances(image_set)
    nothing = {"version": 1, "simulated": False, "reason": REASON} | marks(cell)
    with replacing(cell.folder / "outputs.npz") as temporary, temporary.open("wb") as file:
        np.savez(file)
    write_json(
        cell.folder / "compare.json",
        nothing | {"similarity": task.similarity, "agreement": None, "compared": 0, "samples": 0, "outputs": {}},
    )
    measured = {"metric": "AP", "float": {"AP": None, "interval": None}}
    protocol = task.protocol(image_set, instances)
    if not task.ground_truth_missing(image_set):
        found = read_predictions(cell.float_folder / "predictions.json", instances)
        accuracy = task.measure(image_set, instances, found)
        spread = interval(resample([accuracy.statistic])[:, 0])
        measured = {"metric": accuracy.metric, "float": accuracy.numbers | {"interval": spread}}
        protocol += f"; {BOOTSTRAP}"
    empty = {measured["metric"]: None, "interval": None}
    counted = {"protocol": protocol, "instances": len(instances), "images": len(image_set.images)}
    write_json(cell.folder / "metrics.json", nothing | measured | {"chip": empty, "drop": empty} | counted)
