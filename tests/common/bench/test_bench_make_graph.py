"""The grid on which make's own time is measured: all of it built, nothing done twice. Small here, and never timed."""

from __future__ import annotations

import shutil

import pytest

from common.basics.errors import UserError
from common.bench import make_graph


@pytest.fixture
def built(demo, tmp_path, monkeypatch):
    """The demo's project as the one that is measured, and its cells as the one that measure_make_graph() builds."""
    project, result = demo
    assert result.returncode == 0, result.stdout + result.stderr
    monkeypatch.chdir(project.folder)
    model, chip = make_graph.demo_names()
    folder = tmp_path / "built"
    shutil.copytree(project.path("out", model, "float"), folder / "float")
    shutil.copytree(project.path("out", model, chip), folder / "c0")
    return folder


def test_a_grid_that_is_built_is_measured_and_what_is_missing_is_an_error(built, tmp_path, monkeypatch):
    folder = tmp_path / "grid"
    folder.mkdir()
    make_graph.lay_project(folder, 2, 1)
    make_graph.lay_results(folder, built, 2, 1)
    cells = (folder / "out/all/cells.txt").read_text().split()
    assert {cell.rsplit("/", 1)[0] for cell in cells} == {"m0/c0", "m1/c0"} and len(cells) == 4
    assert all(
        (folder / "out" / cell / name).stat().st_size for cell in cells for name in ("proof.json", "samples.npz")
    )
    for words in (["all"], ["-n", "all"], ["c0", "MODEL=m1"]):
        row = make_graph.time_make(folder, words, repeats=1)
        assert row["command"] == " ".join(["make", *words]) and row["least"] <= row["seconds"]
    assert not (folder / "out/all/make.log").read_text().strip().startswith("climb")

    (folder / "out" / cells[-1] / "pictures.json").unlink()
    with pytest.raises(UserError, match=f"was to find everything built, and has made .*{cells[-1]}/"):
        make_graph.time_make(folder, ["all"], repeats=1)


def test_the_whole_measurement(built, monkeypatch):
    monkeypatch.setattr(make_graph, "build_one", lambda folder: built)
    measured = make_graph.measure_make_graph(models=1, chips=2, repeats=1)
    assert (measured["models"], measured["chips"], measured["cells"], measured["repeats"]) == (1, 2, 4, 1)
    assert [row["command"] for row in measured["goals"]] == [
        "make all",
        "make -n all",
        "make c0 MODEL=m0",
        "make -n c0 MODEL=m0",
    ]
    assert all(row["cpu_seconds"] > 0 and 0 < row["least"] <= row["seconds"] for row in measured["goals"])
    measured["goals"][0]["least"], measured["goals"][1]["least"] = 2.0, 0.5
    head, _, slow, quick, *_ = make_graph.make_graph_lines(measured)[1:]
    assert "1 networks x 2 chips, 4 cells" in head
    assert "above the limit" in slow and "above" not in quick


def test_a_make_of_the_copy_cannot_reach_the_real_environment(tmp_path):
    real, lent = tmp_path / "real", tmp_path / "lent"
    (real / "bin").mkdir(parents=True)
    (real / "bin" / "python").touch()
    (real / "ready").write_text("the real one")
    make_graph.lend_environment(real, lent)
    assert (lent / "bin" / "python").exists() and not (lent / "ready").is_symlink()
    shutil.rmtree(lent)  # what common/environment.py does to a folder that is out of date
    assert (real / "bin" / "python").exists() and (real / "ready").read_text() == "the real one"


def test_a_make_that_fails_says_what_it_said(tmp_path):
    (tmp_path / "Makefile").write_text("all:\n\t@echo ERROR: the disk is full >&2; exit 1\n")
    with pytest.raises(UserError, match=r"make all failed in the benchmark's copy:\n(.*\n)*ERROR: the disk is full"):
        make_graph.checked_make(tmp_path, "all")
