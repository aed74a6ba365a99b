"""What only some vendor folders know: their own options, stand-ins, compilers that only a container has."""

import re
from pathlib import Path

import pytest

from common.basics.errors import UserError
from common.basics.files import read_json
from common.plan import write_plan
from tests.common.plan_fixture import family, own_network, project

__all__ = ["family", "project"]  # fixtures

OPTIONS = """options: [STRICT, SCRIPT, INPUT]
variant_options: [INPUT]
option_rules:
  STRICT: {title: "a warning is an error", values: ["1"]}
  SCRIPT: {title: "further lines", file: true}
  INPUT: {title: "pixels go in", values: [u8]}
"""


@pytest.fixture
def optional(project, family):
    """The family has options of its own."""
    path = project / "vendors" / "family" / "chip.yaml"
    path.write_text(path.read_text() + OPTIONS)
    (project / "lines.txt").write_text("a line")


def test_the_vendors_own_options_reach_the_job_and_one_that_makes_another_artifact_another_folder(project, optional):
    write_plan(
        own_network("mine/small/int8", "mine/small/int8-b4-u8", option=["STRICT=1", "SCRIPT=lines.txt", "INPUT=u8"])
    )
    found = read_json("out/mine/small/int8-b4-u8/climb.json")
    assert found["options"] == {"STRICT": "1", "SCRIPT": "lines.txt", "INPUT": "u8"}
    assert found["files"]["SCRIPT"]["bytes"] == len("a line")
    request = read_json("out/mine/small/int8-b4-u8/request.json")
    assert (request["precision"], request["batch"], request["double"]) == ("int8", 4, False)
    before = Path("out/mine/small/int8/climb.json").read_text()
    (project / "lines.txt").write_text("another line")
    write_plan(own_network("mine/small/int8", option=["STRICT=1", "SCRIPT=lines.txt", "INPUT=u8"]))
    assert Path("out/mine/small/int8/climb.json").read_text() != before


@pytest.mark.parametrize(
    ("cell", "option", "message", "hint"),
    [
        ("small/int8", "STRICT=2", "small: STRICT=2 makes no sense", "STRICT=1: a warning is an error"),
        ("small/int8", "SCRIPT=no.txt", "SCRIPT=no.txt is not a file", "further lines"),
        ("small/int8", "OTHER=1", "there is no option OTHER=", "INPUT, SCRIPT, STRICT"),
        ("small/int8-u9", "STRICT=1", "chip 'small' does not build 'int8-u9'", "INPUT=u8"),
        ("small/int8-double", "STRICT=1", "has no stand-in for its SDK", "DOUBLE"),
    ],
)
def test_options_that_make_no_sense_are_refused(project, optional, cell, option, message, hint):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        write_plan(own_network(f"mine/{cell}", option=[option]))
    assert hint in error.value.hint
    assert not (project / "out").exists()


def test_a_compiler_that_only_a_container_has_is_said_before_anything_is_done(project, family, monkeypatch):
    path = project / "vendors" / "family" / "chip.yaml"
    path.write_text(path.read_text().replace("engines: [local]", "engines: [docker]"))
    monkeypatch.setenv("PATH", str(project / "nowhere"))
    with pytest.raises(UserError, match="compiled by Tool, which only its container has, and there is no") as error:
        write_plan(own_network("mine/small/int8"))
    assert "make job CHIP=small" in error.value.hint
    assert "DOUBLE=1" in error.value.hint
    assert not (project / "out").exists()
    write_plan(own_network("mine/small/int8", job_only="1"))
    (project / "tests" / "doubles" / "family").mkdir(parents=True)
    write_plan(own_network("mine/small/int8-double"))
    assert read_json("out/mine/small/int8-double/request.json")["double"] is True
