"""Recomputing a calibration tensor from its photograph, in other words than common/preprocessing/preprocess.py uses.

The lint must not agree with a mistake because it shares it: a person's crop is cut with cv2.getAffineTransform from
three points, colours are ordered by index, and the arithmetic is float64, channel by channel. How a whole image is
fitted into the network's frame is the task's own rule; colours and arithmetic are made here for it, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from common.declarations.spec import InputSpec, ModelSpec
from common.tasks import instance_of, task_of

# Two ways to write one affine map may round a pixel's position to neighbouring 1/32 steps of cv2.warpAffine.
MOST_DIFFERENT_PIXELS = 0.01
PIXEL_TOLERANCE = 0.51 / 255  # half a grey level, as a share of the full range
KNOWN_BORDERS = {"black": 0, "grey 114, a letterbox": 114, "grey 128": 128, "white": 255}


def recompute(image: np.ndarray, sample: dict[str, Any], spec: ModelSpec) -> np.ndarray:
    """Make the pixels of a sample out of its photograph again: uint8 [h, w, 3] BGR, before any normalising.

    image: uint8 [H, W, 3] BGR. sample: an entry of the manifest (a top-down one has center and scale).
    """
    import cv2

    width, height = spec.input.width, spec.input.height
    if spec.task != "topdown_pose":
        return _fitted(image, sample, spec, spec.input.border)
    (x, y), reach = sample["center"], sample["scale"][0] * 200.0 / 2
    source = np.array([[x, y], [x + reach, y], [x, y + reach * height / width]], np.float32)
    target = np.array([[width / 2, height / 2], [width, height / 2], [width / 2, height]], np.float32)
    return cv2.warpAffine(image, cv2.getAffineTransform(source, target), (width, height), flags=cv2.INTER_LINEAR)


def explain_difference(tensor: np.ndarray, pixels: np.ndarray, declared: InputSpec) -> str | None:
    """None when a tensor is what its pixels give; else in words what was done to it, if one known slip gives it.

    tensor: float32 [C, h, w] as stored; pixels: uint8 [h, w, 3] BGR, recomputed.
    """
    full = 255.0 / declared.scale / np.asarray(declared.std)
    ordered = _ordered(pixels, declared.color)
    scale, mean, std = declared.scale, declared.mean, declared.std
    expected = _normalized(ordered, scale, mean, std)
    if _same(tensor, expected, full):
        return None
    swapped = ordered[..., ::-1]
    channels = ordered.shape[-1]
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


def explain_border(tensor: np.ndarray, image: np.ndarray, sample: dict[str, Any], spec: ModelSpec) -> str | None:
    """In words, when a whole image fits with another border around it; None when that is not it, or for crops."""
    if spec.task == "topdown_pose":
        return None
    for words, border in KNOWN_BORDERS.items():
        if border != spec.input.border and not explain_difference(
            tensor, _fitted(image, sample, spec, border), spec.input
        ):
            return f"the border is {words}, declared is {spec.input.border}"
    return None


def _fitted(image: np.ndarray, sample: dict[str, Any], spec: ModelSpec, border: int) -> np.ndarray:
    """A whole image in the network's frame, by the task's own rule, as plain BGR pixels: uint8 [h, w, 3]."""
    plain = {"color": "bgr", "scale": 1.0, "mean": [0.0] * 3, "std": [1.0] * 3, "border": border}
    shape = [1, 3, *spec.input.shape[2:]]
    raw = spec.model_copy(update={"input": spec.input.model_copy(update=plain | {"shape": shape})})
    tensor = task_of(raw).input_of(image, instance_of(sample | {"file": sample["image"]}))
    return np.rint(tensor).astype(np.uint8).transpose(1, 2, 0)


def _ordered(pixels: np.ndarray, color: str) -> np.ndarray:
    import cv2

    if color == "gray":
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)[..., None]
    return pixels[..., [2, 1, 0]] if color == "rgb" else pixels


def _normalized(pixels: np.ndarray, scale: float, mean: list[float], std: list[float]) -> np.ndarray:
    channels = [(pixels[..., c].astype(np.float64) / scale - mean[c]) / std[c] for c in range(pixels.shape[-1])]
    return np.stack(channels)


def _same(tensor: np.ndarray, values: np.ndarray, full: np.ndarray) -> bool:
    allowed = (PIXEL_TOLERANCE * full)[:, None, None]
    return bool((np.abs(tensor - values) > allowed).mean() <= MOST_DIFFERENT_PIXELS)
