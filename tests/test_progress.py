"""What make shows of a whole cell: in a file, on a terminal, and on one that shall have no colours."""

import re
import shutil
import sys

from tests.terminal import COLOR, last_states, on_terminal

FLOAT_CELL = "out/hrnet_tiny/ncnn/fp32"
MOST_LINES = 50  # two cells from nothing: one line a stage, what a few of them found, and the table


def test_off_a_terminal_there_are_a_few_plain_lines(demo):
    project, result = demo
    assert result.returncode == 0, result.stdout + result.stderr
    for text in (result.stdout, result.stderr):
        assert "\x1b" not in text and "\r" not in text
        assert not re.search(r"\d+%\||it/s|people/s", text)  # bars
    lines = (result.stdout + result.stderr).splitlines()
    assert len(lines) <= MOST_LINES, "\n".join(lines)
    stages = [line for line in lines if re.match(r"[a-z]+ {2,}[a-z]", line)]
    assert len(stages) == len(set(stages)) >= 15
    logs = [log.read_text() for name in ("compile.log", "infer.log") for log in project.path("out").rglob(name)]
    assert len(logs) >= 4 and not any("\x1b" in log or "\r" in log for log in logs)


def test_a_terminal_sees_every_long_step_go_on(demo_copy):
    cell = demo_copy.path(FLOAT_CELL)
    shutil.rmtree(cell / "rungs")
    (cell / "compile.json").unlink()
    climb = [sys.executable, "-m", "common", "climb", FLOAT_CELL]
    code, text = on_terminal(climb, demo_copy.folder, NO_COLOR="1")
    assert code == 0, text
    assert re.search(r"\rcompile hrnet_tiny/ncnn/fp32: 00:0\d; \w", text)
    # The vendor's own bar, with its time left, behind our clock.
    assert re.search(r"\rsimulate hrnet_tiny/ncnn/fp32: 00:\d\d; infer: +\d+%\|.*\| \d+/200 \[00:\d\d<00:\d\d", text)
    left = [line for line in last_states(text) if line]
    assert [line.split()[0] for line in left] == ["compile", "simulate", "compare", "evaluate"]
    assert not COLOR.search(text)


def test_the_verdict_is_in_colour_on_a_terminal_unless_no_color_is_set(demo):
    summary = [sys.executable, "-m", "common", "summary", "--chip", "ncnn", "hrnet_tiny/ncnn/fp32"]
    _, colors = on_terminal(summary, demo[0].folder)
    _, plain = on_terminal(summary, demo[0].folder, NO_COLOR="1")
    assert "\x1b[32mproven\x1b[0m" in colors
    assert "proven" in plain and "\x1b" not in plain


def test_v_shows_each_command(demo):
    result = demo[0].make("demo", "V=1")
    assert result.returncode == 0, result.stdout + result.stderr
    for stage in ("plan", "summary"):  # nothing else is to be done
        assert re.search(rf"^\S*python\S* -m common {stage} ", result.stdout, re.MULTILINE)
