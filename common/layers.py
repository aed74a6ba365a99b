"""`make layers MODEL= CHIP=`: which layers of a built network lose the most, by the vendor's own facilities.

    python -m common.layers --model NAME --chip NAME [--precision int8]

vendors/<folder>/layers.py runs the compiled artifact (or the simulator's graph) beside float on a few samples and
writes layers.json into the cell; that is checked here, printed worst first, and drawn along the graph. layers.csv and
layers.png are written beside it.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from common import plan
from common.basics.errors import USAGE_EXIT, UserError, run
from common.basics.files import read_json, replacing
from common.basics.memory import expected_bytes, reserved
from common.declarations import asked
from common.declarations.spec import load_chip, load_model
from common.drawing.figure import save_picture
from common.drawing.layers import layer_figure
from common.engines import engine
from common.evaluation.evaluated_network import FLOAT, find_network
from common.job import Cell

ROWS = 25  # of the printed table; the file has all
Text = Annotated[str, Field(min_length=1)]


class Checked(BaseModel):
    """No unknown key, no number in quotes, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Layer(Checked):
    """One layer: how near the chip's output (dequantised) is to float's over all samples.

    cosine: -1..1. sqnr_db: 10 log10 (sum of squares of float / sum of squares of the difference); None: no difference.
    outputs: the ONNX tensors that it stands for, where the vendor's tool tells.
    """

    name: Text
    operator: Text
    precision: Text
    cosine: Annotated[float, Field(ge=-1.0001, le=1.0001)]
    sqnr_db: float | None
    outputs: list[Text] = []


class LayerReport(Checked):
    """layers.json. source: whose facility measured it, in words; layers: in the graph's order."""

    version: Literal[1]
    source: Text
    samples: Annotated[int, Field(ge=1)]
    layers: Annotated[list[Layer], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> LayerReport:
        names = [layer.name for layer in self.layers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two layers are named '{twice[0]}'")
        return self


def read_report(path: Path) -> LayerReport:
    """Read and check layers.json. Raises UserError that names the first fault."""
    hint = f"a fault of the vendor folder's layers.py: see {path.with_suffix('.log')}"
    content = read_json(path)
    try:
        return LayerReport.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(step) for step in problem["loc"]) or "the whole"
        raise UserError(f"{path}: {where}: {problem['msg'].removeprefix('Value error, ')}", hint) from None


def find_cell(model: str, spec_path: str, size: str, chip: str, precision: str) -> Cell:
    """The built cell that was asked for; without a precision the quantised one, if several are built.

    Raises UserError: unknown names (exit 2), or not built, with the command that builds it.
    """
    if chip == FLOAT:
        raise UserError("the float network loses nothing: it is what a chip is compared with", "CHIP=name", USAGE_EXIT)
    if chip and (model or spec_path) and not precision:
        named = load_model(Path(spec_path) if spec_path else model)
        precision = _built_variant(plan.OUT / asked.resize(named, size).name / chip, chip)
    return Cell(find_network(model, spec_path, size, chip, precision).folder)  # it checks the artifact, too


def _built_variant(folder: Path, chip: str) -> str:
    """The variant to look at where none was named: a built one where there is any, a quantised one before others."""
    spec = load_chip(chip)
    built = sorted(path.parent.name for path in folder.glob("*/compile.json"))
    names = built or spec.precisions
    ranked = [*spec.calibrated, *spec.precisions]
    return min(names, key=lambda name: (ranked.index(p) if (p := name.split("-")[0]) in ranked else len(ranked), name))


def measure_layers(cell: Cell) -> LayerReport:
    """Run the vendor's layers.py on a compiled cell; its checked report. UserError when it has none, or fails."""
    vendor = cell.chip_spec.folder
    if not (vendor / "layers.py").is_file():
        raise UserError(
            f"{vendor} has no layers.py: this vendor's tools do not tell layer by layer",
            f"`make {cell.chip}` says how the outputs agree: out/report/index.html",
        )
    path = cell.folder / "layers.json"
    path.unlink(missing_ok=True)
    with reserved(cell, expected_bytes(cell)):
        engine.run_vendor_script(cell, "layers.py")
    if not path.is_file():
        raise UserError(f"{cell.name}: layers.py ended well but wrote no layers.json", "see layers.log beside it")
    return read_report(path)


def worst_first(layers: list[Layer]) -> list[Layer]:
    """By SQNR, the smallest first; layers without any difference last; equal ones in the graph's order."""
    return sorted(layers, key=lambda layer: np.inf if layer.sqnr_db is None else layer.sqnr_db)


def decibels(layer: Layer) -> str:
    """A layer's SQNR in words."""
    return "equal" if layer.sqnr_db is None else f"{layer.sqnr_db:.1f}"


def table(report: LayerReport) -> str:
    """The worst layers, for a terminal."""
    place = {layer.name: number for number, layer in enumerate(report.layers, 1)}
    rows = [("SQNR dB", "cosine", "precision", "operator", "layer", "place")]
    rows += [
        (decibels(layer), f"{layer.cosine:.6f}", layer.precision, layer.operator, layer.name, str(place[layer.name]))
        for layer in worst_first(report.layers)[:ROWS]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = [
        f"{row[0]:>{widths[0]}}  {row[1]:>{widths[1]}}  {row[5]:>{widths[5]}}  {row[2]:<{widths[2]}}  "
        f"{row[3]:<{widths[3]}}  {row[4]}"
        for row in rows
    ]
    if len(report.layers) > ROWS:
        lines.append(f"... {len(report.layers) - ROWS} layers that lose less")
    return "\n".join(lines)


def write_csv(report: LayerReport, path: Path) -> None:
    """All layers in the graph's order; an empty sqnr_db: no difference."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["place", "name", "operator", "precision", "cosine", "sqnr_db", "outputs"])
        for number, layer in enumerate(report.layers, 1):
            sqnr = "" if layer.sqnr_db is None else layer.sqnr_db
            outputs = " ".join(layer.outputs)
            writer.writerow([number, layer.name, layer.operator, layer.precision, layer.cosine, sqnr, outputs])


def show(cell: Cell) -> None:
    """Measure a cell's layers; print the table, write the files."""
    report = measure_layers(cell)
    counted: dict[str, Any] = {}
    for layer in report.layers:
        counted[layer.precision] = counted.get(layer.precision, 0) + 1
    kinds = ", ".join(f"{count} {precision}" for precision, count in counted.items())
    note = f"{len(report.layers)} layers ({kinds}), {report.samples} samples; {report.source}"
    print(f"{cell.name}: {note}; worst first\n{table(report)}")
    write_csv(report, cell.folder / "layers.csv")
    rows = [layer.model_dump() for layer in report.layers]
    save_picture(cell.folder / "layers.png", layer_figure(rows, f"{cell.name}: what each layer loses", note))
    print(f"{cell.folder}/layers.csv, layers.png")


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description="which layers of a built network lose the most")
    for name in ("model", "spec", "size", "chip", "precision"):
        parser.add_argument(f"--{name}", default="")
    asked = parser.parse_args()
    show(find_cell(asked.model, asked.spec, asked.size, asked.chip, asked.precision))


if __name__ == "__main__":
    run(main)
