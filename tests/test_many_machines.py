"""docs/many_machines.md and ci/: every command that is shown is executed; rsync, ssh, sbatch and kubectl are played.

What they would start is started: each part of an evaluation is computed, and the numbers are those of one run.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.workflow_machines import LIMIT, SET, fresh_machine, numbers, whole_evaluation

DOC = ROOT / "docs" / "many_machines.md"
BLOCK = re.compile(r"<!-- tested: (\w+) -->\n(.*?)<!-- end -->", re.DOTALL)
COMMANDS = {match[1]: [line[4:] for line in match[2].splitlines()] for match in BLOCK.finditer(DOC.read_text())}
MANIFESTS = sorted((ROOT / "ci" / "kubernetes").glob("*.yaml"))
SLURM = ROOT / "ci" / "slurm" / "evaluate.sh"
PARTS = 2


def pod_of(path):
    return yaml.safe_load(path.read_text())["spec"]["template"]["spec"]


# --- The manifests ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_is_what_kubernetes_expects(path):
    tool = Path(sys.executable).with_name("kubernetes-validate")
    done = subprocess.run([tool, "--strict", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_key_in_a_manifest_would_be_found(tmp_path):
    broken = tmp_path / "evaluate.yaml"
    broken.write_text((ROOT / "ci/kubernetes/evaluate.yaml").read_text().replace("completionMode", "completionsMode"))
    tool = Path(sys.executable).with_name("kubernetes-validate")
    assert subprocess.run([tool, "--strict", broken], capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("path", [path for path in MANIFESTS if path.stem != "volume"], ids=lambda path: path.stem)
def test_a_pod_has_no_rights_and_has_limits(path):
    pod = pod_of(path)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0
    for container in pod["containers"]:
        allowed = container["securityContext"]
        assert allowed["privileged"] is allowed["allowPrivilegeEscalation"] is False
        assert allowed["readOnlyRootFilesystem"] is True and allowed["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}


def test_the_numbers_of_parts_agree():
    job = yaml.safe_load((ROOT / "ci/kubernetes/evaluate.yaml").read_text())["spec"]
    shards = {entry["name"]: entry["value"] for entry in job["template"]["spec"]["containers"][0]["env"]}["SHARDS"]
    assert job["completionMode"] == "Indexed" and str(job["completions"]) == shards
    text = SLURM.read_text()
    assert re.search(r"--array=1-(\d+)$", text, re.MULTILINE)[1] == re.search(r"^shards=(\d+)", text, re.MULTILINE)[1]


def test_the_script_of_the_batch_system_is_clean():
    tool = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([tool, SLURM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# --- The commands -----------------------------------------------------------------------------------------------------
BUILT: set[str] = set()  # what was shown to build: the second time it would find nothing to do


@pytest.fixture
def here(demo, tmp_path):
    """The reader's machine; on all of them two parts are many, and a set has several pieces."""
    project = fresh_machine(tmp_path / "here", demo[0], built=True)
    for name in ("ci/slurm/evaluate.sh", "ci/kubernetes/evaluate.yaml"):
        path = project.path(name)
        path.write_text(re.sub(r"\b16\b", str(PARTS), path.read_text()))
    return project


def run(here, command, **variables):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    if re.match(r"make ncnn .*PRECISION", command):
        if command in BUILT:
            return ""
        BUILT.add(command)
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=here.folder, capture_output=True, text=True,
                          check=False, env=environment | variables)  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_any_two_machines(here, demo, tmp_path):
    other = tmp_path / "npumake"
    said = ""
    for command in COMMANDS["ssh"]:
        if command.startswith("rsync -a --exclude .venv ./ "):
            # What rsync would bring, but for the link that tests have in the place of the environments.
            run(here, f"cp -a . {other}")
        elif command.startswith("rsync -a --mkpath other:npumake/"):
            source, target = command.split()[-2:]
            run(here, f"mkdir -p {target} && cp -r {tmp_path}/{source.removeprefix('other:')}. {target}")
        elif command.startswith("ssh other "):
            run(here, f"cd {tmp_path} && {shlex.split(command)[2]}")
        else:
            assert command.startswith("make "), command
            said = run(here, command)
    assert numbers(here, "ncnn", "int8", "eval", SET) == numbers(whole_evaluation(demo[0]), "ncnn", "int8", "eval", SET)
    assert "all of it was done before" in said  # nothing of the other machine's part was computed again


