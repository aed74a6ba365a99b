"""`make status`: every cell that is built, stale or missing, and what a `make all` would do about it.

    python -m common.status --models "..." --chips "..." ...      the variables of `make all` (common/all_cells.py)

Nothing is written. Whether a cell is up to date is asked of make (common/cells/make_trace.py), which cells a `make all`
has of common/all_cells.py; so both say here what they will do.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common import all_cells
from common.basics import terminal
from common.basics.errors import UserError, run
from common.basics.files import to_json
from common.basics.wording import size_in_words
from common.cells.cell_results import CellResults, find_cells
from common.cells.make_trace import Pending, dry_run
from common.cells.variant import DOUBLE
from common.declarations.spec import chip_names

STALE, MISSING, UNFINISHED, FAILED, GONE = "stale", "missing", "unfinished", "failed", "chip is gone"
COLORS = {"proven": "32", FAILED: "31", GONE: "31", STALE: "33", UNFINISHED: "33", MISSING: "33"}  # ANSI
# What in a request file says that something else was asked for, and by which variables of make
ASKED_BY = {
    "source.json": "the model's declaration or its weights are others",
    "evaluation_set.json": "EVAL= or LIMIT= was another, or its images changed",
    "calibration_set.json": "CALIB=, CALIB_COUNT= or FORCE= was another, or its images changed",
    "request.json": "the request is of an older kind",
    "climb.json": "GATE=, RUNG= or KEEP_FLOAT= was another",
}
BY_ENGINE = ("engine", "image")  # in climb.json: known only when the image is there


class Line(NamedTuple):
    """One cell. state: the proof's, or one of the words above; action: what make all would do, "build", "rebuild",
    "leave", or "" where it does not ask for the cell; why: figures, or what is newer."""

    cell: str
    state: str
    action: str
    why: str


def asked_otherwise(files: dict[Path, dict[str, Any] | None]) -> dict[Path, str]:
    """{path: in words} for the request files on disk that a `make all` would write anew."""
    found = {}
    for path, content in files.items():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # not there: the cell is missing as a whole
        if _comparable(before) != _comparable(json.loads(to_json(content))):
            found[path] = ASKED_BY[path.name]
    return found


def _comparable(content: Any) -> Any:
    return (
        {key: value for key, value in content.items() if key not in BY_ENGINE} if isinstance(content, dict) else content
    )


def line_of(cell: CellResults, pending: Pending, otherwise: dict[Path, str], in_all: bool) -> Line:
    """What a cell that was asked for before stands at, and what would be done."""
    folders = (cell.folder, cell.float_folder)
    state, reason = cell.state()
    changed = [words for path, words in otherwise.items() if path.parent in folders]
    targets = pending.of(folders)
    if not changed and not targets:
        return Line(cell.name, state, "leave" if in_all else "", reason if state == FAILED else figures(cell))
    why = changed[0] if changed else pending.reason(targets)
    action = ("rebuild" if cell.proof else "build") if in_all else ""
    if not cell.proof:
        return Line(cell.name, FAILED if state == FAILED else UNFINISHED, action, reason or why)
    return Line(cell.name, STALE, action, f"was {cell.proof['state']}; {why}")


def figures(cell: CellResults) -> str:
    """Size, and the metric before and after, in a few words; without all else that facts() reads, there may be hundreds
    of cells."""
    words = [f"{size_in_words((cell.compiled or {}).get('artifact_bytes')):>8}"]
    measured = cell.metrics or {}
    metric = measured.get("metric")
    before, after = ((measured.get(side) or {}).get(metric) for side in ("float", "chip"))
    if before is not None and after is not None:
        words.append(f"{metric} {before:.3f} -> {after:.3f}")
    return "  ".join(words)


def status(arguments: argparse.Namespace) -> tuple[list[Line], dict[str, list[str]]]:
    """(a line for each cell that is or would be built, {why: names} of those that make all skips)."""
    choice = all_cells.choose(arguments)
    asked = [f"{model}/{cell.chip}/{cell.text}" for model, cells in choice.asked.items() for cell in cells]
    try:
        otherwise = asked_otherwise(all_cells.requests_of(choice, arguments))
    except UserError:  # an image set was not rendered yet: make all does that first
        otherwise = {}
    found = {cell.name: cell for cell in find_cells() if _is_asked(cell, choice, arguments)}
    known = set(chip_names())
    there = [name for name in found if name.split("/")[1] in known]
    doubles = [name for name in there if name.endswith(f"-{DOUBLE}")]
    traces = {False: dry_run([name for name in there if name not in doubles]), True: dry_run(doubles, "DOUBLE=1")}
    lines = []
    for name in sorted({*found, *asked}):
        if name not in found:
            lines.append(Line(name, MISSING, "build", ""))
        elif name not in there:
            lines.append(Line(name, GONE, "", "no vendor folder has it any more: remove it from out/"))
        else:
            lines.append(line_of(found[name], traces[name in doubles], otherwise, name in asked))
    skipped: dict[str, list[str]] = {}
    for name, why in choice.skipped.items():
        skipped.setdefault(why, []).append(name)
    return lines, skipped


def _is_asked(cell: CellResults, choice: all_cells.Choice, arguments: argparse.Namespace) -> bool:
    """Whether MODELS= and CHIPS=, where they are set, name the cell."""
    model, chip, _ = cell.name.split("/")
    return (not arguments.models or model in choice.models) and (not arguments.chips or chip in choice.chips)


def print_status(lines: Sequence[Line], skipped: dict[str, list[str]]) -> None:
    """One aligned line a cell, the reasons for what is skipped, and the counts."""
    in_color = terminal.colored()
    header = Line("cell", "state", "make all", "")
    widths = [max(len(line[column]) for line in (header, *lines)) for column in range(3)]
    for line in (header, *lines) if lines else ():
        cell, state, action = (word.ljust(width) for word, width in zip(line[:3], widths, strict=True))
        if in_color and line.state in COLORS:
            state = f"\x1b[{COLORS[line.state]}m{state}\x1b[0m"
        print(f"{cell}  {state}  {action}  {line.why}".rstrip())
    if skipped:
        print(f"\n{sum(map(len, skipped.values()))} cells would be skipped:")
        for why, names in sorted(skipped.items(), key=lambda item: (-len(item[1]), item[0])):
            print(f"  {len(names):4}  {why}")
    counts = Counter(line.action for line in lines)
    would = [f"{verb} {counts[verb]}" for verb in ("build", "rebuild", "leave") if counts[verb]]
    print(f"\nmake all would {', '.join(would) or 'do nothing'}; make all MODELS= CHIPS= PRECISION= for some of them")


def main() -> None:
    """python -m common.status ... (called by make)"""
    print_status(*status(all_cells.parse()))


if __name__ == "__main__":
    run(main)
