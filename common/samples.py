"""The proof inputs: the people of the evaluation set, cropped as at run time; every chip is shown the same ones.

python -m common.samples out/<model>/float     writes samples.npz and samples.json
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from common.errors import UserError, run
from common.files import replacing, write_json
from common.imageset import ImageSet, Instance
from common.job import FloatReference
from common.keypoints import keypoint_set
from common.onnx_graph import graph_inputs, load_onnx
from common.preprocess import box_to_center_scale, crop_person, normalize, read_image

MAXIMUM_SAMPLES = 256
MAXIMUM_BYTES = 150_000_000  # the samples lie beside every cell and are read whole
# Without ground truth a proof needs real people: a detector's long tail of empty boxes says nothing.
DETECTION_SCORE = 0.3
EXPORTED_INPUT = "image"  # the input name that common.export gives


def evaluation_instances(image_set: ImageSet, spec: Any) -> list[Instance]:
    """The people that are measured on: annotated ones, else detections with a score of at least 0.3.

    Raises UserError when there are none.
    """
    instances = image_set.instances("auto", DETECTION_SCORE, spec.decode.ground_truth_boxes)
    if not instances:
        raise UserError(
            f"evaluation set {image_set.folder} has no person boxes",
            "add person_keypoints.json (COCO ground truth, AP is measured) or person_detections.json (agreement only)",
        )
    return instances


def geometry(instances: Sequence[Instance], spec: Any) -> tuple[np.ndarray, np.ndarray]:
    """Centres and scales of the crops: two float32 [N, 2]; scales in units of 200 px, padding included."""
    aspect_ratio = spec.input.width / spec.input.height
    pairs = [box_to_center_scale(instance.box, aspect_ratio, spec.decode.padding) for instance in instances]
    if not pairs:
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    return np.stack([center for center, _ in pairs]), np.stack([scale for _, scale in pairs])


def person_crops(image_set: ImageSet, instances: Sequence[Instance], spec: Any) -> np.ndarray:
    """Cut the people out: uint8 [N, H, W, 3] BGR at the network's input size. An image is read once for its run."""
    size = (spec.input.width, spec.input.height)
    crops = np.empty((len(instances), size[1], size[0], 3), np.uint8)
    centers, scales = geometry(instances, spec)
    file, image = None, None
    for index, instance in enumerate(instances):
        if instance.file != file:
            file, image = instance.file, read_image(image_set.path(instance.file))
        crops[index] = crop_person(image, centers[index], scales[index], size)
    return crops


def network_inputs(image_set: ImageSet, instances: Sequence[Instance], spec: Any) -> np.ndarray:
    """What the graph eats for these people: float32 [N, C, H, W], normalised as the spec declares."""
    inputs = np.empty((len(instances), *spec.input.shape[1:]), np.float32)
    for index, crop in enumerate(person_crops(image_set, instances, spec)):
        inputs[index] = normalize(crop, spec.input)
    return inputs


def sample_count(instances: int, spec: Any) -> int:
    """How many of the evaluation instances become proof inputs: at most 256, and at most 150 MB of tensors."""
    one = 4 * int(np.prod(spec.input.shape))
    return max(1, min(instances, MAXIMUM_SAMPLES, MAXIMUM_BYTES // one))


def input_name(reference: FloatReference) -> str:
    """The graph's input name: the user's own for an ONNX that was brought, "image" for what npumake exports."""
    if reference.source["kind"] != "onnx":
        return EXPORTED_INPUT
    inputs = graph_inputs(load_onnx(reference.source["path"]))
    if len(inputs) != 1:
        names = ", ".join(tensor.name for tensor in inputs)
        path = reference.source["path"]
        raise UserError(f"{path} has {len(inputs)} inputs ({names}), a top-down network has one image")
    return inputs[0].name


def describe(instance: Instance, center: np.ndarray, scale: np.ndarray) -> dict[str, Any]:
    """One instance as samples.json and the calibration manifest list it."""
    return {
        "image_id": instance.image_id,
        "file": instance.file,
        "annotation_id": instance.annotation_id,
        "box": list(instance.box),
        "area": instance.area,
        "score": instance.score,
        "center": [float(value) for value in center],
        "scale": [float(value) for value in scale],
    }


def make_samples(reference: FloatReference) -> None:
    """Write samples.npz ({input name: float32 [N, C, H, W]}) and samples.json of the float reference."""
    spec = reference.spec
    image_set = ImageSet.open(reference.evaluation_folder)
    image_set.check_keypoints(keypoint_set(spec.decode.keypoints))
    instances = evaluation_instances(image_set, spec)
    name = input_name(reference)
    shown = instances[: sample_count(len(instances), spec)]
    inputs = np.empty((len(shown), *spec.input.shape[1:]), np.float32)
    for start in tqdm(range(0, len(shown), 16), desc="samples", disable=None):
        inputs[start : start + 16] = network_inputs(image_set, shown[start : start + 16], spec)
    centers, scales = geometry(shown, spec)
    description = {
        "version": 1,
        "set": str(image_set.folder),
        "image_folder": str(image_set.image_folder),
        "boxes": image_set.box_source,
        "ground_truth": image_set.has_keypoints,
        "evaluation_instances": len(instances),
        "input": name,
        "instances": [describe(*sample) for sample in zip(shown, centers, scales, strict=True)],
    }
    with replacing(reference.folder / "samples.npz") as temporary:
        np.savez(temporary, **{name: inputs})
    write_json(reference.folder / "samples.json", description)  # last: make goes by this file


def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Read an .npz of plain arrays. Raises UserError when it is missing, damaged, or needs pickle."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UserError(f"{path} is missing", "run the make that produces it again") from None
    except Exception as error:  # zipfile, zlib and numpy each have their own for a damaged archive
        raise UserError(f"{path} is damaged: {error}", "remove it and run the same make again") from None


def main() -> None:
    """python -m common.samples FLOAT_FOLDER"""
    make_samples(FloatReference(sys.argv[1]))


if __name__ == "__main__":
    run(main)
