"""What pictures are drawn from: the outputs of both networks on the proof inputs, checked to belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.basics.errors import UserError
from common.basics.files import read_json
from common.datasets.imageset import Instance
from common.decoding.predictions import Predictions
from common.job import Cell
from common.samples import load_arrays
from common.tasks import Outputs, Task, instance_of, task_of


@dataclass(frozen=True)
class Evidence:
    """One cell's proof. float_outputs, chip_outputs: by name, [N, ...]; described: the instances of samples.json."""

    cell: Cell
    task: Task
    title: str
    image_folder: Path
    described: list[dict[str, Any]]
    float_outputs: Outputs
    chip_outputs: Outputs
    compared: dict[str, Any]

    @property
    def count(self) -> int:
        return len(self.described)

    @property
    def warning(self) -> str | None:
        """What every picture of random weights says; else None. A stand-in's pictures are under a band that says so."""
        drawn = "skeletons" if self.cell.spec.keypoints else "boxes"
        random = self.cell.weights == "random"
        return f"random weights: the {drawn} mean nothing, only how well the two sides agree" if random else None

    @property
    def sides(self) -> tuple[Outputs, Outputs]:
        return self.float_outputs, self.chip_outputs

    def instance(self, index: int) -> Instance:
        return instance_of(self.described[index])

    def found(self, index: int) -> tuple[Predictions, Predictions]:
        """What float and the chip find in one network input."""
        return tuple(
            self.task.decode(
                {name: value[index : index + 1] for name, value in outputs.items()}, [self.instance(index)]
            )
            for outputs in self.sides
        )

    def agreement(self, index: int) -> float:
        return self.compared["agreement_instances"][index]


@dataclass(frozen=True)
class Pair:
    """One sample drawn twice. left, right: float and chip, uint8 [h, w, 3] BGR of one size; words: what to see."""

    index: int
    file: str
    agreement: float
    left: np.ndarray
    right: np.ndarray
    words: str


def load_evidence(cell: Cell) -> Evidence:
    """Read what a cell's pictures need. Raises UserError when its files do not belong together."""
    described = read_json(cell.float_folder / "samples.json")
    compared = read_json(cell.folder / "compare.json")
    sides = [load_arrays(folder / "outputs.npz") for folder in (cell.float_folder, cell.folder)]
    shapes = [{name: value.shape for name, value in outputs.items()} for outputs in sides]
    instances = described["instances"]
    counts = {len(value) for value in sides[0].values()} | {len(compared.get("agreement_instances", []))}
    if shapes[0] != shapes[1] or counts != {len(instances)}:
        raise UserError(
            f"{cell.name}: outputs, samples and compare.json are of different runs",
            "remove the cell's outputs.npz and run the same make again",
        )
    title = f"{cell.chip} {cell.variant}"
    folder = Path(described.get("image_folder") or described["set"])
    return Evidence(cell, task_of(cell.spec), title, folder, instances, *sides, compared)
