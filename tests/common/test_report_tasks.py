"""Networks of several tasks side by side in one report."""

import shutil

import pytest

from common.basics.files import read_json, write_json
from common.cells.cell_results import CellResults
from common.report import make_report
from common.reporting.cell import make_command
from tests.common.cell_fixture import CHIP
from tests.common.report_page import Page, without_pictures


@pytest.fixture
def whole_project(whole_cells, made_cells, tmp_path, test_chip, monkeypatch):
    """Cells of all three tasks, which a test may break. Pictures are not encoded, to save time."""
    for source in (whole_cells, made_cells):
        shutil.copytree(source / "out", tmp_path / "out", copy_function=shutil.copy2, dirs_exist_ok=True)
    without_pictures(monkeypatch)
    return tmp_path


def test_three_tasks_in_one_page(whole_project):
    page = Page(make_report(whole_project / "out").read_text())
    assert page.stack == [] and page.crossed == []
    words = "".join(page.words)
    for text in ("AP is COCO's average precision", "OKS is the agreement of the chip's keypoints",
                 "IoU is the agreement of the chip's boxes", "gate: IoU at least 0.9, AP drop at most"):  # fmt: skip
        assert text in words
    titles = next(row for row in page.rows if "Chip" in row)
    assert titles[4:8] == ["AP float", "AP chip", "Drop", "Agreement"]
    for model, name, similarity in (
        ("toy_pose", "top-down pose", "OKS"), ("bottomup_pose", "bottom-up pose", "OKS"),
        ("detection", "detection", "IoU"),
    ):  # fmt: skip
        row = next(row for row in page.rows if row[0] == f"{model}{name}" and row[2] == "fp32")
        assert row[7] == f"{similarity} 1.0000" and row[4].startswith("1.000")
    table = [line for line in (whole_project / "out/report/summary.md").read_text().splitlines() if line[0:1] == "|"]
    assert "| AP float | AP chip | drop | agreement |" in table[0]
    assert f"| detection/{CHIP}/fp32 | proven | - | 1.000 | 1.000 | 0.0000 | IoU 1.0000 |" in "\n".join(table)


def test_detectors_alone_need_no_word_about_keypoints(whole_project):
    for other in ("toy_pose", "lost_pose", "bottomup_pose"):
        shutil.rmtree(whole_project / "out" / other)
    page = Page(make_report(whole_project / "out").read_text())
    words = "".join(page.words)
    assert "IoU is the agreement" in words and "OKS" not in words
    titles = next(row for row in page.rows if "Chip" in row)
    assert titles[4:8] == ["AP float", "AP chip", "Drop", "IoU"]
    assert any(row[0] == "detection" for row in page.rows)  # one task only: it is not repeated in each row


def test_random_weights_of_a_detector_are_about_boxes(whole_project):
    path = whole_project / "out/detection/float/source.json"
    source = read_json(path)
    write_json(path, source | {"source": source["source"] | {"origin": "random"}})
    text = make_report(whole_project / "out").read_text()
    assert "Random weights: accuracy and boxes of this cell mean nothing." in text


def test_commands_repeat_size_and_limit(whole_project):
    cell = whole_project / "out/bottomup_pose" / CHIP / "fp32"
    source = read_json(cell.parents[1] / "float/source.json")
    source["spec"]["input"] |= {"shape": [1, 3, 128, 192]}
    write_json(cell.parents[1] / "float/source.json", source)
    evaluation = read_json(cell.parents[1] / "float/evaluation_set.json")
    write_json(cell.parents[1] / "float/evaluation_set.json", evaluation | {"limit": 20})
    write_json(cell / "request.json", read_json(cell / "request.json") | {"model": "higher-128x192"})
    command = make_command(CellResults(cell))
    assert "MODEL=higher SIZE=128x192 PRECISION=fp32" in command and command.endswith(" LIMIT=20")
    write_json(cell / "request.json", read_json(cell / "request.json") | {"model": "higher-"})
    assert "MODEL=higher- PRECISION=fp32" in make_command(CellResults(cell))


def test_a_detector_s_published_graph_is_no_onnx_of_the_user(whole_project):
    cell = whole_project / "out/detection" / CHIP / "fp32"
    path = cell.parents[1] / "float/source.json"
    for origin, words in (("published", "MODEL=detection PRECISION"), ("path", "MODEL=detection WEIGHTS=a.onnx ")):
        write_json(path, read_json(path) | {"source": {"kind": "onnx", "origin": origin, "path": "a.onnx"}})
        assert f"make {CHIP} {words}" in make_command(CellResults(cell))
