"""A stand-in for the docker command: strict about how a vendor's script is run, and runs it without a container.

FAKE_DOCKER says what happens: ok; no-image (there is none until one is built); down; forbidden; killed (the container
is, for its memory); full, refused, unreachable, broken (how a build ends). Images that were built are lines of
docker.images beside docker.log.
"""

import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

FLAGS = ("--rm", "--init")
VALUED = (
    "--network",
    "--user",
    "--cap-drop",
    "--security-opt",
    "--memory",
    "--cpus",
    "--env",
    "--volume",
    "--platform",
)
BUILD_ENDS = {
    "full": "write /var/lib/docker/tmp/layer: no space left on device",
    "refused": "pull access denied for maker/tools, repository does not exist or may require 'docker login'",
    "unreachable": "failed to do request: Head: dial tcp: lookup registry: no such host",
    "broken": "The command '/bin/sh -c pip install' returned a non-zero code: 1",
}


def install(folder: Path, name: str = "docker") -> Path:
    """Write an executable `docker` into a folder, which is to be first on PATH; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / name
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} "$@"\n')
    script.chmod(0o755)
    return folder


def take_options(words: list[str]) -> dict[str, list[str]]:
    """The options before the image, {name: its values}; each is known; only volumes and variables may come twice."""
    given: dict[str, list[str]] = {}
    while words and words[0].startswith("--"):
        word = words.pop(0)
        assert word in FLAGS + VALUED, f"{word} is not expected"
        assert word not in given or word in ("--volume", "--env"), f"{word} twice"
        given.setdefault(word, []).append(words.pop(0) if word in VALUED else "")
    assert set(given.pop("--env", [])) <= {"PROGRESS=1", "NO_COLOR=1"}
    given.pop("--platform", None)
    return given


def check_limits(given: dict[str, list[str]]) -> None:
    assert (given["--network"], given["--cap-drop"]) == (["none"], ["ALL"])
    assert given["--security-opt"] == ["no-new-privileges"]
    assert given["--user"] == [f"{os.getuid()}:{os.getgid()}"]
    assert given["--memory"] == [str(int(0.9 * 16e9))] and given["--cpus"] == ["4"]


def run(words: list[str]) -> int:
    given = take_options(words)
    assert set(given) == {*FLAGS, *VALUED} - {"--env", "--platform"}, given
    check_limits(given)
    job, common = given["--volume"]
    outside, inside = job.split(":")
    assert Path(outside).is_dir() and Path(outside).is_absolute() and inside == "/job"
    assert common == f"{Path('common').resolve()}:/common:ro"
    return run_script(words, outside)


def run_script(words: list[str], outside: str) -> int:
    image, script, *arguments = words
    assert image in built(), f"no image {image}"
    assert arguments[0] == "/job" and all(one.startswith("/job/") for one in arguments[1:])
    if os.environ["FAKE_DOCKER"] == "killed":
        return 137
    folder = Path("vendors") / image.removeprefix("npumake-").partition(":")[0]
    places = [argument.replace("/job", outside, 1) for argument in arguments]
    return subprocess.run([sys.executable, str(folder / script), *places], check=False).returncode


def built() -> list[str]:
    path = Path("docker.images")
    return path.read_text().split() if path.exists() else []


def inspect(words: list[str]) -> int:
    name = words[-1]
    if "RepoDigests" in words[3]:
        print("" if name.startswith("only-here") else f"{name.partition(':')[0]}@sha256:abcd")
        return 0
    assert words[2] == "--format" and "{{.Id}}" in words[3] and "npumake.base" in words[3]
    if name not in built():
        print(f"Error response from daemon: No such image: {name}", file=sys.stderr)
        return 1
    print(os.environ.get("FAKE_DOCKER_ID", "sha256:1234"), Path("docker.base").read_text())
    return 0


def build(words: list[str], mode: str) -> int:
    assert words[1] == "--tag" and "vendors" in Path(words[-1]).parts
    label, base = (words[words.index(option) + 1] for option in ("--label", "--build-arg"))
    assert label.startswith("npumake.base=") and base.startswith("BASE=")
    if mode in BUILD_ENDS:
        print("Step 2/9 : FROM ${BASE}")
        print(BUILD_ENDS[mode], file=sys.stderr)
        return 1
    Path("docker.images").write_text("\n".join([*built(), words[2]]))
    Path("docker.base").write_text(label.partition("=")[2])
    return 0


def create(words: list[str]) -> int:
    """A container of an engine that is another machine's: its /job is in the container itself."""
    given = take_options(words)
    assert "--volume" not in given and "--rm" not in given
    check_limits(given)
    Path("far").mkdir()
    Path("far/words").write_text("\n".join(words))
    print("c0ffee")
    return 0


def copy(words: list[str]) -> int:
    job = Path("far/job")
    if words == ["-", "c0ffee:/"]:
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
            for member in archive:
                assert (member.uid, member.gid) == (os.getuid(), os.getgid())
                assert member.name == "job" or member.name.startswith("job/")
                archive.extract(member, "far", filter="data")
        return 0
    assert words == ["c0ffee:/job/.", "-"]
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        archive.add(job, ".")
    # Zeros may follow the end of an archive, and come later than it; whoever stops reading before them breaks the pipe.
    sys.stdout.buffer.flush()
    time.sleep(0.3)
    sys.stdout.buffer.write(bytes(tarfile.RECORDSIZE))
    sys.stdout.buffer.flush()
    return 0


def main(words: list[str]) -> int:
    with open("docker.log", "a", encoding="utf-8") as log:
        log.write(" ".join(words) + "\n")
    mode = os.environ["FAKE_DOCKER"]
    if mode == "down":
        print("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", file=sys.stderr)
        return 1
    if mode == "forbidden":
        print("permission denied while trying to connect to the Docker daemon socket", file=sys.stderr)
        return 1
    if words[0] == "info":
        assert words[1] == "--format" and "NCPU" in words[2]
        print("4 16000000000")
        return 0
    if words[:2] == ["pull", "--quiet"]:
        return 0
    if words[:2] == ["image", "inspect"]:
        return inspect(words)
    if words[0] == "build":
        return build(words, mode)
    if words[0] == "create":
        return create(words[1:])
    if words[0] == "cp":
        return copy(words[1:])
    if words[:2] == ["start", "--attach"]:
        return run_script(Path("far/words").read_text().split("\n"), "far/job")
    if words[0] == "rm":
        assert words[1:] == ["--force", "--volumes", "c0ffee"]
        return 0
    assert words[0] == "run", words
    return run(words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
