"""The page says what the files say, needs nothing from elsewhere, and passes no cell over in silence."""

import base64
import os
import re
import shutil

import cv2
import numpy as np
import pytest

import common.declarations.spec
import common.reporting.pictures
from common.basics.errors import UserError
from common.basics.files import read_json, write_json
from common.basics.wording import size_in_words
from common.cells.cell_results import CellResults, find_cells
from common.report import make_report
from common.reporting.cell import make_command
from tests.common.cell_fixture import CHIP
from tests.common.report_page import Page, without_pictures


@pytest.fixture(scope="module")
def built(made_cells, vendors, tmp_path_factory):
    """The report over the finished cells: (project folder, page). Look, do not touch."""
    root = tmp_path_factory.mktemp("report")
    shutil.copytree(made_cells / "out", root / "out", copy_function=shutil.copy2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common.declarations.spec, "VENDORS_FOLDER", vendors)
        return root, Page(make_report(root / "out").read_text())


@pytest.fixture
def project(made_cells, tmp_path, test_chip, monkeypatch):
    """A copy of the finished cells that a test may break. Pictures are not encoded, to save time."""
    shutil.copytree(made_cells / "out", tmp_path / "out", copy_function=shutil.copy2)
    without_pictures(monkeypatch)
    return tmp_path


def cell_of(project, name):
    return project / "out" / name


def row_of(page, chip_variant, model="toy_pose"):
    return next(row for row in page.rows if row[0] == model and row[2] == chip_variant)


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(built):
    project, page = built
    assert page.stack == []
    assert page.crossed == []
    text = (project / "out/report/index.html").read_text()
    outside = [url for url in page.urls if not url.startswith(("data:", "#"))]
    assert outside == []
    assert "default-src 'none'" in text.replace("&#39;", "'")
    assert "url(" not in text
    assert "@import" not in text
    assert not re.search(r"https?://", text)
    anchors = [url[1:] for url in page.urls if url.startswith("#")]
    assert set(anchors) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_names_are_escaped(built):
    project, _ = built
    text = (project / "out/report/index.html").read_text()
    assert "<Chip>" not in text
    assert "Test &lt;Chip&gt;" in text
    assert "writing <done>" not in text  # a log is text, too


def test_numbers_of_the_matrix_are_those_of_the_files(built):
    project, page = built
    cell = cell_of(project, f"toy_pose/{CHIP}/int8")
    metrics, compared = read_json(cell / "metrics.json"), read_json(cell / "compare.json")
    row = row_of(page, "int8")

    def with_interval(value, interval, form):
        return f"{value:{form}}[{interval[0]:.3f}, {interval[1]:.3f}]"

    assert row[3].strip() == "failed"
    assert row[4] == with_interval(metrics["float"]["AP"], metrics["float"]["interval"], ".3f")
    assert row[5] == with_interval(metrics["chip"]["AP"], metrics["chip"]["interval"], ".3f")
    assert row[6] == with_interval(metrics["drop"]["AP"], metrics["drop"]["interval"], ".4f")
    assert row[7] == f"{compared['agreement']:.4f}"
    assert row[8:] == ["31 kB", "4.2 s", "123 MB", "7.1 msnot on the chip"]
    assert metrics["protocol"] in "".join(page.words)
    for step in read_json(cell / "proof.json")["steps"]:
        assert any(step["name"] in row and step["state"] in row and step["figures"] in row[3] for row in page.rows)


def test_results_json_holds_the_facts_unrounded(built):
    project, _ = built
    rows = read_json(project / "out/report/results.json")["cells"]
    assert [row["cell"] for row in rows] == sorted(row["cell"] for row in rows)
    one = next(row for row in rows if row["cell"] == f"toy_pose/{CHIP}/int8")
    cell = cell_of(project, one["cell"])
    assert one["AP_chip"] == read_json(cell / "metrics.json")["chip"]["AP"]
    assert one["oks"] == one["agreement"] == read_json(cell / "compare.json")["agreement"]
    assert (one["metric"], one["similarity"], one["metric_chip"]) == ("AP", "OKS", one["AP_chip"])
    assert one["artifact_bytes"] == 31000
    assert one["latency_ms"] == 7.125
    assert one["state"] == "failed"


