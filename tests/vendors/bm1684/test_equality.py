"""The second sample that shows that the BModel gives the quantised graph's bits, simulated beside model_deploy.

The simulator is made up here: what a BModel's text says is what it gives; remove_chance() takes the digits out.
"""

from __future__ import annotations

import pytest

from .conftest import in_environment

MADE_UP = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import equality

given, simulated = {"image": np.ones((1, 3, 4, 4), np.float32)}, []

def run_apart(bmodel, chip, inputs):
    simulated.append(bmodel.read_text())
    return {"y": inputs["image"] * len(simulated[-1])}

def remove_chance(path):
    path.write_text("".join(letter for letter in path.read_text() if not letter.isdigit()))

folder = Path.cwd()
bmodel, graph, weights = folder / "net.bmodel", folder / "net.mlir", folder / "weights.npz"
bmodel.write_text("abc123")
graph.write_text("module.FLOPs = 1000")
weights.write_bytes(b"weights")
for name in ("graph", "bmodel"):
    np.savez(folder / f"{name}.npz", y=np.zeros(3, np.float32))
equality.run_apart, equality.remove_chance = run_apart, remove_chance
equality.GraphRunner = lambda graph: SimpleNamespace(run=lambda inputs: {"y": inputs["image"] * 3})
equality.weight_file = lambda graph: weights
equality.mode_left_out = lambda path: path.read_text().startswith("again")
deployed = SimpleNamespace(bmodel=bmodel, graph=graph, outputs_of_graph=folder / "graph.npz",
                           outputs_of_bmodel=folder / "bmodel.npz")
second = equality.SecondSample("bm1684", given)
"""
TELL = "\nprint(json.dumps({'proof': equality.prove(deployed, second), 'simulated': simulated}))"


@pytest.fixture
def told(toolchain, tmp_path, monkeypatch):
    """told(code): what prove() gives after the code, and the BModels that were simulated."""
    monkeypatch.chdir(tmp_path)

    def run(code: str) -> tuple[dict, list[str]]:
        found = in_environment(toolchain, MADE_UP + code + TELL, tmp_path)
        return found["proof"], found["simulated"]

    return run


def test_what_was_simulated_meanwhile_is_the_finished_bmodel_byte_for_byte(told, tmp_path):
    code = "second.compare(bmodel, graph); assert bmodel.read_text() == 'abc123'; remove_chance(bmodel)"
    proof, simulated = told(code)
    assert (proof["samples"], proof["equal"], simulated) == (2, True, ["abc"])
    assert [path.name for path in tmp_path.glob("*.bmodel")] == ["net.bmodel"]


def test_another_bmodel_than_the_simulated_one_is_simulated_itself(told):
    proof, simulated = told("second.compare(bmodel, graph); bmodel.write_text('abcd')")
    assert (proof["equal"], proof["largest_difference"], simulated) == (False, 1.0, ["abc", "abcd"])


@pytest.mark.parametrize("changed", ["weights.write_bytes(b'other')", "graph.write_text('module.FLOPs = 1001')"])
def test_another_graph_than_the_compared_one_is_compared_itself(told, changed):
    proof, simulated = told(f"remove_chance(bmodel); second.compare(bmodel, graph); {changed}")
    assert (proof["equal"], simulated) == (True, ["abc", "abc"])


def test_one_that_is_made_again_is_not_simulated(told):
    code = "bmodel.write_text('again'); second.compare(bmodel, graph); assert not simulated; bmodel.write_text('abc')"
    proof, simulated = told(code)
    assert proof["equal"] and simulated == ["abc"]


@pytest.mark.parametrize(
    "code",
    [
        "second = equality.SecondSample('bm1684', None)",
        "graph.write_text(f'module.FLOPs = {equality.MOST_OPERATIONS_FOR_SECOND_SAMPLE + 1:.0f}')",
    ],
)
def test_none_or_a_slow_one_leaves_the_vendors_own_comparison(told, code):
    proof, simulated = told(f"{code}; second.compare(bmodel, graph)")
    assert (proof["samples"], proof["equal"], simulated) == (1, True, [])
