"""How a network's input is made of pixels, and the way back: some tools normalise by themselves, and want the pixels.

This file is the same in every vendor folder, so that each folder can be taken away alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from failure import VendorError


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become the network's input: x = (pixel / scale - mean) / std for each of the three channels."""

    color: str  # "rgb" or "bgr": the order of the channels
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def mean_pixels(self) -> list[float]:
        """The mean in units of 0..255 pixels, for vendors who normalise as (pixel - mean) / std."""
        return [value * self.scale for value in self.mean]

    @property
    def std_pixels(self) -> list[float]:
        """The standard deviation in units of 0..255 pixels."""
        return [value * self.scale for value in self.std]

    def pixels(self, array: np.ndarray, where: str) -> np.ndarray:
        """The pixels that a network input was made of: float32 [N, 3, H, W] normalised in, whole numbers 0..255 out.

        Raises VendorError unless every value is within 0.01 of a pixel: a rounding error of float32, and no more.
        """
        mean, std = (np.array(values, np.float64).reshape(1, 3, 1, 1) for values in (self.mean_pixels, self.std_pixels))
        exact = array.astype(np.float64) * std + mean
        whole = np.rint(exact)
        if np.abs(exact - whole).max() > 0.01 or whole.min() < 0 or whole.max() > 255:
            raise VendorError(
                f"{where} holds values that are no pixels of 0 to 255, normalised as job.json says",
                "scale, mean and std in job.json have to be those that made these tensors; in npumake, run make again",
            )
        return whole.astype(np.float32)


def preprocessing_of(entry: dict[str, Any]) -> Preprocessing | None:
    """What an input of job.json, checked against its schema, says of itself; None when it says nothing."""
    if "mean" not in entry:
        return None
    mean, std = (tuple(float(value) for value in entry[key]) for key in ("mean", "std"))
    return Preprocessing(entry["color"], float(entry["scale"]), mean, std)
