"""One whole evaluation in a process of its own, of more and more images: does its time grow as they do, its memory not?

python -m common common.bench.growth REFERENCE SET COUNT

The float network on the first COUNT images; prints JSON last.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from common.basics.errors import UserError, run
from common.basics.files import read_json, write_json
from common.bench.measured import run_stage
from common.datasets.set_layout import KEYPOINTS_FILE
from common.evaluation.evaluated_network import FloatNetwork
from common.full_evaluation import Asked, evaluate
from common.job import FloatReference

WARM_UP = 3  # inferences before the clock counts


def repeated_set(image_set: Path, folder: Path, count: int) -> Path:
    """`count` images in `folder`: those of an annotated set under new names and numbers, again and again.

    Raises UserError when the set has no person_keypoints.json.
    """
    path = image_set / KEYPOINTS_FILE
    if not path.exists():
        raise UserError(f"{image_set} has no {KEYPOINTS_FILE}", "bench on the set that comes with npumake")
    source = read_json(path)
    people: dict[int, list[dict[str, Any]]] = {}
    for person in source["annotations"]:
        people.setdefault(person["image_id"], []).append(person)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, count + 1):
        image = source["images"][(number - 1) % len(source["images"])]
        name = f"{number:06d}{Path(image['file_name']).suffix}"
        _link(image_set / image["file_name"], folder / name)
        images.append(image | {"id": number, "file_name": name})
        for person in people.get(image["id"], []):
            annotations.append(person | {"id": len(annotations) + 1, "image_id": number})
    write_json(folder / KEYPOINTS_FILE, source | {"images": images, "annotations": annotations})
    return folder


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def measure_growth(reference: Path, image_set: Path, counts: list[int]) -> dict[str, Any]:
    """{"network", "runs": for each number of images {"images", "people", "seconds" (the start of the process not
    counted), "inference_seconds" (of as many inferences alone), "peak_bytes"}, "fit": fit() or None}.

    Raises UserError with the process's own message when it fails.
    """
    folder = repeated_set(image_set, reference.parent / "growth", max(counts))
    runs = []
    try:
        for count in counts:
            log = reference / f"growth-{count}.log"
            measured = run_stage(log, "common.bench.growth", str(reference), str(folder), str(count))
            told = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
            runs.append(told | {"peak_bytes": measured.peak_memory_bytes})
            log.unlink()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"network": read_json(reference / "source.json")["model"], "runs": runs, "fit": fit(runs)}


def fit(runs: list[dict[str, Any]]) -> dict[str, float] | None:
    """The line through the times, and how much memory more images take; None for a single run.

    {"start_seconds", "seconds_per_image": least squares, each run weighted by 1 / its time, so that the short ones
    count as much as the long; "largest_deviation": of a run from the line, as a share of its time;
    "bytes_per_image": of the peak, in the last run more than in the one before it (few images do not fill the buffers)}
    """
    if len(runs) < 2:
        return None
    images = np.array([row["images"] for row in runs], float)
    seconds = np.array([row["seconds"] for row in runs])
    slope, start = np.polyfit(images, seconds, 1, w=1 / seconds)
    deviation = np.abs(start + slope * images - seconds) / seconds
    more = (runs[-1]["peak_bytes"] - runs[-2]["peak_bytes"]) / (images[-1] - images[-2])
    return {
        "start_seconds": float(start),
        "seconds_per_image": float(slope),
        "largest_deviation": float(deviation.max()),
        "bytes_per_image": float(more),
    }


def inference_seconds(network: FloatNetwork, people: int) -> float:
    """The wall time of as many inferences, one after the other, of one input of noise, float32 [1, C, H, W]."""
    noise = np.random.default_rng(0).standard_normal(network.task.spec.input.shape, np.float32)
    network.run([noise] * WARM_UP)
    begun = time.perf_counter()
    for _ in range(people):
        network.run([noise])
    return time.perf_counter() - begun


def main() -> None:
    """See the head of this file."""
    reference, image_set, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    shutil.rmtree(reference / "eval", ignore_errors=True)
    network = FloatNetwork(FloatReference(reference))
    begun = time.perf_counter()
    folder = evaluate(network, Asked(image_set, limit=count))
    seconds = time.perf_counter() - begun
    content = read_json(folder / "metrics.json")
    people = content["instances"]
    told = {"images": content["images"], "people": people, "seconds": seconds}
    print(json.dumps(told | {"inference_seconds": inference_seconds(network, people)}))


if __name__ == "__main__":
    run(main)
