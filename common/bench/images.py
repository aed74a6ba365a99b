"""How large the vendors' container images are, and how long they take to build.

    python -m common common.bench.images [--build all|VENDOR]

Without --build only images that are there are looked at, and each is built once more with nothing changed, which the
engine's cache makes short. --build: also from nothing (--no-cache), every vendor's or one vendor folder's; minutes, and
gigabytes from the network.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from common import image
from common.basics.errors import USAGE_EXIT, UserError, run
from common.basics.files import write_json
from common.declarations.chip_spec import ChipSpec
from common.declarations.spec import chip_names, load_chip
from common.engines import container
from common.plan import OUT

ALL = "all"


def vendor_chips() -> dict[str, ChipSpec]:
    """{chip name: its spec}, one chip of every vendor folder: its first."""
    found: dict[str, str] = {}
    for name, path in chip_names().items():
        found.setdefault(path.parent.name, name)
    return {name: load_chip(name) for name in found.values()}


def image_bytes(program: str, name: str) -> int | None:
    """The size of an image with all its layers, unpacked; None when the engine has none of that name."""
    command = [program, "image", "inspect", "--format", "{{.Size}}", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip().isdecimal() else None


def measure_image(chip: ChipSpec, name: str, from_nothing: bool) -> dict[str, Any]:
    """A vendor folder's image: {"vendor", "image", "engine", "base", "bytes", "base_bytes" (None where the engine does
    not hold the base by that name), "build_seconds" (None unless from_nothing), "rebuild_seconds"}.

    Raises UserError: no engine, no image (unless from_nothing), or a build that fails.
    """
    program, tag = container.program_for(chip, name), image.image_name(chip)
    found = image.find_image(program, tag)
    if found is None and not from_nothing:
        raise UserError(f"not built (make image CHIP={name})", None)
    base = found[1] if found and found[1] else image.declared_base(chip)
    build_seconds = _seconds(chip, program, tag, base, fresh=True) if from_nothing else None
    return {
        "vendor": chip.folder.name,
        "image": tag,
        "engine": program,
        "base": base,
        "build_seconds": build_seconds,
        "rebuild_seconds": _seconds(chip, program, tag, base, fresh=False),
        "bytes": image_bytes(program, tag),
        "base_bytes": image_bytes(program, base),
    }


def _seconds(chip: ChipSpec, program: str, tag: str, base: str, fresh: bool) -> float:
    started = time.monotonic()
    image.build(chip, program, tag, base, fresh)
    return round(time.monotonic() - started, 2)


def no_engine() -> str | None:
    """Why there is no container engine to ask; None where one answers."""
    program = next(filter(shutil.which, container.PROGRAMS), None)
    if program is None:
        return f"there is neither {' nor '.join(container.PROGRAMS)} on this machine"
    try:
        container.machine_of(program)
    except UserError as error:
        return error.message
    return None


def measure_images(build: str = "") -> dict[str, Any]:
    """{"images": rows of measure_image(), "left_out": [{"vendor", "why"}], "no_engine": None, or why none was asked}.

    build: "" for none, "all", or a vendor folder's name: which are also built from nothing. Raises UserError (exit 2)
    for another word.
    """
    chips = vendor_chips()
    folders = sorted(chip.folder.name for chip in chips.values())
    if build not in ("", ALL, *folders):
        raise UserError(f"'{build}' is no vendor folder", f"all, or one of {', '.join(folders)}", USAGE_EXIT)
    if reason := no_engine():
        return {"images": [], "left_out": [], "no_engine": reason}
    images, left_out = [], []
    for name, chip in chips.items():
        try:
            images.append(measure_image(chip, name, build in (ALL, chip.folder.name)))
        except UserError as error:
            left_out.append({"vendor": chip.folder.name, "why": str(error).splitlines()[0]})
    return {"images": images, "left_out": left_out, "no_engine": None}


def image_lines(measured: dict[str, Any] | None) -> list[str]:
    """What measure_images() found, for a terminal; one line where there is no image to look at."""
    if measured is None:
        return []
    if measured["no_engine"]:
        return ["", f"images: none measured: {measured['no_engine']}"]
    rows, left_out = measured["images"], measured["left_out"]
    lines = (
        ["", f"{'images':<14}{'MB':>8}{'of it base':>12}{'built in s':>12}{'again, unchanged':>18}"] if rows else [""]
    )
    for row in rows:
        base = "-" if row["base_bytes"] is None else f"{row['base_bytes'] / 1e6:.0f}"
        built = "-" if row["build_seconds"] is None else f"{row['build_seconds']:.0f}"
        lines.append(
            f"{row['vendor']:<14}{row['bytes'] / 1e6:>8.0f}{base:>12}{built:>12}{row['rebuild_seconds']:>18.1f}"
        )
    return lines + [f"left out: image of {row['vendor']}: {row['why']}" for row in left_out]


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description="sizes and build times of the vendors' images")
    parser.add_argument("--build", default="", help="also from nothing: all, or a vendor folder's name")
    measured = measure_images(parser.parse_args().build)
    path = Path(OUT) / "bench" / "images.json"
    write_json(path, measured)
    print("\n".join([*image_lines(measured), str(path)]).lstrip("\n"))


if __name__ == "__main__":
    run(main)
