"""`make status` and the marks of `make explain` say what make itself would do, and change nothing."""

import argparse
import os
import re
import resource
import shutil
import time
from pathlib import Path

import pytest

from common import status
from common.all_cells import Choice
from common.basics.errors import UserError
from common.cells.cell_results import CellResults
from common.cells.make_trace import Pending, dry_run, read_trace
from common.cells.variant import Variant
from common.plan import Asked

TRACE = """Makefile:223: update target 'out/m/c/int8/preflight.json' due to: vendors/c/chip.yaml
printf '%-11s %s\\n' 'preflight' 'm/c/int8'
Makefile:231: target 'out/m/c/int8/job.json' does not exist
Makefile:245: update target 'out/m/c/int8/compile.json' due to: out/m/c/int8/preflight.json out/m/c/int8/job.json
make: *** No rule to make target 'out/x/gone.json', needed by 'out/x/c/int8/fix.json'.
"""


def asked(project, *words):
    """What `make status` says of a project's cells: {cell: (state, rest of the line)}, and all of it."""
    done = project.make("status", *words)
    assert done.returncode == 0, done.stderr
    lines = [re.split(r"  +", line.rstrip()) for line in done.stdout.splitlines() if line.startswith("hrnet_tiny/")]
    return {words[0]: (words[1], " ".join(words[2:])) for words in lines}, done.stdout


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


