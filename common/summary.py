"""The verdict at the end of every build: a small table, and a red gate fails the build.

    python -m common.summary --chip CHIP --model NAME model/chip/variant ...

Standard library only, because it runs also when nothing was to be done.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.basics import terminal
from common.basics.errors import FAILURE_EXIT, USAGE_EXIT, UserError, report_error, run
from common.basics.wording import Naming, number_in_words, size_in_words
from common.cells.cell_results import OUT, CellResults

NUMERIC = {1, 2, 3, 4, 5}
COLORS = {"proven": "32", "failed": "31", "not judged": "33", "not simulated": "33", "double": "35"}  # ANSI


def headers(naming: Naming, rungs: bool) -> tuple[str, ...]:
    """The table's first line; rungs: whether any cell has some."""
    return ("cell", "artifact", naming.header("float"), naming.header("chip"), naming.agreement_header, "latency",
            *(["rung"] if rungs else []), "state")  # fmt: skip


def row(facts: dict[str, Any], naming: Naming, rungs: bool) -> tuple[str, ...]:
    """One line of the table, of CellResults.facts()."""
    state = f"{facts['state']} (random weights)" if facts["weights"] == "random" else facts["state"]
    return (
        facts["cell"],
        size_in_words(facts["artifact_bytes"]),
        naming.metric_of(facts, "float"),
        naming.metric_of(facts, "chip"),
        naming.agreement_of(facts),
        number_in_words(facts["latency_ms"], ".1f", " ms"),
        *([facts["rung"] or "-"] if rungs else []),
        state,
    )


def table(rows: Sequence[Sequence[str]], color: bool = False) -> str:
    """Aligned columns, numbers to the right; rows: the headers first; color: the state in green, red or yellow."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for line in rows:
        words = [
            word.rjust(width) if column in NUMERIC else word.ljust(width)
            for column, (word, width) in enumerate(zip(line, widths, strict=True))
        ]
        words[-1] = words[-1].rstrip()
        code = COLORS.get(words[-1].partition(" (")[0])
        if color and code:
            words[-1] = f"\x1b[{code}m{words[-1]}\x1b[0m"
        lines.append("  ".join(words))
    return "\n".join(lines)


def failures(cell: CellResults) -> list[str]:
    """The steps of the ladder that are red, with their figures."""
    steps = (cell.proof or {}).get("steps", [])
    return [f"{step['name']}: {step['figures']}" for step in steps if step["state"] == "failed"]


def no_cells(chip: str) -> UserError:
    """`make CHIP` without a network."""
    models = sorted(path.parent.name for path in Path("models").glob("*/model.yaml"))
    listed = "\n".join(f"  {model}" for model in models) or "  (none)"
    example = models[0] if models else "name"
    return UserError(
        f"which network? make {chip} needs MODEL= or ONNX= with SPEC=; models:\n{listed}",
        f"make {chip} MODEL={example}; make demo is the whole chain on a small network",
        USAGE_EXIT,
    )


def print_summary(chip: str, names: Sequence[str], out: Path = OUT) -> int:
    """Print the table of these cells; returns the exit code, 1 when a cell is red.

    Raises UserError without cells (exit 2), or when a cell has no proof.
    """
    if not names:
        raise no_cells(chip)
    cells = [CellResults(out / name) for name in names]
    for cell in cells:
        if cell.proof is None:
            raise UserError(f"{cell.name} has no proof.json in {cell.folder}", "run the same make again")
    facts = [cell.facts() for cell in cells]
    in_color = terminal.colored()
    naming = Naming.of(facts)
    rungs = any(one["rung"] for one in facts)
    print(f"\n{table([headers(naming, rungs), *(row(one, naming, rungs) for one in facts)], in_color)}")
    told = [(one["state"], one["reason"]) for one in facts if one["state"] in ("not judged", "not simulated", "double")]
    for state, reason in dict.fromkeys(told):
        print(f"{state}: {reason}")
    for one in facts:
        for warning in one["warnings"]:
            print(f"warning: {one['cell']}: {warning}")
    print(f"\n{out / 'report' / 'index.html'}", flush=True)
    red = [cell for cell, one in zip(cells, facts, strict=True) if "failed" in (one["state"], cell.proof["state"])]
    for cell in red:
        damaged = cell.damaged_artifact()
        if damaged:
            report_error(
                f"{cell.name}: the artifact {damaged} is missing or not the one that was compiled",
                f"rm {cell.folder}/compile.json, then the same make again",
            )
        else:
            report_error(f"{cell.name} failed its proof: {'; '.join(failures(cell))}", _hint(cell))
    return FAILURE_EXIT if red else 0


def _hint(cell: CellResults) -> str:
    listed = (cell.read("pictures.json") or {}).get("pictures") or [{"file": "skeletons_worst.png"}]
    looked = f"look at {cell.folder}/{listed[0]['file']} and {cell.folder}/channels.png"
    if cell.calibration_set is None:
        return f"{looked}: float on the chip that differs from float is a wrong layout, mean or resize"
    rungs = cell.rungs or {"of": 0, "asked": None}
    if rungs["asked"] and rungs["of"] > 1:
        return f"leave RUNG={rungs['asked']} out: there are {rungs['of']} rungs, and the build climbs until one passes"
    network = f"SPEC={cell.source['spec_path']}" if "spec_path" in cell.source else f"MODEL={cell.request['model']}"
    if (Path("vendors") / (cell.read("job.json") or {}).get("vendor", "") / "layers.py").is_file():
        looked += f"; `make layers {network} CHIP={cell.request['chip']}` shows which layers lose the most"
    return f"{looked}; more or better calibration images (CALIB=, CALIB_COUNT=) are the usual cure"


def main() -> int:
    """python -m common.summary --chip CHIP --model NAME CELL... (called by make)."""
    parser = argparse.ArgumentParser(description="print the verdict on cells")
    parser.add_argument("cells", nargs="*", help="model/chip/variant")
    parser.add_argument("--chip", required=True)
    parser.add_argument("--model", default="")
    arguments = parser.parse_args()
    return print_summary(arguments.chip, arguments.cells)


if __name__ == "__main__":
    run(main)
