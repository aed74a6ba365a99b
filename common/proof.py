"""The ladder of proof of one cell: what was shown, step by step, and what follows from it.

    python -m common.proof out/<model>/<chip>/<variant>     writes artifact.json and, last, proof.json

A step is "passed", "failed", "not applicable", "not judged" or "not simulated". One failed step makes the cell failed;
else a step that nothing but the chip could run makes it not simulated; else one step that could not be judged makes it
not judged; else it is proven. What a stand-in of the SDK computed proves nothing about a chip: at best it is "double".
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from common.basics.errors import UserError, run
from common.basics.files import write_json
from common.cells.cell_results import CellResults, forced_findings
from common.declarations.spec import GateSpec
from common.job import Cell
from common.reporting.sidecar import sidecar

PASSED, FAILED, NOT_APPLICABLE, NOT_JUDGED = "passed", "failed", "not applicable", "not judged"
NOT_SIMULATED, DOUBLE = "not simulated", "double"
DOUBLE_REASON = "a stand-in of the vendor's SDK computed this: the chain works, nothing is said about the chip"
RANDOM_WEIGHTS = "random weights"


class Verdict(NamedTuple):
    """A step's state, its figures in words, and, where it is not judged, why in a few words."""

    state: str
    figures: str
    why: str = ""


def judge_preflight(preflight: dict[str, Any]) -> Verdict:
    """Step 0: the graph against the chip's operator table."""
    counted = f"{preflight['nodes']} nodes of {len(preflight['operators'])} operators"
    if preflight["ok"]:
        return Verdict(PASSED, f"{counted}, all taken by {preflight['chip']}")
    return Verdict(FAILED, f"{counted}; {preflight['problems'][0]['problem']}")


def judge_export(export: dict[str, Any]) -> Verdict:
    """Step 1: torch = ONNX, by the largest difference and the heatmaps' peaks; and, where the graph was cut before
    its decode, the host's decode = the decode that was cut off.
    """
    figures = f"opset {export['opset']}, IR {export['ir_version']}"
    proof, cut = export.get("proof"), export.get("cut")
    if proof is None and cut is None:
        return Verdict(NOT_APPLICABLE, f"the user's own ONNX as it came ({figures}): no torch network to compare with")
    if proof:
        counts = proof["samples"]
        figures += f"; torch and ONNX differ by {proof['max_abs']:.2g} at most (allowed {proof['tolerance']:.2g})"
        if proof.get("same_peaks") is not None:
            figures += f", {proof['same_peaks']:.1%} of peaks equal"
        figures += f", on {counts['random']} random and {counts['real']} real inputs"
    else:
        figures = f"the user's own ONNX ({figures})"
    if cut:
        figures += f"; {cut['description']}: "
        if cut["max_abs"] is None:
            figures += "not compared with the graph's own decode, whose outputs are others"
        else:
            figures += (
                f"decoding on the host differs from the graph's own by {cut['max_abs']:.2g} at most "
                f"(allowed {cut['tolerance']:.2g})"
            )
    compared = [part for part in (proof, cut) if part and part["max_abs"] is not None]
    if not compared:
        return Verdict(NOT_APPLICABLE, figures)
    within = all(part["max_abs"] <= part["tolerance"] for part in compared)
    return Verdict(PASSED if within else FAILED, figures)


def judge_fix(fix: dict[str, Any]) -> Verdict:
    """Step 2: ONNX = fixed ONNX over all passes together; tolerance is relative to the largest output."""
    changed = [item["name"] for item in fix["passes"] if item["changed"]]
    allowed = fix["tolerance"] * fix["largest_output"]
    figures = (
        f"{len(changed)} of {len(fix['passes'])} passes changed the graph ({', '.join(changed) or 'none'}); outputs "
        f"differ by {fix['max_abs']:.2g} at most (allowed {allowed:.2g}), measured by {fix['yardstick']}"
    )
    if batch := fix.get("batch"):
        figures += f"; {batch['size']} samples at once differ from each alone by {batch['max_abs']:.2g} at most"
    return Verdict(PASSED if fix["max_abs"] <= allowed else FAILED, figures)


