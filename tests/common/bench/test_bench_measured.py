"""What a bench says that a process took is that process's own."""

import sys

import numpy as np
import pytest

from common.basics.errors import UserError
from common.bench.measured import run_measured

LARGE = 300_000_000  # bytes


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_process_does_not_count_its_parents_memory_as_its_own(tmp_path):
    held = np.ones(LARGE, np.uint8)
    small = run_measured(python("print('hello')"), tmp_path / "log")
    assert 5_000_000 < small.peak_memory_bytes < 0.2 * held.nbytes
    assert (tmp_path / "log").read_text() == "hello\n"
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


@pytest.mark.parametrize("inside", [False, True])
def test_what_it_takes_and_what_it_starts_takes_is_counted(tmp_path, inside):
    code = f"held = bytearray(b'x') * {LARGE}"
    if inside:
        code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], check=True)"
    assert LARGE < run_measured(python(code), tmp_path / "log").peak_memory_bytes < 1.3 * LARGE


def test_seconds_are_of_the_whole_process_and_of_all_cores(tmp_path):
    waiting = run_measured(python("import time; time.sleep(1.2)"), tmp_path / "log")
    assert waiting.seconds > 1.2 and waiting.cpu_seconds < 0.9
    busy = run_measured(python("import time\nwhile time.process_time() < 1: pass"), tmp_path / "log")
    assert busy.cpu_seconds > 1


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (python("print('it broke'); raise SystemExit(3)"), r"ended with 3\n \| it broke"),
        (python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), "ended with -9"),
        (["/nowhere/at/all"], "FileNotFoundError"),
        (python("raise SystemExit('ERROR: no such network\\nHINT: look')"), "^no such network$"),
    ],
)
def test_a_failure_is_told_with_the_end_of_its_log(tmp_path, command, said):
    with pytest.raises(UserError, match=said):
        run_measured(command, tmp_path / "log")
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
