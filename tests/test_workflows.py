"""The workflows of GitHub Actions: valid, pinned, without rights, and their commands do what they should.

Nothing of GitHub's is here: tests/workflow_runner.py plays the runner, and executes every `run:` step.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from common.declarations.spec import chip_names, load_chip
from tests.conftest import ROOT
from tests.fake_docker import install
from tests.workflow_machines import commit, fresh_machine, set_limit
from tests.workflow_runner import JobRun, Runner, read_workflow

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
OWN_ACTION = ROOT / ".github" / "actions" / "prepare" / "action.yml"
CI = "./.github/workflows/ci.yml"
IMAGES = 6
CHIP = "ncnn"
CLOSED = next(name for name in chip_names() if not load_chip(name).local and not load_chip(name).sdk.files)
LICENSED = next(name for name in chip_names() if set(load_chip(name).sdk.files) == set(load_chip(name).precisions))
# Beside make, a step may only do these: they bring make's words in, and its results out.
PLAIN = {"git", "cat", "echo", "tee", "sed", "grep", "!", "docker", "mkdir", "xargs", "rm", "|", "||"}


# --- The files themselves ---------------------------------------------------------------------------------------------
def jobs():
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text())["jobs"].items():
            yield pytest.param(job, id=f"{path.stem}-{name}")


def all_steps():
    lists = [job.values[0].get("steps", []) for job in jobs()] + [read_workflow(str(OWN_ACTION))["runs"]["steps"]]
    return [step for steps in lists for step in steps]


def test_they_are_what_github_expects():
    tool = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    dependabot = ROOT / ".github" / "dependabot.yml"
    for schema, files in (
        ("github-workflows", WORKFLOWS),
        ("github-actions", [OWN_ACTION]),
        ("dependabot", [dependabot]),
    ):
        done = subprocess.run(
            [*tool, f"vendor.{schema}", *map(str, files)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_an_audit_for_their_security_finds_nothing():
    """zizmor: untrusted text in commands, rights, pins, credentials that stay, caches that others can fill."""
    command = [Path(sys.executable).with_name("zizmor"), "--offline", "--quiet", "--min-severity", "medium"]
    files = [*WORKFLOWS, OWN_ACTION, ROOT / ".github" / "dependabot.yml"]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [*WORKFLOWS, OWN_ACTION], ids=lambda path: path.stem)
def test_every_action_is_pinned_by_its_commit_with_its_version_beside(path):
    for line in re.findall(r"uses: (.*)", path.read_text()):
        assert line.startswith("./.github/") or re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_one_version_of_each_action():
    found = {step["uses"] for step in all_steps() if "@" in step.get("uses", "")}
    assert len({name.partition("@")[0] for name in found}) == len(found)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_rights_are_given_by_the_job(path):
    assert yaml.safe_load(path.read_text())["permissions"] == {}


@pytest.mark.parametrize("job", jobs())
def test_a_job_ends_in_time_may_only_read_and_stops_no_other(job):
    assert "uses" in job or job["timeout-minutes"]
    assert job.get("permissions") in ({}, {"contents": "read"})
    assert "strategy" not in job or job["strategy"]["fail-fast"] is False


def test_steps_call_make_and_little_else():
    for step in all_steps():
        for line in step.get("run", "").replace("\\\n", " ").splitlines():
            line = re.sub(r"^(\w+)=\"\$\((.*)\)\"$", r"\2", line.strip())
            for command in re.split(r"\s\|\|?\s", line):
                assert command.split()[0] in {*PLAIN, "make"}, command


def test_every_input_of_a_leg_is_handed_over():
    """A key of `make matrix` that the workflow forgets would be lost without a word."""
    said = subprocess.run(["make", "-s", "matrix"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    entry = set(json.loads(said)["include"][0])
    call = read_workflow(CI)["jobs"]["cells"]["with"]
    assert set(call) == entry and all(value == f"${{{{ matrix.{key} }}}}" for key, value in call.items())


def test_no_workflow_knows_a_chip_or_a_network_but_as_a_default():
    for path in [*WORKFLOWS, OWN_ACTION]:
        text = re.sub(r"default: [\w/]+|# .*", "", path.read_text())
        assert not [name for name in [*chip_names(), "hrnet"] if re.search(rf"\b{name}", text)]


# --- The quick path, step by step -------------------------------------------------------------------------------------
def pull_request(*labels):
    return {
        "event_name": "pull_request",
        "event": {"pull_request": {"number": 7, "labels": [{"name": n} for n in labels]}},
    }


@pytest.fixture
def start(demo, tmp_path):
    """start(github, changed): a runner whose checkouts have a change to these files as their last commit."""

    def begin(github, changed=(), **options):
        def checkout(workspace, contexts, given):
            # What takes minutes was built before: the demo's float network, and its chip's cells.
            inputs = contexts["inputs"]
            project = fresh_machine(workspace, demo[0], built="model" in inputs)
            if inputs.get("chip") not in (None, CHIP):
                shutil.rmtree(project.path("out", "hrnet_tiny", CHIP))
            set_limit(project, IMAGES)
            if given.get("fetch-depth") == 2:
                commit(project, changed)

        return Runner(tmp_path, checkout, github, not_run=("make lint", "make test"), **options)

    return begin


def test_the_quick_path(start, tmp_path):
    """A pull request that touches a chip with a real SDK and a closed one: plan, two legs, the report, the verdict."""
    changed = [f"{load_chip(chip).folder}/compile.py" for chip in (CHIP, CLOSED)]
    runner = start(pull_request(), changed)
    results = runner.workflow(CI, {})
    said = "\n".join(f"--- {ran.job}: {ran.name} ({ran.code})\n{ran.output}" for ran in runner.ran if ran.code)
    assert {name: result["result"] for name, result in results.items()} == dict.fromkeys(results, "success"), said
    assert set(results) == set(read_workflow(CI)["jobs"])

    legs = json.loads(results["plan"]["outputs"]["matrix"])["include"]
    assert {(leg["chip"], leg["sdk"]) for leg in legs} == {(CHIP, "package"), (CLOSED, "double")}
    built = [ran for ran in runner.ran if ran.name == "build and prove"]
    assert len(built) == 2 and all(" hrnet_tiny/" in ran.output for ran in built)
    # Every command of the workflows was executed, but for what only downloads and licensed files need.
    steps = [step for job in read_workflow(CI)["jobs"].values() for step in job.get("steps", []) if "run" in step]
    assert {step["run"] for step in steps} <= {ran.command for ran in runner.ran}

    # What travelled is complete: the merged report says of each cell what its own leg said.
    cells = json.loads((tmp_path / "artifacts" / "report" / "results.json").read_text())["cells"]
    states = {cell["cell"]: cell["state"] for cell in cells}
    assert states == {
        f"hrnet_tiny/{CHIP}/fp32": "proven",
        f"hrnet_tiny/{CHIP}/int8": "proven",
        f"hrnet_tiny/{CLOSED}/int8-double": "double",
    }
    for leg in legs:
        own = json.loads((tmp_path / "artifacts" / f"cell-{leg['name']}" / "report" / "results.json").read_text())
        for cell in own["cells"]:
            if cell["chip"] == leg["chip"]:
                merged = next(one for one in cells if one["cell"] == cell["cell"])
                changed_keys = {key for key in cell if cell[key] != merged[key]}
                assert changed_keys <= {"rendered"}  # the set itself stays where it was rendered
    assert f"hrnet_tiny/{CHIP}/int8" in runner.summary
    assert (tmp_path / "artifacts" / "report" / "index.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("label", "changed", "said"),
    [
        ("full", f"{load_chip(LICENSED).folder}/compile.py", rf"skipped: \d+ networks on .*{LICENSED}.*no SDK"),
        ("other", "docs/many_machines.md", "no cell of the list `quick` is touched"),
    ],
)
def test_legs_that_are_none_are_skipped_and_the_reason_is_in_the_summary(start, label, changed, said):
    runner = start(pull_request(label), [changed])
    results = runner.workflow(CI, {})
    assert results["cells"]["result"] == results["report"]["result"] == "skipped"
    assert results["ci"]["result"] == "success"
    assert re.search(said, runner.summary)
    assert not [ran for ran in runner.ran if ran.name in ("build and prove", "licensed SDK", "merge")]


def test_the_night_takes_the_full_list_and_no_notice_of_changes(start):
    runner = start({"event_name": "schedule", "event": {}})
    plan = runner.workflow(CI, {}, only=("plan",))["plan"]
    legs = json.loads(plan["outputs"]["matrix"])["include"]
    assert {leg["chip"] for leg in legs} == set(chip_names()) and len({leg["model"] for leg in legs}) > 5
    assert not any(leg["double"] for leg in legs)


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        (("success", "success", "success", "success"), "success"),
        (("success", "success", "skipped", "skipped"), "success"),
        (("failure", "success", "success", "success"), "failure"),
        (("success", "failure", "skipped", "skipped"), "failure"),
        (("success", "success", "failure", "success"), "failure"),
        (("success", "success", "success", "cancelled"), "failure"),
    ],
)
def test_the_one_required_check(start, results, verdict):
    declared = read_workflow(CI)
    job = declared["jobs"]["ci"]
    needs = {name: {"result": result, "outputs": {}} for name, result in zip(job["needs"], results, strict=True)}
    assert set(job["needs"]) == set(declared["jobs"]) - {"ci"}
    contexts = {"github": pull_request(), "inputs": {}, "needs": needs, "secrets": {}}
    assert start(pull_request()).job("ci", job, declared, contexts)["result"] == verdict


# --- What a leg needs before it can build -----------------------------------------------------------------------------
DOCKER = """#!/bin/sh
case "$1 $2" in
  "image ls") sed "s/ .*//" docker.images ;;
  "save --output") echo image > "$3" && echo "$@" >> docker.log ;;
  "load --input") test -s "$3" && echo "$@" >> docker.log ;;
  *) exec {fake}/docker "$@" ;;
