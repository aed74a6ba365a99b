"""The end of `make all`: one aligned line a cell, the counts, and an exit code that is red when anything failed.

    python -m common.all_summary            after the cells were built
    python -m common.all_summary CELL       one line, as soon as a cell is done

A line says ok with the figures, skipped and why, or failed and what to look at. Standard library only: it is all that
a `make all` does that finds everything built. Writes out/all/summary.json: {"version": 1, "cells": [{"cell", "state":
ok | skipped | failed, "why", "proof"}]}, which the report shows too.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common.basics.errors import FAILURE_EXIT, UserError, run
from common.basics.files import read_json, write_json_if_changed
from common.basics.progress import duration
from common.basics.terminal import colored
from common.basics.wording import number_in_words, size_in_words
from common.cells.cell_results import OUT, CellResults, find_cells

FOLDER = OUT / "all"
OK, SKIPPED, FAILED = "ok", "skipped", "failed"
COLORS = {OK: "32", SKIPPED: "33", FAILED: "31"}  # ANSI
NOT_FINISHED = "not finished"
WIDEST_WHY = 150  # characters of a reason; the whole of it is in summary.json


class Line(NamedTuple):
    """What became of one cell. proof: the ladder's verdict where it was built; why: figures, or a reason."""

    cell: str
    state: str
    why: str
    proof: str | None


def read_failures(folder: Path) -> list[dict[str, Any]]:
    """What failing stages left: [{"arguments": of the stage, "message", "hint"}]. A damaged record is left out."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and isinstance(record.get("arguments"), list):
            found.append(record)
    return found


def failure_of(cell: CellResults, failures: Sequence[dict[str, Any]]) -> str | None:
    """What went wrong with a cell in this run: in one of its own stages, else in its float network's."""
    for folder in (cell.folder, cell.float_folder):
        for record in failures:
            if str(folder) in record["arguments"]:
                return str(record["message"]).splitlines()[0]
    return None


def figures(facts: dict[str, Any]) -> str:
    """One line of CellResults.figures(): size, the metric before and after, the agreement, the rung."""
    words = [f"{size_in_words(facts['artifact_bytes']):>8}"]
    if facts["metric_float"] is not None and facts["metric_chip"] is not None:
        metric = f"{facts['metric']} {facts['metric_float']:.3f} -> {facts['metric_chip']:.3f}"
        words.append(f"{metric:<18}")
    if facts["agreement"] is not None:
        words.append(f"{facts['similarity']} {number_in_words(facts['agreement'], '.4f')}")
    if facts["rung"]:
        words.append(f"rung {facts['rung']}")
    return "  ".join(words)


def line_of(name: str, failures: Sequence[dict[str, Any]], out: Path = OUT) -> Line:
    """What became of a cell that was to be built."""
    try:
        return _line_of(CellResults(out / name), name, failures, out)
    except UserError as error:  # a damaged file: that cell is red, and the others' lines still come
        return Line(name, FAILED, f"{error.message}; {error.hint}", None)


def _line_of(cell: CellResults, name: str, failures: Sequence[dict[str, Any]], out: Path) -> Line:
    if why := failure_of(cell, failures):
        return Line(name, FAILED, why, None)
    if cell.proof is None:
        return Line(name, FAILED, f"{NOT_FINISHED}; {out}/all/make.log tells how far it came", None)
    facts = cell.figures()
    verdict = facts["state"]
    if verdict == FAILED or cell.proof["state"] == FAILED:
        red = [step for step in cell.proof["steps"] if step["state"] == FAILED]
        why = "; ".join(f"{step['name']}: {step['figures']}" for step in red) or "its artifact is damaged"
        return Line(name, FAILED, f"{why} ({cell.folder})", FAILED)
    return Line(name, OK, f"{verdict:<13}  {figures(facts)}", verdict)


def explained(line: Line, lines: Sequence[Line]) -> Line:
    """A cell that was not finished, though nothing of its own failed: a float cell of its chip did, which it has as a
    rung of its ladder, and waits for."""
    if line.state != FAILED or not line.why.startswith(NOT_FINISHED):
        return line
    chip = line.cell.rpartition("/")[0]
    others = (other for other in lines if other.state == FAILED and other.cell.rpartition("/")[0] == chip)
    cause = next((other.cell for other in others if not other.why.startswith(NOT_FINISHED)), None)
    return line._replace(why=f"waits for {cause}, which failed") if cause else line


