"""Running a network over all evaluation instances, in chunks whose tensors fit into a fixed amount of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

from common.errors import UserError
from common.imageset import ImageSet, Instance
from common.predictions import Predictions, concatenate
from common.samples import input_bytes, network_inputs
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
    for start in tqdm(range(done, len(instances), size), desc=where, disable=None):
        shown = instances[start : start + size]
        outputs = runner(network_inputs(image_set, shown, task))
        parts.append(task.decode(outputs, shown).shifted(start))
    return concatenate(parts, parts[0].keypoints.shape[1])
