"""From HigherHRNet's outputs to one set of heatmaps and tags at the size of its input (lib/core/inference.py).

    first stage [2K, h, w]        K heatmaps and K tag maps, at a quarter of the input     -> resized to 2h x 2w
    second stage [K, 2h, 2w]      K heatmaps, at half of the input                         -> mean of both stages
    the same of the mirrored      mirrored back, left and right channels exchanged         -> mean; tags: a second set
    input, for the flip test
                                  all of it resized to the input's size                    -> [K, H, W], [T, K, H, W]

A network with the first stage alone will do as well. Resizing is bilinear between pixel centres (PyTorch's
align_corners=False); OpenCV's differs from it by rounding only, some 1e-7 of the values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from common.basics.errors import UserError
from common.basics.wording import shape_text
from common.decoding.predictions import check_finite


def find_stages(shapes: Mapping[str, Sequence[int]], joints: int, where: str) -> tuple[str, str | None]:
    """The names of the first stage and of the second one, or None where there is but one, told apart by shape.

    shapes: [N, C, h, w] by name; joints: K. Raises UserError, with what was found, unless there is one output of 2K
    channels and at most one other, of K channels and twice its height and width.
    """
    four = all(len(shape) == 4 for shape in shapes.values())
    names = sorted(shapes, key=lambda name: -shapes[name][1]) if four else []
    channels = [shapes[name][1] for name in names]
    if channels == [2 * joints]:
        return names[0], None
    if channels == [2 * joints, joints]:
        first, second = (tuple(shapes[name][2:]) for name in names)
        if second == (2 * first[0], 2 * first[1]):
            return names[0], names[1]
    found = ", ".join(f"{name} {shape_text(shapes[name])}" for name in shapes) or "no output"
    raise UserError(
        f"{where} gives {found}; decoding needs 1x{2 * joints}xHxW (heatmaps and tags of {joints} joints) and "
        f"1x{joints}x2Hx2W (heatmaps), or the first one alone",
        "correct decode in the spec, or export the network up to these maps",
    )


def check_maps(outputs: Mapping[str, np.ndarray], joints: int, where: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The stages' arrays, float32 [N, 2K, h, w] and [N, K, 2h, 2w] or None. UserError also for values not finite."""
    first, second = find_stages({name: value.shape for name, value in outputs.items()}, joints, where)
    for name in filter(None, (first, second)):
        check_finite(outputs[name], f"{where}, output {name}")
    return outputs[first], outputs[second] if second else None


def merge_stages(first: np.ndarray, second: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps and tags, float32 [K, h, w] each, of one input's stages [2K, ...] and [K, ...] at the larger size."""
    joints = len(first) // 2
    if second is None:
        return first[:joints], first[joints:]
    resized = resize_maps(first, second.shape[:0:-1])
    return (resized[:joints] + second) / np.float32(2), resized[joints:]


def maps_of_input(
    stages: tuple[np.ndarray, np.ndarray | None],
    mirrored: tuple[np.ndarray, np.ndarray | None] | None,
    flip_order: np.ndarray,
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps float32 [K, H, W] and tags float32 [T, K, H, W] of one input, at size (W, H).

    stages: of the input, without the batch axis; mirrored: of its mirror image, or None; T is 2 or 1 accordingly.
    """
    heatmaps, tags = (resize_maps(maps, size) for maps in merge_stages(*stages))
    if mirrored is None:
        return heatmaps, tags[None]
    other_heatmaps, other_tags = (
        resize_maps(np.ascontiguousarray(maps[flip_order, :, ::-1]), size) for maps in merge_stages(*mirrored)
    )
    return (heatmaps + other_heatmaps) / np.float32(2), np.stack([tags, other_tags])


def resize_maps(maps: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize maps, float32 [C, h, w], to size (W, H), bilinear: float32 [C, H, W]."""
    import cv2

    width, height = size
    maps = np.ascontiguousarray(maps, np.float32)
    if maps.shape[1:] == (height, width):
        return maps
    resized = np.empty((len(maps), height, width), np.float32)
    for source, target in zip(maps, resized, strict=True):
        cv2.resize(source, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
    return resized