esac
"""


@pytest.fixture
def prepare(start, tmp_path, monkeypatch):
    """prepare(chip, sdk, urls): what the composite action does on a new machine; gives its folder and its steps."""
    runner = start({"event_name": "push", "event": {}})
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "docker").write_text(DOCKER.format(fake=install(tmp_path / "fake")))
    (commands / "docker").chmod(0o755)
    runner.environment = {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "FAKE_DOCKER": "no-image"}

    def run(name, chip, sdk, urls=""):
        workspace = tmp_path / name
        workspace.mkdir()
        contexts = {"github": runner.github, "inputs": {}}
        runner.checkout(workspace, contexts, {})
        job = JobRun(runner, name, workspace, {}, "bash")
        given = {"chip": chip, "vendor": load_chip(chip).folder.name, "python": "3.11", "sdk": sdk, "sdk_urls": urls}
        code, _ = job._uses("./.github/actions/prepare", given, contexts)
        runner.caches |= {key: path for key, path in job.to_save if path.exists()}
        return workspace, code, [ran for ran in runner.ran if ran.job == name]

    return run


def test_an_image_is_built_once_and_then_comes_from_the_cache(prepare):
    first, code, ran = prepare("first", CLOSED, "image")
    assert code == 0, ran[-1].output
    assert [one.name for one in ran] == ["image", "save the image"]
    log = (first / "docker.log").read_text()
    assert re.search(r"^build ", log, re.MULTILINE) and re.search(
        r"^save --output .* npumake-\S+:\w{12}$", log, re.MULTILINE
    )
    second, code, ran = prepare("second", CLOSED, "image")
    assert code == 0 and [one.name for one in ran] == ["load the image", "image"]
    assert (second / "docker.log").read_text().startswith("load --input .cache/image.tar")


def test_a_licensed_file_comes_from_the_secret_and_goes_into_no_cache(prepare, tmp_path):
    name = "hailo_dataflow_compiler-3.33.1-py3-none-linux_x86_64.whl"
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / name).write_bytes(b"licensed")
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0),
        lambda *words: http.server.SimpleHTTPRequestHandler(*words, directory=str(tmp_path / "store")),
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"{load_chip(LICENSED).folder.name}=http://127.0.0.1:{server.server_port}/{name}"
        workspace, code, ran = prepare("licensed", LICENSED, "file", url)
    finally:
        server.shutdown()
    assert code == 0, ran[-1].output
    assert (workspace / load_chip(LICENSED).folder / "sdk" / name).read_bytes() == b"licensed"
    assert [one.name for one in ran] == ["licensed SDK", "image"] and not (workspace / ".cache").exists()
    assert not any("127.0.0.1" in one.output for one in ran)  # the address is a secret
