"""The float reference: onnxruntime's outputs on the proof inputs, and what it finds in all evaluation instances.

python -m common.reference out/<model>/float     writes outputs.npz and predictions.json
"""

from __future__ import annotations

import sys

import numpy as np

from common.basics.errors import UserError, run
from common.basics.files import replacing
from common.decoding.predictions import write_predictions
from common.evaluation.inference import predict
from common.graphs.onnx_graph import Runner
from common.job import FloatReference
from common.samples import evaluation_set, load_arrays
from common.tasks import task_of


def make_reference(reference: FloatReference) -> None:
    """Run the float network: outputs.npz for the samples, predictions.json for every evaluation instance."""
    task = task_of(reference.spec)
    image_set = evaluation_set(reference)
    instances = task.instances(image_set)
    samples = load_arrays(reference.folder / "samples.npz")
    if len(samples) != 1:
        raise UserError(f"{reference.folder / 'samples.npz'} has {len(samples)} inputs, the network has one")
    name = next(iter(samples))
    network = Runner(reference.folder / "model.onnx")
    outputs = network.run(samples)
    found = predict(task, image_set, instances, outputs, lambda inputs: network.run({name: inputs}), "float reference")
    with replacing(reference.folder / "outputs.npz") as temporary:
        np.savez(temporary, **outputs)
    write_predictions(reference.folder / "predictions.json", instances, found)  # last: make goes by this file


def main() -> None:
    """python -m common.reference FLOAT_FOLDER"""
    make_reference(FloatReference(sys.argv[1]))


if __name__ == "__main__":
    run(main)
