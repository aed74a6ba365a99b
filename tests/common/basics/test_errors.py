"""One message, one hint, a non-zero exit, no traceback."""

import errno
import os
import subprocess
import sys

import pytest

from common.basics.errors import UserError, run
from tests.conftest import ROOT


def outcome(main, capsys):
    with pytest.raises(SystemExit) as exit_info:
        run(main)
    return exit_info.value.code, capsys.readouterr().err


def raising(error):
    def main():
        raise error

    return main


def test_a_user_error_prints_message_and_hint(capsys):
    code, text = outcome(raising(UserError("x.onnx is empty", "export it again")), capsys)
    assert (code, text) == (1, "ERROR: x.onnx is empty\nHINT: export it again\n")


def test_a_wrong_name_exits_with_2(capsys):
    assert outcome(raising(UserError("unknown", exit_code=2)), capsys) == (2, "ERROR: unknown\n")


def test_interruption_exits_as_a_shell_reports_it(capsys):
    code, text = outcome(raising(KeyboardInterrupt()), capsys)
    assert code == 130
    assert "interrupted" in text
    assert "Traceback" not in text


def test_a_full_disk_is_named(capsys):
    code, text = outcome(raising(OSError(errno.ENOSPC, "No space left on device", "out/x.npz")), capsys)
    assert code == 1
    assert "disk is full: out/x.npz" in text
    assert "HINT: free some space" in text
    assert "Traceback" not in text


def test_a_defect_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 // 0)


def test_success_exits_with_0(capsys):
    assert outcome(lambda: None, capsys) == (0, "")


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_an_interruption_while_modules_are_imported_is_one_clean_message(tmp_path, number):
    """In a callback of a compiled module Python prints a KeyboardInterrupt and goes on; here a destructor does so."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "stage.py").write_text(
        "import os, signal\n"
        "class Ignoring:\n"
        "    def __del__(self):\n"
        f"        os.kill(os.getpid(), signal.{number})\n"
        "        sum(range(100000))\n"
        "item = Ignoring()\n"
        "del item\n"
        "def main():\n"
        "    print('went on')\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "common", "slow.stage"], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 130 and result.stdout == ""
    assert result.stderr.startswith("ERROR: interrupted") and "Traceback" not in result.stderr
