"""Are two pictures the same photograph? By bytes, by pixels, and by what is left after re-encoding or resizing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

THUMBNAIL_SIDE = 32
# Set on photographs: a JPEG of quality 50 or a copy at half size stays below 3 grey levels and above 0.99;
# different photographs, and neighbouring crops of one, are far from both.
LARGEST_DIFFERENCE = 4.0
LEAST_CORRELATION = 0.985


def thumbnail(image: np.ndarray) -> np.ndarray:
    """A picture's overall look: uint8 [H, W, 3] BGR or [H, W] grey -> float32 [32 * 32] in grey levels 0..255."""
    import cv2

    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32).ravel()


def file_thumbnail(path: Path) -> np.ndarray:
    """The thumbnail of an image file, decoded at half size where the format allows (it is several times faster)."""
    import cv2

    data = np.frombuffer(path.read_bytes(), np.uint8)
    grey = cv2.imdecode(data, cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_IGNORE_ORIENTATION)
    if grey is None or min(grey.shape) < THUMBNAIL_SIDE:
        grey = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    return thumbnail(grey)


def alike(thumbnails: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which pictures look the same: bool [N, M] for thumbnails [N, 1024] and others [M, 1024].

    Both measures must agree: the mean absolute difference is small (also for plain pictures), and the correlation
    is high (brightness alone does not make two pictures alike). Pictures without contrast are judged by the first.
    """
    result = np.zeros((len(thumbnails), len(others)), bool)
    if not result.size:
        return result
    left, right = _standardized(thumbnails), _standardized(others)
    correlation = left @ right.T
    flat = (left == 0).all(axis=1)[:, None] & (right == 0).all(axis=1)[None, :]
    for row, column in np.argwhere((correlation >= LEAST_CORRELATION) | flat):
        result[row, column] = np.abs(thumbnails[row] - others[column]).mean() <= LARGEST_DIFFERENCE
    return result


def _standardized(thumbnails: np.ndarray) -> np.ndarray:
    centred = thumbnails - thumbnails.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 1e-3)
