"""Climb: build a precision in the cheapest way that its gate accepts.

    python -m common.climb out/<model>/<chip>/<variant>

chip.yaml lists the ways, called rungs, from the cheapest to the most exact. Each is compiled, simulated, compared with
float and measured; the first whose agreement and metric pass the gate is the cell's. RUNG=n takes that one alone.
A precision without rungs has one way.

Writes compile.json with the artifact, outputs.npz, infer.json, compare.json, predictions.json and metrics.json of the
rung taken, and rungs.json about all that were tried. Each tried rung keeps its own in rungs/<number>-<name>/, so that
another evaluation set, or another gate, compiles nothing again.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from common.basics.errors import UserError, run
from common.basics.files import read_json, sha256_file, write_json
from common.basics.memory import expected_bytes
from common.basics.progress import Progress
from common.cells.cell_results import CellResults
from common.cells.made_from import digest_of, made_from, other_engine
from common.compare import compare_cell, marks
from common.declarations.chip_spec import RungSpec
from common.engines import engine
from common.evaluate import evaluate_cell
from common.evaluation.unsimulated import write_unsimulated
from common.job import Cell, rung_entry
from common.proof import FAILED, PASSED, judge_agreement, judge_metric

# What a rung makes beside its artifact, in the order in which it is made.
MEASURED = ("infer.json", "outputs.npz", "compare.json", "predictions.json", "metrics.json")
LOGS = ("compile.log", "infer.log")


def say(step: str, text: str) -> None:
    """One line a step, as make prints them."""
    print(f"{step:<11} {text}", flush=True)


def rungs_of(cell: Cell) -> list[tuple[int, RungSpec | None]]:
    """The rungs to try, with their numbers from 1; [(1, None)] for a precision that has one way only."""
    listed = list(enumerate(cell.chip_spec.rungs.get(cell.precision, []), 1))
    asked = cell.climb_request["rung"]
    if asked is not None:
        listed = [(number, rung) for number, rung in listed if number == asked]
    return listed or [(1, None)]


def rung_folder(cell: Cell, number: int, rung: RungSpec | None) -> Path:
    """rungs/<number>-<name> of the cell."""
    return cell.folder / "rungs" / f"{number}-{rung.name if rung else cell.precision}"


def intact(folder: Path, files: dict[str, Any]) -> bool:
    """Whether the files are there as compile.json describes them."""
    paths = {folder / name: described for name, described in files.items()}
    return all(path.is_file() and sha256_file(path) == described["sha256"] for path, described in paths.items())


def link(source: Path, target: Path) -> None:
    """Give a file a second name; a copy where the file system has no links. An existing target is replaced."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def set_rung(cell: Cell, number: int, rung: RungSpec | None) -> dict[str, Any]:
    """Write the rung into job.json, where the vendor's scripts find its options; returns job.json's content."""
    job = read_json(cell.folder / "job.json")
    job["rung"] = rung_entry(number, rung) if rung else None
    write_json(cell.folder / "job.json", job)
    return job


def build(cell: Cell, number: int, rung: RungSpec | None) -> bool:
    """Write the rung's job.json and have its artifact in the cell, compiled or from an earlier climb. Returns whether
    it was compiled now. Raises UserError when the compilation fails."""
    job = set_rung(cell, number, rung)
    key, kept, expected = made_from(cell, job), rung_folder(cell, number, rung), expected_bytes(cell)
    recorded = read_json(kept / "compile.json") if (kept / "compile.json").exists() else {}
    if recorded.get("made_from") == key and intact(kept, recorded["files"]):
        remove_artifact(cell)
        for name in [*recorded["files"], "compile.log"]:
            if (kept / name).exists():
                link(kept / name, cell.folder / name)
        write_json(cell.folder / "compile.json", recorded)
        return False
    of = len(cell.chip_spec.rungs.get(cell.precision, []))
    title = f"{cell.name}, rung {number} of {of}: {rung.title}" if rung else cell.name
    say("compile", title)
    shutil.rmtree(kept, ignore_errors=True)
    remove_artifact(cell)
    engine.compile_cell(cell, expected, recorded.get("seconds"))
    inputs = digest_of(cell, job)
    if made_from(cell, job) != key:
        raise UserError(
            f"{cell.name}: the graph, the calibration tensors or the vendor's scripts changed while they were compiled",
            "run the same make again, and leave them alone meanwhile",
        )
    record = read_json(cell.folder / "compile.json")
    record |= {"made_from": key, "inputs": inputs} | other_engine(record, recorded, inputs)
    write_json(cell.folder / "compile.json", record)
    return True


def remove_artifact(cell: Cell) -> None:
    """Remove what another rung left in the cell."""
    compiled = cell.folder / "compile.json"
    for name in read_json(compiled).get("files", {}) if compiled.exists() else []:
        (cell.folder / name).unlink(missing_ok=True)
    for name in ("compile.json", *MEASURED, *LOGS):
        (cell.folder / name).unlink(missing_ok=True)


def measure(cell: Cell) -> None:
    """Simulate the artifact, compare it with float, and measure the task's metric; where nothing can simulate it, say
    so in the files that would tell of that."""
    if not cell.simulated:
        write_unsimulated(cell)
        return
    say("simulate", cell.name)
    engine.infer(cell.folder)
    say("compare", cell.name)
    with Progress(f"compare {cell.name}"):
        compare_cell(cell)
    say("evaluate", cell.name)
    evaluate_cell(cell)


