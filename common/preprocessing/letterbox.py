"""A whole photograph in a fixed rectangle: resized as it is, centred, with a plain border; and the way back.

    photograph 4 x 2         input 8 x 8
    +--------+               +----------------+
    |        |               |  border (114)  |  top = 2
    |        |  gain 2       |----------------|
    +--------+  -------->    |   photograph   |
                             |                |
                             |----------------|
                             |  border (114)  |
                             +----------------+

The geometry is that of Ultralytics' LetterBox for a fixed size (auto=False, scaleup=True, center=True): small
photographs are enlarged, and an odd border has its extra pixel below and to the right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Letterbox:
    """width, height: of the photograph; input_width, input_height: of the rectangle; resized_width, resized_height: of
    the photograph within it, at (left, top). All in whole pixels."""

    width: int
    height: int
    input_width: int
    input_height: int
    resized_width: int
    resized_height: int
    left: int
    top: int

    @classmethod
    def fit(cls, width: int, height: int, input_width: int, input_height: int) -> Letterbox:
        """The largest that fits: gain = min(input_height / height, input_width / width), sides rounded, 1 at least."""
        gain = min(input_height / height, input_width / width)
        resized = max(round(width * gain), 1), max(round(height * gain), 1)
        # Half of an odd border ends in .5; a tenth less rounds it down on this side.
        left, top = (round(free / 2 - 0.1) for free in (input_width - resized[0], input_height - resized[1]))
        return cls(width, height, input_width, input_height, *resized, left, top)

    @property
    def gain(self) -> np.ndarray:
        """Input pixels per image pixel in x and y, float64 [2]: they differ a little, as the sides are rounded."""
        return np.array([self.resized_width / self.width, self.resized_height / self.height])

    def apply(self, image: np.ndarray, border: int) -> np.ndarray:
        """Put the photograph, uint8 [height, width, 3], into the rectangle: uint8 [input_height, input_width, 3].

        Bilinear (also when shrinking: no averaging, as Ultralytics does); border: the pixel value around it.
        """
        import cv2

        size = (self.resized_width, self.resized_height)
        if (self.width, self.height) != size:
            image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        boxed = np.full((self.input_height, self.input_width, 3), border, np.uint8)
        boxed[self.top : self.top + self.resized_height, self.left : self.left + self.resized_width] = image
        return boxed

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Input pixels to image pixels, clipped to the image: [..., 2] as x, y, float64 [..., 2].

        Coordinates are those of edges (0 is the left edge of the first pixel), so width and height are still inside.
        """
        placed = (np.asarray(points, np.float64) - (self.left, self.top)) / self.gain
        return np.clip(placed, 0, (self.width, self.height))

    def to_input(self, points: np.ndarray) -> np.ndarray:
        """Image pixels to input pixels, the inverse of to_image() within the image: [..., 2] as x, y."""
        return np.asarray(points, np.float64) * self.gain + (self.left, self.top)
