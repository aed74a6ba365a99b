"""Cells that left no result, what a cell's section tells, and the schema of results.json."""

import json
import os
import re
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from common.basics.errors import UserError
from common.basics.files import read_json, write_json
from common.cells.cell_results import STATES, CellResults
from common.drawing.figure import save_picture
from common.report import STATE_MEANINGS, lines, make_report
from common.reporting.cells import reported_cells
from common.reporting.charts import ROWS, rung_chart, size_chart, sizes, tried_rungs
from common.reporting.pictures import FEW_CELLS
from tests.common.cell_fixture import CHIP
from tests.common.report_page import Page, without_pictures

SCHEMA = json.loads((Path(__file__).parents[3] / "common/reporting/results.schema.json").read_text())
INT8 = f"toy_pose/{CHIP}/int8"


@pytest.fixture
def project(made_cells, tmp_path, test_chip, monkeypatch):
    """A copy of the finished cells that a test may break. Pictures are not encoded."""
    shutil.copytree(made_cells / "out", tmp_path / "out", copy_function=shutil.copy2)
    without_pictures(monkeypatch)
    return tmp_path


def told(project, *entries):
    """out/all/summary.json with these (cell, state, why)."""
    cells = [{"cell": cell, "state": state, "why": why} for cell, state, why in entries]
    write_json(project / "out/all/summary.json", {"version": 1, "cells": cells})


def faults(project):
    """What the schema finds wrong with results.json."""
    content = read_json(project / "out/report/results.json")
    return [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(content)]


def states(project):
    return {
        row["cell"]: (row["state"], row["reason"]) for row in read_json(project / "out/report/results.json")["cells"]
    }


def test_skipped_and_failed_cells_of_make_all_have_rows_with_the_reason(project):
    told(project, (f"toy_pose/{CHIP}/int4-b4", "skipped", "the SDK of <testchip> is not installed"),
         ("new_pose/otherchip/int8-double", "failed", "export: opset 30 is not known"), (INT8, "ok", ""))  # fmt: skip
    page = Page(make_report(project / "out").read_text())
    found = states(project)
    assert found[f"toy_pose/{CHIP}/int4-b4"] == ("skipped", "the SDK of <testchip> is not installed")
    assert found["new_pose/otherchip/int8-double"] == ("failed", "export: opset 30 is not known")
    assert found[INT8][0] == "failed" and len(found) == 5
    assert list(found) == sorted(found)
    row = next(row for row in page.rows if row[2:3] == ["int4-b4"])
    assert row[:2] == ["toy_pose", CHIP]
    assert row[3] == "skipped the SDK of <testchip> is not installed"
    assert row[4:] == []  # the reason stands in the figures' place
    assert page.crossed == [] and page.stack == []
    rows = {row["cell"]: row for row in read_json(project / "out/report/results.json")["cells"]}
    assert rows[f"toy_pose/{CHIP}/int4-b4"]["batch"] == 4 and rows["new_pose/otherchip/int8-double"]["double"]
    assert f"make {CHIP} MODEL=toy_pose PRECISION=int4 BATCH=4 EVAL=" in "".join(page.words)
    assert faults(project) == []
    assert "skipped: the SDK of &lt;testchip> is not installed" in (project / "out/report/summary.md").read_text()


def test_a_cell_s_own_files_go_before_what_is_said_of_it(project):
    told(project, (INT8, "failed", "said of it"), (f"lost_pose/{CHIP}/int8", "skipped", "said of it"))
    make_report(project / "out")
    assert all(reason != "said of it" for _, reason in states(project).values())
    (project / "out" / INT8 / "proof.json").unlink()  # the same without a verdict of its own
    make_report(project / "out")
    assert states(project)[INT8] == ("failed", "said of it")
    (project / "out" / INT8 / "compile.json").unlink()
    (project / "out" / INT8 / "compile.log").write_text("ERROR: too wide\n")
    make_report(project / "out")
    assert states(project)[INT8] == ("failed", "compile: too wide")


def test_the_overview_has_every_cell_at_its_model_and_chip(project):
    assert "All models on all chips" not in "".join(Page(make_report(project / "out").read_text()).words)  # one chip
    told(project, ("new_pose/otherchip/int8", "skipped", "no SDK"))
    page = Page(make_report(project / "out").read_text())
    first = page.rows.index(["", CHIP, "otherchip"] if CHIP < "otherchip" else ["", "otherchip", CHIP])
    table = {row[0]: dict(zip(page.rows[first][1:], row[1:], strict=True)) for row in page.rows[first + 1 : first + 4]}
    assert table["new_pose"] == {CHIP: "", "otherchip": "int8 skipped"}
    assert table["toy_pose"][CHIP] == "fp32 provenint8 failed" and table["toy_pose"]["otherchip"] == ""
    assert [url for url in page.urls if "--" in url].count(f"#toy_pose--{CHIP}--int8") == 2  # here, and in the table


