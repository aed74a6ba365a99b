"""What int8 gains: the latency of a network in both precisions, where the chip's own runtime runs on this machine.

chip.yaml says that it does (host_runtime: true); elsewhere a simulator computes, and its time tells nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.basics.errors import UserError
from common.basics.files import read_json
from common.bench.stages import float_stages, new_cell, stages_before
from common.declarations.chip_spec import ChipSpec
from common.declarations.spec import chip_names, load_chip
from common.engines import engine
from common.job import Cell

CALIBRATION_SAMPLES = 4  # the latency does not hang on them
REPEATS = 5


def timed_chips() -> dict[str, ChipSpec]:
    """{chip name: its spec} of those whose runtime runs here, with a float and a quantised precision."""
    found = {name: load_chip(name) for name in chip_names()}
    return {name: spec for name, spec in found.items() if spec.host_runtime and _pair(spec)}


def _pair(spec: ChipSpec) -> tuple[str, str] | None:
    """(the first float precision, the first quantised one)."""
    floats = [name for name in spec.precisions if name not in spec.calibrated]
    return (floats[0], spec.calibrated[0]) if floats and spec.calibrated else None


def compiled_cell(reference: Path, chip: str, precision: str, calibration: Path) -> Cell:
    """The cell's artifact on its first rung, compiled anew."""
    cell = new_cell(reference, chip, precision, calibration, CALIBRATION_SAMPLES)
    stages_before(cell)
    engine.compile_cell(cell)
    return cell


def least_latency(cells: list[Cell], repeats: int) -> list[float]:
    """The least of the median latencies of some runs, milliseconds of one inference, of each cell; the cells take
    turns. Raises UserError where infer.py tells none."""
    found: dict[str, list[float]] = {cell.precision: [] for cell in cells}
    for _ in range(repeats):
        for cell in cells:
            engine.infer(cell.folder)
            told = read_json(cell.folder / "infer.json")["latency_ms"]
            if told is None:
                raise UserError(f"{cell.name}: infer.py tells no latency", "host_runtime: true in chip.yaml is wrong")
            found[cell.precision].append(told)
    return [min(values) for values in found.values()]


def measure_latency(
    references: list[Path], calibration: Path, evaluation: Path, repeats: int = REPEATS
) -> dict[str, Any]:
    """{"repeats", "rows": [{"network", "chip", "device", "float": precision, "quantised": precision, "float_ms",
    "quantised_ms", "float_bytes", "quantised_bytes", "times_faster"}], "left_out": [{"chip", "why"}]}.

    references: exported float networks.
    """
    rows, left_out = [], []
    for chip, spec in timed_chips().items():
        names = _pair(spec)
        try:
            engine.vendor_python(spec)
            for reference in references:
                print(f"bench: {chip}: latency of {reference.parent.name} in {' and '.join(names)}", flush=True)
                float_stages(reference, evaluation, ("samples",))
                cells = [compiled_cell(reference, chip, precision, calibration) for precision in names]
                as_float, quantised = least_latency(cells, repeats)
                sizes = [read_json(cell.folder / "compile.json")["artifact_bytes"] for cell in cells]
                rows.append({
                    "network": read_json(reference / "source.json")["model"],
                    "chip": chip,
                    "device": read_json(cells[0].folder / "infer.json")["device"],
                    **dict(zip(("float", "quantised"), names, strict=True)),
                    "float_ms": as_float,
                    "quantised_ms": quantised,
                    **dict(zip(("float_bytes", "quantised_bytes"), sizes, strict=True)),
                    "times_faster": as_float / quantised,
                })  # fmt: skip
        except UserError as error:
            left_out.append({"chip": chip, "why": error.message})
    return {"repeats": repeats, "rows": rows, "left_out": left_out}