def print_lines(lines: Sequence[Line], width: int) -> None:
    """The lines, aligned; the state in colour on a terminal."""
    colors = colored()
    for line in lines:
        state = f"{line.state:<7}"
        if colors:
            state = f"\x1b[{COLORS[line.state]}m{state}\x1b[0m"
        why = line.why if len(line.why) <= WIDEST_WHY or line.state == OK else f"{line.why[: WIDEST_WHY - 3]}..."
        print(f"{state}  {line.cell:<{width}}  {why}".rstrip(), flush=True)


def summarize(out: Path = OUT) -> int:
    """Print what became of every cell of the last `make all`; write summary.json. Returns the exit code.

    Raises UserError when there was none.
    """
    folder = out / "all"
    asked = read_json(folder / "asked.json")
    failures = read_failures(folder / "failures")
    lines = [line_of(name, failures, out) for name in asked["cells"]]
    lines = [explained(line, lines) for line in lines]
    lines += [Line(name, FAILED, why, None) for name, why in asked["failed"].items()]
    lines += [Line(name, SKIPPED, why, None) for name, why in asked["skipped"].items()]
    lines.sort(key=lambda line: (line.state != SKIPPED, line.cell))  # what was built: above the counts
    if not lines:
        raise UserError("there is no cell to build", "see make list; MODELS= and CHIPS= choose")
    print_lines(lines, max(len(line.cell) for line in lines))
    changed = write_json_if_changed(
        folder / "summary.json", {"version": 1, "cells": [line._asdict() for line in lines]}
    )
    counts = Counter(line.state for line in lines)
    print(f"\n{len(lines)} cells: {', '.join(f'{counts[state]} {state}' for state in (OK, SKIPPED, FAILED))}")
    renew_report(out, changed)
    return FAILURE_EXIT if counts[FAILED] else 0


def how_far(out: Path = OUT) -> str:
    """How many cells this `make all` has built, and about how long the others will take: "3 of 20 built, about 34 min
    left". It does not ask make, which takes longer than this line is worth; so a cell that only a changed graph or a
    changed float network makes stale is counted when it is built."""
    asked = out / "all" / "asked.json"
    began = asked.stat().st_mtime
    failures = read_failures(out / "all" / "failures")
    built = left = 0
    for name in read_json(asked)["cells"]:
        cell, proof = CellResults(out / name), out / name / "proof.json"
        if proof.exists() and proof.stat().st_mtime >= began:
            built += 1
        elif is_to_build(cell, proof) and not failure_of(cell, failures):
            left += 1
    words = f"{built} of {built + left} built"
    each = (time.time() - began) / built if built else 0.0
    return f"{words}, about {duration(each * left)} left" if each and left else words


def is_to_build(cell: CellResults, proof: Path) -> bool:
    """Whether a cell has no proof, or one older than what was asked for or than the vendor's scripts."""
    if not proof.exists():
        return True
    try:
        vendor = Path("vendors") / (cell.read("job.json") or {}).get("vendor", "")
    except UserError:  # a damaged file; the summary tells of it
        return True
    asked = [cell.folder / "request.json", cell.folder / "climb.json", cell.folder / "calibration_set.json"]
    asked += [cell.float_folder / "source.json", cell.float_folder / "evaluation_set.json", *vendor.glob("*.py")]
    return any(path.exists() and path.stat().st_mtime > proof.stat().st_mtime for path in asked)


def renew_report(out: Path, changed: bool) -> None:
    """Make the report where a cell is newer, or something else became of one. make's own rule for it wants all cells
    built, and here some may have failed."""
    page = out / "report" / "index.html"
    made = page.stat().st_mtime_ns if page.exists() else 0
    proofs = (cell.folder / "proof.json" for cell in find_cells(out))
    if changed or any(path.stat().st_mtime_ns > made for path in proofs if path.exists()):
        from common.report import main as make_report  # only then: it needs packages, which take their time to load

        make_report()


def main() -> int:
    """python -m common.all_summary [CELL]"""
    if len(sys.argv) == 2:
        line = line_of(sys.argv[1], [])
        line = line._replace(why=f"{line.why}  ({how_far()})")
        print_lines([line], int(os.environ.get("NPUMAKE_WIDTH") or len(line.cell)))
        return 0
    return summarize()


if __name__ == "__main__":
    run(main)