def test_summary_md_is_one_table_with_a_line_per_cell(built):
    project, _ = built
    lines = (project / "out/report/summary.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 3
    assert {line.count("|") for line in table} == {12}
    start = lines.index(table[0])
    assert lines[start - 1] == ""
    assert lines[start : start + 5] == table
    assert lines[start + 5] == ""
    assert f"| lost_pose/{CHIP}/int8 | not judged, random weights |" in "\n".join(table)


def test_random_weights_are_marked(built):
    _, page = built
    assert "random weights" in row_of(page, "int8", "lost_pose")[3]
    assert "random weights" not in row_of(page, "fp32")[3]
    assert "Random weights: accuracy and keypoints of this cell mean nothing." in "".join(page.words)


def test_a_rendered_evaluation_set_is_called_so(project):
    words = "rendered, not photographed"
    assert words not in make_report(project / "out").read_text()
    cell = cell_of(project, f"toy_pose/{CHIP}/fp32")
    shutil.copytree(read_json(cell.parents[1] / "float/evaluation_set.json")["folder"], project / "set")
    write_json(project / "set/manifest.json", {"version": 1, "renderer": "people"})
    (cell.parents[1] / "float/evaluation_set.json").write_text(f'{{"folder": "{project / "set"}", "fingerprint": "0"}}')
    page = Page(make_report(project / "out").read_text())
    assert words in "".join(page.words)
    assert row_of(page, "fp32")[4].endswith("rendered")
    assert "rendered people, not photographs" in (project / "out/report/summary.md").read_text()
    rows = read_json(project / "out/report/results.json")["cells"]
    assert [row["rendered"] for row in rows] == [False, True, True]


def test_pictures_are_inside_and_small(built):
    project, page = built
    pictures = [url for url in page.urls if url.startswith("data:image")]
    drawn = sum(len(read_json(path)["pictures"]) for path in (project / "out").glob("*/*/*/pictures.json"))
    assert drawn >= 15
    # and a chart, and one contact sheet that two cells show
    assert len(pictures) == len(set(pictures)) == drawn + 2
    assert sum(url.startswith("#picture-") for url in page.urls) == 2
    for url in pictures:
        data = np.frombuffer(base64.b64decode(url.split(",")[1]), np.uint8)
        assert 0 < cv2.imdecode(data, cv2.IMREAD_COLOR).shape[1] <= 1200
    assert all(page.alts) and len(page.alts) == drawn + 1
    assert (project / "out/report/index.html").stat().st_size < 4_000_000


def test_a_page_of_many_cells_shows_the_worst_and_the_median_sample_only(project, monkeypatch):
    assert make_report(project / "out").read_text().count("<b>Further samples.</b>") == 3
    monkeypatch.setattr(common.reporting.pictures, "FEW_CELLS", 2)
    text = make_report(project / "out").read_text()
    assert "Further samples" not in text and text.count("<b>Worst of 12 samples.</b>") == 3


def test_the_words_of_lint_versions_hashes_and_flags_are_there(built):
    project, page = built
    words = "".join(page.words)
    cell = cell_of(project, f"toy_pose/{CHIP}/int8")
    for finding in read_json(cell / "calib/manifest.json")["lint"]:
        assert finding["message"] in words
    output = read_json(cell / "compare.json")["outputs"]["heatmaps"]
    assert ["heatmaps", f"{output['cosine']:.6g}", f"{output['sqnr_db']:.6g}", f"{output['max_abs']:.6g}"] in page.rows
    for word in (
        "9.8.7",
        "123.675,116.28,103.53",
        "ab" * 32,
        read_json(cell / "artifact.json")["provenance"]["onnx_sha256"],
    ):
        assert word in words


def test_commands_repeat_what_was_asked(project):
    command = make_command(CellResults(cell_of(project, f"lost_pose/{CHIP}/int8")))
    assert command.startswith(f"make {CHIP} MODEL=lost_pose WEIGHTS=random PRECISION=int8 CALIB=")
    assert "CALIB_COUNT" not in command
    cell = cell_of(project, f"toy_pose/{CHIP}/int8")
    source = read_json(cell.parents[1] / "float/source.json")
    asked = source | {"source": {"kind": "onnx", "origin": "onnx", "path": "my net.onnx"}, "spec_path": "its.yaml"}
    write_json(cell.parents[1] / "float/source.json", asked)
    write_json(cell / "calibration_set.json", {"folder": "c", "fingerprint": "0", "count": 20, "force": True})
    command = make_command(CellResults(cell))
    assert f"make {CHIP} 'ONNX=my net.onnx' SPEC=its.yaml PRECISION=int8 CALIB=c CALIB_COUNT=20 FORCE=1" in command


def test_an_unfinished_cell_is_shown_as_such(project):
    cell = cell_of(project, f"toy_pose/{CHIP}/int8")
    for file in ("metrics.json", "pictures.json", "proof.json", "artifact.json"):
        (cell / file).unlink()
    page = Page(make_report(project / "out").read_text())
    row = row_of(page, "int8")
    assert row[3].strip() == "unfinished"
    assert row[4] == "-"
    assert row[7] != "-"  # what is known is shown
    assert "stopped before evaluate" in "".join(page.words)


def test_a_cell_with_nothing_but_a_request_is_shown(project):
    bare = project / "out/new_pose" / CHIP / "fp32"
    bare.mkdir(parents=True)
    shutil.copy(cell_of(project, f"toy_pose/{CHIP}/fp32") / "request.json", bare)
    write_json(bare / "request.json", read_json(bare / "request.json") | {"model": "new_pose"})
    page = Page(make_report(project / "out").read_text())
    assert row_of(page, "fp32", "new_pose")[3].strip() == "unfinished stopped before samples"


def test_a_failed_compile_shows_the_vendor_s_own_message(project):
    cell = cell_of(project, f"toy_pose/{CHIP}/int8")
    (cell / "compile.json").unlink()
    (cell / "compile.log").write_text("reading\nERROR: layer <conv1> is too wide\nHINT: cut it\n")
    page = Page(make_report(project / "out").read_text())
    assert row_of(page, "int8")[3].strip() == "failed compile: layer <conv1> is too wide"


def test_a_refused_graph_shows_what_the_chip_lacks(project):
    cell = cell_of(project, f"toy_pose/{CHIP}/int8")
    (cell / "preflight.json").unlink()
    write_json(cell / "preflight.failed.json", {"ok": False, "problems": [{"problem": "Einsum is not supported"}]})
    assert CellResults(cell).state() == ("failed", "preflight: Einsum is not supported")


def test_a_proof_that_is_older_than_what_it_judges_is_out_of_date(project):
    cell = cell_of(project, f"toy_pose/{CHIP}/fp32")
    assert CellResults(cell).state()[0] == "proven"
    later = (cell / "proof.json").stat().st_mtime + 5
    os.utime(cell / "compare.json", (later, later))
    assert CellResults(cell).state() == ("out of date", "compare.json is newer than proof.json")


def test_an_alias_is_no_second_cell(project):
    (project / "out/toy").symlink_to("toy_pose")
    assert [cell.name for cell in find_cells(project / "out")] == [
        f"lost_pose/{CHIP}/int8", f"toy_pose/{CHIP}/fp32", f"toy_pose/{CHIP}/int8",
    ]  # fmt: skip


@pytest.mark.parametrize("file", ["metrics.json", "proof.json", "request.json", "calib/manifest.json"])
def test_damaged_json_is_named_and_the_old_page_stays(project, file):
    index = make_report(project / "out")
    before = index.read_bytes()
    (cell_of(project, f"toy_pose/{CHIP}/int8") / file).write_text('{"half": ')
    with pytest.raises(UserError, match=f"{file} is not valid JSON"):
        make_report(project / "out")
    assert index.read_bytes() == before


def test_nothing_built_is_a_page_that_says_so(tmp_path):
    text = make_report(tmp_path / "out").read_text()
    assert "Nothing is built yet" in text
    assert read_json(tmp_path / "out/report/results.json") == {"version": 1, "cells": []}


@pytest.mark.parametrize(
    ("count", "words"),
    [(None, "-"), (999, "999 B"), (31000, "31 kB"), (1_234_567, "1.23 MB"), (12_345_678_901, "12.3 GB")],
)
def test_sizes_in_words(count, words):
    assert size_in_words(count) == words
