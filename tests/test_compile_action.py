"""The action that other repositories use: its steps, run here as a runner would run them, in a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from common.basics.files import read_json, sha256_file
from tests.common.cell_fixture import make_image_set
from tests.conftest import ROOT, copy_of_project

PATH = ".github/actions/compile/action.yml"
ACTION = yaml.safe_load((ROOT / PATH).read_text())
NEEDED = {"chip": "ncnn", "precision": "fp32", "model": "hrnet_tiny"}
# How a runner starts `shell: bash`.
BASH = ["bash", "--noprofile", "--norc", "-eo", "pipefail"]


def tool(*command):
    """Run one of the linters of requirements-test.txt; skips where it is not installed."""
    program = Path(sys.executable).parent / command[0]
    if not program.exists():
        pytest.skip(f"{command[0]} is not installed: requirements-test.txt")
    return subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)


class Runner:
    """Fills in the expressions of a composite action and runs its `run:` steps; what `uses:` an action is left out."""

    def __init__(self, project, workspace):
        self.project, self.workspace = project, workspace
        self.files = {name: workspace.parent / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}

    def run(self, **inputs):
        for path in self.files.values():
            path.write_text("")
        assert set(inputs) <= set(ACTION["inputs"])
        required = {name for name, declared in ACTION["inputs"].items() if declared.get("required")}
        assert required <= set(inputs)
        given = {name: declared.get("default", "") for name, declared in ACTION["inputs"].items()} | inputs
        known = {f"inputs.{name}": value for name, value in given.items()}
        known["github.action_path"] = str(self.project.path(PATH).parent)

        def filled(text):
            return re.sub(r"\$\{\{ *([a-z_.]+) *\}\}", lambda found: known[found[1]], text)

        (step,) = [step for step in ACTION["runs"]["steps"] if "run" in step]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
        environment |= {"GITHUB_WORKSPACE": str(self.workspace)} | {key: str(path) for key, path in self.files.items()}
        environment |= {name: filled(value) for name, value in step["env"].items()}
        script = self.workspace.parent / "step.sh"
        script.write_text(step["run"])
        folder = Path(filled(step["working-directory"]))
        return subprocess.run(
            [*BASH, script], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )  # fmt: skip

    def outputs(self):
        """{name: value} of the GITHUB_OUTPUT file: name=value, or name<<mark, lines, mark."""
        found, lines = {}, iter(self.files["GITHUB_OUTPUT"].read_text().splitlines())
        for line in lines:
            if (several := re.fullmatch(r"([a-z-]+)<<(\S+)", line)) is not None:
                value = []
                while (line := next(lines)) != several[2]:
                    value.append(line)
                found[several[1]] = "\n".join(value)
            else:
                name, _, found[name] = line.partition("=")
        return found


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    place = tmp_path_factory.mktemp("action")
    (place / "workspace" / "nets").mkdir(parents=True)
    for seed, name in enumerate(("calibration", "evaluation")):
        make_image_set(place / "workspace" / "photos" / name, count=2, seed=seed)
    return Runner(copy_of_project(place / "checkout"), place / "workspace")


def test_it_is_a_valid_action_without_findings():
    schema = tool("check-jsonschema", "--builtin-schema", "vendor.github-actions", PATH)
    assert schema.returncode == 0, schema.stdout + schema.stderr
    audit = tool("zizmor", "--offline", "--persona", "pedantic", PATH)
    assert audit.returncode == 0, audit.stdout + audit.stderr


def test_inputs_reach_the_script_by_its_environment_only_and_it_calls_nothing_but_make(tmp_path):
    inputs = set()
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step.get("uses", f"x@{'0' * 40}"))
        for value in [*step.get("env", {}).values(), *step.get("with", {}).values()]:
            inputs.add(re.fullmatch(r"\$\{\{ inputs\.([a-z]+) \}\}", value)[1])
    assert inputs == set(ACTION["inputs"])
    (step,) = [step for step in ACTION["runs"]["steps"] if "run" in step]
    assert not re.search(r"python|docker|pip\b", step["run"])
    script = tmp_path / "step.sh"
    script.write_text(f"#!/usr/bin/env bash\n{step['run']}")
    checked = tool("shellcheck", str(script))
    assert checked.returncode == 0, checked.stdout
    values = {name: declared["value"] for name, declared in ACTION["outputs"].items()}
    assert values == {
        name: f"${{{{ steps.make.outputs.{name} }}}}" for name in ("artifact-folder", "report", "summary")
    }


def test_it_builds_proves_and_says_where(runner):
    """With the caller's own checkpoint and photographs, by their paths in the caller's workspace."""
    (checkpoint,) = (ROOT / "models" / "hrnet_tiny" / "weights").glob("*.pth")
    shutil.copy(checkpoint, runner.workspace / "nets" / "own.pth")
    photos = {"calib": "photos/calibration", "eval": "photos/evaluation"}
    done = runner.run(**NEEDED, **photos, weights="nets/own.pth", limit="1", options="BATCH=1\n")
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = runner.outputs()
    assert set(outputs) == set(ACTION["outputs"])
    folder = Path(outputs["artifact-folder"])
    assert folder == runner.project.path("out/hrnet_tiny/ncnn/fp32")
    record = read_json(folder / "compile.json")
    assert record["artifact"]
    for name in record["artifact"]:
        assert sha256_file(folder / name) == record["files"][name]["sha256"]
    assert read_json(folder / "proof.json")["state"] == "proven"
    assert Path(outputs["report"], "index.html").is_file()
    source = read_json(runner.project.path("out/hrnet_tiny/float/source.json"))["source"]
    assert source["path"] == str(runner.workspace / "nets/own.pth")
    headers, row = outputs["summary"].splitlines()[:2]
    assert headers.startswith("cell") and row.startswith("hrnet_tiny/ncnn/fp32")
    assert outputs["summary"] in runner.files["GITHUB_STEP_SUMMARY"].read_text()


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"model": "$(shell touch made-by-make)"}, "MODEL holds a character that is not taken"),
        ({"weights": "a'; touch made-by-shell; '"}, "WEIGHTS holds a character that is not taken"),
        ({"chip": "ncnn clean"}, "chip holds a character that is not taken"),
        ({"options": "GATE=0.9\nRUNG=$(shell touch x)"}, "options holds a character that is not taken"),
        ({"options": "--eval=x"}, "options: a line is NAME=value: --eval=x"),
        ({"options": "clean"}, "options: a line is NAME=value: clean"),
    ],
)
def test_what_could_do_something_else_is_refused_before_make_starts(runner, inputs, words):
    before = sorted(path.name for path in runner.project.folder.iterdir())
    done = runner.run(**NEEDED | inputs)
    assert done.returncode == 2
    assert done.stdout.startswith("::error::") and words in done.stdout
    assert sorted(path.name for path in runner.project.folder.iterdir()) == before
    assert runner.outputs() == {}


def test_what_make_refuses_fails_the_step_with_its_message(runner):
    done = runner.run(**NEEDED, eval="no/such/folder")
    assert done.returncode == 2
    assert f"EVAL={runner.workspace}/no/such/folder is not a folder" in done.stderr
    outputs = runner.outputs()
    assert "artifact-folder" not in outputs and outputs["summary"] == ""
    assert runner.files["GITHUB_STEP_SUMMARY"].read_text() == ""
