"""Chips that only a container can compile: how it is run, and what is said when it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from common import climb, container
from common.errors import UserError
from common.files import read_json
from common.job import Cell
from common.plan import check_engine
from common.spec import load_chip
from common.variant import Variant
from tests.common.cell_fixture import CHIP
from tests.common.climb_fixture import LADDER, cell, ladder
from tests.fake_docker import install

__all__ = ["cell"]  # a fixture


@pytest.fixture
def contained(cell, monkeypatch):
    """The cell's chip is compiled by a container; `docker` is the stand-in."""
    path = Path("vendors", CHIP, "chip.yaml")
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"engines": ["docker"]}))
    monkeypatch.setenv("PATH", f"{install(Path('bin').resolve())}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_DOCKER", "ok")
    monkeypatch.delenv("ENGINE", raising=False)
    return cell


def test_the_whole_climb_runs_in_the_container(contained):
    ladder(LADDER)
    result = climb.climb(Cell(contained))
    assert result["chosen"] == 3
    runs = [line for line in Path("docker.log").read_text().splitlines() if line.startswith("run ")]
    assert len(runs) == 6  # three rungs, each compiled and simulated
    assert read_json(contained / "compile.json")["peak_memory_bytes"] == 1  # what the script said of itself
    assert f"npumake-{CHIP} compile.py /job" in runs[0]


def test_another_image_compiles_again(contained, monkeypatch):
    ladder([LADDER[2]])
    assert climb.climb(Cell(contained))["tried"][0]["compiled_now"]
    assert not climb.climb(Cell(contained))["tried"][0]["compiled_now"]
    monkeypatch.setenv("FAKE_DOCKER_ID", "sha256:another")
    assert climb.climb(Cell(contained))["tried"][0]["compiled_now"]


@pytest.mark.parametrize(
    ("mode", "message", "hint"),
    [
        ("no-image", f"the image npumake-{CHIP} was not built yet; nothing was done", f"make image CHIP={CHIP}"),
        ("down", "docker does not answer: Cannot connect to the Docker daemon", "docker info"),
    ],
)
def test_before_anything_is_done_it_is_said_what_is_missing(contained, monkeypatch, mode, message, hint):
    monkeypatch.setenv("FAKE_DOCKER", mode)
    with pytest.raises(UserError) as error:
        check_engine(load_chip(CHIP), CHIP, Variant("int8"), job_only=False)
    assert message in error.value.message
    assert hint in error.value.hint
    check_engine(load_chip(CHIP), CHIP, Variant("int8"), job_only=True)


def test_no_docker_at_all(contained, monkeypatch):
    monkeypatch.setenv("PATH", str(Path("nowhere").resolve()))
    with pytest.raises(UserError, match="which only its container has, and there is no docker") as error:
        check_engine(load_chip(CHIP), CHIP, Variant("int8"), job_only=False)
    assert "DOUBLE=1" in error.value.hint


def test_a_container_that_is_killed_for_its_memory(contained, monkeypatch):
    monkeypatch.setenv("FAKE_DOCKER", "killed")
    ladder([LADDER[2]])
    with pytest.raises(UserError, match="was killed by signal 9 in its container") as error:
        climb.climb(Cell(contained))
    assert "lack of memory" in error.value.hint
    assert not (contained / "compile.json").exists()


def test_an_engine_that_the_chip_does_not_have(cell, monkeypatch):
    monkeypatch.setenv("ENGINE", "docker")
    with pytest.raises(UserError, match="cannot be compiled by ENGINE=docker") as error:
        check_engine(load_chip(CHIP), CHIP, Variant("int8"), job_only=False)
    assert (error.value.hint, error.value.exit_code) == ("ENGINE=local", 2)


def builds():
    return [line for line in Path("docker.log").read_text().splitlines() if line.startswith("build")]


def test_an_image_is_built_from_the_vendors_folder_on_a_base_by_its_digest(contained, monkeypatch, capfd):
    chip = load_chip(CHIP)
    with pytest.raises(UserError, match="has no Dockerfile"):
        container.build(chip, CHIP, "")
    dockerfile = Path("vendors", CHIP, "Dockerfile")
    dockerfile.write_text("FROM scratch")
    with pytest.raises(UserError, match="has no line ARG BASE="):
        container.build(chip, CHIP, "")
    start = f"build --tag npumake-{CHIP} --build-arg BASE="
    dockerfile.write_text("ARG BASE=maker/tools@sha256:1234\nFROM ${BASE}\n")
    container.build(chip, CHIP, "")
    assert builds()[-1] == f"{start}maker/tools@sha256:1234 {chip.folder}"
    dockerfile.write_text("ARG BASE=maker/tools:1.0\nFROM ${BASE}\n")
    container.build(chip, CHIP, "")
    assert builds()[-1] == f"{start}maker/tools@sha256:abcd {chip.folder}"
    assert "maker/tools:1.0 is maker/tools@sha256:abcd" in capfd.readouterr().out
    container.build(chip, CHIP, "only-here:tag")
    assert builds()[-1] == f"{start}only-here:tag {chip.folder}"
    assert "only-here:tag has no digest here" in capfd.readouterr().out
    monkeypatch.setenv("FAKE_DOCKER", "no-image")
    with pytest.raises(UserError, match="failed with exit code 1"):
        container.build(chip, CHIP, "")
