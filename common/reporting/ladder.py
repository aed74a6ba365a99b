"""The ladder of proof as the page shows it: the proof's own, or, where a build broke off, as far as it came."""

from __future__ import annotations

from typing import Any

from common.cells.cell_results import CellResults

NOT_REACHED = "not reached"
NAMES = (
    "preflight",
    "export",
    "fix",
    "calibration lint",
    "float on chip",
    "quantised agreement",
    "task metric",
)


def shown_steps(cell: CellResults) -> list[dict[str, Any]]:
    """[{"step", "name", "state", "figures", "why"}] of the proof; of a cell without one, the steps that left a record,
    and the others as not reached. Nothing of a cell that left no record at all."""
    if cell.proof:
        return cell.proof["steps"]
    verdicts = _recorded(cell)
    nothing = (NOT_REACHED, "", "")
    return [
        {"step": step, "name": name} | dict(zip(("state", "figures", "why"), verdicts.get(name, nothing), strict=True))
        for step, name in enumerate(NAMES if verdicts else ())
    ]


def _recorded(cell: CellResults) -> dict[str, tuple[str, str, str]]:
    """name -> (state, figures, why) of the steps before the compiler."""
    if not cell.folder.is_dir():  # the float network's export is no step of a cell that was never begun
        return {}
    from common import proof  # it brings in what a proof is made with, which a page of finished cells need not load

    judges = {
        "preflight": (cell.read("preflight.json") or cell.read("preflight.failed.json"), proof.judge_preflight),
        "export": (cell.read_float("export.json"), proof.judge_export),
        "fix": (cell.read("fix.json"), proof.judge_fix),
        "calibration lint": (cell.calibration, lambda found: proof.judge_calibration(found, cell.request["precision"])),
    }
    verdicts = {name: tuple(judge(content)) for name, (content, judge) in judges.items() if content}
    if verdicts and cell.calibration_set is None:
        verdicts["calibration lint"] = tuple(proof.judge_calibration(None, cell.request["precision"]))
    return verdicts
