"""Climbing: the first rung that passes is taken, every rung tried is recorded, and nothing is compiled twice."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from common import climb
from common.basics.errors import UserError
from common.basics.files import read_json, write_json
from common.cells.cell_results import CellResults
from common.job import Cell
from common.proof import prove
from tests.common.cell_fixture import CHIP
from tests.common.climb_fixture import GOOD, LADDER, cell, ladder

__all__ = ["cell"]  # a fixture


def compiled():
    path = Path("compiled.txt")
    names = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return names


def asked(folder, **values):
    empty = {"gate": None, "rung": None, "keep_float": "", "options": {}, "files": {}}
    write_json(folder / "climb.json", empty | values)


def test_it_stops_at_the_first_rung_that_passes_and_tells_about_all_that_were_tried(cell, capsys):
    result = climb.climb(Cell(cell))
    assert compiled() == ["worst", "fair", "good"]
    assert [entry["passed"] for entry in result["tried"]] == [False, False, True]
    assert (result["chosen"], result["of"], result["asked"]) == (3, 3, None)
    agreements = [entry["agreement"] for entry in result["tried"]]
    assert agreements == sorted(agreements)
    assert agreements[-1] == 1.0
    assert [len(entry["float_layers"]) for entry in result["tried"]] == [0, 0, 3]
    assert [entry["artifact_bytes"] for entry in result["tried"]] == [100, 100, 400]
    assert read_json(cell / "rungs.json") == result
    said = capsys.readouterr().out
    assert f"compile     toy_pose/{CHIP}/int8, rung 2 of 3: some noise" in said
    assert "3 good: OKS 1.0000, AP drop 0.0000, 3 of 9 layers float: passes" in said
    facts = CellResults(cell).facts()
    assert (facts["rung"], facts["rungs_tried"], facts["float_layers"]) == ("3 of 3: good", 3, 3)


def test_the_vendors_default_that_destroys_the_network_turns_the_gate_red_when_it_is_pinned(cell):
    asked(cell, rung=1)
    result = climb.climb(Cell(cell))
    assert [entry["name"] for entry in result["tried"]] == ["worst"]
    assert not result["tried"][0]["passed"]
    proof = prove(Cell(cell))
    assert proof["state"] == "failed"
    assert "rung 1 of 3 (much noise): OKS 0." in proof["reason"]


def test_a_lower_gate_is_content_with_a_cheaper_rung(cell):
    highest = climb.climb(Cell(cell))
    asked(cell, gate=highest["tried"][1]["agreement"] - 0.001)
    # AP may fall, too: so the model accepts any loss here.
    source = read_json("out/toy_pose/float/source.json")
    source["spec"]["gate"] = {"int8": {"oks": 0.98, "ap_drop": 1}}
    write_json("out/toy_pose/float/source.json", source)
    assert climb.climb(Cell(cell))["chosen"] == 2
    assert (cell / "toy.bin").stat().st_size == 100


def test_another_gate_or_evaluation_compiles_nothing_again_and_other_tensors_do(cell):
    climb.climb(Cell(cell))
    assert compiled() == ["worst", "fair", "good"]
    first = (cell / "compile.json").stat().st_mtime_ns
    again = climb.climb(Cell(cell))
    assert compiled() == []
    assert [entry["compiled_now"] for entry in again["tried"]] == [False] * 3
    assert (cell / "compile.json").stat().st_mtime_ns > first  # make goes by this time
    tensor = next((cell / "calib").glob("*.npy"))
    np.save(tensor, np.load(tensor) + 1)
    climb.climb(Cell(cell))
    assert compiled() == ["worst", "fair", "good"]


def test_where_none_passes_the_one_that_agrees_best_is_kept_and_the_cell_is_red(cell):
    ladder([LADDER[1], LADDER[0]])
    result = climb.climb(Cell(cell))
    assert (result["chosen"], [entry["passed"] for entry in result["tried"]]) == (1, [False, False])
    kept = read_json(cell / "compile.json")
    assert kept["sha256"] == read_json(cell / "rungs/1-fair/compile.json")["sha256"]
    assert read_json(cell / "compare.json")["agreement"] == result["tried"][0]["agreement"]
    assert read_json(cell / "job.json")["rung"]["name"] == "fair"  # layers.py and infer.py go by it
    assert prove(Cell(cell))["state"] == "failed"


def test_random_weights_are_not_judged_and_stop_at_the_first_rung(cell):
    source = read_json("out/toy_pose/float/source.json")
    source["source"] |= {"origin": "random"}
    write_json("out/toy_pose/float/source.json", source)
    assert climb.climb(Cell(cell))["chosen"] == 1
    assert prove(Cell(cell))["state"] == "not judged"


def test_a_precision_without_rungs_has_one_way(cell):
    ladder([])
    result = climb.climb(Cell(cell))
    assert (compiled(), result["of"], result["chosen"]) == (["plain"], 0, 1)
    assert CellResults(cell).facts()["rung"] is None
    assert read_json(cell / "job.json")["rung"] is None


def test_a_compiler_that_is_killed_on_the_second_rung_stops_the_climb_and_the_next_one_goes_on_there(cell):
    ladder([LADDER[0], {"name": "fair", "title": "dies", "options": {"crash": True}}, LADDER[2]])
    with pytest.raises(UserError, match="was killed by signal 9") as error:
        climb.climb(Cell(cell))
    assert error.value.hint == "signal 9 is often a lack of memory"
    assert not (cell / "compile.json").exists()
    assert not (cell / "metrics.json").exists()
    assert not (cell / "toy.bin").exists()
    assert CellResults(cell).state()[0] in ("failed", "unfinished")
    compiled()
    ladder([LADDER[0], LADDER[1], LADDER[2]])
    climb.climb(Cell(cell))
    assert compiled() == ["fair", "good"]


def test_a_rung_that_is_not_possible_here_is_passed_over_and_told(cell, capsys):
    ladder([LADDER[0], {"name": "gpu", "title": "needs one", "options": {"impossible": True}}, LADDER[2]])
    result = climb.climb(Cell(cell))
    assert (result["chosen"], [entry["name"] for entry in result["tried"]]) == (3, ["worst", "good"])
    assert [(entry["number"], entry["name"]) for entry in result["unavailable"]] == [(2, "gpu")]
    assert "this needs a GPU" in result["unavailable"][0]["why"]
    assert "not possible here" in capsys.readouterr().out


def test_the_last_rung_that_is_not_possible_leaves_the_best_one_in_place(cell):
    ladder([LADDER[1], {"name": "gpu", "title": "needs one", "options": {"impossible": True}}])
    result = climb.climb(Cell(cell))
    assert result["chosen"] == 1
    kept = read_json(cell / "compile.json")
    assert (cell / "toy.bin").stat().st_size == kept["artifact_bytes"]
    assert read_json(cell / "compare.json")["agreement"] == result["tried"][0]["agreement"]
    assert read_json(cell / "job.json")["rung"]["name"] == "fair"


def test_where_no_rung_is_possible_or_the_pinned_one_is_not_the_reason_is_the_error(cell):
    ladder([LADDER[0], {"name": "gpu", "title": "needs one", "options": {"impossible": True}}])
    asked(cell, rung=2)
    with pytest.raises(UserError, match="this needs a GPU") as error:
        climb.climb(Cell(cell))
    assert error.value.hint == "buy one"


def test_calibration_tensors_that_change_while_they_are_compiled_are_an_error(cell):
    ladder([{"name": "touching", "title": "", "options": GOOD | {"touch": True}}])
    with pytest.raises(UserError, match="changed while they were compiled"):
        climb.climb(Cell(cell))
    assert not (cell / "rungs" / "1-touching" / "compile.json").exists()


def test_a_damaged_kept_rung_is_compiled_again(cell):
    climb.climb(Cell(cell))
    compiled()
    for path in (cell / "toy.bin", cell / "rungs/3-good/toy.bin"):
        path.unlink()
    (cell / "rungs/1-worst/toy.bin").unlink()
    climb.climb(Cell(cell))
    assert compiled() == ["worst", "good"]
    shutil.rmtree(cell / "rungs")
    climb.climb(Cell(cell))
    assert compiled() == ["worst", "fair", "good"]


def test_a_kept_rung_whose_bytes_changed_is_compiled_again(cell):
    climb.climb(Cell(cell))
    compiled()
    os.unlink(cell / "rungs/1-worst/toy.bin")
    (cell / "rungs/1-worst/toy.bin").write_bytes(b"x" * 100)
    climb.climb(Cell(cell))
    assert compiled() == ["worst"]


def test_rungs_that_chip_yaml_no_longer_has_are_forgotten(cell):
    climb.climb(Cell(cell))
    ladder([LADDER[2]])
    climb.climb(Cell(cell))
    assert [path.name for path in (cell / "rungs").iterdir()] == ["1-good"]


def test_a_rung_that_is_compiled_again_knows_how_long_it_took(cell, monkeypatch):
    kept = climb.rung_folder(Cell(cell), 2, Cell(cell).chip_spec.rungs["int8"][1])
    kept.mkdir(parents=True)
    (kept / "compile.json").write_text('{"made_from": "something else", "files": {}, "seconds": 77.5}')
    usual = []

    def compile_cell(cell, expected, seconds):
        usual.append(seconds)
        raise UserError("enough")

    monkeypatch.setattr(climb.engine, "compile_cell", compile_cell)
    for number in (2, 3):
        with pytest.raises(UserError, match="enough"):
            climb.build(Cell(cell), number, Cell(cell).chip_spec.rungs["int8"][number - 1])
    assert usual == [77.5, None]