def judge_calibration(manifest: dict[str, Any] | None, precision: str) -> Verdict:
    """Step 3: the calibration lint. Failures that FORCE=1 overrode leave the step not judged."""
    if manifest is None:
        return Verdict(NOT_APPLICABLE, f"{precision} needs no calibration")
    findings = manifest["lint"]
    figures = f"{manifest['count']} samples of {manifest['set']}"
    forced = forced_findings(manifest)
    if forced:
        return Verdict(
            NOT_JUDGED, f"{figures}; overridden: {'; '.join(forced)}", "FORCE=1 overrode the calibration lint"
        )
    warned = [f"{finding['check']}: {finding['message']}" for finding in findings if finding["state"] == "warn"]
    return Verdict(PASSED, f"{figures}; {len(findings)} checks, {'; '.join(warned) if warned else 'no finding'}")


def judge_agreement(compared: dict[str, Any], gate: GateSpec, weights: str) -> Verdict:
    """What the chip finds against what the float network finds: OKS or IoU against the gate."""
    outputs = ", ".join(
        f"{name}: equal to the bit"
        if output["max_abs"] == 0
        else f"{name}: cosine {output['cosine']:.5f}, SQNR {output['sqnr_db']:.1f} dB"
        for name, output in compared["outputs"].items()
    )
    figures = (
        f"{compared['similarity']} {compared['agreement']:.4f} against float (gate {gate.oks:g}) over "
        f"{compared['samples']} samples; {outputs}"
    )
    if compared["compared"] == 0:
        figures = f"nothing was found by float, and nothing by the chip, on {figures.partition(' over ')[2]}"
    if weights == "random":
        return Verdict(NOT_JUDGED, figures, RANDOM_WEIGHTS)
    if compared["compared"] == 0:
        return Verdict(NOT_JUDGED, figures, "nothing was found in the evaluation images, so nothing was compared")
    return Verdict(PASSED if compared["agreement"] >= gate.oks else FAILED, figures)


def judge_metric(metrics: dict[str, Any], gate: GateSpec, weights: str, rendered: bool = False) -> Verdict:
    """Step 6: the task's metric before and after. Red only when the drop is above the gate and is not chance: when the
    lower end of its paired interval is above 0. A drop above the gate that may be chance is not judged.
    """
    name = metrics["metric"]
    before, after, drop = (metrics[key][name] for key in ("float", "chip", "drop"))
    if before is None or after is None:
        why = f"no {name}: {metrics.get('reason', 'nothing to measure it on')}"
        return Verdict(NOT_JUDGED, metrics["protocol"], why)
    interval = metrics["drop"].get("interval")
    spread = f", 95 % interval {interval[0]:+.4f} to {interval[1]:+.4f}" if interval else ""
    figures = f"{name} {before:.4f} float, {after:.4f} chip, drop {drop:.4f}{spread} (gate {gate.ap_drop:g})"
    figures += ", on rendered people" if rendered else ""
    if weights == "random":
        return Verdict(NOT_JUDGED, figures, RANDOM_WEIGHTS)
    if drop <= gate.ap_drop:
        return Verdict(PASSED, figures)
    if interval and interval[0] <= 0:
        why = (
            f"the {name} drop of {drop:.3f} is above the gate, but may be chance (its interval includes 0): too few "
            "images"
        )
        return Verdict(NOT_JUDGED, figures, why)
    return Verdict(FAILED, figures)


def judge_float_on_chip(cell: Cell) -> Verdict:
    """Step 4: the chip in float against ONNX; for a quantised cell, from the float cell beside it if that is built."""
    if not cell.quantised:
        compared = _required(CellResults(cell.folder).compared, "compare.json", cell)
        return judge_agreement(compared, cell.gate, cell.weights) if cell.simulated else not_simulated(cell)
    precision = cell.chip_spec.float_precision
    if precision is None:
        return Verdict(NOT_APPLICABLE, "the chip has no float mode")
    if precision in cell.chip_spec.unsimulated:
        return Verdict(NOT_APPLICABLE, f"nothing but the chip can run its {precision}")
    sibling = cell.folder.parent / precision
    path, export = sibling / "compare.json", cell.float_folder / "export.json"
    if not path.exists() or path.stat().st_mtime_ns < export.stat().st_mtime_ns:
        return Verdict(NOT_APPLICABLE, f"{cell.model}/{cell.chip}/{precision} is not built for this float network")
    return judge_agreement(CellResults(sibling).compared, cell.spec.gate_for(precision), cell.weights)


