"""How far a long step is: on a terminal, in a file, and within another step."""

import os
import re
import sys
import time
from pathlib import Path

import pytest

from common.basics import progress as module
from common.basics.progress import Progress, track
from common.basics.terminal import colored, verbose, watched
from tests.terminal import COLUMNS, last_states, on_terminal

ROOT = Path(__file__).resolve().parents[3]
LONG = 1e6  # seconds: no thread speaks meanwhile


def shown(script, **variables):
    """What a script that makes progress writes to a terminal."""
    start = "import sys, time\nfrom common.basics import progress\nfrom common.basics.progress import Progress, track\n"
    code, text = on_terminal([sys.executable, "-c", start + script], ROOT, **variables)
    assert code == 0, text
    return text


def test_what_can_be_counted_is_a_bar_with_the_time_left():
    text = shown("for _ in track(range(30), 'render', 'people'): time.sleep(0.06)\nprint('done')")
    bars = re.findall(r"\rrender: +(\d+)%\|[^|]*\| (\d+)/30 \[00:0\d<00:0\d, [^]]* people/s\]", text)
    assert len(bars) > 5 and int(bars[-1][1]) > 20
    assert [int(count) for _, count in bars] == sorted(int(count) for _, count in bars)
    assert last_states(text)[:1] == ["done"]  # the bar is gone, and leaves no line
    assert "\x1b" not in text


def test_what_cannot_be_counted_shows_the_time_and_the_tools_last_words():
    text = shown(
        "with Progress('compile a', usual=61) as one:\n"
        "    time.sleep(2.0)\n"
        "    one.tell('layer 7 ' + 'x' * 200)\n"
        "    time.sleep(0.8)\n"
        "print('done')"
    )
    states = text.split("\r")
    assert any(re.match(r"compile a: 00:0\d, about [56]\d s left$", state.rstrip()) for state in states)
    told = [state for state in states if "; layer 7 x" in state]
    assert told and all(len(state) < COLUMNS for state in told)  # a longer one would go on in the next line
    assert last_states(text)[0] == "done"


def test_what_took_longer_than_the_last_time_says_so():
    with Progress("compile", usual=60.0) as known, Progress("compile") as unknown:
        assert known.line(20.0) == "20 s, about 40 s left"
        assert known.line(200.0) == "3 min, 60 s the last time"
        assert unknown.line(200.0) == "3 min"


def test_a_short_step_shows_nothing_at_all():
    assert shown("for _ in track(range(3), 'render', 'people'): pass\nprint('done')") == "done\r\n"


def test_a_step_within_a_step_is_words_behind_the_outer_bar():
    text = shown(
        "with Progress('evaluate', 100, unit='people') as outer:\n"
        "    outer.advance(40)\n"
        "    with Progress('simulate') as inner:\n"
        "        time.sleep(0.6)\n"
        "        inner.tell('infer: 12/60')\n"
        "        time.sleep(0.8)\n"
        "    for _ in track(range(4), 'decode', 'maps'): time.sleep(0.3)\n"
        "    time.sleep(0.7)\n"
    )
    assert re.search(r"evaluate: +40%\|.*40/100 .*infer: 12/60", text)
    assert re.search(r"evaluate: +40%\|.*40/100 .*decode [1-4]/4", text)
    assert "\rsimulate" not in text and "\rdecode" not in text
    last = [state for state in text.split("\r") if state.strip()][-1]
    assert last.startswith("evaluate") and last.rstrip().endswith("people/s]")  # the inner one is over: not spoken of


def test_on_a_dumb_terminal_nothing_is_written_anew():
    assert shown("for _ in track(range(20), 'render', 'people'): time.sleep(0.06)", TERM="dumb") == ""


def test_a_failure_clears_the_bar_first():
    text = shown(
        "try:\n"
        "    with Progress('fix'):\n"
        "        time.sleep(0.8)\n"
        "        raise ValueError('no such layer')\n"
        "except ValueError as error:\n"
        "    print('ERROR:', error)\n"
    )
    assert "fix: 00:0" in text and last_states(text)[0] == "ERROR: no such layer"


def test_off_a_terminal_a_silent_step_still_says_a_line_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(module, "TICK", 0.01)
    monkeypatch.setattr(module, "LINE_EVERY", 0.1)
    with Progress("simulate net", usual=30.0):
        time.sleep(0.35)
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert said.out == "" and 1 <= len(lines) <= 4 and "\r" not in said.err
    assert all(line == "simulate net: 0 s, about 30 s left" for line in lines)


def test_ten_hours_off_a_terminal_are_some_lines_and_not_hundreds(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module, "TICK", LONG)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with Progress("eval", 3600, unit="people") as progress:
        for _ in range(3600):
            now[0] += 10
            progress.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "eval: 6 of 3600 people (0 %), 10.0 h left"
    assert 100 < len(lines) < 150


def test_nothing_is_said_of_the_time_left_before_there_is_a_speed():
    progress = Progress("eval", 10, 4, "people")
    progress.close()
    assert progress.line(100.0) == "4 of 10 people (40 %)"


def test_the_items_come_through_and_their_error_too(capsys):
    assert list(track("abc", "letters", "letters")) == ["a", "b", "c"]
    with pytest.raises(ZeroDivisionError):
        for item in track([1, 0], "numbers", "numbers"):
            1 / item
    assert module._steps == []  # also the one that was left by an error
    assert capsys.readouterr() == ("", "")


class Stream:
    def __init__(self, terminal):
        self.isatty = lambda: terminal


@pytest.mark.parametrize(
    ("terminal", "variables", "looked_at", "colors"),
    [
        (True, {}, True, True),
        (False, {}, False, False),
        (True, {"NO_COLOR": "1"}, True, False),
        (True, {"NO_COLOR": ""}, True, True),  # no-color.org: present and not empty
        (True, {"TERM": "dumb"}, False, False),
        (False, {"FORCE_COLOR": "1"}, False, False),
    ],
)
def test_colours_only_on_a_terminal_and_not_with_no_color(terminal, variables, looked_at, colors, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (watched(Stream(terminal)), colored(Stream(terminal))) == (looked_at, colors)


def test_v_is_read_as_make_reads_it(monkeypatch):
    monkeypatch.delenv("V", raising=False)
    assert not verbose()
    for value, expected in (("1", True), ("", False), ("0", False)):
        monkeypatch.setenv("V", value)
        assert verbose() is expected
    assert os.environ["V"] == "0"
