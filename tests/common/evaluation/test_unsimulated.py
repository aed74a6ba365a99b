"""What a simulation shows step by step, and what a cell says where there is none."""

from __future__ import annotations

from pathlib import Path

import yaml

from common import climb
from common.basics.files import read_json
from common.cells.cell_results import CellResults
from common.draw import draw_cell
from common.job import Cell
from common.proof import prove
from common.report import make_report
from tests.common.cell_fixture import CHIP
from tests.common.climb_fixture import INFER, LADDER, cell, ladder

__all__ = ["cell"]  # a fixture


def test_what_nothing_can_simulate_has_no_numbers_and_is_not_proven(cell):
    path = Path("vendors", CHIP, "chip.yaml")
    ladder([])
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"unsimulated": ["int8"]}))
    infer = Path("vendors", CHIP, "infer.py")
    infer.write_text("raise SystemExit(5)")
    result = climb.climb(Cell(cell))
    assert (result["tried"][0]["agreement"], result["tried"][0]["metric_chip"]) == (None, None)
    draw_cell(Cell(cell))
    assert read_json(cell / "pictures.json")["pictures"] == []
    proof = prove(Cell(cell))
    assert proof["state"] == "not simulated"
    assert "only on the board" in proof["reason"] or "device.py" in proof["reason"]
    facts = CellResults(cell).facts()
    assert facts["state"] == "not simulated"
    assert facts["metric_float"] > 0.5
    assert (facts["metric_chip"], facts["agreement"], facts["drop"], facts["latency_ms"]) == (None,) * 4
    make_report(Path("out"))
    page = Path("out/report/index.html").read_text()
    assert "not simulated" in page
    assert "data:image/" not in page.split("<h2")[1].split("Calibration")[0]


def test_the_steps_of_the_vendors_chain_are_compared_one_by_one(cell):
    """infer.py tells of two stages: one equals float, the other is the chip's own outputs."""
    infer = Path("vendors", CHIP, "infer.py")
    infer.write_text(
        INFER
        + """
with np.load(job / "../../float/outputs.npz") as outputs:
    np.savez(job / "stage-graph.npz", **{name: value[:2] for name, value in outputs.items()})
with np.load(job / "outputs.npz") as outputs:
    np.savez(job / "stage-exact.npz", **{name: value[:1] for name, value in outputs.items()})
told = json.loads((job / "infer.json").read_text())
told["stages"] = [{"name": name, "title": f"as {name}", "file": f"stage-{name}.npz", "samples": count}
                  for name, count in (("graph", 2), ("exact", 1))]
(job / "infer.json").write_text(json.dumps(told))
"""
    )
    ladder([LADDER[1]])
    climb.climb(Cell(cell))
    graph, exact = read_json(cell / "compare.json")["stages"]
    assert {figures["max_abs"] for figures in graph["outputs"].values()} == {0}
    assert graph["from_main"] > 0
    assert exact["from_main"] == 0
    assert all(figures["max_abs"] > 0 for figures in exact["outputs"].values())