def ladder_of(page):
    """[(step, name, state)] of every ladder on the page."""
    return [(row[0], row[1], row[2]) for row in page.rows if row[0].isdecimal() and len(row) == 4]


def test_a_cell_that_broke_off_shows_how_far_it_came_and_the_end_of_the_log(project):
    shutil.rmtree(project / "out/lost_pose")
    shutil.rmtree(project / "out/toy_pose" / CHIP / "fp32")
    cell = project / "out" / INT8
    (cell / "proof.json").unlink()
    (cell / "compile.json").unlink()
    (cell / "compile.log").write_text("allocating <buffers>\nERROR: too wide\n")
    page = Page(make_report(project / "out").read_text())
    states = [state for _, _, state in ladder_of(page)]
    assert states == ["passed", "passed", "passed", "passed", "not reached", "not reached", "not reached"]
    words = "".join(page.words)
    assert f"The end of {project}/out/{INT8}/compile.log" in words
    assert words.index("allocating <buffers>") < words.index("Ladder of proof")
    problem = {"problem": "Foo is not supported", "node": "n", "operator": "Foo", "attribute": None, "way_out": "none"}
    preflight = read_json(cell / "preflight.json") | {"ok": False, "problems": [problem]}
    (cell / "preflight.json").unlink()
    write_json(cell / "preflight.failed.json", preflight)
    page = Page(make_report(project / "out").read_text())
    assert ladder_of(page)[0] == ("0", "preflight", "failed")
    assert "The end of" not in "".join(page.words)  # the compiler never ran for this graph


def test_a_log_that_a_reason_names_is_shown_from_within_out_alone(project):
    (project / "out/images").mkdir()
    (project / "out/images/chip.log").write_text("no such base\n")
    (project / "secret.log").write_text("a secret\n")
    for log, shown in (("out/images/chip.log", True), ("secret.log", False), ("out/../secret.log", False)):
        told(project, ("toy_pose/otherchip/int8", "failed", f"docker build failed (log: {project}/{log})"))
        words = "".join(Page(make_report(project / "out").read_text()).words)
        assert ("no such base" in words) == shown and "a secret" not in words
        assert "Ladder of proof" in words and "not reached" not in words  # it never began: it has no ladder


@pytest.mark.parametrize(
    "content",
    ['{"cells": 3}', "[]", '{"cells": [{"cell": "../../etc", "state": "skipped"}]}',
     '{"cells": [{"cell": "a/b/c", "state": "fine"}]}', '{"cells": [3]}', "{"],
)  # fmt: skip
def test_a_damaged_summary_of_make_all_is_one_clear_error(project, content):
    (project / "out/all").mkdir()
    (project / "out/all/summary.json").write_text(content)
    with pytest.raises(UserError, match=r"all/summary\.json"):
        reported_cells(project / "out")


def test_results_json_is_as_its_schema_says(project):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    (project / "out" / INT8 / "metrics.json").unlink()  # one that has fewer figures
    make_report(project / "out")
    assert faults(project) == []
    facts = CellResults(project / "out" / INT8).facts()
    assert set(SCHEMA["$defs"]["cell"]["required"]) == set(SCHEMA["$defs"]["cell"]["properties"]) == set(facts)
    content = read_json(project / "out/report/results.json")
    for key, wrong in (("state", "good"), ("agreement", 1.5), ("artifact_sha256", "abc"), ("surprise", 1)):
        damaged = json.loads(json.dumps(content))
        damaged["cells"][0][key] = wrong
        write_json(project / "out/report/results.json", damaged)
        assert faults(project), key


def add_layers(cell):
    """What `make layers` leaves."""
    layers = [{"name": f"/conv_{number}/Conv", "operator": "Conv", "precision": "int8", "cosine": 0.9,
               "sqnr_db": number if number else None, "outputs": []} for number in range(14)]  # fmt: skip
    write_json(cell / "layers.json", {"version": 1, "source": "a test's tool", "samples": 3, "layers": layers})
    save_picture(cell / "layers.png", np.zeros((20, 30, 3), np.uint8))


