"""What every stage of a build takes, each run as make runs it, in a process of its own.

make runs compile, simulate, compare and evaluate in one process (common/climb.py); here each has its own, so that its
memory is its own: what they take together is half a second more of imports for each.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.basics.files import folder_fingerprint, write_json
from common.bench.measured import Measured, run_measured, run_stage
from common.job import Cell, FloatReference

CALIBRATION_SAMPLES = 20
IMAGES = 8  # whose people are simulated and compared
FLOAT_STAGES = ("samples", "export", "reference")
BEFORE = ("fix", "preflight", "calibrate", "job")  # of a cell, before the vendor's tools
VENDOR_STAGES = {"compile": ("common.engines.engine", "compile"), "simulate": ("common.engines.engine", "infer")}
AFTER = ("compare", "evaluate", "draw", "proof")
REPORT = "from pathlib import Path; import sys; from common.report import make_report; make_report(Path(sys.argv[1]))"


def row(stage: str, measured: Measured) -> dict[str, Any]:
    """One line of the table: {"stage", "seconds", "peak_memory_bytes"}."""
    return {"stage": stage, "seconds": measured.seconds, "peak_memory_bytes": measured.peak_memory_bytes}


def log_of(folder: Path, stage: str) -> Path:
    """Where a stage's own output goes."""
    return folder / f"bench-{stage}.log"


def float_stages(reference: Path, evaluation: Path, stages: Sequence[str] = FLOAT_STAGES) -> list[dict[str, Any]]:
    """Make the float network's files in `reference`, which holds a source.json; what each stage took."""
    wanted = {"folder": str(evaluation), "fingerprint": folder_fingerprint(evaluation), "limit": IMAGES}
    write_json(reference / "evaluation_set.json", wanted)
    return [row(stage, run_stage(log_of(reference, stage), stage, str(reference))) for stage in stages]


def new_cell(reference: Path, chip: str, precision: str, calibration: Path, samples: int = CALIBRATION_SAMPLES) -> Cell:
    """An empty cell beside an exported float reference, on the chip's first rung; nothing of an older one is left."""
    folder = reference.parent / chip / precision
    shutil.rmtree(folder, ignore_errors=True)
    model = FloatReference(reference).source_json["model"]
    request = {"model": model, "chip": chip, "variant": precision, "precision": precision, "batch": 1}
    write_json(folder / "request.json", {"version": 1, **request})
    cell = Cell(folder)
    if cell.quantised:
        request = {"folder": str(calibration), "fingerprint": folder_fingerprint(calibration)}
        write_json(folder / "calibration_set.json", request | {"count": samples, "force": True})
    return cell


def stages_before(cell: Cell) -> list[dict[str, Any]]:
    """Make all that compile.py takes; what each stage took."""
    wanted = [stage for stage in BEFORE if cell.quantised or stage != "calibrate"]
    rows = [row(stage, run_stage(log_of(cell.folder, stage), stage, str(cell.folder))) for stage in wanted]
    shutil.copyfile(cell.float_folder / "samples.npz", cell.folder / "samples.npz")
    return rows


def vendor_stage(cell: Cell, stage: str) -> dict[str, Any]:
    """compile or simulate, the vendor's scripts; what it took."""
    module, step = VENDOR_STAGES[stage]
    return row(stage, run_stage(log_of(cell.folder, stage), module, step, str(cell.folder)))


def stages_after(cell: Cell) -> list[dict[str, Any]]:
    """compare, evaluate, draw, proof, and a report of all that lies beside the network; what each took."""
    rows = [row(stage, run_stage(log_of(cell.folder, stage), stage, str(cell.folder))) for stage in AFTER]
    out = cell.folder.parents[2]
    rows.append(row("report", run_measured([sys.executable, "-c", REPORT, str(out)], log_of(cell.folder, "report"))))
    shutil.rmtree(out / "report")
    return rows


def summed(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """{"stages", "seconds": of all, "vendor_seconds": of the vendor's scripts among them, "own_seconds": of the rest,
    "peak_memory_bytes": the largest, "own_peak_memory_bytes": the largest but for the vendor's scripts}."""
    own = [line for line in rows if line["stage"] not in VENDOR_STAGES]
    seconds, own_seconds = (sum(line["seconds"] for line in lines) for lines in (rows, own))
    return {
        "stages": list(rows),
        "seconds": seconds,
        "vendor_seconds": seconds - own_seconds,
        "own_seconds": own_seconds,
        "peak_memory_bytes": max(line["peak_memory_bytes"] for line in rows),
        "own_peak_memory_bytes": max(line["peak_memory_bytes"] for line in own),
    }
