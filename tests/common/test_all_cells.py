"""Which cells a `make all` has, which of them can be built here, and why not the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from common import all_cells
from common.basics.errors import UserError
from common.basics.files import read_json
from common.declarations.spec import chip_names, load_chip
from common.engines import container
from tests.common.plan_fixture import project
from tests.fake_docker import install

__all__ = ["project"]  # a fixture


@pytest.fixture
def machine(project, monkeypatch):
    """No engine, no environments; an image set. The models and chips are the real ones."""
    monkeypatch.setenv("PATH", "/nowhere")
    for name in ("ENGINE", "BASE", "DOCKER_HOST"):
        monkeypatch.delenv(name, raising=False)
    container.machine_of.cache_clear()
    yield project
    container.machine_of.cache_clear()


def chosen(**variables):
    words = [f"--{name.replace('_', '-')}={value}" for name, value in variables.items()]
    return all_cells.choose(all_cells.parse([*words, "--calib=photos", "--eval=photos"]))


def names(choice):
    return {f"{model}/{cell.chip}/{cell.text}" for model, cells in choice.asked.items() for cell in cells}


def chip_of(local: bool) -> str:
    return next(name for name in sorted(chip_names()) if load_chip(name).local == local)


def test_every_cell_is_either_asked_or_skipped_with_a_reason(machine):
    choice = chosen()
    models = [path.parent.name for path in Path("models").glob("*/model.yaml")]
    every = {f"{model}/{chip}/{one}" for model in models for chip in chip_names() for one in load_chip(chip).precisions}
    assert names(choice) | set(choice.skipped) == every
    assert not names(choice) & set(choice.skipped)
    assert all(choice.skipped.values())


def test_without_an_engine_its_chips_are_skipped_and_without_weights_its_models(machine):
    closed = chip_of(local=False)
    choice = chosen(models="hrnet_tiny hourglass52", chips=f"{closed} ncnn", precisions="int8")
    assert names(choice) == {"hrnet_tiny/ncnn/int8"}
    assert choice.skipped[f"hrnet_tiny/{closed}/int8"] == "no docker or podman"
    hourglass = next(name for name in choice.models if name.startswith("hourglass"))
    assert choice.skipped[f"{hourglass}/ncnn/int8"].startswith("no weights: make weights MODEL=")
    assert f"{hourglass}/ncnn/int8" in names(chosen(models="hourglass52", chips="ncnn", weights="random"))


def test_an_sdk_that_only_its_vendor_offers_is_named_by_its_file(machine, monkeypatch):
    monkeypatch.setenv("PATH", f"{install(Path('bin').resolve())}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_DOCKER", "ok")
    licensed = next(name for name in sorted(chip_names()) if load_chip(name).sdk.files)
    precision, pattern = next(iter(load_chip(licensed).sdk.files.items()))
    choice = chosen(models="hrnet_tiny", chips=licensed, precisions=precision)
    (why,) = choice.skipped.values()
    assert why.startswith("no SDK: ") and pattern in why
    monkeypatch.setenv("FAKE_DOCKER", "down")
    assert "no SDK" in next(iter(chosen(models="hrnet_tiny", chips=licensed, precisions=precision).skipped.values()))


def test_an_engine_that_does_not_answer_is_a_reason(machine, monkeypatch):
    monkeypatch.setenv("PATH", f"{install(Path('bin').resolve())}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_DOCKER", "down")
    free = next(name for name in sorted(chip_names()) if not load_chip(name).local and not load_chip(name).sdk.files)
    assert set(chosen(models="hrnet_tiny", chips=free).skipped.values()) == {"docker does not answer"}


def test_a_python_that_this_machine_lacks_is_a_reason(machine, monkeypatch):
    choosy = next(name for name in sorted(chip_names()) if (load_chip(name).folder / ".python-version").exists())
    monkeypatch.setattr(all_cells, "choose_python", lambda versions: (None, " or ".join(versions)))
    (why,) = set(chosen(models="hrnet_tiny", chips=choosy).skipped.values())
    assert why.startswith("no CPython 3.")


def test_stand_ins_build_what_only_a_container_could(machine):
    closed = chip_of(local=False)
    choice = chosen(models="hrnet_tiny", chips=f"{closed} ncnn", precisions="int8", double="1")
    assert choice.skipped == {
        f"hrnet_tiny/{closed}/int8-double": "no stand-in: the real SDK is a package",
        "hrnet_tiny/ncnn/int8-double": "no stand-in: the real SDK is a package",
    }
    (machine / "tests/doubles" / load_chip(closed).folder.name).mkdir(parents=True)
    assert names(chosen(models="hrnet_tiny", chips=closed, precisions="int8", double="1")) == {
        f"hrnet_tiny/{closed}/int8-double"
    }


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"models": "hrnet_tony"}, "unknown MODEL 'hrnet_tony'"),
        ({"chips": "ncmn"}, "unknown chip 'ncmn'"),
        ({"precisions": "int7"}, "no chip builds precision 'int7'"),
    ],
)
def test_a_wrong_name_is_refused(machine, variables, message):
    with pytest.raises(UserError, match=message) as error:
        chosen(**variables)
    assert error.value.exit_code == 2


def test_the_requests_of_all_cells_are_written_and_only_once(machine):
    arguments = all_cells.parse(
        ["--models=hrnet_tiny hourglass52", "--chips=ncnn", "--weights=random", "--calib=photos", "--eval=photos"]
    )
    choice = all_cells.choose(arguments)
    all_cells.write_all(choice, {"a/b/c": "its image cannot be built"}, arguments)
    listed = Path("out/all/cells.txt").read_text().split()
    assert set(listed) == names(choice) and len(listed) == 4
    asked = read_json("out/all/asked.json")
    assert asked["failed"] == {"a/b/c": "its image cannot be built"}
    requests = [Path("out", name, "request.json") for name in listed]
    times = [path.stat().st_mtime_ns for path in requests]
    all_cells.write_all(all_cells.choose(arguments), {}, arguments)
    assert [path.stat().st_mtime_ns for path in requests] == times


def test_an_image_that_cannot_be_built_fails_its_cells_and_no_others(machine, monkeypatch):
    monkeypatch.setenv("PATH", f"{install(Path('bin').resolve())}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_DOCKER", "unreachable")
    free = next(name for name in sorted(chip_names()) if not load_chip(name).local and not load_chip(name).sdk.files)
    choice = chosen(models="hrnet_tiny", chips=f"{free} ncnn")
    failed = all_cells.with_engines(choice)
    assert set(failed) == {f"hrnet_tiny/{free}/{precision}" for precision in load_chip(free).precisions}
    assert all("cannot be reached from here" in why for why in failed.values())
    assert names(choice) == {"hrnet_tiny/ncnn/fp32", "hrnet_tiny/ncnn/int8"}
