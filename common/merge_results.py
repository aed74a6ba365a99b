"""`make merge PARTS=folder`: what several machines made, laid together into out/.

    python -m common.merge_results --parts FOLDER

FOLDER/<any name>/ is one machine's out/, or what of it travelled: whole cells, or the pieces of an evaluation
(eval/.../chunk-*.npz of `make eval ... SHARD=i/n`). Afterwards `make report` covers all cells, and the same `make eval`
without SHARD merges the pieces. Everything is checked first; then each file appears whole. What is in out/ already
counts as a part, and stays as it is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.basics.errors import USAGE_EXIT, UserError, run
from common.basics.files import read_json, replacing, sha256_file
from common.basics.progress import track
from common.cells.cell_results import OUT
from common.declarations.spec import model_names
from common.evaluation.chunks import METRICS, REQUEST, RESULTS

NOT_RESULTS = {"report", "sets", "all", "train", "bench"}  # of out/: made anew from the cells, or of one machine only
MACHINE_KEYS = {"fingerprint", "folder"}  # of the question: where the same photographs lie on one machine
QUESTIONS = ("source.json", "evaluation_set.json", REQUEST)
EVALUATION, FLOAT = "eval", "float"


@dataclass
class Unit:
    """Files that belong together: a network's float reference, a cell, or an evaluation of either.

    name: its folder below out/; sources: by the part's folder, its files, relative to the unit's folder.
    """

    name: Path
    sources: dict[Path, list[Path]] = field(default_factory=dict)

    @property
    def evaluation(self) -> bool:
        return EVALUATION in self.name.parts

    @property
    def measured_anew(self) -> bool:
        """Whether every machine makes it for itself: its last digits go with the processor."""
        return self.name.name == FLOAT


def parts_in(folder: Path) -> list[Path]:
    """The parts, sorted. A part that is a folder with an out/ in it means that out/. Raises UserError (exit 2)."""
    if not folder.is_dir():
        raise UserError(f"PARTS={folder} is not a folder", "one folder a machine in it, each with its out/", USAGE_EXIT)
    found = [path / "out" if (path / "out").is_dir() else path for path in sorted(folder.iterdir()) if path.is_dir()]
    if not found:
        raise UserError(
            f"PARTS={folder} holds no folders", "one folder a machine in it, each with its out/", USAGE_EXIT
        )
    return found


def unit_of(path: Path) -> Path | None:
    """The unit that a file of out/ belongs to; None for one that is no result, such as out/<model>/plan.json."""
    parts = path.parts
    if len(parts) < 3 or parts[0] in NOT_RESULTS or any(part.startswith(".") for part in parts):
        return None
    depth = 2 if parts[1] == FLOAT else 3
    if len(parts) <= depth:
        return None
    if parts[depth] == EVALUATION:
        complete = len(parts) == depth + 3 and parts[-1] not in (METRICS, RESULTS)  # the merge writes these two
        return Path(*parts[: depth + 2]) if complete else None
    return Path(*parts[:depth])


def files_below(part: Path) -> Iterator[Path]:
    """All files of a part, relative to it; no links, which stand for folders that are there under their own name."""
    aliases = {name for name, path in model_names().items() if name != path.parent.name}
    for place, folders, names in os.walk(part):
        top = Path(place) == part
        folders[:] = sorted(n for n in folders if not (Path(place) / n).is_symlink() and not (top and n in aliases))
        for name in sorted(names):
            if not (path := Path(place) / name).is_symlink():
                yield path.relative_to(part)


def collect(parts: list[Path]) -> dict[Path, Unit]:
    """The units of all parts by name. Raises UserError for a part without any result."""
    units: dict[Path, Unit] = {}
    for part in parts:
        found = False
        for path in files_below(part) if part.is_dir() else ():
            if name := unit_of(path):
                unit = units.setdefault(name, Unit(name))
                unit.sources.setdefault(part, []).append(path.relative_to(name))
                found = True
        if not found and part != OUT:
            raise UserError(f"{part} holds nothing of an out/ folder", "a part holds <model>/<chip>/<variant>/ folders")
    return units


def check(unit: Unit) -> None:
    """Raises UserError where the parts do not go together: another question, or another answer to the same."""
    first, *others = unit.sources
    for other in others:
        for name in QUESTIONS:
            asked, also = (_read_question(part / unit.name / name) for part in (first, other))
            if asked is not None and also is not None and asked != also:
                keys = sorted(key for key in {**asked, **also} if asked.get(key) != also.get(key))
                raise UserError(
                    f"{unit.name}: {first} and {other} were asked different things ({', '.join(keys)} in {name})",
                    "leave one of them out, or run it again as the other one was",
                )
    if unit.measured_anew:
        return
    where: dict[Path, Path] = {}
    for part, names in unit.sources.items():
        for name in names:
            before = where.setdefault(name, part)
            same = before == part or name.suffix == ".log" or name.name in QUESTIONS
            if not same and sha256_file(before / unit.name / name) != sha256_file(part / unit.name / name):
                raise UserError(
                    f"{unit.name / name} is another file in {before} than in {part}",
                    "both made the same, with different results: leave one of them out",
                )


def _read_question(path: Path) -> dict[str, Any] | None:
    """The content without what differs between machines by nature; None when it is missing."""
    if not path.exists():
        return None
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} should hold keys and values", "it is damaged: leave that part out")
    return {key: value for key, value in content.items() if key not in MACHINE_KEYS}


def files_to_copy(unit: Unit) -> Iterator[tuple[Path, Path]]:
    """(from, to) of what out/ lacks: an evaluation's pieces of all parts, any other unit from one part as a whole."""
    have = set(unit.sources.get(OUT, []))
    if have and not unit.evaluation:
        return
    # The most complete one: a build that failed halfway left fewer files.
    fullest = max(unit.sources, key=lambda part: len(unit.sources[part]))
    for part in unit.sources if unit.evaluation else [fullest]:
        for name in unit.sources[part]:
            if name not in have:
                have.add(name)
                yield part / unit.name / name, OUT / unit.name / name


def merge(folder: Path) -> dict[str, int]:
    """Lay all parts of a folder into out/. Returns how many {"parts", "cells", "pieces"} came. Raises UserError."""
    parts = parts_in(folder)
    units = collect([OUT, *parts])
    for unit in track(list(units.values()), "merge: compare", "folders"):
        check(unit)
    # A build's files are in order of time, which travelling may shuffle; whole cells get one time for all.
    now = time.time_ns()
    cells = pieces = 0
    for unit in track(list(units.values()), "merge: copy", "folders"):
        copies = list(files_to_copy(unit))
        for source, target in copies:
            with replacing(target) as temporary:
                shutil.copyfile(source, temporary)
            os.utime(target, ns=(now, now))
        pieces += sum(target.suffix == ".npz" for _, target in copies) if unit.evaluation else 0
        cells += bool(copies) and not unit.evaluation and not unit.measured_anew
    return {"parts": len(parts), "cells": cells, "pieces": pieces}


def main() -> None:
    """python -m common.merge_results --parts FOLDER"""
    parser = argparse.ArgumentParser(description="lay the results of several machines together")
    parser.add_argument("--parts", default="")
    parts = parser.parse_args().parts
    if not parts:
        raise UserError("which parts? PARTS= is not set", "make merge PARTS=folder", USAGE_EXIT)
    found = merge(Path(parts))
    print(f"merge: {found['cells']} cells and {found['pieces']} pieces of evaluations from {found['parts']} parts")


if __name__ == "__main__":
    run(main)
