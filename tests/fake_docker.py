"""A stand-in for the docker command: strict about how a vendor's script is run, and runs it without a container.

FAKE_DOCKER says what happens: ok, no-image, down, killed (the container is, for its memory).
"""

import os
import subprocess
import sys
from pathlib import Path

FLAGS = ("--rm", "--init")
VALUED = ("--network", "--user", "--cap-drop", "--security-opt", "--memory", "--env", "--volume")


def install(folder: Path) -> Path:
    """Write an executable `docker` into a folder, which is to be first on PATH; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "docker"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} "$@"\n')
    script.chmod(0o755)
    return folder


def run(words: list[str]) -> int:
    given: dict[str, str] = {}
    while words and words[0].startswith("--"):
        word = words.pop(0)
        assert word in FLAGS + VALUED, f"{word} is not expected"
        assert word not in given, f"{word} twice"
        given[word] = words.pop(0) if word in VALUED else ""
    assert given.pop("--env", "PROGRESS=1") == "PROGRESS=1"
    assert set(given) == {*FLAGS, *VALUED} - {"--env"}, given
    assert (given["--network"], given["--cap-drop"]) == ("none", "ALL")
    assert given["--security-opt"] == "no-new-privileges"
    assert given["--user"] == f"{os.getuid()}:{os.getgid()}"
    assert 1e9 < int(given["--memory"]) < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    outside, inside = given["--volume"].split(":")
    assert Path(outside).is_dir() and Path(outside).is_absolute() and inside == "/job"
    image, script, *arguments = words
    assert image.startswith("npumake-")
    assert arguments[0] == "/job" and all(one.startswith("/job/") for one in arguments[1:])
    if os.environ["FAKE_DOCKER"] == "killed":
        return 137
    folder = Path("vendors") / image.removeprefix("npumake-")
    places = [argument.replace("/job", outside, 1) for argument in arguments]
    return subprocess.run([sys.executable, str(folder / script), *places], check=False).returncode


def main(words: list[str]) -> int:
    with open("docker.log", "a", encoding="utf-8") as log:
        log.write(" ".join(words) + "\n")
    mode = os.environ["FAKE_DOCKER"]
    if mode == "down":
        print("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", file=sys.stderr)
        return 1
    if words[:2] == ["pull", "--quiet"]:
        return 0
    if words[:2] == ["image", "inspect"] and "RepoDigests" in words[3]:
        print("" if words[4].startswith("only-here") else f"{words[4].partition(':')[0]}@sha256:abcd")
        return 0
    if words[:2] == ["image", "inspect"]:
        if mode == "no-image":
            print(f"Error response from daemon: No such image: {words[-1]}:latest", file=sys.stderr)
            return 1
        assert words[2:4] == ["--format", "{{.Id}}"]
        print(os.environ.get("FAKE_DOCKER_ID", "sha256:1234"))
        return 0
    if words[0] == "build":
        assert words[1] == "--tag" and "vendors" in Path(words[-1]).parts
        return 0 if mode == "ok" else 1
    assert words[0] == "run", words
    return run(words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