def test_a_batch_system(here, demo):
    said = ""
    for command in COMMANDS["slurm"]:
        if command.startswith("sbatch "):
            script, *words = shlex.split(command)[1:]
            first, last = re.search(r"--array=(\d+)-(\d+)$", here.path(script).read_text(), re.MULTILINE).groups()
            assert (first, last) == ("1", str(PARTS))
            for index in range(int(first), int(last) + 1):
                run(here, shlex.join(["bash", script, *words]), SLURM_ARRAY_TASK_ID=str(index))
        else:
            assert command.startswith("make "), command
            said = run(here, command)
    assert numbers(here, "float", "eval", SET) == numbers(whole_evaluation(demo[0]), "float", "eval", SET)
    assert "all of it was done before" in said


def start_pods(here, path, **more):
    """What the cluster does with a Job: its command, in its folder, with its variables, once for each index."""
    job, pod = yaml.safe_load(here.path(path).read_text())["spec"], pod_of(here.path(path))
    (container,) = pod["containers"]
    assert (
        container["workingDir"] == "/npumake"
        and {"name": "project", "mountPath": "/npumake"} in container["volumeMounts"]
    )
    variables = {entry["name"]: entry["value"] for entry in container["env"]} | more
    for index in range(job.get("completions", 1)):
        run(here, shlex.join(container["command"] + container["args"]), JOB_COMPLETION_INDEX=str(index), **variables)


def test_kubernetes(here, demo):
    waited = []
    for command in COMMANDS["kubernetes"]:
        assert command.startswith("kubectl "), command
        for path in re.findall(r"-f (\S+)", command):
            assert yaml.safe_load(here.path(path).read_text())["kind"] in ("Job", "PersistentVolumeClaim")
        waited += re.findall(r"job/(\S+)|job-name=(\S+)", command)
    assert {name for names in waited for name in names if name} == {"npumake-build", "npumake-evaluate"}
    # LIMIT is make's own variable, so it can come from the environment as well.
    start_pods(here, "ci/kubernetes/build.yaml")
    start_pods(here, "ci/kubernetes/evaluate.yaml", LIMIT=str(LIMIT))
    assert numbers(here, "ncnn", "int8", "eval", SET) == numbers(whole_evaluation(demo[0]), "ncnn", "int8", "eval", SET)


def test_the_pod_that_builds_fetches_the_project_first(tmp_path, demo):
    """On an empty volume: the commands up to make, with a repository of this machine."""
    source = fresh_machine(tmp_path / "source", demo[0])
    run(source, "git init --quiet . && git add Makefile ci && "
                "git -c user.name=test -c user.email=test@example.org commit --quiet -m test")  # fmt: skip
    (tmp_path / "volume").mkdir()
    command = pod_of(ROOT / "ci/kubernetes/build.yaml")["containers"][0]["args"][0].partition("make ")[0]
    volume = type(source)(tmp_path / "volume")
    run(volume, command, PROJECT=f"file://{source.folder}")
    assert volume.path("Makefile").read_bytes() == source.path("Makefile").read_bytes()
    run(volume, command, PROJECT="nowhere")  # a second time there is nothing to fetch


def test_the_lists_for_another_system(here):
    for command in COMMANDS["matrix"]:
        assert run(here, command).startswith('{"include":[{"name":"')


def test_every_command_shown_is_one_that_is_tested():
    shown = [line[4:] for line in DOC.read_text().splitlines() if line.startswith("    ")]
    assert shown == [line for block in COMMANDS.values() for line in block]
