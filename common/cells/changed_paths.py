"""Which cells a change can have harmed, by the folders that it touches.

A vendor folder (or the stand-in of its SDK) touches its own chips, a model's folder that model, prose and tests touch
no cell: the tests are run in any case. Everything else, and whatever is not known here, touches all cells.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from common.basics.errors import USAGE_EXIT, UserError
from common.declarations.spec import MODELS_FOLDER, VENDORS_FOLDER

PROSE = {".md", ".png", ".jpg", ".svg"}
NO_CELL = {"docs", "LICENSE", ".gitignore", ".ci", ".yamllint", "compose"}
DOUBLES = ("tests", "doubles")


@dataclass(frozen=True)
class Touched:
    """Names of model folders and of vendor folders; or everything."""

    everything: bool = False
    models: frozenset[str] = frozenset()
    vendors: frozenset[str] = frozenset()


def read_paths(text: str) -> list[str]:
    """Paths separated by spaces; @file: from a file, one a line, as `git diff --name-only` writes them.

    Raises UserError (exit 2) when the file cannot be read.
    """
    if not text.startswith("@"):
        return text.split()
    try:
        return Path(text[1:]).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"CHANGED={text}: {text[1:]} cannot be read: {error}", "git diff --name-only main > file", USAGE_EXIT
        ) from None


def touched_by(paths: Iterable[str]) -> Touched:
    """What these paths, relative to the project, touch. A folder that is gone touches everything."""
    models, vendors, everything = set(), set(), False
    for path in filter(None, map(str.strip, paths)):
        parts = PurePosixPath(path).parts
        if PurePosixPath(path).suffix in PROSE or parts[0] in NO_CELL:
            continue
        if parts[0] == VENDORS_FOLDER.name and _is_folder(VENDORS_FOLDER, parts[1:], "chip.yaml"):
            vendors.add(parts[1])
        elif parts[0] == MODELS_FOLDER.name and _is_folder(MODELS_FOLDER, parts[1:], "model.yaml"):
            models.add(parts[1])
        elif parts[:2] == DOUBLES and _is_folder(VENDORS_FOLDER, parts[2:], "chip.yaml"):
            vendors.add(parts[2])
        elif parts[0] != "tests" or parts[:2] == DOUBLES:
            everything = True
    return Touched(everything, frozenset(models), frozenset(vendors))


def _is_folder(parent: Path, rest: tuple[str, ...], declaration: str) -> bool:
    """Whether a path below parent/ lies in a folder of it that declares something."""
    return len(rest) > 1 and (parent / rest[0] / declaration).is_file()
