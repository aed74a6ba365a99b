"""`make new-chip NAME=name`: a vendor folder for a chip that npumake does not know yet, to be completed.

    python -m common.new_chip --name NAME

Writes vendors/NAME/ from common/chip_skeleton/, with the files that are the same in every vendor folder. Make knows the
chip at once; whatever is still to be written fails, with a message that says what. Nothing is overwritten.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from common.basics.errors import USAGE_EXIT, UserError, run
from common.basics.files import read_json, replacing_folder, to_json
from common.declarations.chip_spec import RESERVED_NAMES
from common.declarations.open_places import OPEN
from common.declarations.spec import VENDORS_FOLDER, chip_names, model_names

SKELETON = Path(__file__).parent / "chip_skeleton"
PLACEHOLDER, BASE_PLACEHOLDER = "NEWCHIP", "BASEIMAGE"
EXAMPLE = "job.example.json"  # the same in every folder but for the chip
PLAIN_BASE = "python:3.11-slim-bookworm"
# A chip is a goal of make, a folder, and a part of an image's name, which docker wants in small letters.
CHIP_NAME = re.compile(r"[a-z0-9][a-z0-9]*([_.-][a-z0-9]+)*")


def check_name(name: str, root: Path) -> None:
    """Raises UserError (exit 2) for no name, one that cannot be a goal, folder and image, and one that is taken.

    root: of the project. A word that the Makefile or common/ use for something else is no name of a chip either: they
    name no chip (a test checks that), and the word would be one then.
    """
    example = "make new-chip NAME=name"
    if not name:
        raise UserError("how is the chip called? NAME= is not set", example, USAGE_EXIT)
    if not CHIP_NAME.fullmatch(name):
        raise UserError(
            f"NAME={name}: a chip's name is small letters and digits, with '_', '-' or '.' between them",
            example,
            USAGE_EXIT,
        )
    taken = {**chip_names(), **model_names()}
    if name in taken:
        raise UserError(f"NAME={name} is taken by {taken[name]}", "nothing is overwritten", USAGE_EXIT)
    if (VENDORS_FOLDER / name).exists():
        raise UserError(f"{VENDORS_FOLDER / name} is there already", "nothing is overwritten", USAGE_EXIT)
    used = "out/" if name in RESERVED_NAMES else _word_of(name, root)
    if used:
        raise UserError(
            f"NAME={name} is a word that {used} uses", "take the vendor's number, as on the chip", USAGE_EXIT
        )


def _word_of(name: str, root: Path) -> str | None:
    """The first file of the Makefile and common/ in which the name occurs as a word."""
    files = [path for path in (root / "Makefile", *sorted((root / "common").rglob("*.py"))) if path.is_file()]
    word = re.compile(rf"\b{re.escape(name)}\b")
    return next((str(path.relative_to(root)) for path in files if word.search(path.read_text(encoding="utf-8"))), None)


def shared_files(vendors: Path) -> dict[str, bytes]:
    """The files that are the same in every vendor folder, by name: what each needs to stand alone.

    Raises UserError where there are not two folders to compare.
    """
    folders = sorted(path.parent for path in vendors.glob("*/chip.yaml"))
    if len(folders) < 2:
        raise UserError(f"{vendors}/ holds {len(folders)} vendor folders, too few to tell what they share",
                        "git checkout brings back what the project ships")  # fmt: skip
    contents = [{path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} for folder in folders]
    return {name: content for name, content in sorted(contents[0].items())
            if all(other.get(name) == content for other in contents[1:])}  # fmt: skip


def plain_base(vendors: Path) -> str:
    """A Python image, with its digest where a sibling's Dockerfile pins one."""
    for path in sorted(vendors.glob("*/Dockerfile")):
        found = re.search(r"^ARG BASE=(python:\S+@sha256:\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found[1]
    return PLAIN_BASE


def new_chip(name: str, root: Path = Path()) -> Path:
    """Write vendors/<name>/, whole or not at all; returns the folder. Raises UserError for a bad or taken name."""
    check_name(name, root)
    files = shared_files(VENDORS_FOLDER)
    words = {PLACEHOLDER: name, BASE_PLACEHOLDER: plain_base(VENDORS_FOLDER)}
    for path in sorted(SKELETON.iterdir()):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            for placeholder, word in words.items():
                text = text.replace(placeholder, word)
            files[path.name] = text.encode()
    example = next(iter(sorted(VENDORS_FOLDER.glob(f"*/{EXAMPLE}"))), None)
    if example:
        files[EXAMPLE] = to_json(read_json(example) | {"chip": name, "precision": _first_precision(files)}).encode()
    target = VENDORS_FOLDER / name
    with replacing_folder(target) as temporary:
        for file, content in files.items():
            (temporary / file).write_bytes(content)
    return target


def _first_precision(files: dict[str, bytes]) -> str:
    found = re.search(r"^precisions: \[(\w+)", files["chip.yaml"].decode(), re.MULTILINE)
    return found[1] if found else ""


def open_files(folder: Path) -> list[tuple[str, str]]:
    """(file, what is to be done) for whatever in a new folder is still to be written."""
    todo = []
    for path in sorted(folder.iterdir()):
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        count = text.count(OPEN)
        if "still to be written" in text and path.suffix == ".py":
            todo.append((path.name, re.search(r"([\w()]+) is still to be written", text)[1]))  # type: ignore[index]
        elif count:
            todo.append((path.name, f"{count} x {OPEN}"))
    return todo


def main() -> None:
    """python -m common.new_chip --name NAME"""
    parser = argparse.ArgumentParser(description="write a vendor folder to be completed")
    parser.add_argument("--name", default="")
    name = parser.parse_args().name
    folder = new_chip(name)
    print(f"{folder}/: make knows {name} now (make list). Still to be written, and failing until then:")
    for file, what in open_files(folder):
        print(f"  {file:16}  {what}")
    print(f"docs/adding_a_chip.md says what belongs there; try it with: make job CHIP={name} MODEL=name")


if __name__ == "__main__":
    run(main)
