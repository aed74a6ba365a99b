"""What a tool prints: plain lines in its log, its last words for whoever watches, and all of it with V=1."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from common.basics.terminal import plain
from common.basics.tool_output import ToolOutput, copy_output
from tests.terminal import COLOR, on_terminal

ROOT = Path(__file__).resolve().parents[3]
RED = "\x1b[31mred\x1b[0m"
NOISY = f"{RED} start\n\rbar  10%\rbar  50%\x1b[K\rbar 100%\r\nend\n"
PLAIN = "red start\nbar 100%\nend\n"


class Told:
    """Stands for a Progress: what it was told."""

    def __init__(self):
        self.words = []

    def tell(self, words):
        self.words.append(words)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("plain", "plain"),
        ("  indented\tand a tab  ", "  indented\tand a tab"),
        (f"{RED} and \x1b[1;38;5;9mbold\x1b[m", "red and bold"),
        ("one\rtwo\rthree", "three"),
        ("one\rtwo\r", "two"),
        ("text\r", "text"),
        ("one\r   ", "one"),
        ("\x1b]0;a title\x07text\x1b[2K\x1b[1A", "text"),
        ("bell\x07 and \x08 back", "bell and  back"),
        ("", ""),
        ("Grüße, 模型 █▌", "Grüße, 模型 █▌"),
    ],
)
def test_a_line_as_it_stands_at_last(line, expected):
    assert plain(line) == expected


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_the_log_is_plain_however_the_pieces_are_cut(size, monkeypatch, capsys):
    monkeypatch.delenv("V", raising=False)
    log, told = io.StringIO(), Told()
    output = ToolOutput(log, told)
    for start in range(0, len(NOISY), size):
        output.write(NOISY[start : start + size])
    output.write("no end of line")
    output.close()
    assert log.getvalue() == f"{PLAIN}no end of line\n"
    assert told.words[-1] == "no end of line"
    assert not any("\x1b[" in words or "\r" in words for words in told.words)
    assert capsys.readouterr() == ("", "")  # nobody asked for it


def test_a_bar_of_an_hour_takes_no_memory(monkeypatch):
    monkeypatch.delenv("V", raising=False)
    output = ToolOutput(None, told := Told())
    for index in range(20_000):
        output.write(f"\rbar {index}")
    assert told.words[-1] == "bar 19999" and len(output._line) < 100


def test_v_shows_everything_off_a_terminal_too_and_plainly(monkeypatch, capsys):
    monkeypatch.setenv("V", "1")
    output = ToolOutput(None)
    output.write(NOISY)
    output.close()
    assert capsys.readouterr() == ("", PLAIN)


def test_a_letter_that_is_cut_in_two_and_bytes_that_are_no_text(monkeypatch):
    monkeypatch.delenv("V", raising=False)
    script = (
        "import sys, time\n"
        "for part in (b'Gr\\xc3', b'\\xbc\\xc3\\x9fe ', b'\\xff\\n'):\n"
        "    sys.stdout.buffer.write(part); sys.stdout.buffer.flush(); time.sleep(0.05)\n"
    )
    log = io.StringIO()
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        copy_output(process.stdout, log)
    assert log.getvalue() == "Grüße \ufffd\n"


def test_on_a_terminal_v_shows_it_as_it_comes_and_no_color_takes_the_colours_out():
    pieces = [NOISY[start : start + 5] for start in range(0, len(NOISY), 5)]
    script = (
        "from common.basics.tool_output import ToolOutput\n"
        f"output = ToolOutput(None)\nfor piece in {pieces!r}: output.write(piece)\noutput.close()"
    )
    command = [sys.executable, "-c", script]
    _, quiet = on_terminal(command, ROOT)
    _, everything = on_terminal(command, ROOT, V="1")
    _, colorless = on_terminal(command, ROOT, V="1", NO_COLOR="1")
    assert quiet == ""
    assert RED in everything and "\rbar  50%" in everything and "end" in everything
    assert "red start" in colorless and "\rbar  50%" in colorless and not COLOR.search(colorless)
