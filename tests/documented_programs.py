"""Programs that documents show and that not every machine has, played: docker, podman, sudo, usermod.

What make itself asks of an engine is answered by tests/fake_docker.py. What a reader types is taken as the documents
have it, and nothing else: an image is the name of a vendor folder, a container is the folder's script in the folder's
own environment, or with the stand-in of its SDK. PLAYED_ROOT names the project whose environments are used.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests import fake_docker

ROOT = Path(os.environ["PLAYED_ROOT"]) if "PLAYED_ROOT" in os.environ else Path(__file__).resolve().parents[1]
PROGRAMS = ("docker", "podman", "sudo", "usermod", "python-that-makes-no-environment")
FOLDERS = Path("docker.folders")  # {image: the folder that a reader built it of}, of the engine that runs here
FLAGS = {"--rm", "--init"}
VALUED = {"--network", "-u", "--cap-drop", "--security-opt", "--platform", "-v"}


def install(folder: Path) -> Path:
    """Write the programs into a folder, which is to be first on PATH; returns the folder."""
    folder.mkdir(parents=True)
    for name in PROGRAMS:
        script = folder / name
        variables = f"PYTHONPATH={ROOT} PLAYED_ROOT={ROOT}"
        script.write_text(f'#!/bin/sh\n{variables} exec {sys.executable} -m tests.documented_programs {name} "$@"\n')
        script.chmod(0o755)
    return folder


# --- A vendor's container ---------------------------------------------------------------------------------------------
def run_script(folder: Path, words: list[str], job: str) -> int:
    """SCRIPT /job... of a vendor folder, on the job folder that was mounted; returns its exit code."""
    script, *arguments = words
    assert (folder / script).is_file(), f"the image has no {script}"
    assert arguments and all(one == "/job" or one.startswith("/job/") for one in arguments), arguments
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PLAYED"))}
    own = ROOT / ".venv" / folder.name / "bin" / "python"
    stand_in = ROOT / "tests" / "doubles" / folder.name
    if re.search(r"^engines: .*\blocal\b", (folder / "chip.yaml").read_text(), re.MULTILINE):
        assert own.exists(), f"no {own}: the tools of {folder.name} are not installed here"
        python = own
    else:
        python = Path(sys.executable)
        paths = [str(stand_in / "bin"), str(python.parent), environment["PATH"]]
        environment |= {"PYTHONPATH": f"{stand_in}{os.pathsep}{stand_in.parent}", "PATH": os.pathsep.join(paths)}
        # The scripts refuse a stand-in where the real SDK is asked for: this alone is not as it would be.
        asked = json.loads(Path(job, "job.json").read_text())
        Path(job, "job.json").write_text(json.dumps(asked | {"double": True}))
    places = [argument.replace("/job", job, 1) for argument in arguments]
    return subprocess.run([str(python), str(folder / script), *places], env=environment, check=False).returncode


def run_of_make(words: list[str], outside: str) -> int:
    image, *rest = words
    assert image in fake_docker.built(), f"no image {image}"
    return run_script(Path("vendors", image.removeprefix("npumake-").partition(":")[0]), rest, outside)


# --- What a reader types ----------------------------------------------------------------------------------------------
def options_of(words: list[str]) -> dict[str, str]:
    """Takes the options off the front of `words`."""
    given: dict[str, str] = {}
    while words[0].startswith("-"):
        word = words.pop(0)
        assert word in FLAGS | VALUED and word not in given, f"{word} is not expected"
        given[word] = words.pop(0) if word in VALUED else ""
    return given


def add_image(name: str, folder: str) -> None:
    folders = json.loads(FOLDERS.read_text()) if FOLDERS.exists() else {}
    FOLDERS.write_text(json.dumps(folders | {name: str(Path(folder).resolve())}))
    Path("docker.images").write_text("\n".join({*fake_docker.built(), name}))


def build(words: list[str]) -> int:
    """build [--platform P] -t NAME FOLDER"""
    if words[0] == "--platform":
        words = words[2:]
    option, name, folder = words
    assert option == "-t" and (Path(folder) / "Dockerfile").is_file(), words
    add_image(name, folder)
    return 0


def run(words: list[str]) -> int:
    """run OPTIONS NAME SCRIPT /job"""
    given = options_of(words)
    assert given["--network"] == "none" and given["-u"] == f"{os.getuid()}:{os.getgid()}", given
    job, inside = given["-v"].split(":")
    assert Path(job).is_absolute() and Path(job).is_dir() and inside == "/job", f"{job} cannot be mounted"
    assert words[0] in fake_docker.built(), f"no image {words[0]}"
    return run_script(Path(json.loads(FOLDERS.read_text())[words[0]]), words[1:], job)


def compose(words: list[str]) -> int:
    """compose --file FILE run --rm SERVICE COMMAND..., and build --build-arg NAME=VALUE SERVICE"""
    import yaml  # make's own engine does without

    assert words[0] == "--file"
    place, verb, rest = Path(words[1]), words[2], words[3:]
    services = yaml.safe_load(place.read_text())["services"]
    if verb == "build":
        option, argument, service = rest
        folder = place.parent / services[service]["build"]
        name = argument.partition("=")[0]
        assert option == "--build-arg" and f"\nARG {name}=" in f"\n{(folder / 'Dockerfile').read_text()}"
        return 0
    assert (verb, rest[0]) == ("run", "--rm"), words
    service, command = services[rest[1]], rest[2:]
    if command[0] == "python":  # the toolbox has no entry point of its own
        assert service["working_dir"] in [mount["target"] for mount in service["volumes"]]
        return subprocess.run([sys.executable, *command[1:]], cwd=place.parent.parent, check=False).returncode
    assert os.environ["JOB_USER"] == f"{os.getuid()}:{os.getgid()}"
    assert Path(os.environ["JOB"]).is_absolute() and Path(os.environ["JOB"]).is_dir()
    return run_script((place.parent / service["build"]).resolve(), command, os.environ["JOB"])


def image(words: list[str]) -> int:
    """image ls [PATTERN], prune, rm NAME"""
    names = fake_docker.built()
    if words[0] == "ls":
        print(*fnmatch.filter(names, f"{words[1]}*"), sep="\n")
    elif words[0] == "rm":
        assert words[1] in names, f"no image {words[1]}"
        Path("docker.images").write_text("\n".join(name for name in names if name != words[1]))
    else:
        assert words == ["prune"], words
    return 0


def engine(program: str, words: list[str]) -> int:
    fake_docker.run_script = run_of_make
    if words[0] == "build" and "-t" in words:
        return build(words[1:])
    if words[0] == "run" and "-v" in words:
        return run(words[1:])
    if words[0] == "compose":
        return compose(words[1:])
    if words[0] == "image" and words[1] in ("ls", "prune", "rm"):
        return image(words[1:])
    if words == ["system", "df"]:
        return 0
    if program == "podman" and words[0] == "info":
        assert "Host.CPUs" in words[2], words
        print("4 16000000000")  # as tests/fake_docker.py says of docker
        return 0
    if program == "podman" and words[0] == "run":
        place = words.index("--userns")
        assert words[place + 1] == "keep-id"
        words = words[:place] + words[place + 2 :]
    os.environ["FAKE_DOCKER"] = "ok"
    return fake_docker.main(words)


# --- Others -----------------------------------------------------------------------------------------------------------
def main(program: str, *words: str) -> int:
    if program in ("docker", "podman"):
        return engine(program, list(words))
    if program == "python-that-makes-no-environment":
        if "common/environment.py" in words:
            assert "--optional" in words, f"an environment is out of date: {words}"  # make test goes on without such
            return 0
        return subprocess.run([sys.executable, *words], check=False).returncode
    if program == "sudo":
        return subprocess.run(words, check=False).returncode
    assert program == "usermod" and words == ("-aG", "docker", os.environ["USER"]), (program, words)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
