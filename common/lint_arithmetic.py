"""Recomputing a calibration tensor from its photograph, in other words than common/preprocess.py uses.

The lint must not agree with a mistake because it shares it: the crop is cut with cv2.getAffineTransform from three
points, colours are ordered by index, and the arithmetic is float64, channel by channel.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

# Two ways to write one affine map may round a pixel's position to neighbouring 1/32 steps of cv2.warpAffine.
MOST_DIFFERENT_PIXELS = 0.01
PIXEL_TOLERANCE = 0.51 / 255  # half a grey level, as a share of the full range


def recompute(image: np.ndarray, sample: dict[str, Any], declared: Any) -> tuple[np.ndarray, np.ndarray]:
    """Cut a sample out of its photograph again, and normalise it.

    image: uint8 [H, W, 3] BGR. sample: an entry of the manifest (center, scale). declared: spec.input.
    Returns (pixels uint8 [h, w, 3] BGR, tensor float64 [C, h, w]).
    """
    width, height = declared.width, declared.height
    (x, y), reach = sample["center"], sample["scale"][0] * 200.0 / 2
    source = np.array([[x, y], [x + reach, y], [x, y + reach * height / width]], np.float32)
    target = np.array([[width / 2, height / 2], [width, height / 2], [width / 2, height]], np.float32)
    pixels = cv2.warpAffine(image, cv2.getAffineTransform(source, target), (width, height), flags=cv2.INTER_LINEAR)
    return pixels, _normalized(_ordered(pixels, declared.color), declared.scale, declared.mean, declared.std)


def explain_difference(tensor: np.ndarray, expected: np.ndarray, pixels: np.ndarray, declared: Any) -> str | None:
    """None when a tensor is the expected one; else in words what was done to it, if one known slip gives it.

    tensor: float32 [C, h, w] as stored; expected: float64 [C, h, w]; pixels: uint8 [h, w, 3] BGR.
    """
    full = 255.0 / declared.scale / np.asarray(declared.std)
    if _same(tensor, expected, full):
        return None
    ordered = _ordered(pixels, declared.color)
    swapped = ordered[..., ::-1]
    channels = ordered.shape[-1]
    scale, mean, std = declared.scale, declared.mean, declared.std
    none, one = [0.0] * channels, [1.0] * channels
    slips = {
        "red and blue are swapped": _normalized(swapped, scale, mean, std),
        "the mean was not subtracted": _normalized(ordered, scale, none, std),
        "it was not divided by std": _normalized(ordered, scale, mean, one),
        "neither mean nor std was applied": _normalized(ordered, scale, none, one),
        "pixels were not divided by the scale": _normalized(ordered, 1.0, mean, std),
        "pixels are raw, 0..255": _normalized(ordered, 1.0, none, one),
        "mean and std are applied in the reverse channel order": _normalized(ordered, scale, mean[::-1], std[::-1]),
    }
    for words, values in slips.items():
        if _same(tensor, values, full):
            return words
    different = np.abs(tensor - expected).max()
    return f"values differ by up to {different:.3g}, by no slip that is known"


def _ordered(pixels: np.ndarray, color: str) -> np.ndarray:
    if color == "gray":
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)[..., None]
    return pixels[..., [2, 1, 0]] if color == "rgb" else pixels


def _normalized(pixels: np.ndarray, scale: float, mean: list[float], std: list[float]) -> np.ndarray:
    channels = [(pixels[..., c].astype(np.float64) / scale - mean[c]) / std[c] for c in range(pixels.shape[-1])]
    return np.stack(channels)


def _same(tensor: np.ndarray, values: np.ndarray, full: np.ndarray) -> bool:
    allowed = (PIXEL_TOLERANCE * full)[:, None, None]
    return bool((np.abs(tensor - values) > allowed).mean() <= MOST_DIFFERENT_PIXELS)
