"""What `make eval` leaves and says: metrics.json, results.json, and a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.basics.files import read_json, replacing, write_json
from common.datasets.imageset import ImageSet, Instance
from common.decoding.predictions import Predictions
from common.evaluation.chunks import METRICS, RESULTS
from common.metrics.accuracy import interval, resample
from common.tasks import Task


def write_result(
    folder: Path, title: str, task: Task, image_set: ImageSet, instances: Sequence[Instance], found: Predictions,
    protocol: str,
) -> None:  # fmt: skip
    """Write metrics.json: {"metric", "numbers", "interval", "protocol", ...} and results.json, COCO's results list.

    Both depend on the predictions only, not on how many runs made them. Without ground truth the numbers are null,
    with a reason.
    """
    _write_entries(folder / RESULTS, task.results(image_set, instances, found))
    content: dict[str, Any] = {
        "version": 1,
        "network": title,
        "protocol": protocol,
        "instances": len(instances),
        "images": len(image_set.images),
        "found": len(found),
        "published": task.spec.published.model_dump(exclude_none=True) if task.spec.published else None,
    }
    missing = task.ground_truth_missing(image_set)
    if missing:
        content |= {"metric": None, "numbers": {}, "interval": None, "reason": missing}
    else:
        accuracy = task.measure(image_set, instances, found)
        spread = interval(resample([accuracy.statistic])[:, 0])
        content |= {"metric": accuracy.metric, "numbers": accuracy.numbers, "interval": spread}
    write_json(folder / METRICS, content)


def _write_entries(path: Path, entries: Sequence[dict[str, Any]]) -> None:
    """A list as json.dumps() writes it, compact, but never as one text: a detector's boxes of val2017 make 100 000."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write("[")
        for index, entry in enumerate(entries):
            file.write((", " if index else "") + json.dumps(entry, allow_nan=False))
        file.write("]")


def print_result(folder: Path) -> None:
    """The table, the interval and the protocol of a finished evaluation."""
    content = read_json(folder / METRICS)
    print(f"{content['network']}: {content['instances']} inputs from {content['images']} images")
    numbers = content["numbers"]
    for start in range(0, len(numbers), 10):
        names = list(numbers)[start : start + 10]
        print("  " + "".join(f"{name:>10}" for name in names))
        print("  " + "".join(f"{'-' if numbers[name] is None else f'{numbers[name]:.3f}':>10}" for name in names))
    if content["interval"]:
        low, high = content["interval"]
        print(f"  {content['metric']} with 95 % between {low:.3f} and {high:.3f} (bootstrap over images)")
    if not content["metric"]:
        print(f"  nothing was measured: {content['reason']}")
    print(f"  {content['protocol']}")
    published = content["published"]
    if content["metric"] and published and content["metric"] in published:
        print(f"  published: {content['metric']} {published[content['metric']]:g}, {published['protocol']}")
