"""The networks that `make draw` and `make video` show, and what they find: float, and beside it the chip.

    frames -> chunks -> people's boxes (common/drawing/person_boxes.py) -> network inputs -> float  -> Seen, one a frame
                                                                                 -> chip   /

The chip's side is the artifact in the vendor's simulator; every chunk of frames is one start of it. A set of any length
takes the memory of one chunk.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from common import plan
from common.basics.errors import USAGE_EXIT, UserError
from common.basics.files import read_json
from common.datasets.imageset import Instance
from common.declarations.asked import resize
from common.declarations.keypoints import keypoint_set
from common.declarations.spec import load_chip, load_model, model_names
from common.decoding.predictions import Predictions, concatenate
from common.drawing.image import shown_score
from common.evaluation.evaluated_network import FLOAT, ChipNetwork, EvaluatedNetwork, FloatNetwork, find_network
from common.evaluation.inference import chunk_size
from common.evaluation.streaming import stack
from common.job import FloatReference
from common.metrics.agreement import Agreement
from common.tasks import Task

CHUNK_BYTES = 200_000_000  # of frames that are held at once
CHUNK_FRAMES = 64  # so that a slow simulator shows progress now and then


@dataclass(frozen=True)
class Frame:
    """A picture, or a frame of a clip: uint8 [h, w, 3] BGR; what to call it; and the file that it is, if it is one."""

    name: str
    image: np.ndarray
    path: Path | None = None


class Finder(Protocol):
    """Says where a network looks. words: who found the people, for the caption; empty: nobody had to."""

    words: str
    outlined: bool  # whether the boxes are worth drawing

    def boxes(self, frames: Sequence[Frame]) -> list[list[Instance]]:
        """The network inputs of each frame; their image_id is the frame's index."""


@dataclass(frozen=True)
class Seen:
    """One frame and what was found in it.

    found: by float and, where there is one, by the chip; `instance` counts the frame's own instances. agreement: of the
    chip with float; None without a chip, or where nobody was looked at.
    """

    frame: Frame
    instances: list[Instance]
    found: list[Predictions]
    agreement: Agreement | None


class Sides:
    """Float, and the chip's network or None; the seconds that the chip's side took add up in `seconds`."""

    def __init__(self, reference: EvaluatedNetwork, chip: EvaluatedNetwork | None, random_weights: bool = False):
        self.networks = [reference] + ([chip] if chip else [])
        self.chip, self.task, self.random_weights = chip, reference.task, random_weights
        self.seconds = 0.0

    @property
    def model(self) -> str:
        return self.task.spec.name

    @property
    def titles(self) -> list[str]:
        """What stands on the panels: 'float', 'chip variant'."""
        return [FLOAT] + ([" ".join(self.chip.title.split("/")[1:])] if self.chip else [])

    @property
    def file_words(self) -> str:
        """For the names of files: model-chip-variant."""
        return "-".join([self.model, *(self.chip.title.split("/")[1:] if self.chip else [FLOAT])])

    @property
    def double(self) -> bool:
        """Whether a stand-in of the SDK computes the chip's side."""
        return isinstance(self.chip, ChipNetwork) and self.chip.cell.double

    def look(self, frames: Iterable[Frame], finder: Finder) -> Iterator[Seen]:
        """What is found in each frame, in order. Raises UserError when a network or its simulator fails."""
        for chunk in chunks_of(frames, min(CHUNK_FRAMES, chunk_size(self.task))):
            yield from self._look_at(chunk, finder)
            chunk.clear()  # the next one is gathered while this name still stands for the last

    def _look_at(self, chunk: list[Frame], finder: Finder) -> Iterator[Seen]:
        inputs = finder.boxes(chunk)
        everything = self._find([(frame, one) for frame, some in zip(chunk, inputs, strict=True) for one in some])
        first = 0
        for frame, instances in zip(chunk, inputs, strict=True):
            found = [part_of(one, first, first + len(instances)) for one in everything]
            first += len(instances)
            agreement = self.task.agreement(*found, instances) if instances and self.chip else None
            yield Seen(frame, instances, found, agreement)

    def _find(self, pairs: Sequence[tuple[Frame, Instance]]) -> list[Predictions]:
        found = []
        for network in self.networks:
            began = time.monotonic()
            found.append(find_in(network, pairs))
            if network is self.chip:
                self.seconds += time.monotonic() - began
        return found


