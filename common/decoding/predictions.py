"""What a network found: people or objects in image pixels, as arrays that are stored, joined and measured.

          instance  scores  keypoints         boxes    classes
found 0      0       0.91   [K, 3] x y score  x y w h     0       instance: which network input it was found in;
found 1      2       0.88   ...               ...         0       a crop holds one person, an image none or many
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.basics.errors import UserError
from common.basics.files import read_json, write_json

AGAIN = "remove it and run the same make again"


@dataclass(frozen=True)
class Predictions:
    """P found people or objects.

    instance: int64 [P], index of the network input, never falling. scores: float64 [P]. keypoints: float32 [P, K, 3],
    x and y in image pixels and the raw keypoint score; K is 0 for a plain detector. boxes: float32 [P, 4], x, y, w, h
    in image pixels (of a top-down network: the box that it was asked about). classes: int64 [P], 0 for people.
    """

    instance: np.ndarray
    scores: np.ndarray
    keypoints: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls, joints: int) -> Predictions:
        """Nobody found; joints: K."""
        return cls(
            np.zeros(0, np.int64),
            np.zeros(0, np.float64),
            np.zeros((0, joints, 3), np.float32),
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.int64),
        )

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], where: str) -> Predictions:
        """The inverse of arrays(). Raises UserError that names `where` when an array is missing or does not fit."""
        try:
            found = cls(
                np.asarray(arrays["instance"], np.int64),
                np.asarray(arrays["scores"], np.float64),
                np.asarray(arrays["keypoints"], np.float32),
                np.asarray(arrays["boxes"], np.float32),
                np.asarray(arrays["classes"], np.int64),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(f"{where} holds no predictions: {error}", AGAIN) from None
        count = len(found.scores)
        if (
            any(array.shape != (count,) for array in (found.instance, found.scores, found.classes))
            or found.keypoints.ndim != 3
            or found.keypoints.shape[::2] != (count, 3)
            or found.boxes.shape != (count, 4)
            or (np.diff(found.instance) < 0).any()
        ):
            raise UserError(f"{where}: the arrays of the predictions do not fit each other", AGAIN)
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """The five arrays by name, for np.savez."""
        return {
            "instance": self.instance,
            "scores": self.scores,
            "keypoints": self.keypoints,
            "boxes": self.boxes,
            "classes": self.classes,
        }

    def select(self, which: np.ndarray | slice) -> Predictions:
        """Some of them: a mask, indices in rising order, or a slice."""
        return Predictions(*(array[which] for array in self.arrays().values()))

    def of(self, instance: int) -> Predictions:
        """Those of one network input."""
        first, last = np.searchsorted(self.instance, [instance, instance + 1])
        return self.select(slice(int(first), int(last)))

    def shifted(self, offset: int) -> Predictions:
        """The same, of inputs that are numbered from `offset` on: for chunks of a longer list."""
        return Predictions(self.instance + offset, self.scores, self.keypoints, self.boxes, self.classes)


def concatenate(parts: Sequence[Predictions], joints: int) -> Predictions:
    """One list of several, their instances as they stand; joints: K, for the case that there is no part."""
    if not parts:
        return Predictions.empty(joints)
    columns = zip(*(part.arrays().values() for part in parts), strict=True)
    return Predictions(*(np.concatenate(column) for column in columns))


def check_finite(values: np.ndarray, where: str) -> None:
    """UserError that names the first sample and channel with a NaN or an infinity."""
    if not np.isfinite(values).all():
        first = np.argwhere(~np.isfinite(values))[0]
        place = f"sample {first[0]}" + (f", channel {first[1]}" if len(first) > 1 else "")
        raise UserError(f"{where} is not finite ({values[tuple(first)]}) at {place}", "an overflow: check the scales")


def write_predictions(path: Path, instances: Sequence[Any], predictions: Predictions) -> None:
    """Write predictions.json: {"shown": inputs, "found": [{"instance", "image_id", "annotation_id", "score", ...}]}.

    Every number is written with all its digits, so that read_predictions() gives the same arrays.
    """
    found = [
        {
            "instance": int(index),
            "image_id": instances[index].image_id,
            "annotation_id": instances[index].annotation_id,
            "class": int(label),
            "score": float(score),
            "box": [float(value) for value in box],
            "keypoints": [float(value) for value in keypoints.reshape(-1)],
        }
        for index, score, keypoints, box, label in zip(*predictions.arrays().values(), strict=True)
    ]
    shown = [[instance.image_id, instance.annotation_id] for instance in instances]
    write_json(path, {"version": 2, "joints": predictions.keypoints.shape[1], "shown": shown, "found": found})


def read_predictions(path: Path, instances: Sequence[Any]) -> Predictions:
    """Read predictions.json. Raises UserError when it is damaged or of other network inputs."""
    content = read_json(path)
    asked = [[instance.image_id, instance.annotation_id] for instance in instances]
    if not isinstance(content, dict) or content.get("shown") != asked:
        raise UserError(f"{path} is of another evaluation set", f"remove {path.parent} and run the same make again")
    found, joints = content["found"], content["joints"]
    try:
        arrays = {
            "instance": np.array([entry["instance"] for entry in found], np.int64),
            "scores": np.array([entry["score"] for entry in found], np.float64),
            "keypoints": np.array([entry["keypoints"] for entry in found], np.float32).reshape(len(found), joints, 3),
            "boxes": np.array([entry["box"] for entry in found], np.float32).reshape(len(found), 4),
            "classes": np.array([entry["class"] for entry in found], np.int64),
        }
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}", AGAIN) from None
    return Predictions.from_arrays(arrays, str(path))