def not_simulated(cell: Cell) -> Verdict:
    """Nothing but the chip can run the artifact; the figures are what was checked instead."""
    checks = (CellResults(cell.folder).compiled or {}).get("checks") or []
    checked = f"checked instead: {'; '.join(checks)}" if checks else "nothing else was checked"
    why = f"nothing but the chip can run {cell.chip_spec.artifact}: device.py on the board tells"
    return Verdict(NOT_SIMULATED, checked, why)


def judge_quantised(cell: Cell) -> Verdict:
    """Step 5: the quantised chip against float, on the rung that was taken."""
    if not cell.quantised:
        return Verdict(NOT_APPLICABLE, f"{cell.precision} is not quantised: see float on chip")
    if not cell.simulated:
        return not_simulated(cell)
    results = CellResults(cell.folder)
    found = judge_agreement(_required(results.compared, "compare.json", cell), cell.gate, cell.weights)
    rung = results.rung
    if rung is None:
        return found
    place = f"rung {rung['number']} of {results.rungs['of']} ({rung['title']}): "
    tried = results.rungs["tried"]
    others = "; ".join(
        f"{entry['number']} {entry['name']} {entry['agreement']:.4f}" for entry in tried if entry is not rung
    )
    figures = place + found.figures + (f"; also tried: {others}" if others else "")
    return found._replace(figures=figures)


def ladder(cell: Cell) -> list[dict[str, Any]]:
    """All steps: [{"step", "name", "state", "figures", "why"}]. Raises UserError when a file of the cell is missing."""
    results = CellResults(cell.folder)
    manifest = results.calibration if cell.calibration_request else None
    metric = judge_metric(
        _required(results.metrics, "metrics.json", cell), cell.gate, cell.weights, results.rendered
    ) if cell.simulated else not_simulated(cell)  # fmt: skip
    verdicts = [
        ("preflight", judge_preflight(_required(results.read("preflight.json"), "preflight.json", cell))),
        ("export", judge_export(_required(results.read_float("export.json"), "export.json", cell))),
        ("fix", judge_fix(_required(results.read("fix.json"), "fix.json", cell))),
        ("calibration lint", judge_calibration(manifest, cell.precision)),
        ("float on chip", judge_float_on_chip(cell)),
        ("quantised agreement", judge_quantised(cell)),
        ("task metric", metric),
    ]
    on_chip = [name for name, _ in verdicts[4:]]
    return [
        {
            "step": step,
            "name": name,
            # What a stand-in computed passes nothing.
            "state": DOUBLE if cell.double and name in on_chip and found.state == PASSED else found.state,
            "figures": found.figures,
            "why": found.why,
        }
        for step, (name, found) in enumerate(verdicts)
    ]


def verdict(steps: list[dict[str, Any]], double: bool = False) -> tuple[str, str]:
    """The cell's state, "proven", "failed", "double", "not simulated" or "not judged", and its reason in words.

    double: whether a stand-in of the vendor's SDK was used.
    """
    red = [f"{step['name']}: {step['figures']}" for step in steps if step["state"] == FAILED]
    if red:
        return FAILED, "; ".join(red)
    if double:
        return DOUBLE, DOUBLE_REASON
    if unseen := [step["why"] for step in steps if step["state"] == NOT_SIMULATED]:
        return NOT_SIMULATED, unseen[0]
    open_steps = [step["why"] for step in steps if step["state"] == NOT_JUDGED]
    if open_steps:
        return NOT_JUDGED, "; ".join(dict.fromkeys(open_steps))
    return "proven", ""


def _required(content: dict[str, Any] | None, file: str, cell: Cell) -> dict[str, Any]:
    if content is None:
        raise UserError(f"{cell.name}: {file} is missing", "run the same make again")
    return content


def prove(cell: Cell) -> dict[str, Any]:
    """Judge a cell; write the sidecar artifact.json and, last, proof.json. Returns the proof."""
    steps = ladder(cell)
    state, reason = verdict(steps, cell.double)
    proof = {
        "version": 1,
        "state": state,
        "reason": reason,
        "weights": cell.weights,
        "gate": cell.gate.model_dump(),
        "steps": steps,
    }
    write_json(cell.folder / "artifact.json", sidecar(cell, proof))
    write_json(cell.folder / "proof.json", proof)
    return proof


def main() -> None:
    """python -m common.proof CELL"""
    prove(Cell(sys.argv[1]))


if __name__ == "__main__":
    run(main)
