"""The parts of a top-down evaluation one by one, in milliseconds per person, ours and the straightforward ones."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.bench import straightforward_topdown as straightforward
from common.datasets.imageset import ImageSet, Instance
from common.declarations.keypoints import keypoint_set
from common.evaluation.streaming import FixedInput, stream
from common.graphs.onnx_graph import Runner
from common.metrics.accuracy import measure_keypoints
from common.preprocessing.preprocess import box_to_center_scale, crop_person, normalize, read_image
from common.samples import with_images
from common.tasks import Task

BATCH = 14  # people that travel together in common.full_evaluation: 8 MB of inputs


@dataclass(frozen=True)
class Part:
    """One step. ours, plain: milliseconds per person, the median of the repeats; plain is None where both are one."""

    name: str
    ours: float
    plain: float | None


def median_milliseconds(work: Callable[[], Any], repeats: int, count: int) -> float:
    """Run `work` repeatedly; the median time over `count` people, in milliseconds of each."""
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds) * 1000 / count


def measure_parts(
    task: Task, image_set: ImageSet, instances: Sequence[Instance], network: Runner, repeats: int
) -> dict[str, Any]:
    """{"people", "images", "parts": [Part], "inference", "inference_repeated", "overlapped"}, milliseconds per person.

    Every part runs alone in one thread, on all the instances, inference in the runner's two. "overlapped" is the
    wall time of all of it but scoring, reading and decoding beside inference as common/evaluation/streaming.py does it.
    """
    spec, count, name = task.spec, len(instances), network.inputs[0].name
    keypoints = keypoint_set(spec.decode.keypoints)
    size = (spec.input.width, spec.input.height)
    paths = list(dict.fromkeys(image_set.path(instance.file) for instance in instances))
    pairs = list(with_images(image_set, instances))
    places = [box_to_center_scale(instance.box, size[0] / size[1], spec.decode.padding) for instance in instances]
    crops = [crop_person(image, *place, size) for (image, _), place in zip(pairs, places, strict=True)]
    inputs = np.stack([normalize(crop, spec.input) for crop in crops])
    outputs = network.run({name: inputs})  # warms the runtime up, too
    (heatmaps,) = outputs.values()
    batches = [range(start, min(start + BATCH, count)) for start in range(0, count, BATCH)]

    def decode_all() -> list[Any]:
        return [
            task.decode({name: heatmaps[b.start : b.stop]}, instances[b.start : b.stop]).shifted(b.start)
            for b in batches
        ]

    found = task.decode(outputs, instances)
    results = task.results(image_set, instances, found)
    people = [straightforward.decode(maps, instance, spec) for maps, instance in zip(heatmaps, instances, strict=True)]
    timed: list[tuple[str, Callable[[], Any], Callable[[], Any] | None]] = [
        (
            "read and decode the JPEG",
            lambda: [read_image(path) for path in paths],
            # The straightforward loop goes by people and reads the photograph of each.
            lambda: [straightforward.read_photograph(image_set.path(instance.file)) for instance in instances],
        ),
        (
            "crop",
            lambda: [crop_person(image, *place, size) for (image, _), place in zip(pairs, places, strict=True)],
            lambda: [straightforward.crop(image, instance, spec) for image, instance in pairs],
        ),
        (
            "normalise",
            lambda: [normalize(crop, spec.input) for crop in crops],
            lambda: [straightforward.normalize(crop, spec) for crop in crops],
        ),
        (
            "decode heatmaps",
            decode_all,
            lambda: [straightforward.decode(m, i, spec) for m, i in zip(heatmaps, instances, strict=True)],
        ),
        (
            "rescore, OKS-NMS",
            lambda: task.results(image_set, instances, found),
            lambda: straightforward.rescore_and_suppress(people, instances, spec, keypoints),
        ),
        (
            "COCOeval",
            lambda: measure_keypoints(image_set.annotations.as_coco(), results, keypoints),
            None,  # pycocotools either way
        ),
    ]
    parts = [
        Part(
            what,
            median_milliseconds(ours, repeats, count),
            median_milliseconds(plain, repeats, count) if plain else None,
        )
        for what, ours, plain in timed
    ]
    run = lambda tensors: [network.run_once({name: tensor}) for tensor in tensors]  # noqa: E731
    slow = max(1, min(3, repeats))  # a forward pass takes a hundred times as long as any part
    return {
        "people": count,
        "images": len(paths),
        "parts": parts,
        "inference": median_milliseconds(lambda: network.run({name: inputs}), slow, count),
        "overlapped": median_milliseconds(
            lambda: list(stream(image_set, instances, batches, FixedInput(task, False), run)), slow, count
        ),
    }
