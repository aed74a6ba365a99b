"""Chips whose SDK cannot be installed: the whole chain from make with a stand-in, which is marked everywhere."""

from __future__ import annotations

import json
import os

import cv2
import numpy as np
import pytest

from common.basics.errors import UserError
from common.basics.files import sha256_file
from common.declarations.spec import chip_names, load_chip
from common.engines.engine import DOUBLE_MARK, check_artifact
from common.job import Cell
from tests.conftest import ROOT, copy_of_project
from tests.fake_docker import install

FOLDERS = {load_chip(name).folder.name: name for name in reversed(chip_names()) if not load_chip(name).local}
CELLS = [(chip, precision) for chip in FOLDERS.values() for precision in load_chip(chip).precisions[:2]]
SAID = ("request.json", "job.json", "compile.json", "compare.json", "metrics.json", "rungs.json", "artifact.json",
        "proof.json")  # fmt: skip
DARK_RED = (0x20, 0x00, 0xB0)  # BGR of the band over every picture


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A copy of the project in which cells are built once: built(chip, precision, *words) gives the project and what
    make said."""
    project = copy_of_project(tmp_path_factory.mktemp("closed") / "project")
    project.path("tests").mkdir()
    project.path("tests", "doubles").symlink_to(ROOT / "tests" / "doubles")
    results = {}

    def build(chip, precision, *words):
        key = (chip, precision, words)
        if key not in results:
            results[key] = project.make(
                chip, "MODEL=hrnet_tiny", "LIMIT=6", "CALIB_COUNT=32", "DOUBLE=1", f"PRECISION={precision}", *words
            )
        return project, results[key]

    return build


def cell_of(project, chip, precision):
    return project.path("out", "hrnet_tiny", chip, f"{precision}-double")


@pytest.mark.parametrize(("chip", "precision"), CELLS)
def test_the_whole_chain_runs_with_a_stand_in_and_says_so_everywhere(built, chip, precision):
    project, result = built(chip, precision)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "double: a stand-in of the vendor's SDK computed this" in result.stdout
    cell = cell_of(project, chip, precision)
    proof = json.loads((cell / "proof.json").read_text())
    assert proof["state"] == "double"
    assert not [step for step in proof["steps"] if step["state"] == "failed"]
    for name in SAID:
        assert "double" in (cell / name).read_text(), name
    compiled = json.loads((cell / "compile.json").read_text())
    assert compiled["double"] is True
    for name in compiled["artifact"]:
        assert ".double" in name
        assert (cell / name).read_bytes().startswith(DOUBLE_MARK)
    assert (cell / "compile.log").read_bytes().startswith(DOUBLE_MARK)
    for picture in json.loads((cell / "pictures.json").read_text())["pictures"]:
        band = cv2.imread(str(cell / picture["file"]))[0]
        assert (band == DARK_RED).all(), picture["file"]
    page = project.path("out/report/index.html").read_text()
    assert "It is no artifact, and its figures are not the chip's" in page


@pytest.mark.parametrize(("chip", "precision"), CELLS)
def test_what_is_simulated_computes_something_real_and_the_rest_shows_no_number(built, chip, precision):
    project, _ = built(chip, precision)
    cell = cell_of(project, chip, precision)
    compared, metrics = (json.loads((cell / name).read_text()) for name in ("compare.json", "metrics.json"))
    if precision in load_chip(chip).unsimulated:
        assert (compared["agreement"], metrics["chip"]["AP"]) == (None, None)
        assert json.loads((cell / "pictures.json").read_text())["pictures"] == []
        assert json.loads((cell / "compile.json").read_text())["checks"]
        return
    assert compared["agreement"] > 0.9
    ours = np.load(cell / "outputs.npz")
    theirs = np.load(project.path("out/hrnet_tiny/float/outputs.npz"))
    for name in theirs.files:  # integers were simulated: neither equal to float nor far from it
        difference = np.abs(ours[name] - theirs[name])
        assert 0 < difference.max() < 0.5 * np.abs(theirs[name]).max()


@pytest.mark.parametrize("chip", FOLDERS.values())
def test_without_the_stand_in_nothing_is_built_and_the_way_is_told(built, chip, monkeypatch):
    project, _ = built(*CELLS[0])
    monkeypatch.setenv("PATH", f"{install(project.path('bin'))}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_DOCKER", "unreachable")
    precision = load_chip(chip).precisions[0]
    result = project.make(chip, "MODEL=hrnet_tiny", f"PRECISION={precision}", "BATCH=1")
    assert result.returncode != 0
    if load_chip(chip).sdk.files.get(precision):  # the image is not even begun without it
        assert f"there is no vendors/{chip}/{load_chip(chip).sdk.files[precision]}" in result.stderr
        assert "DOUBLE=1" in result.stderr
    else:
        assert f"docker build of npumake-{chip}:" in result.stderr
        assert "HINT: the registry cannot be reached from here" in result.stderr
    assert not project.path("out/hrnet_tiny", chip, precision).exists()


@pytest.mark.parametrize("chip", FOLDERS.values())
def test_the_job_folder_for_the_real_container_is_complete(built, chip):
    project, _ = built(*CELLS[0])
    precision = load_chip(chip).calibrated[0]
    result = project.make("job", f"CHIP={chip}", "MODEL=hrnet_tiny", f"PRECISION={precision}", "LIMIT=6")
    assert result.returncode == 0, result.stdout + result.stderr
    cell = project.path("out/hrnet_tiny", chip, precision)
    job = json.loads((cell / "job.json").read_text())
    assert job["double"] is False
    for name in (job["graph"], job["samples"]):
        assert (cell / name).stat().st_size > 0
    assert len(list((cell / job["calibration"]).glob("*.npy"))) == 100
    assert not (cell / "compile.json").exists()
    assert f"vendors/{load_chip(chip).folder.name}/README.md" in result.stdout


def test_an_evaluation_by_a_stand_in_says_so_and_one_of_an_unsimulated_artifact_is_refused(built):
    for chip, precision in CELLS:
        project, _ = built(chip, precision)
        asked = ["eval", f"CHIP={chip}", "MODEL=hrnet_tiny", f"VARIANT={precision}-double", "LIMIT=2"]
        result = project.make(*asked)
        if precision in load_chip(chip).unsimulated:
            assert result.returncode != 0
            assert "nothing but the chip can run this artifact" in result.stderr
        else:
            assert result.returncode == 0, result.stdout + result.stderr
            (written,) = (cell_of(project, chip, precision) / "eval").glob("*/metrics.json")
            assert "a stand-in of the vendor's SDK computed this" in json.loads(written.read_text())["protocol"]


def test_a_stand_ins_artifact_never_passes_for_a_real_one(built, monkeypatch):
    project, result = built(*CELLS[0])
    assert result.returncode == 0
    monkeypatch.chdir(project.folder)
    cell = Cell(cell_of(project, *CELLS[0]))
    compiled = json.loads((cell.folder / "compile.json").read_text())
    check_artifact(cell, compiled)
    cell.request["double"] = False
    with pytest.raises(UserError, match="a stand-in's, not an artifact"):
        check_artifact(cell, compiled)
    cell.request["double"] = True
    name = compiled["artifact"][0]
    path = cell.folder / name
    content = path.read_bytes()
    path.unlink()  # a hard link of the kept rung
    try:
        path.write_bytes(b"real" + content[4:])
        compiled["files"][name]["sha256"] = sha256_file(path)
        with pytest.raises(UserError, match="not marked as a stand-in's"):
            check_artifact(cell, compiled)
    finally:
        path.write_bytes(content)
