"""What goes wrong at the vendor's tools and files is said in one message, and leaves nothing half-written."""

import json
import shutil

import pytest

from .conftest import failed, in_environment, run_script, write_job

SCRIPT = "#!/bin/sh\n"
KILLED = "import os; os.kill(os.getpid(), 9)"
PYTHON_SCRIPT = "#!/usr/bin/env python3\n"


def left_behind(folder):
    return {path.name for path in folder.iterdir()} - {"job.json", "model.onnx", "samples.npz", "calib", "cache"}


@pytest.fixture
def broken(shadow, compiled, copies, tmp_path):
    """broken(tool file of the wheel, its stand-in) -> (message of compile.py, the job folder)."""

    def build(tool, stand_in, transformed=True):
        if transformed:  # a job whose float graph is in the cache: only what follows is run
            job = copies(compiled("bm1684", "fp32"))
        else:
            job = write_job(tmp_path / "job", "bm1684", "fp32")
        done = run_script("compile.py", job, python=shadow({tool: stand_in}))
        return failed(done), job

    return build


@pytest.mark.parametrize(
    ("tool", "stand_in", "words", "transformed"),
    [
        (
            "python/tools/model_transform.py",
            KILLED,
            "killed by signal 9 (SIGKILL)",
            False,
        ),
        ("python/tools/model_transform.py", "raise SystemExit(3)", "model_transform failed with exit code 3", False),
        ("python/tools/model_transform.py", "print('all well')", "wrote no net.mlir", False),
        ("bin/tpuc-opt", SCRIPT + "kill -SEGV $$", "tpuc-opt", False),
        ("python/tools/model_deploy.py", "import os; os.kill(os.getpid(), 11)", "killed by signal 11 (SIGSEGV)", True),
        ("python/tools/model_deploy.py", "print('all well')", "wrote no net.bmodel", True),
        ("bin/tpuc-opt", SCRIPT + "kill -KILL $$", "tpuc-opt", True),
        ("bin/tpuc-opt", SCRIPT + "exit 0", "model_deploy", True),
        ("python/tools/npz_tool.py", PYTHON_SCRIPT + "raise SystemExit(1)", "npz_tool.py compare", True),
        ("python/tools/npz_tool.py", PYTHON_SCRIPT + "print('compared nothing')", "comparisons of its stages", True),
        ("bin/tpuc-opt", None, "tpuc-opt", True),
        ("bin/model_tool", SCRIPT + 'test "$1" != --info && printf BM1684', "model_tool failed with exit code 1", True),
    ],
)
def test_a_tool_that_dies_or_writes_nothing_ends_the_build_in_words(broken, tool, stand_in, words, transformed):
    message, job = broken(tool, stand_in, transformed)
    assert words in message
    assert left_behind(job) == set()


def test_after_a_failure_the_next_run_starts_clean(broken, compiled):
    _, job = broken("python/tools/model_deploy.py", "raise SystemExit(1)")
    done = run_script("compile.py", job)
    assert done.returncode == 0, done.stderr
    record = json.loads((job / "compile.json").read_text())
    assert record["sha256"] == json.loads((compiled("bm1684", "fp32") / "compile.json").read_text())["sha256"]


def test_a_bmodel_for_the_other_chip_is_named(compiled, copies):
    job, other = copies(compiled("bm1684", "fp32")), compiled("bm1684x", "bf16", 4)
    shutil.copy(other / "small-net.bmodel", job)
    assert "small-net.bmodel" in failed(run_script("infer.py", job))
    record = json.loads((job / "compile.json").read_text())
    record["files"] |= {
        "small-net.bmodel": json.loads((other / "compile.json").read_text())["files"]["small-net.bmodel"]
    }
    (job / "compile.json").write_text(json.dumps(record))  # even where the record was changed to fit
    assert "is for BM1684X, not for BM1684" in failed(run_script("infer.py", job))


@pytest.mark.parametrize("damage", ["cut off", "changed", "empty", "missing"])
def test_a_damaged_bmodel_never_reaches_the_simulator(compiled, copies, damage):
    job = copies(compiled("bm1684", "fp32"))
    path = job / "small-net.bmodel"
    data = bytearray(path.read_bytes())
    if damage == "cut off":
        del data[len(data) // 2 :]
    elif damage == "changed":
        data[len(data) // 2] ^= 1
    elif damage == "empty":
        data.clear()
    path.write_bytes(data)
    if damage == "missing":
        path.unlink()
    (job / "outputs.npz").unlink(missing_ok=True)
    assert "small-net.bmodel" in failed(run_script("infer.py", job))
    assert not (job / "outputs.npz").exists()


def test_a_changed_quantised_graph_is_not_run(compiled, copies):
    job = copies(compiled("bm1684", "int8"))
    graph = job / json.loads((job / "compile.json").read_text())["graph"]
    graph.write_text(graph.read_text().replace("rshift = [", "rshift = [ "))
    assert graph.name in failed(run_script("infer.py", job))


def test_a_precision_that_one_chip_lacks_is_refused(toolchain, tmp_path):
    job = write_job(tmp_path / "job", "bm1684", "fp16")
    assert "fp16" in failed(run_script("compile.py", job))


def test_a_simulator_that_dies_is_a_message(toolchain, tmp_path):
    code = """
from failure import VendorError
from parallel_bmodel import run_parallel
try:
    run_parallel(folder / "none.bmodel", "bm1684", {"image": np.zeros((3, 3, 4, 4), np.float32)}, 1)
except VendorError as error:
    print(json.dumps([error.message, error.hint]))
"""
    message, hint = in_environment(toolchain, code, tmp_path)
    assert message == "a simulator of none.bmodel died"
    assert "memory" in hint
