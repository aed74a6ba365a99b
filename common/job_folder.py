"""`make job MODEL= CHIP=`: the job folder of a cell, complete, for a compiler that runs elsewhere.

    python -m common.job_folder --chip CHIP --model NAME model/chip/variant ...

make has written the files; this says what lies where, and how its results come back.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from common.cell_results import OUT
from common.errors import USAGE_EXIT, UserError, run
from common.files import read_json
from common.spec import load_chip
from common.summary import no_cells
from common.wording import size_in_words


def describe(names: Sequence[str]) -> list[str]:
    """One paragraph a job folder: where it is, how large, which rung, and what compiles it."""
    lines = []
    for name in names:
        folder = OUT / name
        job = read_json(folder / "job.json")
        chip = load_chip(job["chip"])
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        lines.append(f"{folder}: {size_in_words(size)}, complete in itself")
        if rung := job["rung"]:
            of = len(chip.rungs[job["precision"]])
            lines.append(f"  rung {rung['number']} of {of}, {rung['name']}; RUNG=n writes another")
        lines.append(f"  {chip.folder}/README.md: how {chip.sdk.name} {chip.sdk.version} compiles it")
    return lines


def main() -> None:
    """python -m common.job_folder --chip CHIP --model NAME CELL... (called by make)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cells", nargs="*", help="model/chip/variant")
    parser.add_argument("--chip", default="")
    parser.add_argument("--model", default="")
    arguments = parser.parse_args()
    if not arguments.chip:
        raise UserError("which chip? CHIP= is not set", "make job CHIP=name MODEL=name; see make list", USAGE_EXIT)
    load_chip(arguments.chip)
    if not arguments.cells:
        raise no_cells(arguments.chip)
    print("\n".join(describe(arguments.cells)))


if __name__ == "__main__":
    run(main)
