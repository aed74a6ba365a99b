"""From heatmaps to keypoints, as HRNet does it (lib/core/inference.py, lib/utils/transforms.py).

    heatmaps [N, K, h, w]          points [N, K, 2]            people [N, K, 3]
    +---------w---------+
    |  .  .  .  .  .  . |  peak    (x, y) in heatmap pixels     (x, y, score) in image pixels
    h  .  . [9] 7  .  . |  ----->  argmax, then a quarter  ---> (point - map centre) * crop / map size
    |  .  .  5  .  .  . |          towards the larger           + box centre
    +-------------------+          neighbour: (2.25, 1.25)

The score is the raw value of the peak: no sigmoid, so it may be negative or above 1.
"""

from __future__ import annotations

import numpy as np

from common.basics.errors import UserError
from common.preprocessing.preprocess import to_image

REFINEMENTS = ("quarter", "dark", "none")
DARK_KERNEL = 11  # DARK's blur for heatmaps trained with sigma 2 (17 for sigma 3)


def decode_heatmaps(
    heatmaps: np.ndarray, refine: str = "quarter", kernel: int = DARK_KERNEL
) -> tuple[np.ndarray, np.ndarray]:
    """Find the peak of every heatmap.

    heatmaps: [N, K, h, w]. refine: "quarter" (HRNet), "dark" (Zhang et al. 2020, blur with `kernel`) or "none".
    Returns (points float64 [N, K, 2] as x, y in heatmap pixels, scores float64 [N, K], the raw peak values).
    A joint whose peak is not positive gets (0, 0); among equal peaks the first in row order wins.
    """
    heatmaps = np.asarray(heatmaps)
    if heatmaps.ndim != 4:
        raise UserError(f"heatmaps have shape {heatmaps.shape}, expected [N, K, h, w]")
    if refine not in REFINEMENTS:
        raise UserError(f"unknown decode.refine {refine!r}", f"write one of: {', '.join(REFINEMENTS)}")
    count, joints, height, width = heatmaps.shape
    flat = heatmaps.reshape(count, joints, height * width)
    peak = flat.argmax(axis=2)
    scores = np.take_along_axis(flat, peak[..., None], axis=2)[..., 0].astype(np.float64)
    points = np.stack([peak % width, peak // width], axis=-1).astype(np.float64)
    points[scores <= 0] = 0.0
    if refine == "quarter":
        points = _shift_quarter(heatmaps, points)
    elif refine == "dark":
        points = _shift_dark(heatmaps, points, kernel)
    return points, scores


def decode_people(heatmaps: np.ndarray, centers: np.ndarray, scales: np.ndarray, refine: str = "quarter") -> np.ndarray:
    """Decode heatmaps to keypoints in the image.

    heatmaps: [N, K, h, w]; centers, scales: [N, 2] from box_to_center_scale().
    Returns float32 [N, K, 3]: x, y in image pixels and the raw peak value.
    """
    points, scores = decode_heatmaps(heatmaps, refine)
    height, width = heatmaps.shape[2:]
    placed = to_image(points, centers, scales, (width, height))
    return np.concatenate([placed, scores[..., None]], axis=-1).astype(np.float32)


def _shift_quarter(heatmaps: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Add 0.25 * sign(right - left, down - up) where both 1 < x < w-1 and 1 < y < h-1 (strict, as in HRNet).

    mmpose tests the two axes one by one, which differs on border rows and columns.
    """
    height, width = heatmaps.shape[2:]
    x, y = points[..., 0].astype(np.intp), points[..., 1].astype(np.intp)
    inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
    n, k = np.nonzero(inside)
    x, y = x[inside], y[inside]
    difference = np.stack(
        [
            heatmaps[n, k, y, x + 1].astype(np.float64) - heatmaps[n, k, y, x - 1],
            heatmaps[n, k, y + 1, x].astype(np.float64) - heatmaps[n, k, y - 1, x],
        ],
        axis=-1,
    )
    shifted = points.copy()
    shifted[inside] += 0.25 * np.sign(difference)
    return shifted


def _shift_dark(heatmaps: np.ndarray, points: np.ndarray, kernel: int) -> np.ndarray:
    """DARK: one Newton step on the logarithm of the smoothed heatmap, where 1 < x < w-2 and 1 < y < h-2.

    Source: Zhang et al., "Distribution-Aware Coordinate Representation" (2020), equations 6 to 9.
    """
    height, width = heatmaps.shape[2:]
    x, y = points[..., 0].astype(np.intp), points[..., 1].astype(np.intp)
    inside = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
    shifted = points.copy()
    for n, k in zip(*np.nonzero(inside), strict=True):
        log = np.log(np.maximum(blur_heatmap(heatmaps[n, k], kernel), 1e-10))
        column, row = x[n, k], y[n, k]
        gradient_x = 0.5 * (log[row, column + 1] - log[row, column - 1])
        gradient_y = 0.5 * (log[row + 1, column] - log[row - 1, column])
        curve_xx = 0.25 * (log[row, column + 2] - 2 * log[row, column] + log[row, column - 2])
        curve_yy = 0.25 * (log[row + 2, column] - 2 * log[row, column] + log[row - 2, column])
        curve_xy = 0.25 * (
            log[row + 1, column + 1] - log[row - 1, column + 1] - log[row + 1, column - 1] + log[row - 1, column - 1]
        )
        determinant = curve_xx * curve_yy - curve_xy**2
        if determinant != 0:
            shifted[n, k, 0] -= (curve_yy * gradient_x - curve_xy * gradient_y) / determinant
            shifted[n, k, 1] -= (curve_xx * gradient_y - curve_xy * gradient_x) / determinant
    return shifted


def blur_heatmap(heatmap: np.ndarray, kernel: int = DARK_KERNEL) -> np.ndarray:
    """Smooth one heatmap [h, w] with a Gaussian (zeros around it) and scale it back to its old maximum.

    Source: DARK's gaussian_blur, which derives the sigma from the kernel as OpenCV does. Returns float64 [h, w].
    """
    import cv2

    heatmap = np.asarray(heatmap, np.float64)
    border = kernel // 2
    padded = cv2.GaussianBlur(np.pad(heatmap, border), (kernel, kernel), 0)
    height, width = heatmap.shape
    smooth = padded[border : border + height, border : border + width]
    highest = smooth.max()
    return smooth * (heatmap.max() / highest) if highest > 0 else smooth


def flip_back(heatmaps: np.ndarray, flip_order: np.ndarray, shift: bool = True) -> np.ndarray:
    """Make the heatmaps of a mirrored image comparable with the others: mirror them and swap left and right.

    heatmaps: [N, K, h, w] of the mirrored input; flip_order: [K] (KeypointSet.flip_order).
    shift: move the result one pixel to the right, keeping column 0 (HRNet TEST.SHIFT_HEATMAP: the crop's mirror
    axis and the heatmap's differ by one pixel). Returns [N, K, h, w] of the same dtype.
    """
    flipped = heatmaps[:, flip_order, :, ::-1].copy()
    if shift:
        flipped[..., 1:] = flipped[..., :-1].copy()
    return flipped


def flip_average(
    heatmaps: np.ndarray, heatmaps_of_flipped: np.ndarray, flip_order: np.ndarray, shift: bool = True
) -> np.ndarray:
    """The flip test: the mean of the heatmaps and of those of the mirrored input (HRNet lib/core/function.py)."""
    return (heatmaps + flip_back(heatmaps_of_flipped, flip_order, shift)) * 0.5
