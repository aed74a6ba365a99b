"""Vendors' scripts in containers: how they are run, how images come to be, and what is said when they cannot."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import yaml

from common import climb, image
from common.basics.errors import UserError
from common.basics.files import read_json, write_json
from common.cells.variant import Variant
from common.declarations.spec import load_chip
from common.engines import container
from common.job import Cell
from common.plan import check_engine, engine_request
from tests.common.cell_fixture import CHIP
from tests.common.climb_fixture import LADDER, cell, ladder
from tests.conftest import ROOT
from tests.fake_docker import install

__all__ = ["cell"]  # a fixture


def declare(**keys):
    """Change chip.yaml of the cell's vendor folder."""
    path = Path("vendors", CHIP, "chip.yaml")
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys))


@pytest.fixture
def contained(cell, monkeypatch):
    """The cell's chip is compiled by a container; `docker` is the stand-in."""
    declare(engines=["docker", "podman"])
    Path("vendors", CHIP, "Dockerfile").write_text("ARG BASE=maker/tools@sha256:1234\nFROM ${BASE}\n")
    monkeypatch.setenv("PATH", f"{install(Path('bin').resolve())}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_DOCKER", "ok")
    Path("common").symlink_to(ROOT / "common")
    for name in ("ENGINE", "BASE", "DOCKER_HOST"):
        monkeypatch.delenv(name, raising=False)
    container.machine_of.cache_clear()
    yield cell
    container.machine_of.cache_clear()


def said(*first: str) -> list[str]:
    """What docker was asked for: the lines of its log that begin so."""
    return [line for line in Path("docker.log").read_text().splitlines() if line.startswith(" ".join(first))]


def test_the_whole_climb_runs_in_the_container(contained):
    ladder(LADDER)
    result = climb.climb(Cell(contained))
    assert result["chosen"] == 3
    runs = said("run ")
    assert len(runs) == 6  # three rungs, each compiled and simulated
    record = read_json(contained / "compile.json")
    assert record["peak_memory_bytes"] == 1  # what the script said of itself
    name = image.image_name(load_chip(CHIP))
    assert f"{name} compile.py /job" in runs[0]
    assert record["engine"] == f"docker {name} sha256:1234"


def test_another_image_compiles_again(contained, monkeypatch):
    ladder([LADDER[2]])
    assert climb.climb(Cell(contained))["tried"][0]["compiled_now"]
    assert not climb.climb(Cell(contained))["tried"][0]["compiled_now"]
    monkeypatch.setenv("FAKE_DOCKER_ID", "sha256:another")
    assert climb.climb(Cell(contained))["tried"][0]["compiled_now"]


def test_the_same_artifact_by_two_engines_is_told(contained, monkeypatch):
    declare(engines=["local", "docker"])
    ladder([LADDER[2]])
    climb.climb(Cell(contained))
    local = read_json(contained / "compile.json")
    assert local["engine"] == "local" and "other_engine" not in local
    monkeypatch.setenv("ENGINE", "docker")
    climb.climb(Cell(contained))
    record = read_json(contained / "compile.json")
    assert record["other_engine"] == {"engine": "local", "sha256": local["sha256"], "same": True}
    assert "warnings" not in record


def test_two_engines_that_differ_say_why(contained, monkeypatch):
    declare(engines=["local", "docker"])
    ladder([LADDER[2]])
    climb.climb(Cell(contained))
    (kept,) = contained.glob("rungs/*/compile.json")
    write_json(kept, read_json(kept) | {"sha256": "other", "tools": {}})
    monkeypatch.setenv("ENGINE", "docker")
    climb.climb(Cell(contained))
    record = read_json(contained / "compile.json")
    assert record["other_engine"]["same"] is False
    (warning,) = record["warnings"]
    assert "another artifact than that of local from the same inputs" in warning
    assert "the compiler itself does not repeat its bytes" in warning


