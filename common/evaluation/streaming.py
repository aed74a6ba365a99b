"""Reading, running and decoding at the same time, in constant memory, with results that timing cannot change.

    reader thread             this thread              decoder thread
    decode JPEG, crop,   -->  onnxruntime or      -->  heatmaps or maps   -->  Predictions, batch by batch,
    normalise                 the vendor's tool        to people               in the order of the instances

At most AHEAD batches wait on either side, so a set of any size takes the memory of a few batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy as np

from common.basics.errors import UserError
from common.datasets.imageset import ImageSet, Instance
from common.decoding.predictions import Predictions, concatenate
from common.tasks import Outputs, Task, image_size

AHEAD = 3
Item = TypeVar("Item")
# Takes network inputs, float32 [1, C, H, W] each, and gives the outputs of each by name, [1, ...].
RunAll = Callable[[list[np.ndarray]], list[Outputs]]


def pipelined(
    items: Iterable[Item],
    prepare: Callable[[Item], Any],
    run: Callable[[Any], Any],
    finish: Callable[[Item, Any], Any],
    ahead: int = AHEAD,
) -> Iterator[tuple[Item, Any]]:
    """Yield (item, finish(item, run(prepare(item)))) for each item, in order.

    prepare works in one thread of its own, up to `ahead` items early; run in the caller's; finish in a third one. An
    exception in any of them comes out here, in its item's turn. Both threads have ended when the generator has.
    """
    source = iter(items)
    reader, decoder = (ThreadPoolExecutor(1, thread_name_prefix=name) for name in ("reader", "decoder"))
    prepared: deque[tuple[Item, Future]] = deque()
    finished: deque[tuple[Item, Future]] = deque()
    exhausted = False
    try:
        while True:
            while len(prepared) < ahead and not exhausted:
                try:
                    item = next(source)
                except StopIteration:
                    exhausted = True
                else:
                    prepared.append((item, reader.submit(prepare, item)))
            if not prepared:
                break
            item, waiting = prepared.popleft()
            finished.append((item, decoder.submit(finish, item, run(waiting.result()))))
            while len(finished) >= ahead:
                item, waiting = finished.popleft()
                yield item, waiting.result()
        while finished:
            item, waiting = finished.popleft()
            yield item, waiting.result()
    finally:
        for executor in (reader, decoder):
            executor.shutdown(wait=True, cancel_futures=True)


class Method(Protocol):
    """How one instance becomes network inputs, and their outputs predictions.

    share: how many inputs of the declared size those of one instance take the memory of. text: for the protocol, what
    the task does not say itself.
    """

    share: float
    text: str

    def inputs(self, image: np.ndarray, instance: Instance) -> list[np.ndarray]:
        """Always the same number of float32 [1, C, H, W], from a uint8 [h, w, 3] BGR photograph."""

    def decode(self, outputs: list[Outputs], instances: Sequence[Instance]) -> Predictions:
        """The outputs of all inputs of the instances, one after the other; `instance` counts from 0 among them."""


class FixedInput:
    """The task's own input of the declared size, as a chip is shown it; flip: and its mirror image."""

    text = ""

    def __init__(self, task: Task, flip: bool):
        self.task, self.flip = task, flip
        self.share = 2.0 if flip else 1.0

    def inputs(self, image: np.ndarray, instance: Instance) -> list[np.ndarray]:
        """[1, C, H, W], and with the flip test the mirrored one after it."""
        tensor = self.task.input_of(image, instance)[None]
        return [tensor, np.ascontiguousarray(tensor[..., ::-1])] if self.flip else [tensor]

    def decode(self, outputs: list[Outputs], instances: Sequence[Instance]) -> Predictions:
        """See Method."""
        if not self.flip:
            return self.task.decode(stack(outputs), instances)
        return self.task.decode(stack(outputs[0::2]), instances, flipped=stack(outputs[1::2]))


class WholeImages:
    """The published protocol of a bottom-up network: any size, several scales (common/decoding/bottomup.py)."""

    def __init__(self, published: Any, share: float):
        self.published, self.share, self.text = published, share, published.text

    def inputs(self, image: np.ndarray, instance: Instance) -> list[np.ndarray]:
        """One input for each scale, and with the flip test the mirrored one after it."""
        return self.published.inputs(image)

    def decode(self, outputs: list[Outputs], instances: Sequence[Instance]) -> Predictions:
        """See Method."""
        each = len(outputs) // len(instances)
        parts = []
        for index, instance in enumerate(instances):
            shown = outputs[index * each : (index + 1) * each]
            parts.append(self.published.decode(image_size(instance), shown).shifted(index))
        return concatenate(parts, parts[0].keypoints.shape[1])


def stack(outputs: Sequence[Outputs]) -> Outputs:
    """[{name: [1, ...]}, ...] -> {name: [N, ...]}."""
    return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}


def stream(
    image_set: ImageSet, instances: Sequence[Instance], batches: Iterable[range], method: Method, run: RunAll,
    ahead: int = AHEAD,
) -> Iterator[tuple[range, Predictions]]:  # fmt: skip
    """Yield (batch, what was found in its instances, counted from the batch's first one), in order.

    batches: ranges of indices into instances. A photograph with several instances in a row is decoded once.
    Raises UserError when an image is damaged, with its name, and when the number of outputs is another.
    """
    last: list[Any] = [None, None]  # of the one reader thread

    def prepare(batch: range) -> list[np.ndarray]:
        tensors: list[np.ndarray] = []
        for index in batch:
            instance = instances[index]
            if instance.file != last[0]:
                last[:] = instance.file, image_set.read(instance)
            tensors += method.inputs(last[1], instance)
        return tensors

    def finish(batch: range, outputs: list[Outputs]) -> Predictions:
        return method.decode(outputs, [instances[index] for index in batch])

    def checked_run(tensors: list[np.ndarray]) -> list[Outputs]:
        outputs = run(tensors)
        if len(outputs) != len(tensors):
            raise UserError(f"{len(outputs)} outputs for {len(tensors)} inputs", "see infer.log of the cell")
        return outputs

    yield from pipelined(batches, prepare, checked_run, finish, ahead)
