"""What is known already about a network and its calibration tensors: results that a later rung takes over."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from atomic_files import write_json


class Stages:
    """JSON files in the job's cache folder, one a stage of calibration.

    folder: belongs to one graph and one set of calibration tensors (artifact_record.cache_folder).
    kept_float: layers that the user keeps out of int8; results that depend on them are kept apart.
    """

    def __init__(self, folder: Path, kept_float: Collection[str]):
        self.folder = folder
        names = "\n".join(sorted(kept_float))
        self._suffix = f"-{hashlib.sha256(names.encode()).hexdigest()[:12]}" if names else ""

    def remember(self, name: str, compute: Callable[[], dict[str, Any]], of_network: bool = False) -> dict[str, Any]:
        """The result of a stage: read when it is there, else computed and kept. compute: gives plain JSON values.

        of_network: the result does not depend on what the user keeps float.
        """
        path = self.folder / f"{name}{'' if of_network else self._suffix}.json"
        if not _readable(path):
            write_json(path, compute())
        # Read back even when new: a rung that begins here must see what one that goes on sees.
        return json.loads(path.read_text(encoding="utf-8"))


def _readable(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except (FileNotFoundError, ValueError):  # files appear whole; one that was damaged later is computed again
        return False
