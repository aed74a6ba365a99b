"""A stand-in for docker as common/toolbox.sh uses it: the "toolbox" is a process of this machine, with the variables
and the way out to the engine that it would have in its container.

FAKE_LOG: every command is appended to it, as JSON. FAKE_ENGINE: ok, down, denied, disk-full, unreachable (of a build).
Images that were "built" are files in the folder FAKE_IMAGES, which hold their base.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

VALUED = (
    *("--pull", "--name", "--user", "--userns", "--cap-drop", "--security-opt", "--workdir", "--network", "--env"),
    *("--mount", "--memory", "--cpus", "--platform", "--volume", "--file", "--tag", "--build-arg", "--label"),
    *("--signal", "--format"),
)
WORDS = {
    "disk-full": "write /var/lib/docker/tmp/x: no space left on device",
    "unreachable": "failed to do request: Head https://registry/v2/: dial tcp: lookup registry: no such host",
}


def install(folder: Path) -> Path:
    """Write an executable `docker` into a folder, which is to be first on PATH; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "docker"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} "$@"\n')
    script.chmod(0o755)
    return folder


def parsed(words: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """({option: its values}, the other words)"""
    options: dict[str, list[str]] = {}
    words = list(words)
    while words and words[0].startswith("--"):
        name = words.pop(0)
        options.setdefault(name, []).append(words.pop(0) if name in VALUED else "")
    return options, words


def image_file(image: str) -> Path:
    return Path(os.environ["FAKE_IMAGES"]) / image.replace(":", "@")


def run_toolbox(options: dict[str, list[str]], command: list[str]) -> int:
    """The command in a process of this machine; its engine is the relay's client, as in the container."""
    pairs = [re.findall(r"(source|target)=([^\",]*)", one) for one in options["--mount"]]
    places = {dict(pair)["target"]: dict(pair)["source"] for pair in pairs}
    relay = Path(places["/run/npumake/requests"]).parent
    inside = relay / "inside"
    inside.mkdir()
    (inside / "docker").symlink_to(places["/usr/local/bin/docker"])
    (inside / "python").symlink_to(sys.executable)
    environment = dict(one.split("=", 1) for one in options["--env"])
    environment |= {"PATH": f"{inside}:/usr/bin:/bin", "NPUMAKE_RELAY": str(relay)}
    time.sleep(float(os.environ.get("FAKE_START_SECONDS", "0")))
    process = subprocess.Popen(command, env=environment, cwd=options["--workdir"][0], start_new_session=True)
    image_file(options["--name"][0]).write_text(str(process.pid))
    return process.wait()


def note(words: list[str]) -> None:
    with open(os.environ["FAKE_LOG"], "a", encoding="utf-8") as log:
        log.write(json.dumps(words) + "\n")


def ended(*_: object) -> None:
    """A container that was asked to end."""
    note(["ended"])
    os._exit(143)


def main(words: list[str]) -> int:
    note(words)
    mode = os.environ.get("FAKE_ENGINE", "ok")
    if mode in ("down", "denied"):
        text = {
            "down": "Cannot connect to the Docker daemon at unix:///x.",
            "denied": "permission denied on the socket",
        }
        print(text[mode], file=sys.stderr)
        return 1
    options, rest = parsed(words[2 if words[0] == "image" else 1 :])
    if words[0] == "image":
        if image_file(rest[0]).exists():
            print(image_file(rest[0]).read_text())
            return 0
        print(f"Error response from daemon: No such image: {rest[0]}", file=sys.stderr)
        return 1
    if words[0] == "build":
        print(WORDS.get(mode, "Successfully built"))
        if mode in WORDS:
            return 1
        image_file(options["--tag"][0]).write_text(options["--label"][0].partition("=")[2])
        return 0
    if words[0] == "kill":
        if not image_file(rest[0]).exists():
            return 1
        os.kill(int(image_file(rest[0]).read_text()), signal.Signals[f"SIG{options['--signal'][0]}"])
        return 0
    if words[0] == "run" and rest[0].startswith("npumake-toolbox:"):
        return run_toolbox(options, rest[1:])
    if words[0] == "run" and rest[1] == "compile.py":  # a vendor's container
        signal.signal(signal.SIGTERM, ended)
        print("the vendor's script begins", flush=True)
        time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
        print("and speaks of an error", file=sys.stderr)
        return 7
    print("of the engine:", *words)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
