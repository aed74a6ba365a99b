"""The image of a vendor folder: named by what is in it, built when that changed, on a base known by its digest.

    python -m common.image --chip NAME [--base IMAGE]     `make image CHIP=name`

npumake-<folder>:<content>: twelve digits of a hash over the folder's files. Whatever changes a script, a pin or the
Dockerfile makes another name, so an image that is there is the right one, and nothing asks for it to be built again.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
from pathlib import Path

from common.basics.errors import USAGE_EXIT, UserError, run
from common.basics.files import replacing, sha256_file
from common.basics.progress import Progress
from common.basics.terminal import show_command
from common.basics.tool_output import copy_output
from common.declarations.chip_spec import ChipSpec
from common.declarations.spec import load_chip
from common.engines import container

LOGS = Path("out") / "images"
BASE_LABEL = "npumake.base"
NOT_IN_THE_IMAGE = ("README.md", "job.example.json")
LARGE_BYTES = 20_000_000  # a licensed SDK's file counts by its size and time: hashing it would take longer than make
TAIL_LINES = 12
# What an engine's message says, and what helps. The wordings are those of Docker Engine 20 to 28 and podman 4 and 5.
CURES = (
    ("no space left on device", "the disk is full: `docker system prune` removes what no container uses"),
    ("disk quota exceeded", "the disk is full: `docker system prune` removes what no container uses"),
    (
        r"manifest unknown|manifest for .* not found|not found: manifest",
        "the registry does not have that image: BASE=another",
    ),
    (
        r"pull access denied|unauthorized|authentication required|denied: requested access|toomanyrequests",
        "the registry refused it: `docker login`, a correct name in BASE=, or BASE=an image that this machine has",
    ),
    (
        r"no such host|i/o timeout|connection refused|network is unreachable|tls handshake timeout|temporary failure"
        r"|failed to do request|context deadline exceeded",
        "the registry cannot be reached from here: a network or a proxy of the engine; or BASE=an image that this "
        "machine has",
    ),
)


def context_files(chip: ChipSpec) -> list[Path]:
    """The files of the vendor folder that an image may be made of, sorted."""
    found = (path for path in chip.folder.rglob("*") if path.is_file())
    parts = {path: path.relative_to(chip.folder).parts for path in found}
    return sorted(
        path
        for path, names in parts.items()
        if names[-1] not in NOT_IN_THE_IMAGE and "__pycache__" not in names and not names[0].startswith(".")
    )


def content_tag(chip: ChipSpec) -> str:
    """Twelve hexadecimal digits of a hash over the names and contents of the folder's files."""
    digest = hashlib.sha256()
    for path in context_files(chip):
        state = path.stat()
        large = state.st_size > LARGE_BYTES
        content = f"{state.st_size} {state.st_mtime_ns}" if large else sha256_file(path)
        digest.update(f"{path.relative_to(chip.folder)}\0{content}\n".encode())
    return digest.hexdigest()[:12]


def image_name(chip: ChipSpec) -> str:
    """The name of the vendor folder's image, as its files are now: npumake-<folder>:<content>."""
    return f"npumake-{chip.folder.name}:{content_tag(chip)}"


def missing_sdk_file(chip: ChipSpec, precision: str) -> str | None:
    """What the user has to lay into the vendor folder by hand for this precision, where it is not there yet: a pattern
    of file names, as "sdk/*.whl"."""
    pattern = chip.sdk.files.get(precision)
    return pattern if pattern and not any(chip.folder.glob(pattern)) else None


def check_sdk_file(chip: ChipSpec, name: str, precision: str) -> None:
    """Raises UserError that names the file of the vendor's SDK which the user has to fetch."""
    if pattern := missing_sdk_file(chip, precision):
        raise UserError(
            f"chip '{name}' needs a file of {chip.sdk.name} {chip.sdk.version} for {precision}, and there is no "
            f"{chip.folder}/{pattern}",
            f"{chip.sdk.get}; DOUBLE=1 tries the chain with a stand-in of the SDK",
        )


