"""The float reference: onnxruntime's outputs on the proof inputs, and what it finds in all evaluation instances.

python -m common.reference out/<model>/float     writes outputs.npz and predictions.json
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

from common.basics.errors import UserError, run
from common.basics.files import replacing
from common.basics.progress import Progress
from common.decoding.predictions import write_predictions
from common.evaluation.inference import predict
from common.job import FloatReference
from common.samples import STEP, evaluation_set, load_arrays
from common.tasks import Outputs, task_of

if TYPE_CHECKING:
    from common.graphs.onnx_graph import Runner


def run_samples(network: Runner, name: str, samples: np.ndarray, what: str) -> Outputs:
    """The network's outputs on the proof inputs, float32 [N, C, H, W]: {output name: [N, ...]}."""
    parts = []
    with Progress(what, len(samples), unit="inputs") as progress:
        for start in range(0, len(samples), STEP):
            parts.append(network.run({name: samples[start : start + STEP]}))
            progress.advance(min(STEP, len(samples) - start))
    return {output: np.concatenate([part[output] for part in parts]) for output in parts[0]}


def make_reference(reference: FloatReference) -> None:
    """Run the float network: outputs.npz for the samples, predictions.json for every evaluation instance."""
    from common.graphs.onnx_graph import Runner  # here: onnx takes a moment, and run_samples() works without

    task = task_of(reference.spec)
    image_set = evaluation_set(reference)
    instances = task.instances(image_set)
    samples = load_arrays(reference.folder / "samples.npz")
    if len(samples) != 1:
        raise UserError(f"{reference.folder / 'samples.npz'} has {len(samples)} inputs, the network has one")
    name = next(iter(samples))
    network = Runner(reference.folder / "model.onnx")
    what = f"reference {reference.spec.name}"
    outputs = run_samples(network, name, samples[name], what)
    found = predict(task, image_set, instances, outputs, lambda inputs: network.run({name: inputs}), what)
    with replacing(reference.folder / "outputs.npz") as temporary:
        np.savez(temporary, **outputs)
    write_predictions(reference.folder / "predictions.json", instances, found)  # last: make goes by this file


def main() -> None:
    """python -m common.reference FLOAT_FOLDER"""
    make_reference(FloatReference(sys.argv[1]))


if __name__ == "__main__":
    run(main)
