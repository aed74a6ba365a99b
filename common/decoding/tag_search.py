"""Where a missing joint of a person is: the pixel with the largest heatmap - round(tag distance), found without
looking at all of them.

    +----+----+----+    each block of 16 x 16 pixels knows its largest heatmap value and the range of its tags, so
    | .1 | .9 | .0 |    that no pixel of it is worth more than    largest value - round(distance to the range)
    | -2 |  3 |  1 |
    +----+----+----+    a person of mean tag 1.1 is worth looking for in the third block (0.0 - 0), not in the first
                        (0.1 - 3) or second (0.9 - 2)

One look into the most promising blocks, then one into all that could be as good: the result is exact, because every
step of the arithmetic, float32 rounding included, keeps the order.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_BLOCK = 16
_FIRST_BLOCKS = 4  # enough to have one whose bound is no empty promise


class TagSearch:
    """Searches in one image's heatmaps, float32 [K, h, w], and tags, float32 [T, K, h, w]."""

    def __init__(self, heatmaps: np.ndarray, tags: np.ndarray):
        joints, height, width = heatmaps.shape
        self.heatmaps = np.ascontiguousarray(heatmaps, np.float32).reshape(joints, height * width)
        self.tags = np.ascontiguousarray(tags, np.float32).reshape(len(tags), joints, height * width)
        self._shape = height, width
        # The pixels of each block, int64 [blocks, 256]; a block that leaves the map repeats the map's last ones.
        y, x = (np.minimum(np.arange(0, side, _BLOCK)[:, None] + np.arange(_BLOCK), side - 1) for side in self._shape)
        self._pixels = (y[:, None, :, None] * width + x[None, :, None, :]).reshape(-1, _BLOCK * _BLOCK)
        self._bounds: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def best_place(self, joint: int, mean: np.ndarray) -> int:
        """The pixel with the largest heatmap - round(distance of its tags to `mean`); the first among equal ones.

        mean: float32 [T]. Pixels are numbered along the rows. Everything is float32, as in the published code
        (HigherHRNet lib/core/group.py refine).
        """
        largest, lowest, highest = self._block_bounds(joint)
        mean = mean[:, None]
        nearest = np.maximum(np.maximum(lowest - mean, mean - highest), 0)
        bounds = largest - np.round(_length(nearest))
        looked_at = min(_FIRST_BLOCKS, len(bounds))
        promising = np.argpartition(-bounds, looked_at - 1)[:looked_at]
        worth = self._worth(joint, self._pixels[promising].reshape(-1), mean).max()
        places = self._pixels[bounds >= worth].reshape(-1)
        values = self._worth(joint, places, mean)
        return int(places[values == values.max()].min())

    def prepare(self, joint: int) -> None:
        """Look at a joint's maps once, which best_place() would do the first time; safe in several threads."""
        self._block_bounds(joint)

    def _worth(self, joint: int, places: np.ndarray, mean: np.ndarray) -> np.ndarray:
        # One component after the other: take() would copy the whole of an array that is not contiguous.
        tags = np.stack([component[joint].take(places) for component in self.tags])
        return self.heatmaps[joint].take(places) - np.round(_length(tags - mean))

    def _block_bounds(self, joint: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each block: the largest heatmap value [blocks], the lowest and the highest tags [T, blocks] each."""
        if joint not in self._bounds:
            heatmap = self.heatmaps[joint].reshape(1, *self._shape)
            tags = self.tags[:, joint].reshape(-1, *self._shape)
            self._bounds[joint] = (
                _of_blocks(np.max, heatmap)[0],
                _of_blocks(np.min, tags),
                _of_blocks(np.max, tags),
            )
        return self._bounds[joint]


def _of_blocks(function: Callable[..., np.ndarray], maps: np.ndarray) -> np.ndarray:
    """np.max or np.min of every block of maps [n, h, w]: [n, blocks]."""
    count, height, width = maps.shape
    beyond = -height % _BLOCK, -width % _BLOCK
    if any(beyond):
        maps = np.pad(maps, ((0, 0), (0, beyond[0]), (0, beyond[1])), mode="edge")
        height, width = maps.shape[1:]
    # numpy is fast along whole rows, and slow along sixteen pixels of one: hence rows first, then a transposed copy.
    strips = function(maps.reshape(count, height // _BLOCK, _BLOCK, width), axis=2)
    columns = np.ascontiguousarray(strips.reshape(count, -1, width // _BLOCK, _BLOCK).transpose(0, 3, 1, 2))
    return function(columns, axis=1).reshape(count, -1)


def _length(vectors: np.ndarray) -> np.ndarray:
    """Euclidean length of float32 [T, n] over T. One component needs no root: sqrt(x * x) is |x| in float32 too."""
    if len(vectors) == 1:
        return np.abs(vectors[0])
    return np.sqrt((vectors**2).sum(axis=0))
