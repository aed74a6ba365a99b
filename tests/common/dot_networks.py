"""Networks that find red dots: what they say depends on the pixels that they are shown, so that a test sees where a
picture, a crop or a coordinate went wrong. And pictures with dots.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from common.basics.errors import UserError
from common.drawing.networks import Sides
from common.evaluation.evaluated_network import EvaluatedNetwork
from common.preprocessing.preprocess import denormalize
from common.tasks import Outputs, task_of
from tests.common.cell_networks import CLASSES, NEVER, STANDING, expectations, gaussians, spec_of

SIDE = 44.0  # of the boxes that the detector puts around dots, in pixels of its input


class DotNetwork(EvaluatedNetwork):
    """A top-down network that finds somebody half as high as its input, hips on the largest red dot, `shift` pixels of
    its heatmap to the right.

    ran: how many inputs it was given each time.
    """

    def __init__(self, title: str = "dots float", shift: int = 0, task: str = "topdown_pose"):
        super().__init__(Path("nowhere"), title, task_of(spec_of(task)))
        self.shift = shift
        self.ran: list[int] = []

    def run(self, inputs: list[np.ndarray]) -> list[Outputs]:
        """See EvaluatedNetwork."""
        self.ran.append(len(inputs))
        return [self.outputs_of(denormalize(tensor[0], self.task.spec.input)) for tensor in inputs]

    def outputs_of(self, image: np.ndarray) -> Outputs:
        """The outputs for one input, uint8 [h, w, 3] BGR."""
        dot = np.array([*dots_in(image), (0.0, 0.0)][0])
        height, width = image.shape[0] // 4, image.shape[1] // 4
        joints = dot / 4 + [self.shift, 0] + (STANDING - [0, 0.52]) * height / 2
        return {"heatmaps": gaussians(joints, np.eye(2, 3), (width, height))[None]}


class DotDetector(DotNetwork):
    """A YOLOv8's head that finds a person around each red dot, and a dog around nothing."""

    def __init__(self, title: str = "finder float", shift: int = 0):
        super().__init__(title, shift, "detection")

    def outputs_of(self, image: np.ndarray) -> Outputs:
        """See DotNetwork."""
        outputs: Outputs = {}
        for stride in (8, 16, 32):
            rows, columns = image.shape[0] // stride, image.shape[1] // stride
            outputs[f"class_{stride}"] = np.full((1, len(CLASSES), rows, columns), NEVER, np.float32)
            outputs[f"box_{stride}"] = np.zeros((1, 64, rows, columns), np.float32)
        for number, (x, y) in enumerate(dots_in(image)):
            x += self.shift
            column, row = int(x / 16), int(y / 16)
            sides = [column + 0.5 - (x - SIDE / 2) / 16, row + 0.5 - (y - SIDE / 2) / 16]
            sides += [(x + SIDE / 2) / 16 - column - 0.5, (y + SIDE / 2) / 16 - row - 0.5]
            outputs["box_16"][0, :, row, column] = expectations(np.array(sides), 16).ravel()
            outputs["class_16"][0, CLASSES.index("person"), row, column] = 2 + 0.5 * number
        return outputs


def dots_in(image: np.ndarray) -> list[tuple[float, float]]:
    """The centres (x, y) of the red spots, by area, the largest first."""
    blue, green, red = (plane.astype(int) for plane in cv2.split(image))
    mask = ((red - blue > 90) & (red - green > 90)).astype(np.uint8)
    count, _, stats, centers = cv2.connectedComponentsWithStats(mask)
    order = sorted(range(1, count), key=lambda index: -stats[index, cv2.CC_STAT_AREA])
    return [tuple(float(value) for value in centers[index]) for index in order]


def dotted(width: int, height: int, *dots: tuple[int, int], radius: int = 6) -> np.ndarray:
    """A grey picture with red dots at these (x, y), the first one the largest: uint8 [height, width, 3] BGR."""
    image = np.full((height, width, 3), 120, np.uint8)
    for number, dot in enumerate(dots):
        cv2.circle(image, dot, radius - number, (0, 0, 255), cv2.FILLED)
    return image


def save_dotted(path: Path, width: int, height: int, *dots: tuple[int, int]) -> Path:
    """The same as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), dotted(width, height, *dots))
    return path


def sides_of(shift: int = 0, chip: bool = True, network: type[DotNetwork] = DotNetwork) -> Sides:
    """Float, and a chip whose answers lie `shift` to the right."""
    return Sides(network(), network("dots/testchip/int8", shift) if chip else None)


def refused(call: Callable, *arguments: Any, code: int = 1, **words: Any) -> str:
    """The message of the UserError that a call must raise, with a hint and this exit code."""
    with pytest.raises(UserError) as caught:
        call(*arguments, **words)
    assert caught.value.hint and caught.value.exit_code == code
    return caught.value.message
