"""Two makes of the same cell take turns, and the one that waits says so."""

import subprocess
import sys
from pathlib import Path

import pytest

from common.basics.locks import alone, folder_of, lock_of

HOLD = """
import sys
from pathlib import Path
from common.basics.locks import alone
with alone(Path("out/net/chip/int8")):
    print("has it", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def cell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("out/net/chip/int8").mkdir(parents=True)
    return Path("out/net/chip/int8")


def start():
    root = Path(__file__).resolve().parents[3]
    return subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={"PYTHONPATH": str(root)},
    )  # fmt: skip


def test_the_second_waits_says_for_whom_and_goes_on(cell):
    with start() as first:
        assert first.stdout.readline() == "has it\n"
        with start() as second:
            said = [second.stderr.readline(), second.stderr.readline()]
            assert said[0] == f"waiting: another make is at work on {cell} (process {first.pid})\n"
            assert said[1].startswith("HINT: ")
            first.communicate("\n")
            assert second.stdout.readline() == "has it\n"
            second.communicate("\n")
    assert (first.returncode, second.returncode) == (0, 0)


def test_a_killed_one_blocks_nobody(cell):
    with start() as first:
        assert first.stdout.readline() == "has it\n"
        first.kill()
    with alone(cell):
        assert lock_of(cell).exists()


def test_cells_do_not_wait_for_each_other(cell):
    Path("out/net/chip/fp32").mkdir()
    with alone(cell), alone(Path("out/net/chip/fp32")), alone(Path("out/net/float")):
        assert len(list(Path("out/.locks").iterdir())) == 3


def test_only_a_folder_below_out_is_locked(cell):
    assert folder_of([str(cell)]) == cell
    for arguments in ([], ["--chip", "x"], ["hrnet_tiny/chip/int8"], ["out/net/chip/gone"], ["/tmp"]):
        assert folder_of(arguments) is None