# --- What make says ---------------------------------------------------------------------------------------------------
def test_a_trace_is_read_with_its_reasons(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pending = read_trace(TRACE)
    assert list(pending.causes) == [f"out/m/c/int8/{name}.json" for name in ("preflight", "job", "compile")]
    assert pending.nowhere == {"out/x/c/int8/fix.json": "out/x/gone.json"}
    targets = list(pending.causes)
    for name in ("preflight", "compile"):
        path = tmp_path / f"out/m/c/int8/{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert pending.reason(targets) == "vendors/c/chip.yaml is newer"
    assert pending.reason(targets[1:]) == "out/m/c/int8/job.json is missing"


def test_what_follows_from_another_target_is_no_reason(tmp_path):
    first, second = (str(tmp_path / name) for name in ("preflight.json", "compile.json"))
    for path in (first, second):
        Path(path).touch()
    pending = Pending({first: ["vendors/c/chip.yaml"], second: [first, "vendors/c/compile.py"]})
    assert pending.reason([second]) == "vendors/c/compile.py is newer"
    assert Pending({first: [second], second: [first]}).reason([first]) == "something before it is made again"


def test_no_cells_need_no_make():
    assert dry_run([]) == Pending()


def test_a_make_that_fails_is_one_message(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no Makefile here
    with pytest.raises(UserError, match="make -n fails"):
        dry_run(["m/c/int8"])


# --- On cells that were built -----------------------------------------------------------------------------------------
def test_what_is_built_is_left_and_nothing_is_changed(demo_copy):
    before = times(demo_copy.path("out"))
    started = time.monotonic()
    found, text = asked(demo_copy, "MODELS=hrnet_tiny", "CHIPS=ncnn")
    assert time.monotonic() - started < 20  # of the machine's; 1 s where nothing else runs
    assert set(found) == {"hrnet_tiny/ncnn/fp32", "hrnet_tiny/ncnn/int8"}
    for state, rest in found.values():
        assert state == "proven"
        assert re.search(r"leave +.*B AP 0\.\d+ -> 0\.\d+", rest)
    assert "make all would leave 2" in text
    assert times(demo_copy.path("out")) == before


def test_hundreds_of_cells_take_a_second_of_the_processor(demo_copy):
    for number in range(70):
        shutil.copytree(demo_copy.path("out/hrnet_tiny"), demo_copy.path(f"out/copy{number}"), copy_function=os.link)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = demo_copy.make("status", "CHIPS=ncnn")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.stdout.count(" proven ") == 142
    # 0.8 s when it was written; a machine that is busy counts more.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2.5


CHANGES = [
    ("vendors/ncnn/chip.yaml", ["fp32", "int8"], "vendors/ncnn/chip.yaml is newer"),
    ("vendors/ncnn/compile.py", ["fp32", "int8"], "vendors/ncnn/compile.py is newer"),
    ("models/arch/hrnet.py", ["fp32", "int8"], "models/arch/hrnet.py is newer"),
    ("out/hrnet_tiny/ncnn/int8/calibration_set.json", ["int8"], "calibration_set.json is newer"),
    ("vendors/ncnn/README.md", [], ""),
]


@pytest.mark.parametrize(("file", "stale", "why"), CHANGES, ids=[change[0] for change in CHANGES])
def test_a_file_that_changed_makes_stale_what_make_would_build_again(demo_copy, file, stale, why):
    demo_copy.path(file).touch()
    found, text = asked(demo_copy, "MODELS=hrnet_tiny", "CHIPS=ncnn")
    assert [cell.rsplit("/")[-1] for cell, (state, _) in found.items() if state == "stale"] == stale
    for name in stale:
        assert why in found[f"hrnet_tiny/ncnn/{name}"][1]
    told = {f"hrnet_tiny/ncnn/{name}" for name in stale}
    cells = demo_copy.path("cells.txt")
    cells.write_text("\n".join(found) + "\n")
    would = demo_copy.make("-n", "built", f"CELL_LIST={cells}").stdout
    assert {cell for cell in found if f"-m common climb out/{cell}\n" in would} == told
    assert (f"rebuild {len(stale)}" in text) == bool(stale)


def test_a_request_that_differs_and_a_file_that_is_gone_are_told(demo_copy):
    found, _ = asked(demo_copy, "MODELS=hrnet_tiny", "CHIPS=ncnn", "GATE=0.9")
    assert found["hrnet_tiny/ncnn/fp32"][0] == "proven"  # GATE= is about quantised precisions
    assert found["hrnet_tiny/ncnn/int8"] == ("stale", "rebuild was proven; GATE=, RUNG= or KEEP_FLOAT= was another")
    demo_copy.path("out/hrnet_tiny/ncnn/fp32/proof.json").unlink()
    demo_copy.path("out/hrnet_tiny/ncnn/int8/compare.json").unlink()
    found, _ = asked(demo_copy, "MODELS=hrnet_tiny", "CHIPS=ncnn")
    assert found["hrnet_tiny/ncnn/fp32"][0] == "unfinished"
    assert found["hrnet_tiny/ncnn/int8"][0] == "stale"
    assert "compare.json is missing" in found["hrnet_tiny/ncnn/int8"][1]


def test_what_is_not_there_is_missing_or_skipped_with_its_reason(demo_copy):
    found, text = asked(demo_copy, "MODELS=hrnet_tiny hrnet_w32_256x192", "CHIPS=ncnn", "LIMIT=5")
    assert "stale" in {state for state, _ in found.values()}
    assert "EVAL= or LIMIT= was another" in text
    assert "2 cells would be skipped:" in text
    assert "no weights: make weights MODEL=hrnet_w32_256x192" in text
    os.rename(demo_copy.path("out"), demo_copy.path("elsewhere"))
    found, text = asked(demo_copy, "MODELS=hrnet_tiny", "CHIPS=ncnn")
    assert found == {f"hrnet_tiny/ncnn/{name}": ("missing", "build") for name in ("fp32", "int8")}
    assert "make all would build 2" in text


def test_a_cell_of_a_chip_that_was_removed_is_said_to_be_alone(demo_copy):
    assert asked(demo_copy, "MODELS=hrnet_w32_256x192", "CHIPS=ncnn")[0] == {}  # only what was asked about
    gone = demo_copy.path("out/hrnet_tiny/oldchip")
    os.rename(demo_copy.path("out/hrnet_tiny/ncnn"), gone)
    for path in gone.glob("*/request.json"):
        path.write_text(path.read_text().replace('"ncnn"', '"oldchip"'))
    found, _ = asked(demo_copy, "MODELS=hrnet_tiny")
    assert found["hrnet_tiny/oldchip/int8"][0] == "chip is gone"


def test_explain_marks_the_stale_files_of_the_chain(demo_copy):
    demo_copy.path("vendors/ncnn/compile.py").touch()
    text = demo_copy.make("explain", "MODEL=hrnet_tiny", "CHIP=ncnn").stdout
    int8 = text.partition("out/hrnet_tiny/ncnn/int8/")[2]
    marks = {line.split()[1]: line.split()[0] for line in int8.splitlines() if line.startswith("  ") and line.strip()}
    assert marks["model.onnx"] == "made"
    assert (marks["compile.json"], marks["artifact.json"]) == ("stale", "stale")


# --- Small things -----------------------------------------------------------------------------------------------------
def test_a_request_is_compared_without_what_only_an_engine_knows(tmp_path):
    path = tmp_path / "climb.json"
    path.write_text('{"gate": null, "rung": 2, "engine": "docker", "image": "sha256:1"}')
    assert status.asked_otherwise({path: {"gate": None, "rung": 2}}) == {}
    assert status.asked_otherwise({path: {"gate": 0.9, "rung": 2}}) == {path: status.ASKED_BY["climb.json"]}
    assert status.asked_otherwise({tmp_path / "nowhere" / "climb.json": {}}) == {}
    path.write_text("{damaged")
    assert status.asked_otherwise({path: {"gate": 0.9}}) == {}


def test_every_file_of_a_request_has_its_words(monkeypatch):
    sets = ({"folder": "e"}, {"folder": "c"})
    monkeypatch.setattr(status.all_cells, "image_sets", lambda arguments, calibrated: sets)
    from common.declarations.spec import load_model

    cell = Asked("ncnn", "int8", Variant("int8"), {"gate": None}, True)
    choice = Choice({"hrnet_tiny": load_model("hrnet_tiny")}, {}, {"hrnet_tiny": {}}, {"hrnet_tiny": [cell]}, {})
    files = status.all_cells.requests_of(choice, argparse.Namespace())
    assert {path.name for path in files} == set(status.ASKED_BY)


def test_a_failed_cell_keeps_its_error(made_cells, monkeypatch, test_chip):
    monkeypatch.chdir(made_cells)
    cell = CellResults("out/toy_pose/testchip/int8")
    line = status.line_of(cell, Pending(), {}, True)
    assert (line.state, line.action) == (cell.state()[0], "leave")
    pending = Pending({f"{cell.folder}/compile.json": ["vendors/testchip/compile.py"]})
    assert (cell.folder / "compile.json").exists()
    line = status.line_of(cell, pending, {}, True)
    assert (line.state, line.action) == ("stale", "rebuild")
    assert "vendors/testchip/compile.py is newer" in line.why
    assert status.line_of(cell, pending, {}, False).action == ""
