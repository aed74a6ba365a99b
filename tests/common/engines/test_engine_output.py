"""What is seen of a vendor's script while it runs: its own file is tests/common/engines/test_engine.py."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from common.basics.files import read_json
from common.engines import container
from tests.common.engines.test_engine import CHIP, GOOD_COMPILE
from tests.conftest import lend_python
from tests.terminal import COLOR, last_states, on_terminal

ROOT = Path(__file__).resolve().parents[3]
# As the vendors' tools print: hundreds of lines, in colour although nobody asked, and a bar of their own.
NOISE = """
    import os, time
    print("NO_COLOR is", os.environ.get("NO_COLOR", "not set"), "PROGRESS is", os.environ.get("PROGRESS", "not set"))
    for index in range(300):
        print(f"\\x1b[33mW layer {index} is slow\\x1b[0m")
    for index in range(16):
        print(f"\\rquantise {index}/16", end="", flush=True)
        time.sleep(0.1)
    print()
"""
COMPILE = [
    sys.executable, "-c",
    "import sys; from common.engines import engine; from common.job import Cell\n"
    "engine.compile_cell(Cell(sys.argv[1]), usual=100.0)\nprint('done')",
]  # fmt: skip


@pytest.fixture
def place(tmp_path):
    """A folder with a cell whose compile.py is noisy and takes two seconds."""
    vendor = tmp_path / "vendors" / "pretend"
    vendor.mkdir(parents=True)
    (vendor / "chip.yaml").write_text(CHIP)
    (vendor / "compile.py").write_text(textwrap.dedent(NOISE + GOOD_COMPILE))
    lend_python(tmp_path / ".venv" / "pretend")
    folder = tmp_path / "out" / "net" / "pretend" / "int8"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text('{"model": "net", "chip": "pretend", "variant": "int8", "precision": "int8"}')
    return tmp_path


def compiled(place, **variables):
    """What compiling shows on a terminal."""
    code, text = on_terminal([*COMPILE, "out/net/pretend/int8"], place, PYTHONPATH=str(ROOT), **variables)
    assert code == 0 and "done" in text, text
    return text


def log_of(place):
    return (place / "out/net/pretend/int8/compile.log").read_text()


def test_a_terminal_sees_the_time_about_how_long_it_takes_and_the_last_words(place):
    text = compiled(place)
    assert re.search(r"\rcompile net/pretend/int8: 00:0\d, about 2 min left; quantise \d+/16", text)
    assert [line for line in last_states(text) if line] == ["done"]
    assert not COLOR.search(text)
    log = log_of(place)
    assert log.count("\n") == 303 and "W layer 299 is slow\nquantise 15/16\ncompiling\n" in log
    assert "PROGRESS is 1" in log and "\x1b" not in log and "\r" not in log
    assert read_json(place / "out/net/pretend/int8/compile.json")["seconds"] > 1.5


def test_v_shows_all_of_it_and_no_color_reaches_the_tools(place):
    text = compiled(place, V="1")
    assert text.count("\x1b[33mW layer") == 300 and "\rquantise 7/16" in text and "about" not in text
    assert text.startswith(".venv/pretend/bin/python vendors/pretend/compile.py out/net/pretend/int8\r\n")
    text = compiled(place, V="1", NO_COLOR="1")
    assert text.count("W layer") == 300 and not COLOR.search(text)
    assert "NO_COLOR is 1" in text


def test_off_a_terminal_nothing_of_it_is_shown_and_with_v_all_of_it_plainly(place):
    def run(**variables):
        environment = {key: value for key, value in os.environ.items() if key not in ("V", "PROGRESS")}
        return subprocess.run(
            [*COMPILE, "out/net/pretend/int8"], cwd=place, env=environment | {"PYTHONPATH": str(ROOT)} | variables,
            capture_output=True, text=True, check=True,
        )  # fmt: skip

    done = run()
    assert (done.stdout, done.stderr) == ("done\n", "")
    done = run(V="1")
    command, *lines = done.stderr.splitlines()
    assert done.stdout == "done\n" and command.endswith("compile.py out/net/pretend/int8")
    assert "\n".join(lines) + "\n" == log_of(place)
    assert lines[1] == "W layer 0 is slow" and lines[-2:] == ["quantise 15/16", "compiling"]
    assert "PROGRESS is not set" in lines[0]


def test_a_container_is_told_of_no_color_too(monkeypatch):
    monkeypatch.setattr(container, "machine_of", lambda program: (4, 16_000_000_000))
    chip = type("Chip", (), {"platform": None})()
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "NO_COLOR=1" not in container.options(chip, "docker", watched=True)
    monkeypatch.setenv("NO_COLOR", "1")
    words = container.options(chip, "docker", watched=False)
    assert words[words.index("NO_COLOR=1") - 1] == "--env" and "PROGRESS=1" not in words
