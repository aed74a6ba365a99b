"""What is seen while pip installs an environment, which takes minutes: the rest is tests/common/test_environment.py."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.terminal import COLUMNS, last_states, on_terminal

ROOT = Path(__file__).resolve().parents[2]
INSTALL = [
    sys.executable, "-c",
    "import pathlib, sys; sys.path.insert(0, sys.argv[1]); import environment\n"
    "with environment.alone(pathlib.Path('x')) as lock:\n"
    "    environment.install(pathlib.Path('x'), ['-r', 'requirements.txt'], lock)\n"
    "print('installed')",
    str(ROOT / "common"),
]  # fmt: skip


@pytest.fixture
def place(tmp_path):
    """A folder with an environment x, whose pip talks, takes two seconds, and ends with the code in the file `code`."""
    python = tmp_path / "x/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(
        f"#!/bin/sh\nfor i in $(seq 40); do echo Collecting package-$i {'x' * 200}; done\n"
        f"sleep 1.8\necho Installing collected packages: {'package ' * 40}\nexit $(cat code)\n"
    )
    python.chmod(0o755)
    (tmp_path / "code").write_text("0")
    return tmp_path


def test_a_terminal_sees_the_time_and_the_last_line_of_pip(place):
    code, text = on_terminal(INSTALL, place)
    assert code == 0 and re.search(r"\rinstalling into x: 00:01; Collecting package-40 ", text)
    assert [line for line in last_states(text) if line] == ["installed"] and "\x1b" not in text
    assert all(len(state) < COLUMNS for state in re.split("[\r\n]", text))
    assert (place / "x/install.log").read_text().count("Collecting") == 40


def test_v_shows_all_that_pip_says(place):
    (place / "x/install.log").write_text("of an earlier run\n")
    code, text = on_terminal(INSTALL, place, V="1")
    assert "earlier" not in text
    assert code == 0 and text.count("Collecting package-") == 40 and "installing into" not in text
    assert text.startswith("x/bin/python -m pip install ") and " -r requirements.txt\r\n" in text


def quietly(place):
    return subprocess.run(INSTALL, cwd=place, capture_output=True, text=True, check=False)


def test_off_a_terminal_nothing_is_said_while_it_works(place):
    done = quietly(place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "installed\n", "")


def test_of_a_failure_the_end_of_what_pip_said_stands_above_the_error(place):
    (place / "x/install.log").write_text("of an earlier run\n")
    (place / "code").write_text("1")
    done = quietly(place)
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and done.stdout == ""
    assert lines[-2].startswith("ERROR: pip could not install -r requirements.txt") and lines[-1].startswith("HINT: ")
    assert lines[-3].startswith("Installing collected packages") and 10 < len(lines) < 20
    assert "earlier" not in done.stderr
