"""The memory budget, with real processes that wait for each other and one that is killed."""

import json
import select
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.basics import memory
from common.basics.memory import cgroup_limits, expected_bytes, machine_bytes, reserved
from common.job import Cell

ROOT = Path(__file__).resolve().parents[3]
STEP = """if True:
    import sys
    from common.job import Cell
    from common.basics.memory import machine_bytes, reserved
    with reserved(Cell("out/net/chip/" + sys.argv[1]), round(float(sys.argv[2]) * machine_bytes())):
        print("running", flush=True)
        sys.stdin.readline()
"""


def line(stream):
    """The next line of a process, which must come within a minute."""
    assert select.select([stream], [], [], 60)[0], "nothing was said for a minute"
    return stream.readline()


@pytest.fixture
def step(tmp_path):
    """step(name, share of the machine's memory): a process that holds its share until its stdin ends."""
    started = []

    def start(name, share):
        process = subprocess.Popen(
            [sys.executable, "-c", STEP, name, str(share)], cwd=tmp_path, text=True, env={"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


def shares(folder):
    return list((folder / "out/.memory").glob("share-*"))


def test_hungry_steps_take_turns_and_a_killed_one_frees_its_share(tmp_path, step):
    first = step("first", 0.5)
    assert line(first.stdout) == "running\n"
    second = step("second", 0.5)
    said = line(second.stderr)
    whole = machine_bytes() / 1e9
    assert said == (
        f"waiting for memory: net/chip/second needs {0.5 * whole:.1f} GB, "
        f"{0.3 * whole:.1f} GB of {0.8 * whole:.1f} GB are free to plan with\n"
    )
    small = step("small", 0.2)  # fits beside the first
    assert line(small.stdout) == "running\n"
    assert len(shares(tmp_path)) == 2
    first.kill()  # nothing of its own code runs any more
    first.wait()
    assert line(second.stdout) == "running\n"
    assert len(shares(tmp_path)) == 2  # the dead one's file was removed
    for process in (small, second):
        process.stdin.close()
        process.wait()
        assert process.returncode == 0
    assert second.stderr.read() == ""  # one line, however long it waited
    assert shares(tmp_path) == []


def test_alone_everything_runs(tmp_path, step):
    huge = step("huge", 7)
    assert line(huge.stdout) == "running\n"
    small = step("small", 0.01)
    assert line(small.stderr).startswith("waiting for memory: net/chip/small needs ")
    huge.stdin.close()
    assert line(small.stdout) == "running\n"


def test_a_step_that_fails_gives_its_share_back(tmp_path):
    cell = Cell(tmp_path / "out/net/chip/int8")
    with pytest.raises(ValueError), reserved(cell, 10**15):
        assert len(shares(tmp_path)) == 1
        raise ValueError
    assert shares(tmp_path) == []


def test_expected_is_what_it_took_last_time_else_what_the_chip_says(tmp_path):
    cell = Cell(tmp_path)
    cell.__dict__["chip_spec"] = SimpleNamespace(memory=SimpleNamespace(megabytes=300, per_model_megabyte=4))
    assert expected_bytes(cell) == 300_000_000
    (tmp_path / "model.onnx").write_bytes(bytes(2_500_000))
    assert expected_bytes(cell) == 310_000_000
    for content in ("{", "[]", "{}", '{"peak_memory_bytes": null}', '{"peak_memory_bytes": 0}'):
        (tmp_path / "compile.json").write_text(content)
        assert expected_bytes(cell) == 310_000_000
    (tmp_path / "compile.json").write_text(json.dumps({"peak_memory_bytes": 123_456_789}))
    assert expected_bytes(cell) == 123_456_789


def test_the_limits_of_all_groups_above_count(tmp_path):
    root, own = tmp_path / "cgroup", tmp_path / "self"
    (root / "a/b").mkdir(parents=True)
    own.write_text("0::/a/b\n")
    assert cgroup_limits(root, own) == []
    (root / "a/b/memory.max").write_text("max\n")
    (root / "a/memory.max").write_text("5000\n")
    (tmp_path / "memory.max").write_text("1\n")  # above the mount: none of its business
    assert cgroup_limits(root, own) == [5000]
    own.write_text("0::/seen/from/outside\n")  # a container that sees the host's path
    (root / "memory.max").write_text("7000\n")
    assert cgroup_limits(root, own) == [7000]
    own.write_text("3:cpu,cpuacct:/x\n2:memory:/docker/1\n0::/\n")
    (root / "memory.max").unlink()
    (root / "memory/docker/1").mkdir(parents=True)
    (root / "memory/docker/1/memory.limit_in_bytes").write_text("9000\n")
    assert cgroup_limits(root, own) == [9000]
    assert cgroup_limits(root, tmp_path / "none") == []


def test_a_containers_limit_is_the_machine(monkeypatch):
    monkeypatch.setattr(memory, "cgroup_limits", lambda root, own: [10**15, 5_000_000])
    assert machine_bytes() == 5_000_000
    monkeypatch.setattr(memory, "cgroup_limits", lambda root, own: [])
    assert machine_bytes() > 100_000_000