def find_in(network: EvaluatedNetwork, pairs: Sequence[tuple[Frame, Instance]]) -> Predictions:
    """What a network finds in these inputs, each a frame and the instance to look at; `instance` counts the pairs."""
    task, parts = network.task, []
    size = chunk_size(task)
    for start in range(0, len(pairs), size):
        shown = pairs[start : start + size]
        outputs = network.run([task.input_of(frame.image, instance)[None] for frame, instance in shown])
        parts.append(task.decode(stack(outputs), [instance for _, instance in shown]).shifted(start))
    return concatenate(parts, joints_of(task))


def joints_of(task: Task) -> int:
    """K of the task's predictions; 0 for a plain detector."""
    return keypoint_set(task.spec.keypoints).count if task.spec.keypoints else 0


def mean_agreement(agreements: Iterable[Agreement | None]) -> tuple[float, int]:
    """(mean, how many) over all that was compared, however it spreads over the pictures; (1.0, 0) for nothing."""
    counted = [agreement for agreement in agreements if agreement and agreement.compared]
    count = sum(agreement.compared for agreement in counted)
    total = sum(agreement.overall * agreement.compared for agreement in counted)
    return (total / count if count else 1.0), count


def part_of(found: Predictions, first: int, last: int) -> Predictions:
    """Those of the inputs first..last - 1, counted from the first of them."""
    ends = np.searchsorted(found.instance, [first, last])
    return found.select(slice(int(ends[0]), int(ends[1]))).shifted(-first)


def shown(task: Task, found: Predictions) -> Predictions:
    """What people would call found: of a network that looks at whole photographs, those that score enough."""
    return found if task.spec.task == "topdown_pose" else found.select(found.scores >= shown_score(task.spec))


def chunks_of(frames: Iterable[Frame], count: int) -> Iterator[list[Frame]]:
    """Lists of at most `count` frames and about CHUNK_BYTES."""
    chunk: list[Frame] = []
    size = 0
    for frame in frames:
        chunk.append(frame)
        size += frame.image.nbytes
        if len(chunk) >= count or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def find_built(model: str, spec: str, size: str, chip: str, variant: str) -> EvaluatedNetwork:
    """find_network(), and without a variant the only one that was built; a network of one's own goes by its name, too.

    Raises UserError: unknown names, or several variants to choose from (exit 2); not built, with the command that does.
    """
    spec = spec or own_spec(model)
    if (model or spec) and chip and chip != FLOAT and not variant:
        name = resize(load_model(spec or model), size).name
        variant = only_variant(name, chip, f"SPEC={spec} ONNX=file.onnx" if spec else f"MODEL={model}")
    return find_network(model, spec, size, chip, variant)


def own_spec(model: str) -> str:
    """The SPEC= that a network of the user's own was built from, where this is its name; else nothing."""
    source = plan.OUT / model / FLOAT / "source.json"
    if not model or model in model_names() or not source.is_file():
        return ""
    return read_json(source).get("spec_path") or ""


def only_variant(name: str, chip: str, words: str) -> str:
    """The variant of this network and chip that was built. Raises UserError for none or (exit 2) several."""
    load_chip(chip)  # an unknown chip is said to be one, and not to be unbuilt
    built = sorted(path.parent.name for path in (plan.OUT / name / chip).glob("*/compile.json"))
    if not built:
        raise UserError(f"{name} has not been built for {chip}", f"make {chip} {words}")
    if len(built) > 1:
        listed = " or ".join(f"VARIANT={variant}" for variant in built)
        raise UserError(f"which variant of {name} on {chip}? {len(built)} are built", listed, USAGE_EXIT)
    return built[0]


def reference_of(network: EvaluatedNetwork) -> FloatReference:
    """The float network that a built network is, or was made of."""
    return FloatReference(network.cell.float.folder if isinstance(network, ChipNetwork) else network.folder)


def has_random_weights(network: EvaluatedNetwork) -> bool:
    """Whether a built network was never trained."""
    return reference_of(network).source["origin"] == "random"


def find_sides(model: str, spec: str, size: str, chip: str, variant: str) -> Sides:
    """The float network that make's variables name and, unless CHIP=float, its artifact. Raises like find_built()."""
    network = find_built(model, spec, size, chip, variant)
    reference = FloatNetwork(reference_of(network))
    return Sides(reference, None if chip == FLOAT else network, has_random_weights(network))
