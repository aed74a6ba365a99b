"""The proof inputs: the first of the evaluation set, made exactly as at run time; every chip is shown the same ones.

python -m common.samples out/<model>/float     writes samples.npz and samples.json
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from common.basics.errors import UserError, run
from common.basics.files import replacing, write_json
from common.basics.progress import Progress
from common.datasets.imageset import ImageSet, Instance
from common.declarations.spec import ModelSpec
from common.job import FloatReference
from common.tasks import Task, task_of

MAXIMUM_SAMPLES = 256
MAXIMUM_BYTES = 150_000_000  # the samples lie beside every cell and are read whole
STEP = 16  # inputs that are made, or run, before the progress is told
EXPORTED_INPUT = "image"  # the input name that common.export gives


def evaluation_set(reference: FloatReference) -> ImageSet:
    """The evaluation images that were asked for: EVAL=, or with LIMIT= the first of them."""
    image_set = ImageSet.open(reference.evaluation_folder)
    limit = reference.evaluation_request.get("limit")
    return image_set.first(limit) if limit else image_set


def with_images(image_set: ImageSet, instances: Sequence[Instance]) -> Iterator[tuple[np.ndarray, Instance]]:
    """Each instance with its photograph, uint8 [H, W, 3] BGR. One that has several instances in a row is read once."""
    file, image = None, np.zeros(0)
    for instance in instances:
        if instance.file != file:
            file, image = instance.file, image_set.read(instance)
        yield image, instance


def network_inputs(image_set: ImageSet, instances: Sequence[Instance], task: Task) -> np.ndarray:
    """What the graph eats for these instances: float32 [N, C, H, W], normalised as the spec declares."""
    inputs = np.empty((len(instances), *task.spec.input.shape[1:]), np.float32)
    for index, (image, instance) in enumerate(with_images(image_set, instances)):
        inputs[index] = task.input_of(image, instance)
    return inputs


def input_bytes(spec: ModelSpec) -> int:
    """The size of one network input in float32."""
    return 4 * int(np.prod(spec.input.shape))


def sample_count(instances: int, spec: ModelSpec) -> int:
    """How many of the evaluation instances become proof inputs: at most 256, and at most 150 MB of tensors."""
    return max(1, min(instances, MAXIMUM_SAMPLES, MAXIMUM_BYTES // input_bytes(spec)))


def input_name(reference: FloatReference) -> str:
    """The graph's input name: the user's own for an ONNX that was brought, "image" for what npumake exports."""
    if reference.source["kind"] != "onnx":
        return EXPORTED_INPUT
    from common.graphs.onnx_graph import graph_inputs, load_onnx  # here: only a network that came as ONNX has names

    inputs = graph_inputs(load_onnx(reference.source["path"]))
    if len(inputs) != 1:
        names = ", ".join(tensor.name for tensor in inputs)
        path = reference.source["path"]
        raise UserError(f"{path} has {len(inputs)} inputs ({names}), the network has one image")
    return inputs[0].name


def make_samples(reference: FloatReference) -> None:
    """Write samples.npz ({input name: float32 [N, C, H, W]}) and samples.json of the float reference."""
    task = task_of(reference.spec)
    image_set = evaluation_set(reference)
    instances = task.instances(image_set)
    if image_set.has_keypoints and (missing := task.ground_truth_missing(image_set)):
        print(f"warning: {missing}: agreement is measured, accuracy is not", file=sys.stderr)
    name = input_name(reference)
    shown = instances[: sample_count(len(instances), reference.spec)]
    inputs = np.empty((len(shown), *reference.spec.input.shape[1:]), np.float32)
    with Progress(f"samples {reference.spec.name}", len(shown), unit="inputs") as progress:
        for start in range(0, len(shown), STEP):
            some = shown[start : start + STEP]
            inputs[start : start + STEP] = network_inputs(image_set, some, task)
            progress.advance(len(some))
    description = {
        "version": 1,
        "set": str(image_set.folder),
        "image_folder": str(image_set.image_folder),
        "boxes": image_set.box_source,
        "ground_truth": task.ground_truth_missing(image_set) is None,
        "evaluation_instances": len(instances),
        "input": name,
        "instances": [task.describe(instance) for instance in shown],
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
