"""evaluate.yml: an evaluation in three parts on three machines gives the numbers of one; step by step, as a runner."""

from __future__ import annotations

import re

import pytest

from tests.workflow_machines import LIMIT, SET, fresh_machine, numbers, whole_evaluation
from tests.workflow_runner import Runner

EVALUATE = "./.github/workflows/evaluate.yml"
CHIP = "ncnn"


@pytest.mark.parametrize("float_network", [True, False], ids=["float", "chip"])
def test_three_machines_give_the_numbers_of_one(demo, tmp_path, float_network):
    def checkout(workspace, contexts, given):
        fresh_machine(workspace, demo[0], built="chip" in contexts["inputs"] and "job_folder" in contexts["inputs"])
        for path in (workspace / "ci").glob("*.yaml"):  # as the demo was built: all images
            path.write_text(re.sub(r"^limit: .*\n", "", path.read_text(), flags=re.MULTILINE))

    runner = Runner(tmp_path, checkout, {"event_name": "workflow_dispatch", "event": {}})
    inputs = {"model": "hrnet_tiny", "chip": CHIP, "float": float_network, "shards": "3", "limit": str(LIMIT)}
    results = runner.workflow(EVALUATE, inputs)
    said = "\n".join(ran.output for ran in runner.ran if ran.code)
    assert {name: result["result"] for name, result in results.items()} == dict.fromkeys(results, "success"), said
    place = ("float",) if float_network else (CHIP, "int8")
    place += ("eval", SET)
    artifact = tmp_path / "artifacts" / "evaluation" / "hrnet_tiny"
    found = tuple((artifact.joinpath(*place) / name).read_text() for name in ("metrics.json", "results.json"))
    assert found == numbers(whole_evaluation(demo[0]), *place)
    # Each machine had work of its own, and none did another's.
    parts = [set(path.glob("**/chunk-*.npz")) for path in sorted((tmp_path / "artifacts").glob("part-*"))]
    names = [{path.name for path in part} for part in parts]
    assert len(names) == 3 and all(names) and sum(map(len, names)) == len(set.union(*names))
    assert "AP50" in runner.summary
