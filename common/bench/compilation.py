"""From the fixed ONNX to the artifact: npumake's compile.py beside the vendor's bare commands, same tensors, same way.

For every vendor folder with a bare_commands.py, which runs what the vendor's manual says in a scratch folder and
prints one line of JSON last: {"seconds", "steps": {name: seconds}, "peak_memory_bytes"} and, where the vendor has a
runner that is started for each sample, "runner_seconds_per_sample".
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.basics.errors import UserError
from common.basics.files import read_json
from common.bench.stages import CALIBRATION_SAMPLES, new_cell, stages_after, stages_before, summed, vendor_stage
from common.declarations.spec import chip_names, load_chip
from common.engines import engine
from common.job import Cell
from common.samples import load_arrays

LIMIT = 1.10  # of npumake's wall time over the bare commands'
REPEATS, LONG_SECONDS = 3, 100.0  # a compilation is repeated while all of them together are not long
Seconds = Annotated[float, Field(gt=0)]


class BareRun(BaseModel):
    """What bare_commands.py prints last."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    seconds: Seconds
    steps: dict[str, Annotated[float, Field(ge=0)]]
    peak_memory_bytes: Annotated[int, Field(gt=0)]
    runner_seconds_per_sample: Seconds | None = None


def benched_cells() -> list[tuple[str, str]]:
    """(chip, precision) of every vendor folder with a bare_commands.py: its first chip, int8 or what is like it."""
    folders: dict[Path, str] = {}
    for chip, path in chip_names().items():
        if (path.parent / "bare_commands.py").is_file():
            folders.setdefault(path.parent, chip)
    found = []
    for chip in folders.values():
        spec = load_chip(chip)
        found.append((chip, "int8" if "int8" in spec.precisions else [*spec.calibrated, *spec.precisions][0]))
    return found


def run_bare(cell: Cell) -> BareRun:
    """Run bare_commands.py. Raises UserError when it fails, or its last line is not what the contract says."""
    engine.run_vendor_script(cell, "bare_commands.py")
    log = cell.folder / "bare_commands.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    try:
        return BareRun.model_validate_json(lines[-1] if lines else "")
    except ValidationError as error:
        problem = error.errors()[0]
        words = ": ".join([".".join(map(str, problem["loc"])), problem["msg"]]).removeprefix(": ")
        raise UserError(
            f"{cell.name}: the last line of bare_commands.py is not its result: {words}", f"the whole log is {log}"
        ) from None


def measure_one(cell: Cell, before: Sequence[dict[str, Any]], repeats: int = REPEATS) -> dict[str, Any]:
    """Both ways one after the other, a few times: medians and their ratio; inference per sample; then the stages after
    it. before: what the stages took that came before it.

    A compilation starts from nothing: no cache, no older result.
    """
    ours: list[float] = []
    bare: list[BareRun] = []
    while len(ours) < repeats and sum(ours) < LONG_SECONDS:
        shutil.rmtree(cell.folder / "cache", ignore_errors=True)
        (cell.folder / "compile.json").unlink(missing_ok=True)
        stage = vendor_stage(cell, "compile")
        compiled = read_json(cell.folder / "compile.json")
        ours.append(compiled["seconds"])
        bare.append(run_bare(cell))
    seconds, plain = statistics.median(ours), statistics.median(run.seconds for run in bare)
    middle = min(bare, key=lambda run: abs(run.seconds - plain))
    simulated = vendor_stage(cell, "simulate")
    count = len(next(iter(load_arrays(cell.folder / "samples.npz").values())))
    per_sample = simulated["seconds"] / count
    runner = middle.runner_seconds_per_sample
    return {
        "chip": cell.chip,
        "precision": cell.precision,
        "runs": len(ours),
        "seconds": seconds,
        "bare_seconds": plain,
        "ratio": seconds / plain,
        "bare_steps": middle.steps,
        "peak_memory_bytes": compiled["peak_memory_bytes"],
        "bare_peak_memory_bytes": middle.peak_memory_bytes,
        "samples": count,
        "infer_seconds_per_sample": per_sample,
        "runner_seconds_per_sample": runner,
        "times_faster": runner / per_sample if runner else None,
        "build": summed([*before, stage, simulated, *stages_after(cell)]),
    }


def measure_compilation(
    reference: Path,
    calibration: Path,
    cells: list[tuple[str, str]],
    before: Sequence[dict[str, Any]] = (),
    repeats: int = REPEATS,
) -> dict[str, Any]:
    """{"network", "limit", "calibration_samples", "chips": [measure_one()], "left_out": [{"chip", "why"}]}.

    reference: a float network with its samples and predictions; before: what float_stages() took. A chip whose
    environment is not there, or whose tools fail, is left out.
    """
    chips, left_out = [], []
    for chip, precision in cells:
        try:
            engine.vendor_python(load_chip(chip))
            print(f"bench: {chip} {precision}: npumake beside the bare commands", flush=True)
            cell = new_cell(reference, chip, precision, calibration)
            chips.append(measure_one(cell, [*before, *stages_before(cell)], repeats))
        except UserError as error:
            left_out.append({"chip": chip, "why": error.message})
    return {
        "network": read_json(reference / "source.json")["model"],
        "limit": LIMIT,
        "calibration_samples": CALIBRATION_SAMPLES,
        "chips": chips,
        "left_out": left_out,
    }
