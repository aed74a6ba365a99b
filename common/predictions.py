"""Running a network over all evaluation instances in chunks, and what it said about each of them.

predictions.json: {"instances": [{"image_id", "annotation_id", "keypoints": [x, y, score, ...], "score"}]}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from common.decode import decode_people
from common.errors import UserError
from common.files import read_json, write_json
from common.imageset import ImageSet, Instance
from common.keypoints import KeypointSet, keypoint_set
from common.samples import geometry, network_inputs

CHUNK = 256
COUNTED_SCORE = 0.2  # HRNet TEST.IN_VIS_THRE: weaker keypoints do not count in a person's score

Runner = Callable[[np.ndarray], dict[str, np.ndarray]]


def heatmaps_of(outputs: dict[str, np.ndarray], keypoints: KeypointSet, where: str) -> np.ndarray:
    """Pick the heatmaps [N, K, h, w] among a network's outputs and check them.

    Of several outputs with K channels (stacked hourglass) the last one counts: it is the final stage.
    Raises UserError when none fits or a value is not finite.
    """
    fitting = [name for name, value in outputs.items() if value.ndim == 4 and value.shape[1] == keypoints.count]
    if not fitting:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in outputs.items())
        raise UserError(
            f"{where}: no output is a heatmap of {keypoints.count} channels ({keypoints.name}): {shapes}",
            "check decode.keypoints in the model's YAML",
        )
    check_finite(outputs[fitting[-1]], f"{where}, output {fitting[-1]}")
    return outputs[fitting[-1]]


def check_finite(values: np.ndarray, where: str) -> None:
    """UserError that names the first sample and channel with a NaN or an infinity."""
    if not np.isfinite(values).all():
        first = np.argwhere(~np.isfinite(values))[0]
        place = f"sample {first[0]}" + (f", channel {first[1]}" if len(first) > 1 else "")
        raise UserError(f"{where} is not finite ({values[tuple(first)]}) at {place}", "an overflow: check the scales")


def instance_scores(people: np.ndarray, box_scores: np.ndarray) -> np.ndarray:
    """A person's score: box score times the mean of the keypoint scores above 0.2 (none: 0).

    people: [N, K, 3]; box_scores: [N]. Source: HRNet lib/dataset/coco.py evaluate (rescoring).
    """
    scores = people[..., 2].astype(np.float64)
    counted = scores > COUNTED_SCORE
    mean = (scores * counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    return mean * np.asarray(box_scores, np.float64)


def predict(
    image_set: ImageSet,
    instances: Sequence[Instance],
    spec: Any,
    known: dict[str, np.ndarray],
    runner: Runner,
    where: str,
) -> np.ndarray:
    """Keypoints of all instances: float32 [N, K, 3], x and y in image pixels and the raw peak value.

    known: outputs of the first instances, which were run already. runner: takes float32 [n, C, H, W], returns
    the outputs by name; it is called on the others, 256 at a time, so that memory stays small.
    """
    keypoints = keypoint_set(spec.decode.keypoints)
    centers, scales = geometry(instances, spec)
    done = len(heatmaps_of(known, keypoints, where))
    if done > len(instances):
        raise UserError(f"{where}: {done} outputs for {len(instances)} instances", "run the same make again")
    parts = [decode_people(heatmaps_of(known, keypoints, where), centers[:done], scales[:done], spec.decode.refine)]
    for start in tqdm(range(done, len(instances), CHUNK), desc=where, disable=None):
        chunk = slice(start, min(start + CHUNK, len(instances)))
        heatmaps = heatmaps_of(runner(network_inputs(image_set, instances[chunk], spec)), keypoints, where)
        if len(heatmaps) != chunk.stop - chunk.start:
            raise UserError(f"{where}: {len(heatmaps)} outputs for {chunk.stop - chunk.start} inputs")
        parts.append(decode_people(heatmaps, centers[chunk], scales[chunk], spec.decode.refine))
    return np.concatenate(parts)


def write_predictions(path: Path, instances: Sequence[Instance], people: np.ndarray) -> None:
    """Write predictions.json; people: [N, K, 3] in the order of instances."""
    scores = instance_scores(people, np.array([instance.score for instance in instances]))
    entries = [
        {
            "image_id": instance.image_id,
            "annotation_id": instance.annotation_id,
            "keypoints": [round(float(value), 4) for value in person.reshape(-1)],
            "score": float(score),
        }
        for instance, person, score in zip(instances, people, scores, strict=True)
    ]
    write_json(path, {"instances": entries})


def read_predictions(path: Path, instances: Sequence[Instance], keypoints: KeypointSet) -> np.ndarray:
    """Read predictions.json as float32 [N, K, 3]. Raises UserError when it is of other instances."""
    entries = read_json(path)["instances"]
    asked = [(instance.image_id, instance.annotation_id) for instance in instances]
    if [(entry["image_id"], entry["annotation_id"]) for entry in entries] != asked:
        raise UserError(f"{path} is of another evaluation set", f"remove {path.parent} and run the same make again")
    people = np.array([entry["keypoints"] for entry in entries], np.float32)
    return people.reshape(len(entries), keypoints.count, 3)