def test_layers_are_shown_worst_first_and_called_old_when_the_artifact_is_newer(project):
    cell = project / "out" / INT8
    assert "Layer by layer" not in make_report(project / "out").read_text()
    add_layers(cell)
    page = Page(make_report(project / "out").read_text())
    rows = [row for row in page.rows if row and row[0].startswith("/conv_")]
    assert [row[3] for row in rows] == [f"{number}.0" for number in range(1, 11)]
    words = "".join(page.words)
    assert "14 layers, 3 samples; a test's tool" in words and "an earlier build" not in words
    later = (cell / "layers.json").stat().st_mtime + 5
    os.utime(cell / "compile.json", (later, later))
    assert "Measured on an earlier build" in make_report(project / "out").read_text()


def test_a_vendor_s_estimate_goes_before_a_simulator_s_time(project):
    path = project / "out" / INT8 / "compile.json"
    write_json(path, read_json(path) | {"estimate": {"milliseconds": 0.3533, "fps": 2830.7}})
    page = Page(make_report(project / "out").read_text())
    latencies = {row[2]: row[11] for row in page.rows if row and row[0] == "toy_pose"}
    assert latencies == {"int8": "0.353 msvendor's estimate", "fp32": "7.1 msnot on the chip"}
    assert "| 0.353 ms (vendor's estimate) |" in (project / "out/report/summary.md").read_text()
    assert "fps: 2830.7" in "".join(page.words)


def test_flags_of_a_cell_without_a_sidecar_are_derived(project):
    (project / "out" / INT8 / "artifact.json").unlink()
    page = Page(make_report(project / "out").read_text())
    assert page.rows.count(["--mean", "123.675,116.28,103.53"]) == 3


def test_nested_content_as_lines():
    content = {"a": 1 / 3, "b": {"c": None, "d": []}, "e": [{"f": 1}, {"f": True}], "g": ["x", 2], "h": {}}
    assert (
        lines(content) == "a: 0.333333\nb:\n  c: none\n  d: none\ne:\n  -\n    f: 1\n  -\n    f: True\ng: x, 2\nh: none"
    )
    assert lines([[640, 640], [480, 640]]) == "640, 640; 480, 640"


def test_the_document_tells_every_state_and_column(project):
    text = (Path(__file__).parents[3] / "docs/reading_the_report.md").read_text()
    assert list(STATE_MEANINGS) == list(STATES) == SCHEMA["$defs"]["cell"]["properties"]["state"]["enum"]
    for state in STATES:
        assert f"\n| {state} |" in text
    assert f"more than {FEW_CELLS} cells" in text
    titles = next(row for row in Page(make_report(project / "out").read_text()).rows if "Chip" in row)
    assert len(titles) == 12
    for title in titles:
        assert re.search(rf"\n\| [^|]*{title}", text), title
    steps = read_json(project / "out" / INT8 / "proof.json")["steps"]
    for step in steps:
        assert f"\n| {step['step']} {step['name']} |" in text


def row(agreement, weights="published", double=False, chip="a", rungs=None, size=2_000_000):
    facts = {"cell": f"m/{chip}/int8", "chip": chip, "agreement": agreement, "weights": weights, "double": double,
             "artifact_bytes": size}  # fmt: skip
    return {"facts": facts, "rungs": rungs, "calibration": {}, "gate": {"oks": 0.98}}


def test_charts_show_what_was_tried_and_leave_out_what_says_nothing():
    tried = [{"number": 1, "agreement": 0.2}, {"number": 2, "agreement": 0.99}, {"number": 3, "agreement": None}]
    rows = [row(0.999), row(0.99, chip="b", rungs={"chosen": 2, "tried": tried}), row(0.1, "random"),
            row(0.1, double=True), row(None), row(1.0, size=None)]  # fmt: skip
    entries = tried_rungs(rows)
    assert [entry["tried"] for entry in entries] == [
        [(1, 0.2, False), (2, 0.99, True)], [(None, 0.999, True)], [(None, 1.0, True)]
    ]  # fmt: skip
    assert sizes(rows) == {"a": [(2.0, 0.999)], "b": [(2.0, 0.99)]}
    heights = [rung_chart(entries * count).shape[0] for count in (1, 10)]
    assert heights[1] > heights[0] + 9 * 3 * 20
    picture = size_chart(sizes(rows))
    assert picture.dtype == np.uint8 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    assert ROWS >= 20
