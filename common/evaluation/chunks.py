"""A long evaluation in pieces: what was asked, and one file for each finished piece. That is all there is to resuming.

    <folder>/request.json        what was asked; when that is another than before, everything begins anew
    <folder>/chunk-000017.npz    Predictions of the chunk's instances, counted from the chunk's first one
    <folder>/metrics.json        written when all chunks are there
    <folder>/results.json        COCO's results list

The chunks depend on the request only: shards on several machines fill the same folder, each with chunks of its own.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from common.basics.errors import UserError
from common.basics.files import read_json, replacing, to_json, write_json
from common.decoding.predictions import Predictions, concatenate
from common.samples import load_arrays

REQUEST = "request.json"
METRICS, RESULTS = "metrics.json", "results.json"


class Chunks:
    """The pieces of one request over `instances` network inputs, `size` in each.

    Opening it writes request.json; pieces of another request are removed, and `changed` says in which keys it differs.
    """

    def __init__(self, folder: Path, request: dict[str, Any], instances: int, size: int):
        self.folder, self.instances, self.size = folder, instances, size
        request = request | {"instances": instances, "chunk": size}
        # Of the text, so that it is the same after a trip through JSON.
        self.digest = hashlib.sha256(to_json(request).encode()).hexdigest()[:16]
        self.changed: list[str] = []
        path = folder / REQUEST
        if path.exists():
            before = _read_request(path)
            self.changed = sorted(key for key in {**before, **request} if before.get(key) != request.get(key))
            if not self.changed:
                return
            for old in [*folder.glob("chunk-*.npz"), folder / METRICS, folder / RESULTS]:
                old.unlink(missing_ok=True)
        write_json(path, request)

    @property
    def count(self) -> int:
        """How many pieces there are."""
        return -(-self.instances // self.size)

    def path(self, index: int) -> Path:
        """The file of a piece."""
        return self.folder / f"chunk-{index:06d}.npz"

    def span(self, index: int) -> range:
        """The instances of a piece."""
        return range(index * self.size, min(self.instances, (index + 1) * self.size))

    def missing(self, shard: tuple[int, int] = (1, 1)) -> list[int]:
        """The unfinished pieces of shard i of n: those whose index leaves i - 1 when divided by n."""
        number, of = shard
        return [index for index in range(number - 1, self.count, of) if not self.path(index).exists()]

    def write(self, index: int, parts: list[Predictions]) -> None:
        """Keep a piece, whole or not at all. parts: counted from the piece's first instance."""
        arrays = concatenate(parts, parts[0].keypoints.shape[1]).arrays()
        with replacing(self.path(index)) as temporary:
            np.savez(temporary, request=np.array(self.digest), **arrays)

    def merge(self) -> Predictions:
        """All pieces as one. Raises UserError when one is damaged or of another request."""
        parts = []
        for index in range(self.count):
            arrays, path = load_arrays(self.path(index)), self.path(index)
            if str(arrays.get("request")) != self.digest:  # of a run that was still going on when this one began
                raise UserError(f"{path} belongs to another request", "remove it and run the same make again")
            part = Predictions.from_arrays(arrays, str(path))
            if len(part) and not 0 <= part.instance[0] <= part.instance[-1] < len(self.span(index)):
                raise UserError(f"{path} speaks of instances that it does not have", "remove it and run the same make")
            parts.append(part.shifted(self.span(index).start))
        return concatenate(parts, parts[0].keypoints.shape[1])


def _read_request(path: Path) -> dict[str, Any]:
    """The request of before; a damaged one is as good as another one."""
    try:
        content = read_json(path)
    except UserError:
        return {}
    return content if isinstance(content, dict) else {}
