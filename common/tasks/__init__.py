"""What differs between top-down pose, bottom-up pose and detection; one class each, chosen by model.yaml's `task`.

                 one network input is      outputs become                        measured by
    topdown      a person's crop           the keypoints of that person          COCO keypoint AP, or PCKh (MPII)
    bottomup     a whole image             heatmaps and tags, grouped to people  COCO keypoint AP
    detection    a whole image, letterbox  boxes, or boxes with keypoints        COCO box AP, or keypoint AP

Everything else (export, fix, calibration, chips, proof, report) is the same for all and goes through a Task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from common.basics.errors import UserError
from common.datasets.imageset import ImageSet, Instance
from common.declarations.keypoints import keypoint_set
from common.declarations.spec import ModelSpec
from common.decoding.predictions import Predictions
from common.metrics.accuracy import Accuracy
from common.metrics.agreement import Agreement

Outputs = dict[str, np.ndarray]


class Task(ABC):
    """One network's task. `spec` is its declaration; similarity names how two predictions are compared, unit what one
    network input shows."""

    similarity: str = "OKS"
    unit: str = "images"

    def __init__(self, spec: ModelSpec):
        self.spec = spec

    @abstractmethod
    def instances(self, image_set: ImageSet, boxes: str = "auto") -> list[Instance]:
        """The network inputs of an image set, in its order. boxes: "gt", "detections", or "auto" for what there is.

        Raises UserError when there are none.
        """

    @abstractmethod
    def input_of(self, image: np.ndarray, instance: Instance) -> np.ndarray:
        """One network input, float32 [C, H, W], from a uint8 [h, w, 3] BGR photograph. Safe in several threads."""

    @abstractmethod
    def check_outputs(self, outputs: dict[str, tuple[int, ...]], where: str) -> None:
        """Raise UserError, saying what was found and what is expected, unless these shapes (1, ...) can be decoded."""

    @abstractmethod
    def decode(self, outputs: Outputs, instances: Sequence[Instance], flipped: Outputs | None = None) -> Predictions:
        """What the outputs, float32 [N, ...] each, say about N instances; `instance` counts from 0 among them.

        Outputs are told apart by their shapes. flipped: those of the mirrored inputs, for the flip test.
        Raises UserError for values that are not finite, and for `flipped` where the task has no flip test.
        """

    @abstractmethod
    def agreement(self, reference: Predictions, value: Predictions, instances: Sequence[Instance]) -> Agreement:
        """How much of the reference's predictions the other ones repeat."""

    @abstractmethod
    def ground_truth_missing(self, image_set: ImageSet) -> str | None:
        """Why the metric cannot be measured on this set, in words; None when it can."""

    @abstractmethod
    def results(
        self, image_set: ImageSet, instances: Sequence[Instance], predictions: Predictions
    ) -> list[dict[str, Any]]:
        """COCO's results list, after any suppression of duplicates: what measure() and a test server count."""

    @abstractmethod
    def measure(self, image_set: ImageSet, instances: Sequence[Instance], predictions: Predictions) -> Accuracy:
        """The task's metric against the set's ground truth."""

    @abstractmethod
    def protocol(
        self, image_set: ImageSet, instances: Sequence[Instance], boxes: str = "auto", flip: bool = False
    ) -> str:
        """What measure() counts and how the inputs were made, in words."""

    @abstractmethod
    def preprocessing_steps(self) -> list[str]:
        """From a photograph to the input tensor, for a person who has to program it."""

    @abstractmethod
    def decoding_steps(self, outputs: list[dict[str, Any]]) -> list[str]:
        """From the outputs ([{"name", "shape"}]) to people or objects in the photograph, likewise."""

    def other_keypoints(self, image_set: ImageSet) -> str | None:
        """In words, when the set is annotated in another known keypoint set: its boxes are of use, its joints not."""
        if not image_set.annotations:
            return None
        annotated = image_set.annotations.keypoint_set()
        if annotated is None or annotated == self.spec.keypoints:
            return None
        return f"{image_set.folder} is annotated in {annotated}, the network finds {self.spec.keypoints}"

    def keypoints_missing(self, image_set: ImageSet) -> str | None:
        """Why keypoint AP cannot be measured, in words, or None. UserError for keypoints that no known set has."""
        if not image_set.has_keypoints:
            return f"{image_set.folder} has no person_keypoints.json with annotated keypoints"
        missing = self.other_keypoints(image_set)
        if not missing:
            image_set.check_keypoints(keypoint_set(self.spec.keypoints))
        return missing

    def labels(self) -> list[str]:
        """The names of what `classes` counts."""
        return ["person"]

    def describe(self, instance: Instance) -> dict[str, Any]:
        """An instance as samples.json and the calibration manifest list it; instance_of() reads it back."""
        return {
            "image_id": instance.image_id,
            "file": instance.file,
            "annotation_id": instance.annotation_id,
            "box": list(instance.box),
            "area": instance.area,
            "score": instance.score,
        }


class WholeImageTask(Task):
    """A task whose network is shown whole photographs, so that nobody has to say where people are."""

    def instances(self, image_set: ImageSet, boxes: str = "auto") -> list[Instance]:
        if boxes != "auto":
            raise UserError(f"{self.spec.name} is shown whole images, so BOXES={boxes} says nothing", "leave BOXES out")
        return whole_images(image_set)


def image_size(instance: Instance) -> tuple[int, int]:
    """(width, height) of the photograph that a whole-image instance is."""
    width, height = (round(side) for side in instance.box[2:])
    return width, height


def instance_of(description: dict[str, Any]) -> Instance:
    """The Instance that describe() described."""
    return Instance(
        description["image_id"],
        description["file"],
        tuple(description["box"]),
        description["score"],
        description["annotation_id"],
        description["area"],
    )


def task_of(spec: ModelSpec) -> Task:
    """The task that the model declares."""
    # Imported here: a stage of one task should not wait for the others' imports.
    if spec.task == "topdown_pose":
        from common.tasks.topdown import TopDown as Kind
    elif spec.task == "bottomup_pose":
        from common.tasks.bottomup import BottomUp as Kind
    else:
        from common.tasks.detection import Detection as Kind
    return Kind(spec)


def whole_images(image_set: ImageSet) -> list[Instance]:
    """Every image of the set as one network input; its box is the image. Raises UserError for a set without images."""
    if not image_set.images:
        raise UserError(f"image set {image_set.folder} has no images", "add photographs")
    return [
        Instance(image["id"], image["file"], (0.0, 0.0, float(image["width"]), float(image["height"])), 1.0)
        for image in image_set.images
    ]
