"""The parsed and the quantised networks (.har) that a rerun, or another rung, goes on from."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

from atomic_files import read_json, replacing, sha256_of, write_json
from failure import VendorError


class HarStore:
    """job/cache/<key>/*.har, each with a .json of its hash; the key stands for all that both are made from."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.resumed: list[str] = []

    def get(self, kind: str, content: str, make: Callable[[Path], None]) -> Path:
        """The HAR of this kind and content (what else it depends on, as text): kept from before, or made now.

        make(path) writes it. One that was half-written or changed since is made again.
        """
        name = f"{kind}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
        path, record = self.folder / f"{name}.har", self.folder / f"{name}.json"
        if self._intact(path, record):
            print(f"{kind}: resumed from {path}", file=sys.stderr)
            self.resumed.append(kind)
            return path
        record.unlink(missing_ok=True)
        with replacing(path) as temporary:
            make(temporary)
        write_json(record, {"sha256": sha256_of([path]), "bytes": path.stat().st_size})
        return path

    @staticmethod
    def _intact(path: Path, record: Path) -> bool:
        if not path.is_file() or not record.is_file():
            return False
        try:
            return read_json(record, "").get("sha256") == sha256_of([path])
        except (VendorError, AttributeError):
            return False