def declared_base(chip: ChipSpec) -> str:
    """What the chip's Dockerfile builds on (ARG BASE=). Raises UserError when it does not say."""
    path = chip.folder / "Dockerfile"
    if not path.is_file():
        raise UserError(f"{chip.folder} has no Dockerfile", "restore it: git checkout brings back what npumake ships")
    found = re.search(r"^ARG BASE=(\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise UserError(f"{path} has no line ARG BASE=...", "docs/adding_a_chip.md says what a Dockerfile needs")
    return found[1]


def find_image(program: str, image: str) -> tuple[str, str] | None:
    """(the image's id, the base that was asked for when it was built); None when the engine has no such image.

    Raises UserError when the engine does not answer.
    """
    form = '{{.Id}} {{index .Config.Labels "' + BASE_LABEL + '"}}'
    done = subprocess.run(
        [program, "image", "inspect", "--format", form, image], capture_output=True, text=True, check=False
    )
    if done.returncode == 0 and done.stdout.strip():
        identity, _, base = done.stdout.strip().partition(" ")
        return identity, base
    told = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if re.search("no such image|image not known|no such object", told.lower()):
        return None
    raise container.no_answer(program, told)


def ensure_image(chip: ChipSpec, name: str, base: str = "", fresh: bool = False) -> str:
    """The id of the chip's image, which is built first where it is missing or stands on another base than asked.

    base: an image to build on instead of the Dockerfile's. fresh: build it even if it is there, without any cache.
    Raises UserError when it cannot be built, or the engine does not answer.
    """
    program = container.program_for(chip, name)
    image, declared = image_name(chip), declared_base(chip)
    found = find_image(program, image)
    if found and not fresh and (not base or base == found[1]):
        return found[0]
    build(chip, program, image, base or declared, fresh)
    found = find_image(program, image)
    if found is None:
        raise UserError(f"{program} build ended well, and there is no image {image}", f"`{program} images` shows all")
    return found[0]


def pinned(program: str, base: str) -> str:
    """The base image by its digest: as it is written, or, of a tag, what the registry has under it now.

    An image that only this machine has stays under its tag, and that is told.
    """
    if "@sha256:" in base:
        return base
    subprocess.run([program, "pull", "--quiet", base], check=False, capture_output=True)
    inspect = [program, "image", "inspect", "--format", '{{join .RepoDigests " "}}', base]
    done = subprocess.run(inspect, capture_output=True, text=True, check=False)
    digests = done.stdout.split() if done.returncode == 0 else []
    if not digests:
        print(f"image       {base} has no digest here: elsewhere the name may mean another image", flush=True)
        return base
    print(f"image       {base} is {digests[0]}; BASE={digests[0]} builds on the very same again", flush=True)
    return digests[0]


def build(chip: ChipSpec, program: str, image: str, base: str, fresh: bool = False) -> None:
    """Build the chip's image from its vendor folder. Raises UserError with the engine's own words on failure."""
    print(f"image       {image} from {chip.folder} on {base} (once; {chip.sdk.name} {chip.sdk.version})", flush=True)
    command = [program, "build", "--tag", image, "--label", f"{BASE_LABEL}={base}"]
    command += ["--build-arg", f"BASE={pinned(program, base)}", *container.platform_option(chip)]
    command += ["--no-cache"] if fresh else []
    command += [str(chip.folder)]
    show_command(command)
    with replacing(LOGS / f"{chip.folder.name}.log") as log:
        with (
            open(log, "w", encoding="utf-8") as file,
            Progress(f"image {image}") as progress,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process,
        ):
            copy_output(process.stdout, file, progress)
        last = log.read_text(encoding="utf-8").splitlines()[-TAIL_LINES:]
    if process.returncode != 0:
        raise build_failure(program, image, process.returncode, last, chip)


def build_failure(program: str, image: str, code: int, last: list[str], chip: ChipSpec) -> UserError:
    """What a failed build's last lines mean, and what helps."""
    own = [line.removeprefix("ERROR: ") for line in last if line.startswith("ERROR: ")]
    hints = [line.removeprefix("HINT: ") for line in last if line.startswith("HINT: ")]
    log = LOGS / f"{chip.folder.name}.log"
    if own and hints:  # a script of the vendor folder, inside the build, said what is missing
        return UserError(f"{image} cannot be built: {own[-1]} (log: {log})", hints[-1])
    text = "\n".join(last).lower()
    if re.search("cannot connect to the docker daemon|permission denied while trying to connect|is the docker", text):
        return container.no_answer(program, last[-1])
    cure = next((cure for pattern, cure in CURES if re.search(pattern, text)), None)
    tail = "".join(f"\n | {line}" for line in last if line.strip())
    return UserError(
        f"{program} build of {image} failed with exit code {code} (log: {log}){tail}",
        cure or f"{chip.folder}/README.md says what is needed: {chip.sdk.get}",
    )


def main() -> None:
    """python -m common.image --chip NAME [--base IMAGE]"""
    parser = argparse.ArgumentParser()
    parser.add_argument("--chip", default="")
    parser.add_argument("--base", default="")
    arguments = parser.parse_args()
    name = arguments.chip
    if not name:
        raise UserError("which chip? CHIP= is not set", "make image CHIP=name; see make list", USAGE_EXIT)
    chip = load_chip(name)
    if missing := [precision for precision in chip.precisions if missing_sdk_file(chip, precision)]:
        if set(missing) == set(chip.precisions):
            check_sdk_file(chip, name, missing[0])
        print(f"image       without {', '.join(missing)}: there is no {chip.sdk.files[missing[0]]}", flush=True)
    identity = ensure_image(chip, name, arguments.base)
    print(f"image       {image_name(chip)} is ready ({identity[:19]})")


if __name__ == "__main__":
    run(main)
