"""A built network as `make eval` runs it: the float graph in onnxruntime, or a chip's artifact in its simulator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import plan
from common.basics.errors import USAGE_EXIT, UserError
from common.basics.files import read_json, sha256_file
from common.cells.variant import read_variant
from common.compare import marks
from common.declarations import asked
from common.declarations.spec import chip_names, load_chip, load_model
from common.engines import engine
from common.evaluation.inference import chip_runner
from common.evaluation.streaming import FixedInput, Method, WholeImages
from common.job import Cell, FloatReference
from common.tasks import Outputs, Task, task_of

FLOAT = "float"


class EvaluatedNetwork:
    """What both kinds share. folder: where its results go; title: for people; task: of the declaration it was built by.

    whole_chunks: whether run() should get a whole piece at once, since starting it takes long. note: what stands behind
    the protocol, where something has to be known about the figures.
    """

    whole_chunks = False
    note = ""

    def __init__(self, folder: Path, title: str, task: Task):
        self.folder, self.title, self.task = folder, title, task

    def identity(self) -> dict[str, Any]:
        """What the network is, by hashes."""
        raise NotImplementedError

    def method(self, flip: bool, scales: Sequence[float] | None) -> Method:
        """How photographs are shown to it. Raises UserError (exit 2) when it has no such test."""
        if scales:
            raise UserError(
                f"SCALES= is for a bottom-up network at CHIP={FLOAT}, {self.title} is shown one size",
                "leave SCALES= out",
                USAGE_EXIT,
            )
        if flip and self.task.spec.task == "detection":  # before hours of work: decode() would refuse it after them
            raise UserError(f"{self.title} has no flip test: boxes cannot be averaged", "leave FLIP=1 out", USAGE_EXIT)
        return FixedInput(self.task, flip)

    def run(self, inputs: list[np.ndarray]) -> list[Outputs]:
        """The outputs by name, [1, ...], of each input [1, C, H, W]. Raises UserError when it fails."""
        raise NotImplementedError


class FloatNetwork(EvaluatedNetwork):
    """out/<model>/float/model.onnx in onnxruntime: one input at a time, as batches of 4 and 8 are no faster there."""

    def __init__(self, reference: FloatReference):
        super().__init__(reference.folder, f"{reference.spec.name} {FLOAT}", task_of(reference.spec))
        self._path = reference.folder / "model.onnx"
        self._runner: Any = None

    def identity(self) -> dict[str, Any]:
        """The hash of the graph, weights included."""
        return {"graph": sha256_file(self._path)}

    def method(self, flip: bool, scales: Sequence[float] | None) -> Method:
        """A bottom-up network by its authors' protocol, at any size; any other at its declared size."""
        spec = self.task.spec
        if spec.task == "bottomup_pose":
            from common.decoding.bottomup import PublishedProtocol
            from common.graphs.any_size import load_any_size  # here: onnx takes a moment, and a chip's cell needs none

            scales = tuple(scales or (1.0,))
            self._runner = load_any_size(self._path)
            # The long side is about one and a half times the short one, which is the declared one.
            share = 1.5 * sum(scale * scale for scale in scales) * (2 if flip else 1)
            return WholeImages(PublishedProtocol(spec, flip=flip, scales=scales), share)
        return super().method(flip, scales)

    def run(self, inputs: list[np.ndarray]) -> list[Outputs]:
        """See EvaluatedNetwork."""
        if self._runner is None:
            from common.graphs.onnx_graph import Runner

            self._runner = Runner(self._path)
        name = self._runner.inputs[0].name
        return [self._runner.run_once({name: tensor}) for tensor in inputs]


class ChipNetwork(EvaluatedNetwork):
    """A compiled cell. A piece of the set goes through the vendor's infer.py at once."""

    whole_chunks = True

    def __init__(self, cell: Cell):
        super().__init__(cell.folder, cell.name, task_of(cell.spec))
        self.cell = cell
        self.note = marks(cell).get("double", "")
        self._compiled = read_json(cell.folder / "compile.json")
        engine.check_artifact(cell, self._compiled)
        self._input = read_json(cell.folder / "job.json")["inputs"][0]["name"]

    def identity(self) -> dict[str, Any]:
        """The hashes of the artifact's files."""
        return {name: self._compiled["files"][name]["sha256"] for name in self._compiled["artifact"]}

    def run(self, inputs: list[np.ndarray]) -> list[Outputs]:
        """See EvaluatedNetwork."""
        outputs = chip_runner(self.cell, self._input)(np.concatenate(inputs))
        counts = {len(value) for value in outputs.values()}
        if counts != {len(inputs)}:
            raise UserError(
                f"{self.title}: {sorted(counts)} outputs for {len(inputs)} inputs", f"see {self.cell.folder}/infer.log"
            )
        return [{name: value[i : i + 1] for name, value in outputs.items()} for i in range(len(inputs))]


def find_network(model: str, spec_path: str, size: str, chip: str, variant: str) -> EvaluatedNetwork:
    """The built network that MODEL= (or SPEC=), SIZE=, CHIP= and VARIANT= name.

    Raises UserError: unknown names (exit 2), or not built, with the command that builds it.
    """
    if not (model or spec_path):
        raise UserError("which network? MODEL= is not set", "`make list` shows what there is", USAGE_EXIT)
    if not chip:
        known = ", ".join([FLOAT, *chip_names()])
        raise UserError("which network? CHIP= is not set", f"CHIP= is one of: {known}", USAGE_EXIT)
    spec = asked.resize(load_model(Path(spec_path) if spec_path else model), size)
    words = f"SPEC={spec_path} ONNX=file.onnx" if spec_path else f"MODEL={model}"
    words += f" SIZE={size}" if size else ""
    reference = plan.OUT / spec.name / FLOAT
    if chip == FLOAT:
        _check_built(f"{spec.name} {FLOAT}", (reference / "export.json", reference / "model.onnx"),
                     f"make {easiest_chip()} {words}, or any other chip, makes it")  # fmt: skip
        return FloatNetwork(FloatReference(reference))
    variants = load_chip(chip).precisions
    if not variant and len(variants) == 1:
        variant = variants[0]
    if not variant:
        raise UserError(f"which variant of {chip}? VARIANT= is not set", f"VARIANT={' or VARIANT='.join(variants)}", 2)
    folder = plan.OUT / spec.name / chip / variant
    read = read_variant(variant, load_chip(chip), chip)
    if read.precision in load_chip(chip).unsimulated:
        raise UserError(
            f"{spec.name}/{chip}/{variant}: nothing but the chip can run this artifact",
            f"device.py runs it on the board; CHIP={FLOAT} measures the float network",
        )
    _check_built(
        f"{spec.name}/{chip}/{variant}",
        (reference / "export.json", folder / "job.json", folder / "compile.json"),
        " ".join([f"make {chip} {words}", *read.make_words()]),
    )
    return ChipNetwork(Cell(folder))


def easiest_chip() -> str:
    """The demo's chip, whose compiler every machine can install; else the first."""
    names = list(chip_names())
    return next((name for name in names if load_chip(name).demo), names[0])


def _check_built(name: str, files: Sequence[Path], command: str) -> None:
    for path in files:
        if not path.is_file():
            raise UserError(f"{name} has not been built: {path} is missing", command)
