"""How far a `make all` is: the words behind each finished cell. The rest of it is in tests/test_make_all.py."""

import os
import time

import pytest

from common import all_summary
from common.basics.files import write_json

CELLS = [f"net/chip/{number}" for number in range(6)]


@pytest.fixture
def out(tmp_path, monkeypatch):
    """An out/ folder in which `make all` began ten minutes ago with six cells, and nothing is there yet."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "out"
    write_json(folder / "all/asked.json", {"version": 1, "cells": CELLS, "skipped": {}, "failed": {}})
    aged(folder / "all/asked.json", 600)
    return folder


def aged(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


def write(path, seconds, content):
    write_json(path, content)
    aged(path, seconds)


def test_every_cell_that_is_built_shortens_the_rest(out):
    assert all_summary.how_far(out) == "0 of 6 built"  # nobody knows yet how long one takes
    write(out / CELLS[0] / "proof.json", 300, {})
    write(out / CELLS[1] / "proof.json", 5, {})
    assert all_summary.how_far(out) == "2 of 6 built, about 20 min left"  # 10 minutes for two, four to go
    for name in CELLS[2:]:
        write(out / name / "proof.json", 1, {})
    assert all_summary.how_far(out) == "6 of 6 built"


def test_what_was_built_before_and_what_failed_is_not_waited_for(out):
    write(out / CELLS[0] / "proof.json", 5, {})
    write(out / CELLS[1] / "proof.json", 9000, {})  # up to date
    write(out / CELLS[2] / "proof.json", 9000, {})
    write(out / CELLS[2] / "climb.json", 700, {})  # asked otherwise since
    write(out / CELLS[3] / "proof.json", 9000, {})
    write(out / CELLS[3] / "job.json", 9000, {"vendor": "maker"})
    write(out / "../vendors/maker/compile.py", 700, {})  # another script since
    write(out / "all/failures/1.json", 5, {"arguments": [str(out / CELLS[4])], "message": "broken", "hint": None})
    assert all_summary.how_far(out) == "1 of 4 built, about 30 min left"


def test_a_damaged_cell_stops_no_other_cells_line(out):
    write(out / CELLS[0] / "proof.json", 9000, {})
    (out / CELLS[0] / "job.json").write_text("{")
    assert all_summary.how_far(out) == "0 of 6 built"
