"""Vendors' scripts in their container: for SDKs that no package index has, and only their container holds.

    python -m common.container --chip NAME [--base IMAGE]     builds the image, on a base known by its digest

The container sees the job folder and nothing else: no network, no privileges, the calling user's own id, and less
memory than the machine has.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from common.chip_spec import ChipSpec
from common.errors import USAGE_EXIT, UserError, run
from common.spec import load_chip

JOB = "/job"  # where the job folder is inside; the vendors' own folders are never hidden
MEMORY_SHARE = 0.9  # of the machine's, so that a compiler that wants more ends, and not the machine
KILLED = 137  # 128 + SIGKILL: what a container that was too large for its memory exits with
PROGRAMS = ("docker", "podman")


def image_name(chip: ChipSpec) -> str:
    """The name of the vendor folder's image; `make image` gives it."""
    return f"npumake-{chip.folder.name}"


def asked_engine(chip: ChipSpec, name: str) -> str:
    """ENGINE=, empty where it is not set. Raises UserError (exit 2) when the chip has no such engine."""
    asked = os.environ.get("ENGINE", "")
    if asked and asked not in chip.engines:
        listed = " or ".join(f"ENGINE={engine}" for engine in chip.engines)
        raise UserError(f"chip '{name}' cannot be compiled by ENGINE={asked}", listed, USAGE_EXIT)
    return asked


def program_for(chip: ChipSpec, name: str) -> str:
    """docker or podman: ENGINE= where it is set, else the first of the two that is there.

    Raises UserError when there is none.
    """
    asked = asked_engine(chip, name)
    known = [engine for engine in chip.engines if engine in PROGRAMS]
    found = next((engine for engine in ([asked] if asked else known) if shutil.which(engine)), None)
    if found is None:
        wanted = asked or " or ".join(known)
        raise UserError(
            f"chip '{name}' is compiled by {chip.sdk.name}, which only its container has, and there is no {wanted}",
            f"install {wanted}; or `make job CHIP={name} MODEL=...` for another machine; or DOUBLE=1, which tries the "
            "chain with a stand-in of the SDK",
        )
    return found


def image_id(chip: ChipSpec, name: str) -> str:
    """The id of the chip's image. Raises UserError when it was not built, or the engine does not answer."""
    program = program_for(chip, name)
    command = [program, "image", "inspect", "--format", "{{.Id}}", image_name(chip)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0 and done.stdout.strip():
        return done.stdout.strip()
    told = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if "no such image" in told.lower() or "image not known" in told.lower() or "no such object" in told.lower():
        raise UserError(
            f"chip '{name}' is compiled by {chip.sdk.name} in its container, and the image {image_name(chip)} was not "
            "built yet; nothing was done",
            f"make image CHIP={name} ({chip.sdk.get}); {chip.folder}/README.md has all of it; DOUBLE=1 tries the chain "
            "with a stand-in of the SDK",
        )
    raise UserError(f"{program} does not answer: {told}", f"is it running, and may you use it? `{program} info` tells")


def run_command(
    chip: ChipSpec, name: str, folder: Path, script: str, arguments: Sequence[str], watched: bool, memory: int
) -> list[str]:
    """The command that runs a vendor's script on a job folder in the chip's container.

    arguments: paths inside the job folder. watched: somebody looks at the progress. memory: of the machine, in bytes.
    """
    job = folder.resolve()
    inside = [f"{JOB}/{Path(argument).resolve().relative_to(job)}" for argument in arguments]
    program = program_for(chip, name)
    options = ["--rm", "--init", "--network", "none", "--user", f"{os.getuid()}:{os.getgid()}"]
    options += ["--userns", "keep-id"] if program == "podman" else []
    options += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", str(int(memory * MEMORY_SHARE))]
    options += ["--env", "PROGRESS=1"] if watched else []
    options += ["--volume", f"{job}:{JOB}"]
    return [program, "run", *options, image_name(chip), script, JOB, *inside]


def declared_base(chip: ChipSpec) -> str:
    """What the chip's Dockerfile builds on (ARG BASE=). Raises UserError when it does not say."""
    path = chip.folder / "Dockerfile"
    if not path.is_file():
        raise UserError(f"{chip.folder} has no Dockerfile", "this chip needs no container: make installs its tools")
    found = re.search(r"^ARG BASE=(\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise UserError(f"{path} has no line ARG BASE=...", "CONTRIBUTING.md says what a vendor's Dockerfile needs")
    return found[1]


def pinned(program: str, base: str) -> str:
    """The base image by its digest: as it is written, or, of a tag, what the registry has under it now.

    An image that only this machine has stays under its tag, and that is told.
    """
    if "@sha256:" in base:
        return base
    subprocess.run([program, "pull", "--quiet", base], check=False, stdout=subprocess.DEVNULL)
    inspect = [program, "image", "inspect", "--format", '{{join .RepoDigests " "}}', base]
    done = subprocess.run(inspect, capture_output=True, text=True, check=False)
    digests = done.stdout.split() if done.returncode == 0 else []
    if not digests:
        print(f"image: {base} has no digest here: another machine may build on another image of that name", flush=True)
        return base
    print(f"image: {base} is {digests[0]}; BASE={digests[0]} builds on the very same again", flush=True)
    return digests[0]


def build(chip: ChipSpec, name: str, base: str) -> None:
    """Build the chip's image from its vendor folder; base: another image to build on. Raises UserError on failure."""
    declared = declared_base(chip)
    program = program_for(chip, name)
    given = f"BASE={pinned(program, base or declared)}"
    command = [program, "build", "--tag", image_name(chip), "--build-arg", given, str(chip.folder)]
    code = subprocess.run(command, check=False).returncode
    if code != 0:
        raise UserError(
            f"{program} build of {image_name(chip)} failed with exit code {code}",
            f"its own words stand above; {chip.folder}/README.md says what is needed: {chip.sdk.get}",
        )


def main() -> None:
    """python -m common.container --chip NAME [--base IMAGE]"""
    parser = argparse.ArgumentParser()
    parser.add_argument("--chip", default="")
    parser.add_argument("--base", default="")
    arguments = parser.parse_args()
    if not arguments.chip:
        raise UserError("which chip? CHIP= is not set", "make image CHIP=name; see make list", USAGE_EXIT)
    build(load_chip(arguments.chip), arguments.chip, arguments.base)


if __name__ == "__main__":
    run(main)
