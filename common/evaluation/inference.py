"""Running a network over all evaluation instances, in chunks whose tensors fit into a fixed amount of memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from common.basics.errors import UserError
from common.basics.progress import Progress
from common.datasets.imageset import ImageSet, Instance
from common.decoding.predictions import Predictions, concatenate
from common.engines import engine
from common.job import Cell
from common.samples import input_bytes, load_arrays, network_inputs
from common.tasks import Outputs, Task

CHUNK_BYTES = 64_000_000

Runner = Callable[[np.ndarray], Outputs]


def chunk_size(task: Task) -> int:
    """How many network inputs are run at once: 64 MB of them, at least one."""
    return max(1, CHUNK_BYTES // input_bytes(task.spec))


def predict(
    task: Task, image_set: ImageSet, instances: Sequence[Instance], known: Outputs, runner: Runner, where: str
) -> Predictions:
    """What the network finds in all instances.

    known: outputs of the first instances, which were run already. runner: takes float32 [n, C, H, W], returns the
    outputs by name; it is called on the others, chunk by chunk. Raises UserError when the counts do not fit.
    """
    done = len(next(iter(known.values())))
    if done > len(instances):
        raise UserError(f"{where}: {done} outputs for {len(instances)} instances", "run the same make again")
    size = chunk_size(task)
    parts = [
        task.decode({name: value[start : start + size] for name, value in known.items()},
                    instances[start : min(start + size, done)]).shifted(start)
        for start in range(0, done, size)
    ]  # fmt: skip
    with Progress(where, len(instances), done, task.unit) as progress:
        for start in range(done, len(instances), size):
            shown = instances[start : start + size]
            outputs = runner(network_inputs(image_set, shown, task))
            parts.append(task.decode(outputs, shown).shifted(start))
            progress.advance(len(shown))
    return concatenate(parts, parts[0].keypoints.shape[1])


def chip_runner(cell: Cell, input_name: str) -> Runner:
    """A runner that hands inputs to the vendor's infer.py and reads its outputs back."""

    def run_chunk(inputs: np.ndarray) -> dict[str, np.ndarray]:
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=cell.folder) as folder:
            samples, outputs = Path(folder) / "samples.npz", Path(folder) / "outputs.npz"
            np.savez(samples, **{input_name: inputs})
            engine.infer(cell.folder, samples, outputs)
            return load_arrays(outputs)

    return run_chunk
