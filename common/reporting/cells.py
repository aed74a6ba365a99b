"""The cells that the report shows: all that left results, and those that `make all` could not or need not build.

`make all` writes out/all/summary.json: {"version": 1, "cells": [{"cell": "model/chip/variant", "state": "ok", "skipped"
or "failed", "why": "..."}]}. What a cell's own files say goes before what is said of it there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from common.basics.errors import UserError
from common.basics.files import read_json
from common.cells.cell_results import OUT, CellResults, find_cells

ALL_SUMMARY = Path("all") / "summary.json"
CELL_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*){2}", re.ASCII)


def reported_cells(out: Path = OUT) -> list[CellResults]:
    """find_cells(), and those that `make all` skipped or that failed before they left a result; sorted by name.

    Raises UserError when out/all/summary.json is damaged.
    """
    found = {cell.name: cell for cell in find_cells(out)}
    for name, state, why in _told(out / ALL_SUMMARY):
        if state != "ok" and (name not in found or not (out / name / "proof.json").exists()):
            found[name] = CellResults(out / name, (state, why))
    return [found[name] for name in sorted(found)]


def _told(path: Path) -> Iterator[tuple[str, str, str]]:
    """(cell, state, why) of `make all`'s summary, {"version": 1, "cells": [{"cell", "state", "why"}]}."""
    if not path.exists():
        return
    content = read_json(path)
    entries = content.get("cells") if isinstance(content, dict) else None
    hint = "remove it and run the same make all again"
    if not isinstance(entries, list):
        raise UserError(f"{path} should hold a list of cells", hint)
    for entry in entries:
        name, state, why = (entry.get(key) if isinstance(entry, dict) else None for key in ("cell", "state", "why"))
        if not CELL_NAME.fullmatch(str(name)) or state not in ("ok", "skipped", "failed"):
            raise UserError(f"{path}: {entry} is no cell with a state", hint)
        yield name, state, str(why or "")
