"""What a stage imports before its main() begins. Never timed: machines are busy; `make bench` tells the seconds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.__main__ import BLAS_THREADS, load_stage
from common.basics.errors import UserError
from common.bench import start_up
from tests.common.tiny_network import tiny_network

# Those that find out what was asked, or tell what there is: every make begins with one of them.
LIGHT = (
    "all_cells", "all_summary", "doctor", "image", "job", "listing", "matrix", "plan", "status", "summary",
    "weights",
)  # fmt: skip
ARRAYS = ("numpy", "onnx", "cv2", "tqdm", "jinja2")
# One process for all: after each stage, in this order, what of the given packages is loaded that was not before.
PROBE = """
import importlib, json, sys
packages = sys.argv[1].split(",")
found = {}
for module in sys.argv[2:]:
    before = set(sys.modules)
    importlib.import_module(module)
    found[module] = [name for name in packages if name in sys.modules and name not in before]
print(json.dumps(found))
"""


def loaded(packages, modules):
    command = [sys.executable, "-c", PROBE, ",".join(packages), *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {module: names for module, names in json.loads(done.stdout).items() if names}


def test_no_stage_loads_a_heavy_package_before_it_begins():
    stages = start_up.stages()
    assert len(stages) > 30 and {"export", "report", "inspect_onnx", "calib.renderer.__main__"} <= set(stages)
    assert loaded((*start_up.HEAVY, "sympy", "tqdm"), stages.values()) == {}


def test_the_stages_of_every_make_need_no_arrays():
    stages = start_up.stages()
    assert set(LIGHT) <= set(stages)
    assert loaded(ARRAYS, [stages[name] for name in LIGHT]) == {}


def test_the_probe_finds_what_is_loaded():
    drawn = "common.bench.page"
    assert loaded(("numpy", "cv2"), ["common.plan", drawn]) == {drawn: ["numpy", "cv2"]}


def test_every_recipe_that_runs_common_is_a_stage():
    makefile = Path("Makefile").read_text()
    words = {*re.findall(r"\$\(RUN\) +(\S+)", makefile)} - {"common.bench.__main__"}
    assert words <= set(start_up.stages()), "a stage whose name the pattern does not take"


def test_a_process_is_measured_with_what_it_loads(monkeypatch):
    monkeypatch.setattr(start_up, "HEAVY", ("numpy", "cv2"))
    seconds, heavy = start_up.start("common.bench.page")
    assert seconds > 0 and heavy == ["numpy", "cv2"]
    assert start_up.start("common.basics.errors")[1] == []
    with pytest.raises(UserError, match=r"common.no_such cannot be imported: .*No module named"):
        start_up.start("common.no_such")


@pytest.mark.parametrize(("said", "inside"), [(None, "1"), ("2", "2")])
def test_numpy_gets_one_thread_and_whatever_a_stage_starts_does_not_know(monkeypatch, tmp_path, said, inside):
    (tmp_path / "probed").mkdir()
    (tmp_path / "probed" / "stage.py").write_text(f"import os\nseen = os.environ.get({BLAS_THREADS!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv(BLAS_THREADS, raising=False)
    if said:
        monkeypatch.setenv(BLAS_THREADS, said)
    for name in ("probed", "probed.stage"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert load_stage("probed.stage").seen == inside
    assert os.environ.get(BLAS_THREADS) == said


def test_the_table_marks_a_slow_stage_that_has_no_torch(monkeypatch):
    monkeypatch.setattr(start_up, "stages", lambda: {"fast": "a", "slow": "b", "trained": "c"})
    told = {"a": [(0.2, []), (0.1, [])], "b": [(0.8, ["scipy"]), (0.9, ["scipy"])], "c": [(3.0, ["torch"])] * 2}
    monkeypatch.setattr(start_up, "start", lambda module: told[module].pop())
    measured = start_up.measure_start_up(2)
    assert [(row["stage"], row["seconds"], row["torch"]) for row in measured["stages"]] == [
        ("fast", 0.1, False),
        ("slow", 0.8, False),
        ("trained", 3.0, True),
    ]
    head, trained, slow, fast = start_up.start_up_lines(measured)[1:]
    assert "3 stages" in head and "least of 2" in head
    assert "above the limit" in slow and "scipy" in slow
    assert "above" not in trained + fast and trained.startswith("trained")


def test_simplifying_loads_no_torch_and_leaves_it_to_be_loaded(tmp_path):
    path = tiny_network(tmp_path / "model.onnx")
    code = (
        "import sys, onnx; from common.fixes import simplify; "
        f"before = onnx.load({str(path)!r}); after, notes = simplify.apply(before, None); "
        "print('onnxsim' in sys.modules, [name for name in ('torch', 'sympy') if name in sys.modules], notes); "
        "import torch, sympy; print(torch.ones(1).sum().item())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded_line, last = done.stdout.splitlines()
    assert loaded_line.startswith("True []") and "cannot take it" not in loaded_line
    assert last == "1.0"
