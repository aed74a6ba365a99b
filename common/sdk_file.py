"""`make sdk CHIP=name`: a licensed file of an SDK, from a place of one's own, into vendors/<folder>/sdk/.

For machines that nobody lays a file onto by hand. The environment variable SDK_URLS, a secret, has one line a file:

    <vendor folder>=https://host/path/file.whl#sha256=...

The hash is optional. Neither the address nor anything of it but the file's name is ever printed.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from common.basics.errors import USAGE_EXIT, UserError, run
from common.basics.files import sha256_file
from common.declarations.spec import VENDORS_FOLDER, chip_names, load_chip
from common.weights import download

URLS = "SDK_URLS"


@dataclass(frozen=True)
class SdkFile:
    """A line of SDK_URLS. folder: the vendor folder's name; sha256: 64 digits, or nothing."""

    folder: str
    url: str
    sha256: str

    @property
    def name(self) -> str:
        """What the file is called, by the last part of its address."""
        return urllib.parse.unquote(urllib.parse.urlsplit(self.url).path.rpartition("/")[2])


def sdk_files() -> list[SdkFile]:
    """What SDK_URLS lists. Raises UserError for a line that is none, by its number: the line itself is a secret."""
    found = []
    for number, line in enumerate(os.environ.get(URLS, "").splitlines(), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"([A-Za-z0-9_.-]+)=(https?://[^\s#]+)(?:#sha256=([0-9a-f]{64}))?", line.strip())
        entry = SdkFile(match[1], match[2], match[3] or "") if match else None
        if entry is None or not re.fullmatch(r"[A-Za-z0-9_.+-]*[A-Za-z0-9]", entry.name):
            hint = "<vendor folder>=https://host/path/file.whl#sha256=<64 digits>, one a line; the hash may be left out"
            raise UserError(f"{URLS}: line {number} is not of this form", hint)
        if not (VENDORS_FOLDER / entry.folder / "chip.yaml").is_file():
            folders = sorted({path.parent.name for path in chip_names().values()})
            raise UserError(f"{URLS}: line {number} names no vendor folder", f"one of: {', '.join(folders)}")
        found.append(entry)
    return found


def licensed_folders() -> set[str]:
    """The vendor folders that SDK_URLS has a file for."""
    return {entry.folder for entry in sdk_files()}


def fetch_sdk(chip: str) -> list[Path]:
    """Download the chip's files, unless they are there; returns their paths.

    Raises UserError when SDK_URLS names none or another file than the chip takes, the connection fails, or a hash is
    wrong.
    """
    spec = load_chip(chip)
    folder, patterns = spec.folder, sorted(set(spec.sdk.files.values()))
    wanted = [entry for entry in sdk_files() if entry.folder == folder.name]
    if not wanted:
        raise UserError(
            f"{URLS} names no file for {folder}", f"or lay it into {folder}/sdk/ by hand: {folder}/README.md"
        )
    for pattern in patterns:
        if not any(fnmatch.fnmatch(f"sdk/{entry.name}", pattern) for entry in wanted):
            raise UserError(f"{URLS} names no {pattern} for {folder}", f"{folder}/README.md says which file it is")
    return [_fetch(entry, folder / "sdk" / entry.name) for entry in wanted]


def _fetch(entry: SdkFile, target: Path) -> Path:
    if not target.is_file():
        partial = target.with_name(target.name + ".partial")
        try:
            download(entry.url, partial, f"check the line of {URLS} that ends in {entry.name}")
        except UserError as error:  # it quotes the address
            raise UserError(error.message.replace(entry.url, entry.name), error.hint, error.exit_code) from None
        if entry.sha256 and sha256_file(partial) != entry.sha256:
            partial.unlink()
            raise UserError(
                f"{entry.name}: its SHA-256 is not the one of {URLS}", "is it the right version of the file?"
            )
        os.replace(partial, target)
    print(f"{target} is there")
    return target


def main() -> None:
    """python -m common.sdk_file --chip NAME"""
    parser = argparse.ArgumentParser(description="fetch a licensed file of an SDK")
    parser.add_argument("--chip", default="")
    chip = parser.parse_args().chip
    if not chip:
        raise UserError("which chip? CHIP= is not set", "make sdk CHIP=name", USAGE_EXIT)
    fetch_sdk(chip)


if __name__ == "__main__":
    run(main)
