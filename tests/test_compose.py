"""compose/compose.yaml: every vendor folder has its service, each is allowed no more than make's own, and it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from common.basics.files import read_json, sha256_file
from common.declarations.spec import chip_names, load_chip
from tests.conftest import ROOT

COMPOSE = ROOT / "compose" / "compose.yaml"
CONTENT = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
VENDORS = {name: service for name, service in CONTENT["services"].items() if name != "toolbox"}
CHIPS = {load_chip(name).folder.name: load_chip(name) for name in chip_names()}
JOB_VARIABLES = {"JOB": "/data/job", "JOB_USER": "12:34", "MEMORY": "3g", "CPUS": "1.5"}


def programs() -> list[list[str]]:
    """docker-compose and `docker compose`, whichever this machine has."""
    found = [["docker-compose"]] if shutil.which("docker-compose") else []
    if shutil.which("docker"):
        done = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        found += [["docker", "compose"]] if done.returncode == 0 else []
    return found


def test_the_services_are_the_vendor_folders_and_the_toolbox():
    assert set(VENDORS) == {path.parent.name for path in (ROOT / "vendors").glob("*/chip.yaml")}
    for name, service in VENDORS.items():
        assert service["image"] == f"npumake-{name}:compose"
        assert (COMPOSE.parent / service["build"]).resolve() == ROOT / "vendors" / name
        assert service.get("platform", "") == CHIPS[name].platform, name
    toolbox = CONTENT["services"]["toolbox"]
    assert (COMPOSE.parent / toolbox["build"]["context"]).resolve() == ROOT
    assert (ROOT / toolbox["build"]["dockerfile"]).is_file()


def test_nothing_is_allowed_more_than_make_allows():
    for name, service in CONTENT["services"].items():
        assert service["network_mode"] == "none", name
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
        assert service["init"] is True
        assert "JOB_USER" in service["user"] and "MEMORY" in service["mem_limit"] and "CPUS" in service["cpus"]
        assert not {"privileged", "cap_add", "devices", "ports", "env_file", "secrets", "pid", "ipc"} & set(service)
        assert all(mount["type"] == "bind" for mount in service["volumes"])


@pytest.mark.parametrize("name", sorted(VENDORS))
def test_a_vendors_own_folders_are_never_hidden(name):
    mounts = {mount["target"]: mount.get("read_only", False) for mount in VENDORS[name]["volumes"]}
    assert mounts == {"/job": False, "/common": True}
    dockerfile = (ROOT / "vendors" / name / "Dockerfile").read_text(encoding="utf-8")
    assert not any(line.startswith(("COPY", "ADD", "WORKDIR")) and line.rstrip("/").endswith((" /job", " /common"))
                   for line in dockerfile.splitlines())  # fmt: skip


def test_compose_reads_it_and_fills_in_the_variables():
    if not programs():
        pytest.skip("neither docker-compose nor docker compose here")
    for program in programs():
        command = [*program, "--file", str(COMPOSE), "config"]
        done = subprocess.run(
            command, env=os.environ | JOB_VARIABLES, capture_output=True, text=True, check=False, cwd="/"
        )
        assert done.returncode == 0, done.stderr
        services = yaml.safe_load(done.stdout)["services"]
        assert set(services) == {*VENDORS, "toolbox"}
        for name in VENDORS:
            mounts = {mount["target"]: mount["source"] for mount in services[name]["volumes"]}
            assert mounts == {"/job": "/data/job", "/common": str(ROOT / "common")}
            assert (services[name]["user"], float(services[name]["cpus"])) == ("12:34", 1.5)
            assert str(services[name]["mem_limit"]) in ("3g", str(3 << 30))


def test_it_is_what_the_compose_specification_allows():
    """docker compose's own schema; docker-compose 1.29, where that is installed, is older."""
    checker = Path(sys.executable).parent / "check-jsonschema"
    if not checker.exists():
        pytest.skip("no check-jsonschema here: requirements-test.txt brings it")
    command = [str(checker), "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def engine_or_skip() -> list[str]:
    """compose, where it can run containers."""
    found = programs()
    if not found or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no container engine here, or no compose: nothing can be run")
    return found[-1]


def test_a_job_folder_that_was_not_named(tmp_path):
    program = engine_or_skip()
    base = local_base()
    environment = {key: value for key, value in os.environ.items() if key != "JOB"}
    run_compose(program, environment, "build", "--build-arg", f"BASE={base}", local_chip())
    done = run_compose(program, environment, "run", "--rm", local_chip(), "compile.py", "/job", fails=True)
    assert "/set-JOB-to-the-job-folder" in done.stdout + done.stderr


def test_the_demo_compiled_through_compose_is_the_demo(demo, tmp_path):
    """The very bytes that make's own environment gave, files of the caller's, figures from the artifact's simulator."""
    program, name, base = engine_or_skip(), local_chip(), local_base()
    project, built = demo
    assert built.returncode == 0, built.stderr
    cell = next(path.parent for path in project.path("out").glob(f"*/{name}/int8/compile.json"))
    job = tmp_path / "job"
    job.mkdir()
    for entry in ("job.json", "samples.npz", read_json(cell / "job.json")["graph"], "calib"):
        copy = shutil.copytree if (cell / entry).is_dir() else shutil.copy2
        copy(cell / entry, job / entry)
    owner = (12345, 12345) if os.getuid() == 0 else (os.getuid(), os.getgid())
    for path in (job, *job.rglob("*")):
        os.chown(path, *owner)
    environment = os.environ | {"JOB": str(job), "JOB_USER": f"{owner[0]}:{owner[1]}"}
    run_compose(program, environment, "build", "--build-arg", f"BASE={base}", name)
    for script in ("compile.py", "infer.py"):
        run_compose(program, environment, "run", "--rm", name, script, "/job")
    locally, here = read_json(cell / "compile.json"), read_json(job / "compile.json")
    assert {file: found["sha256"] for file, found in here["files"].items()} == {
        file: found["sha256"] for file, found in locally["files"].items()
    }
    for file in here["artifact"]:
        assert sha256_file(job / file) == locally["files"][file]["sha256"]
    assert read_json(job / "infer.json").keys() == read_json(cell / "infer.json").keys()
    assert {(path.stat().st_uid, path.stat().st_gid) for path in job.rglob("*")} == {owner}


def run_compose(program, environment, *words: str, fails: bool = False) -> subprocess.CompletedProcess:
    command = [*program, "--file", str(COMPOSE), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL)  # fmt: skip
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done


def local_chip() -> str:
    """The folder whose SDK is a package, so that its image can be built anywhere: that of the demo."""
    return next(path.parent.name for path in (ROOT / "vendors").glob("*/chip.yaml")
                if "\ndemo: true\n" in path.read_text(encoding="utf-8"))  # fmt: skip


def local_base() -> str:
    """The tag that the folder's Dockerfile builds on, where this machine has an image of that name, else the declared
    one; skips where neither can be had."""
    dockerfile = (ROOT / "vendors" / local_chip() / "Dockerfile").read_text(encoding="utf-8")
    declared = next(line.removeprefix("ARG BASE=") for line in dockerfile.splitlines() if line.startswith("ARG BASE="))
    for base in (declared, declared.partition("@")[0]):
        if subprocess.run(["docker", "image", "inspect", base], capture_output=True, check=False).returncode == 0:
            return base
    if subprocess.run(["docker", "pull", "--quiet", declared], capture_output=True, check=False).returncode == 0:
        return declared
    pytest.skip(f"{declared} can neither be found nor pulled here")