@pytest.mark.parametrize(
    ("mode", "message", "hint"),
    [
        ("down", "docker does not answer: Cannot connect to the Docker daemon", "systemctl start docker"),
        ("forbidden", "docker does not answer: permission denied", "usermod -aG docker"),
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
    with pytest.raises(UserError, match="which only its container has, and there is no docker or podman") as error:
        check_engine(load_chip(CHIP), CHIP, Variant("int8"), job_only=False)
    assert "DOUBLE=1" in error.value.hint


def test_podman_where_there_is_no_docker(contained, monkeypatch):
    monkeypatch.setenv("PATH", f"{install(Path('podman-only').resolve(), 'podman')}:/usr/bin:/bin")
    monkeypatch.setattr(container.shutil, "which", lambda name: name if name == "podman" else None)
    assert container.engine_of(load_chip(CHIP), CHIP) == "podman"


def test_a_licensed_file_that_is_not_there_is_named(contained):
    sdk = {"name": "Tool", "version": "1", "licence": "its own", "get": "register"}
    declare(sdk=sdk | {"files": {"int8": "sdk/*.whl"}})
    with pytest.raises(UserError, match=r"there is no .*vendors/.*sdk/\*\.whl") as error:
        check_engine(load_chip(CHIP), CHIP, Variant("int8"), job_only=False)
    assert "register" in error.value.hint
    check_engine(load_chip(CHIP), CHIP, Variant("fp32"), job_only=False)
    Path("vendors", CHIP, "sdk").mkdir()
    Path("vendors", CHIP, "sdk", "tool.whl").write_bytes(b"wheel")
    check_engine(load_chip(CHIP), CHIP, Variant("int8"), job_only=False)


def test_a_container_that_is_killed_for_its_memory(contained, monkeypatch):
    monkeypatch.setenv("FAKE_DOCKER", "killed")
    ladder([LADDER[2]])
    with pytest.raises(UserError, match="was killed by signal 9 in its container") as error:
        climb.climb(Cell(contained))
    assert "lack of memory" in error.value.hint
    assert not (contained / "compile.json").exists()


def test_an_engine_that_the_chip_does_not_have(cell, monkeypatch):
    monkeypatch.setenv("ENGINE", "docker")
    declare(engines=["local"])
    with pytest.raises(UserError, match="cannot be compiled by ENGINE=docker") as error:
        check_engine(load_chip(CHIP), CHIP, Variant("int8"), job_only=False)
    assert (error.value.hint, error.value.exit_code) == ("ENGINE=local", 2)


def test_an_image_is_built_once_until_its_folder_changes(contained):
    chip = load_chip(CHIP)
    request = engine_request(chip, CHIP, Variant("int8"), job_only=False)
    assert request == {"engine": "docker", "image": "sha256:1234"}
    first = image.image_name(chip)
    (line,) = said("build")
    assert line == (
        f"build --tag {first} --label npumake.base=maker/tools@sha256:1234 "
        f"--build-arg BASE=maker/tools@sha256:1234 {chip.folder}"
    )
    engine_request(chip, CHIP, Variant("int8"), job_only=False)
    (chip.folder / "README.md").write_text("no part of the image")
    engine_request(chip, CHIP, Variant("int8"), job_only=False)
    assert len(said("build")) == 1
    (chip.folder / "more.py").write_text("")
    engine_request(chip, CHIP, Variant("int8"), job_only=False)
    assert len(said("build")) == 2 and image.image_name(chip) != first
    assert engine_request(chip, CHIP, Variant("int8", double=True), job_only=False) == {}
    assert engine_request(chip, CHIP, Variant("int8"), job_only=True) == {}


def test_a_base_is_built_on_by_its_digest_and_another_one_builds_again(contained, capfd):
    chip = load_chip(CHIP)
    (chip.folder / "Dockerfile").write_text("ARG BASE=maker/tools:1.0\nFROM ${BASE}\n")
    image.ensure_image(chip, CHIP)
    assert "--build-arg BASE=maker/tools@sha256:abcd " in said("build")[-1]
    assert "maker/tools:1.0 is maker/tools@sha256:abcd" in capfd.readouterr().out
    image.ensure_image(chip, CHIP, "only-here:tag")
    assert "--build-arg BASE=only-here:tag " in said("build")[-1]
    assert "only-here:tag has no digest here" in capfd.readouterr().out
    image.ensure_image(chip, CHIP, "only-here:tag")
    image.ensure_image(chip, CHIP)  # whoever names no base takes the one that is there
    assert len(said("build")) == 2


@pytest.mark.parametrize(("content", "message"), [(None, "has no Dockerfile"), ("FROM scratch", "no line ARG BASE=")])
def test_a_folder_that_no_image_can_be_built_from(contained, content, message):
    path = Path("vendors", CHIP, "Dockerfile")
    path.unlink()
    if content:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        image.ensure_image(load_chip(CHIP), CHIP)


@pytest.mark.parametrize(
    ("mode", "hint"),
    [
        ("full", "docker system prune"),
        ("refused", "docker login"),
        ("unreachable", "cannot be reached from here"),
        ("broken", "README.md says what is needed"),
    ],
)
def test_a_build_that_fails_says_what_helps(contained, monkeypatch, mode, hint):
    monkeypatch.setenv("FAKE_DOCKER", mode)
    with pytest.raises(UserError, match="failed with exit code 1") as error:
        image.ensure_image(load_chip(CHIP), CHIP)
    assert hint in error.value.hint
    assert "Step 2/9" in (image.LOGS / f"{CHIP}.log").read_text()
    assert not Path("docker.images").exists()


def test_an_sdk_for_another_processor_is_emulated_and_told(contained, monkeypatch):
    declare(platform="linux/amd64")
    chip = load_chip(CHIP)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert container.platform_option(chip) == [] and container.emulation_warning(chip, CHIP) is None
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert container.platform_option(chip) == ["--platform", "linux/amd64"]
    assert "emulated here" in container.emulation_warning(chip, CHIP)
    monkeypatch.setenv("DOCKER_HOST", "ssh://me@fast")
    assert container.emulation_warning(chip, CHIP) is None
    assert container.platform_option(chip) == ["--platform", "linux/amd64"]


def test_an_engine_on_another_machine_gets_the_job_and_gives_the_results(contained, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "ssh://me@fast")
    ladder([LADDER[2]])
    (contained / "rungs").mkdir()
    (contained / "rungs" / "old.bin").write_bytes(b"stays here")
    cell = Cell(contained)
    climb.build(cell, 1, climb.rungs_of(cell)[0][1])
    assert (contained / "compile.json").exists()
    assert not Path("far/job/rungs").exists() and Path("far/job/job.json").exists()
    assert said("rm ") == ["rm --force --volumes c0ffee"]
    artifact = read_json(contained / "compile.json")["artifact"][0]
    assert (contained / artifact).read_bytes() == Path("far/job", artifact).read_bytes()
