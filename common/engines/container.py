"""A vendor's scripts in their container: which engine runs it, and what it is allowed.

The container sees the job folder, and common/ for reading, and nothing else: no network, no privileges, the calling
user's own id, and less memory than the machine has. Where the engine is another machine's (DOCKER_HOST=ssh://...), the
job folder travels there and back: common/engines/remote_container.py.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from common.basics.errors import USAGE_EXIT, UserError
from common.declarations.chip_spec import ChipSpec

JOB = "/job"  # where the job folder is inside; the vendors' own folders are never hidden
COMMON = "/common"
MEMORY_SHARE = 0.9  # of the machine's, so that a compiler that wants more ends, and not the machine
KILLED = 137  # 128 + SIGKILL: what a container that was too large for its memory exits with
LOCAL = "local"
PROGRAMS = ("docker", "podman")
# How many processors and bytes of memory the engine's machine has: not ours, where it is a virtual or another one.
SIZE_OF = {"docker": "{{.NCPU}} {{.MemTotal}}", "podman": "{{.Host.CPUs}} {{.Host.MemTotal}}"}
PLATFORM_NAMES = {"x86_64": "amd64", "amd64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def engine_of(chip: ChipSpec, name: str) -> str:
    """ "local", "docker" or "podman": ENGINE= where it is set; else local where make installs the chip's tools itself
    (nobody needs Docker for those, and the bytes are the same); else the first container engine that is there.

    Raises UserError: the chip has no such engine (exit 2), or none of its engines is on this machine.
    """
    asked = os.environ.get("ENGINE", "")
    if asked and asked not in chip.engines:
        listed = " or ".join(f"ENGINE={engine}" for engine in chip.engines)
        raise UserError(f"chip '{name}' cannot be compiled by ENGINE={asked}", listed, USAGE_EXIT)
    if asked == LOCAL or (not asked and chip.local):
        return LOCAL
    known = [engine for engine in chip.engines if engine in PROGRAMS]
    found = next((engine for engine in ([asked] if asked else known) if shutil.which(engine)), None)
    if found is None:
        wanted = asked or " or ".join(known)
        why = f"there is no {wanted} on this machine"
        if chip.local:
            raise UserError(f"ENGINE={asked}: {why}", f"install {wanted}, or leave ENGINE= out: {name} needs none")
        raise UserError(
            f"chip '{name}' is compiled by {chip.sdk.name}, which only its container has, and {why}",
            f"install {wanted}; or `make job CHIP={name} MODEL=...` for another machine; or DOUBLE=1, which tries the "
            "chain with a stand-in of the SDK",
        )
    return found


def program_for(chip: ChipSpec, name: str) -> str:
    """docker or podman, also for a chip that would usually be compiled without. Raises UserError as engine_of()."""
    engine = engine_of(chip, name)
    if engine != LOCAL:
        return engine
    found = next((program for program in PROGRAMS if program in chip.engines and shutil.which(program)), None)
    if found is None:
        listed = " nor ".join(program for program in PROGRAMS if program in chip.engines) or "container engine"
        raise UserError(f"no image for '{name}': there is neither {listed} here", "install one; or ENGINE=local")
    return found


def no_answer(program: str, told: str) -> UserError:
    """An engine that is installed and does not answer: the daemon is down, or this user may not speak to it."""
    if "permission denied" in told.lower():
        hint = f"this user may not use {program}: `sudo usermod -aG {program} $USER`, then log in again"
    else:
        hint = f"is it running? `{program} info` tells; `sudo systemctl start {program}`, or start Docker Desktop"
    return UserError(f"{program} does not answer: {told}", f"{hint}; chips that make installs itself: ENGINE=local")


def is_remote() -> bool:
    """Whether the engine is another machine's, where no folder of this one can be mounted."""
    return re.match(r"(ssh|tcp|https?)://", os.environ.get("DOCKER_HOST", "")) is not None


@functools.cache
def machine_of(program: str) -> tuple[int, int]:
    """(processors, bytes of memory) of the machine that the engine runs on. UserError when it does not answer."""
    done = subprocess.run([program, "info", "--format", SIZE_OF[program]], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    if done.returncode != 0 or len(words) != 2 or not all(word.isdecimal() and int(word) for word in words):
        raise no_answer(program, (done.stderr.strip().splitlines() or ["no message"])[-1])
    return int(words[0]), int(words[1])


def emulated(chip: ChipSpec) -> bool:
    """Whether the chip's SDK exists for another processor than this machine's only."""
    own = PLATFORM_NAMES.get(platform.machine(), platform.machine())
    return bool(chip.platform) and not is_remote() and chip.platform.partition("/")[2] != own


def platform_option(chip: ChipSpec) -> list[str]:
    """--platform, where the engine would choose another one by itself: on Apple silicon and other arm64 machines."""
    return ["--platform", chip.platform] if emulated(chip) or (chip.platform and is_remote()) else []


def emulation_warning(chip: ChipSpec, name: str) -> str | None:
    """One line for people whose processor the SDK does not run on."""
    if not emulated(chip):
        return None
    return (
        f"{name}: {chip.sdk.name} exists for {chip.platform} only, so it is emulated here: slow, and it may end with "
        "`Illegal instruction`; DOCKER_HOST=ssh://user@host compiles on another machine"
    )


def options(chip: ChipSpec, program: str, watched: bool) -> list[str]:
    """What a container is allowed, and no more. watched: somebody looks at the progress."""
    processors, memory = machine_of(program)
    words = ["--rm", "--init", "--network", "none", "--user", f"{os.getuid()}:{os.getgid()}"]
    words += ["--userns", "keep-id"] if program == "podman" else []
    words += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    words += ["--memory", str(int(memory * MEMORY_SHARE)), "--cpus", str(processors)]
    words += platform_option(chip)
    words += ["--env", "NO_COLOR=1"] if os.environ.get("NO_COLOR") else []
    return words + (["--env", "PROGRESS=1"] if watched else [])


def run_command(
    chip: ChipSpec, program: str, image: str, folder: Path, script: str, arguments: Sequence[str], watched: bool
) -> list[str]:
    """The command that runs a vendor's script on a job folder in the chip's container.

    arguments: paths inside the job folder. watched: somebody looks at the progress.
    """
    job = folder.resolve()
    inside = [f"{JOB}/{Path(argument).resolve().relative_to(job)}" for argument in arguments]
    words = options(chip, program, watched)
    if is_remote():
        words.remove("--rm")  # its files are fetched when it has ended
        away = [sys.executable, "-m", "common", "common.engines.remote_container", program, str(job)]
        return [*away, *words, image, script, JOB, *inside]
    mounts = ["--volume", f"{job}:{JOB}", "--volume", f"{Path('common').resolve()}:{COMMON}:ro"]
    return [program, "run", *words, *mounts, image, script, JOB, *inside]
