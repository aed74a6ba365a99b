"""Results of several machines, laid together: whole cells, pieces of evaluations, and what does not go together."""

import json
import os
import shutil
from pathlib import Path

import pytest

from common.basics.errors import UserError
from common.cells.cell_results import CellResults
from common.merge_results import main, merge

CELL = "tiny/testchip/int8"
FILES = ("samples.json", "source.json", "evaluation_set.json", "export.json", "predictions.json")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "vendors").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, content="{}"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def part(name, cell=CELL, limit=None, photos="/a/photos", digits="0.1"):
    """A machine's out/ with a float reference and a cell."""
    model = cell.split("/")[0]
    for file in FILES:
        write(place(name) / model / "float" / file, {"spec": model} if file == "source.json" else {"figure": digits})
    question = {"folder": photos, "fingerprint": photos, "limit": limit}
    write(place(name) / model / "float" / "evaluation_set.json", question)
    for file in ("request.json", "compile.json", "proof.json"):
        write(place(name) / cell / file, {"cell": cell})
    write(place(name) / cell / "infer.log", name)
    return place(name)


def place(name):
    return Path("out") if name == "out" else Path("parts") / name


def pieces(name, *numbers, request="r", content="x"):
    folder = place(name) / CELL / "eval" / "val-gt"
    write(folder / "request.json", {"asked": request})
    for number in numbers:
        write(folder / f"chunk-{number:06d}.npz", f"{content}{number}")


def merged():
    return merge(place("x").parent)


def laid():
    return {str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()}


def test_cells_of_two_machines():
    part("one")
    part("two", "tiny/testchip/fp16", photos="/b/photos", digits="0.1000001")
    assert merged() == {"parts": 2, "cells": 2, "pieces": 0}
    assert {f"{CELL}/proof.json", "tiny/testchip/fp16/proof.json"} <= laid()
    # The float reference is one machine's as a whole.
    found = [json.loads((place("out") / "tiny" / "float" / name).read_text()) for name in FILES]
    assert {content["figure"] for content in found if "figure" in content} == {"0.1"}


def test_travelling_shuffles_times_and_a_cell_is_not_out_of_date_for_that():
    folder = part("one")
    for number, path in enumerate(sorted(folder.rglob("*.json"))):
        os.utime(path, (1e9 - number, 1e9 - number))
    merged()
    times = {path.stat().st_mtime_ns for path in place("out").rglob("*.json")}
    assert len(times) == 1 and CellResults(place("out") / CELL).request["cell"] == CELL


def test_pieces_of_three_machines_with_the_build_of_one():
    part("out")
    for name, number in (("a", 0), ("b", 1), ("c", 2)):
        pieces(name, number)
        write(place(name) / CELL / "eval" / "val-gt" / "metrics.json")  # of a part: the whole's are made anew
    assert merged() == {"parts": 3, "cells": 0, "pieces": 3}
    found = sorted(name.rpartition("/")[2] for name in laid() if "/eval/" in name)
    assert found == ["chunk-000000.npz", "chunk-000001.npz", "chunk-000002.npz", "request.json"]


def test_a_second_time_there_is_nothing_to_do():
    part("one")
    pieces("one", 0)
    merged()
    before = {path: path.stat().st_mtime_ns for path in place("out").rglob("*")}
    assert merged() == {"parts": 1, "cells": 0, "pieces": 0}
    assert before == {path: path.stat().st_mtime_ns for path in place("out").rglob("*")}


def test_a_part_may_be_a_folder_with_an_out_in_it():
    part("one")
    shutil.move("parts/one", "parts/whole")
    (place("project")).mkdir()
    shutil.move("parts/whole", "parts/project/out")
    assert merged()["cells"] == 1


def test_what_is_no_result_stays_behind():
    folder = part("one")
    cell = f"{CELL}/.partial-x"
    for name in ("report/index.html", "sets/a.json", "all/a/cells.txt", "tiny/plan.json", cell, ".locks/a/b/c"):
        write(folder / name)
    (folder / "alias").symlink_to("tiny")
    merged()
    results = [*folder.glob("tiny/float/*"), *folder.glob(f"{CELL}/[!.]*")]
    assert laid() == {str(path.relative_to(folder)) for path in results}


def test_the_name_of_a_network_that_is_an_alias_is_not_a_second_network():
    write(place("x").parents[1] / "models" / "tiny" / "model.yaml", "name: tiny\naliases: [small]\n")
    shutil.copytree(part("one") / "tiny", "parts/one/small")
    merged()
    assert not (place("out") / "small").exists()


def test_a_build_that_failed_halfway_gives_way_to_the_whole_one():
    part("a")
    (place("a") / CELL / "proof.json").unlink()
    part("b")
    merged()
    assert f"{CELL}/proof.json" in laid()


def test_other_questions_are_refused_with_both_names_and_nothing_is_written():
    part("one")
    part("two", "tiny/testchip/fp16", limit=20)
    with pytest.raises(UserError, match=r"tiny/float: parts/one and parts/two .*\(limit in evaluation_set.json\)"):
        merged()
    assert not place("out").exists()


def test_pieces_of_another_request_are_refused():
    pieces("one", 0)
    pieces("two", 1, request="other")
    with pytest.raises(UserError, match=r"eval/val-gt: parts/one and parts/two .*\(asked in request.json\)"):
        merged()


def test_two_answers_to_one_question_are_refused():
    pieces("one", 0, 1)
    pieces("two", 1, content="y")
    with pytest.raises(UserError, match=r"chunk-000001.npz is another file in parts/one than in parts/two"):
        merged()
    assert not place("out").exists()


def test_a_cell_that_was_built_twice_with_other_results_is_refused_and_its_log_may_differ():
    part("one")
    part("two")
    assert merged()["cells"] == 1  # alike but for the log
    write(place("two") / CELL / "compile.json", "other")
    with pytest.raises(UserError, match=r"compile.json is another file in out than in parts/two"):
        merged()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: None, "PARTS=parts is not a folder"),
        (lambda: place("x").parent.mkdir(), "PARTS=parts holds no folders"),
        (lambda: write(place("one") / "photo.jpg"), "parts/one holds nothing of an out/ folder"),
    ],
)
def test_a_folder_that_is_none_gets_a_message(make, told):
    make()
    with pytest.raises(UserError, match=told) as error:
        merged()
    assert error.value.hint


def test_a_damaged_question_is_told():
    part("one")
    part("two")
    write(place("one") / "tiny/float/source.json", "[]")
    with pytest.raises(UserError, match=r"parts/one/tiny/float/source.json should hold keys and values"):
        merged()


def test_make_says_what_came(monkeypatch, capsys):
    part("one")
    pieces("one", 0, 1)
    monkeypatch.setattr("sys.argv", ["merge_results", "--parts", "parts"])
    main()
    assert capsys.readouterr().out == "merge: 1 cells and 2 pieces of evaluations from 1 parts\n"
