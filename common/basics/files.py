"""Files are the only interface between stages, so they appear whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.basics.errors import UserError

MISSING = object()  # of a file: None may be what it holds


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends well, else remove it.

    The temporary name ends like `path` because writers such as np.savez and cv2.imwrite go by the suffix.
    """
    import tempfile  # only here, as shutil and hashlib below: a make that finds all built writes nothing

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".partial-", suffix=path.name, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes 0600; a made file should be readable like any other.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Like replacing(), for a folder: the old one goes away only when the new one is complete."""
    import shutil
    import tempfile

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".partial-", suffix=path.name, dir=path.parent))
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def to_json(value: Any) -> str:
    """The one JSON form of the project: indented, in insertion order, NaN refused, ends with a newline."""
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as JSON, whole or not at all. Raises ValueError on NaN or infinity."""
    text = to_json(value)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json_if_changed(path: str | os.PathLike, value: Any) -> bool:
    """Write only when the content differs, so that make sees a new time only for a real change."""
    path, text = Path(path), to_json(value)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return True


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file; UserError that names the file when it is missing or damaged."""
    content = read_json_if_there(path)
    if content is MISSING:
        raise UserError(f"{path} is missing", "run the make that produces it again")
    return content


def read_json_if_there(path: str | os.PathLike) -> Any:
    """Like read_json(), but MISSING for a file that is not there."""
    try:
        with open(path, "rb") as file:  # not as text: a make over many cells reads thousands
            return json.loads(file.read().decode("utf-8"))
    except FileNotFoundError:
        return MISSING
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not valid JSON: {error}", "remove it and run the same make again") from None


def sha256_file(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def folder_fingerprint(folder: Path) -> str:
    """A hash of the names, sizes and times of all files below: an added, changed or removed one changes it."""
    import hashlib

    digest = hashlib.sha256()
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place) / name
            state = path.stat()
            digest.update(f"{path.relative_to(folder)}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