def keep(cell: Cell, kept: Path) -> None:
    """Give the rung's files a second name in its folder, compile.json last."""
    kept.mkdir(parents=True, exist_ok=True)
    record = read_json(cell.folder / "compile.json")
    for name in [*record["files"], *LOGS, *MEASURED]:
        if (cell.folder / name).exists():
            link(cell.folder / name, kept / name)
    write_json(kept / "compile.json", record)


def restore(cell: Cell, kept: Path) -> None:
    """Make a kept rung the cell's own again. compile.json and the results are new files: make goes by their times."""
    record = read_json(kept / "compile.json")
    remove_artifact(cell)
    for name in [*record["files"], *LOGS]:
        if (kept / name).exists():
            link(kept / name, cell.folder / name)
    write_json(cell.folder / "compile.json", record)
    for name in MEASURED:
        shutil.copyfile(kept / name, cell.folder / name)


def judge(cell: Cell) -> tuple[bool, bool]:
    """(passed, failed) of the rung that is in the cell. A loss that may be chance is neither; so is everything where
    nothing can be judged (random weights, nothing found): there the first rung is as good as any, and passes."""
    results = CellResults(cell.folder)
    if not cell.simulated:
        return True, False
    agreement = judge_agreement(results.compared, cell.gate, cell.weights)
    metric = judge_metric(results.metrics, cell.gate, cell.weights)
    measured = results.metrics["drop"].get(results.metrics["metric"]) is not None
    if agreement.state not in (PASSED, FAILED):
        return True, False
    failed = FAILED in (agreement.state, metric.state)
    return not failed and (metric.state == PASSED or not measured), failed


def describe(cell: Cell, number: int, rung: RungSpec | None, compiled_now: bool) -> dict[str, Any]:
    """One entry of rungs.json, of the rung that is in the cell."""
    results = CellResults(cell.folder)
    compiled, compared, measured = results.compiled, results.compared, results.metrics
    passed, failed = judge(cell)
    quantization = compiled.get("quantization") or {}
    return {
        "number": number,
        "name": rung.name if rung else cell.precision,
        "title": rung.title if rung else "",
        "passed": passed,
        "failed": failed,
        "similarity": compared["similarity"],
        "agreement": compared["agreement"],
        "metric": measured["metric"],
        "metric_chip": (measured["chip"] or {}).get(measured["metric"]),
        "drop": (measured["drop"] or {}).get(measured["metric"]),
        "artifact_bytes": compiled["artifact_bytes"],
        "seconds": compiled["seconds"],
        "compiled_now": compiled_now,
        "peak_memory_bytes": compiled["peak_memory_bytes"],
        "layers": quantization.get("layers"),
        "float_layers": quantization.get("float_layers"),
    }


def in_words(entry: dict[str, Any]) -> str:
    """One line about a tried rung."""
    words = f"{entry['number']} {entry['name']}: "
    words += "not simulated" if entry["agreement"] is None else f"{entry['similarity']} {entry['agreement']:.4f}"
    if entry["drop"] is not None:
        words += f", {entry['metric']} drop {entry['drop']:.4f}"
    if entry["float_layers"] is not None:
        words += f", {len(entry['float_layers'])} of {entry['layers']} layers float"
    return words


def climb(cell: Cell) -> dict[str, Any]:
    """Build the rungs until one passes; returns rungs.json's content. Where none passes, the first that did not fail
    (its loss may be chance) is taken, else the one that agrees best with float: proof.json then says that it is red.
    """
    tried: list[dict[str, Any]] = []
    unavailable: list[dict[str, Any]] = []
    rungs = rungs_of(cell)
    for number, rung in rungs:
        try:
            compiled_now = build(cell, number, rung)
        except engine.RungUnavailableError as error:
            if rung is None or len(rungs) == 1:
                raise
            say("rung", f"{cell.name}: {number} {rung.name}: not possible here: {error.message}")
            unavailable.append({"number": number, "name": rung.name, "title": rung.title, "why": error.message})
            last_refusal = error
            continue
        measure(cell)
        keep(cell, rung_folder(cell, number, rung))
        tried.append(describe(cell, number, rung, compiled_now))
        if rung:
            say("rung", f"{cell.name}: {in_words(tried[-1])}: {'passes' if tried[-1]['passed'] else 'does not pass'}")
        if tried[-1]["passed"]:
            break
    if not tried:
        raise last_refusal
    open_ones = [entry for entry in tried if not entry["failed"]]
    chosen = next((entry for entry in tried if entry["passed"]), None) or next(iter(open_ones), None)
    if chosen is None:
        chosen = max(tried, key=lambda entry: entry["agreement"])
    if chosen is not tried[-1] or unavailable:
        number = chosen["number"]
        set_rung(cell, number, dict(rungs)[number])
        restore(cell, rung_folder(cell, number, dict(rungs)[number]))
    forget(cell)
    result = {
        "version": 1,
        "gate": cell.gate.model_dump(),
        "asked": cell.climb_request["rung"],
        "of": len(cell.chip_spec.rungs.get(cell.precision, [])),
        "chosen": chosen["number"],
        "tried": tried,
        "unavailable": unavailable,
    } | marks(cell)
    write_json(cell.folder / "rungs.json", result)
    return result


def forget(cell: Cell) -> None:
    """Keep no tensors twice, and no rung that chip.yaml no longer has."""
    rungs = cell.chip_spec.rungs.get(cell.precision) or [None]
    known = {rung_folder(cell, number, rung) for number, rung in enumerate(rungs, 1)}
    for folder in (cell.folder / "rungs").iterdir():
        if folder in known:
            (folder / "outputs.npz").unlink(missing_ok=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """python -m common.climb CELL"""
    climb(Cell(sys.argv[1]))


if __name__ == "__main__":
    run(main)
