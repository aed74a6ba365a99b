"""Files that appear whole or not at all, and their fingerprints."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from failure import VendorError


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A temporary folder inside `parent` (same file system, so that its files can be renamed); removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=".partial-", dir=parent))
    try:
        yield folder
    finally:
        try:
            shutil.rmtree(folder, ignore_errors=True)
        except KeyboardInterrupt:  # Ctrl-C in the middle of tidying up
            shutil.rmtree(folder, ignore_errors=True)
            raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends well, else remove it."""
    with scratch_folder(path.parent) as folder:
        temporary = folder / path.name
        yield temporary
        os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all. Raises ValueError on NaN or infinity."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path, hint: str) -> Any:
    """Read a JSON file; VendorError that names the file when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError:
        raise VendorError(f"{path} is missing", hint) from None
    except (ValueError, RecursionError) as error:
        raise VendorError(f"{path} is not valid JSON: {error}", hint) from None


def _refuse(constant: str) -> None:
    """NaN and Infinity, which Python's reader lets through."""
    raise ValueError(f"{constant} is no number of JSON")


def sha256_of(paths: list[Path]) -> str:
    """The SHA-256 of the files' bytes one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
