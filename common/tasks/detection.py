"""Detection: a whole photograph in, boxes of objects out; with a pose head also the keypoints of each person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.basics.errors import UserError
from common.datasets.imageset import ImageSet, Instance
from common.datasets.object_annotations import INSTANCES_FILE, Objects, objects_of
from common.declarations.classes import COCO80, class_names
from common.declarations.keypoints import KeypointSet, keypoint_set
from common.declarations.spec import ModelSpec
from common.decoding.detection_decode import decode_images
from common.decoding.detection_head import head_levels
from common.decoding.predictions import Predictions
from common.metrics.accuracy import Accuracy, measure_keypoints
from common.metrics.agreement import BOX_TO_AREA, Agreement, match_predictions, oks_of_pairs
from common.metrics.box_accuracy import measure_boxes
from common.preprocessing.letterbox import Letterbox
from common.preprocessing.preprocess import normalize
from common.tasks import Outputs, WholeImageTask, image_size


class Detection(WholeImageTask):
    """YOLOv8 and its pose variant, from a fixed letterbox, with the settings of Ultralytics' validation."""

    def __init__(self, spec: ModelSpec):
        super().__init__(spec)
        self.names = class_names(spec.decode.classes)
        self.similarity = "OKS" if spec.decode.keypoints else "IoU"
        self.shown_score = spec.decode.shown_score
        self._objects: dict[Path, Objects | None] = {}

    @property
    def keypoints(self) -> KeypointSet | None:
        return keypoint_set(self.spec.decode.keypoints) if self.spec.decode.keypoints else None

    def labels(self) -> list[str]:
        return list(self.names)

    def letterbox(self, instance: Instance) -> Letterbox:
        """How this photograph lies in the network's input."""
        return Letterbox.fit(*image_size(instance), self.spec.input.width, self.spec.input.height)

    def input_of(self, image: np.ndarray, instance: Instance) -> np.ndarray:
        return normalize(self.letterbox(instance).apply(image, self.spec.input.border), self.spec.input)

    def check_outputs(self, outputs: dict[str, tuple[int, ...]], where: str) -> None:
        head_levels(outputs, self.spec, where)

    def decode(self, outputs: Outputs, instances: Sequence[Instance], flipped: Outputs | None = None) -> Predictions:
        if flipped is not None:
            raise UserError(f"{self.spec.name} has no flip test: its boxes cannot be averaged", "leave FLIP=1 out")
        lengths = {len(value) for value in outputs.values()}
        if lengths != {len(instances)}:
            raise UserError(
                f"{self.spec.name}: {sorted(lengths)} outputs for {len(instances)} samples", "run the same make again"
            )
        return decode_images(outputs, self.spec, [self.letterbox(i) for i in instances], self.spec.name)

    def agreement(self, reference: Predictions, value: Predictions, instances: Sequence[Instance]) -> Agreement:
        compare = self._keypoint_similarity if self.keypoints else box_similarity
        overall, per_instance, count = match_predictions(reference, value, len(instances), compare, self.shown_score)
        what = f"OKS over {BOX_TO_AREA} of the box" if self.keypoints else "IoU"
        explanation = (
            f"{what} of those scored {self.shown_score:g} or more on either side, matched one to one within their "
            "class and image; one without a partner counts 0"
        )
        return Agreement(overall, per_instance, count, None, explanation)

    def _keypoint_similarity(self, first: Predictions, second: Predictions) -> np.ndarray:
        same = first.classes[:, None] == second.classes
        return oks_of_pairs(first, second, self.keypoints.sigmas) * same

    def ground_truth_missing(self, image_set: ImageSet) -> str | None:
        if self.keypoints:
            return self.keypoints_missing(image_set)
        objects = self._objects_of(image_set)
        if objects is None:
            return f"{image_set.folder} has neither {INSTANCES_FILE} nor person_keypoints.json"
        if not objects.known(self.names):
            return f"{objects.path} has none of the network's classes"
        if not objects.truth(self.names, objects.images)["annotations"]:
            return f"{objects.path} has no annotated object of the network's classes"
        return None

    def results(
        self, image_set: ImageSet, instances: Sequence[Instance], predictions: Predictions
    ) -> list[dict[str, Any]]:
        """One entry for each box whose class the ground truth (or else COCO) has; with keypoints if there are."""
        objects = self._objects_of(image_set)
        known = objects.categories if objects else COCO80
        found = []
        for index, label in enumerate(predictions.classes):
            category = known.get(self.names[label])
            if category is None:
                continue
            entry = {
                "image_id": instances[predictions.instance[index]].image_id,
                "category_id": category,
                "bbox": [float(value) for value in predictions.boxes[index]],
                "score": float(predictions.scores[index]),
            }
            if self.keypoints:
                entry["keypoints"] = predictions.keypoints[index].astype(np.float64).reshape(-1).tolist()
            found.append(entry)
        return found

    def measure(self, image_set: ImageSet, instances: Sequence[Instance], predictions: Predictions) -> Accuracy:
        objects = self._objects_of(image_set)
        images = {instance.image_id for instance in instances}
        results = self.results(image_set, instances, predictions)
        boxes = measure_boxes(objects.truth(self.names, images), results)
        if not self.keypoints:
            return boxes
        pose = measure_keypoints(image_set.annotations.of_images(images).as_coco(), results, self.keypoints)
        return Accuracy(pose.numbers | {"box_AP": boxes.numbers["AP"]}, pose.metric, pose.statistic)

    def protocol(
        self, image_set: ImageSet, instances: Sequence[Instance], boxes: str = "auto", flip: bool = False
    ) -> str:
        decode, declared = self.spec.decode, self.spec.input
        missing = self.ground_truth_missing(image_set)
        seen = f"{len(instances)} images of {image_set.folder.resolve().name}"
        if missing:
            return f"no metric ({missing}): {seen}"
        objects = self._objects_of(image_set)
        truth = objects.truth(self.names, {instance.image_id for instance in instances})
        classes = [category["name"] for category in truth["categories"]]
        counted = classes[0] if len(classes) == 1 else f"{len(classes)} classes"
        what = f"COCO box AP (IoU 0.50:0.95), {counted} of the network's {len(self.names)}"
        if self.keypoints:
            what = f"COCO keypoint AP (OKS 0.50:0.95, {self.keypoints.name}); box_AP: COCO box AP of {counted}"
        return (
            f"{what}; {len(truth['annotations'])} annotated in {len(truth['images'])} of {seen} ({objects.path.name}); "
            f"fixed letterbox {declared.width}x{declared.height} (Ultralytics validates in rectangles that fit each "
            f"batch), scores above {decode.score_threshold:g}, suppression within a class at IoU "
            f"{decode.overlap_threshold:g}, the best {decode.maximum_detections} of an image, no flip test"
        )

    def preprocessing_steps(self) -> list[str]:
        declared = self.spec.input
        width, height = declared.width, declared.height
        return [
            "decode the photograph as it is stored, EXIF orientation ignored",
            f"gain = min({width} / w, {height} / h); resize to (round(w * gain), round(h * gain)), bilinear; small "
            "photographs are enlarged",
            f"place it in {width}x{height} at left = round(free / 2 - 0.1), top likewise; the border has the value "
            f"{declared.border}",
            f"order the channels {declared.color.upper()}",
            f"value = (pixel / {declared.scale:g} - mean) / std, per channel, float32",
        ]

    def decoding_steps(self, outputs: list[dict[str, Any]]) -> list[str]:
        decode = self.spec.decode
        levels = head_levels({output["name"]: output["shape"] for output in outputs}, self.spec, self.spec.name)
        names = "; ".join(
            f"stride {level.stride}: {', '.join(filter(None, (level.box, level.classes, level.keypoints)))}"
            for level in levels
        )
        steps = [
            f"outputs (box, class{', keypoints' if self.keypoints else ''}) by stride s: {names}",
            "cell (column i, row j): anchor = (i + 0.5, j + 0.5)",
            f"box: 4 x {decode.regression_bins} logits, left, top, right, bottom; each side = the mean of 0.."
            f"{decode.regression_bins - 1} under their softmax",
            "x1 = (anchor x - left) * s, x2 = (anchor x + right) * s; y likewise",
            f"class: score = sigmoid; each class above {decode.score_threshold:g} gives a box",
        ]
        if self.keypoints:
            steps.append("keypoint: x = (2 * value + i) * s, y = (2 * value + j) * s, score = sigmoid(third value)")
        return [
            *steps,
            f"within a class, drop a box whose IoU with a better one is above {decode.overlap_threshold:g}; keep the "
            f"best {decode.maximum_detections}",
            "image x = (x - left) / (resized width / w), y likewise; clipped to the photograph",
        ]

    def _objects_of(self, image_set: ImageSet) -> Objects | None:
        """The set's ground truth, read once: a published file takes seconds."""
        if image_set.folder not in self._objects:
            self._objects[image_set.folder] = objects_of(image_set)
        return self._objects[image_set.folder]


def box_similarity(first: Predictions, second: Predictions) -> np.ndarray:
    """IoU of every pair of boxes, float64 [n, m]; 0 for boxes of two classes."""
    a, b = (found.boxes.astype(np.float64) for found in (first, second))
    near = np.maximum(a[:, None, :2], b[None, :, :2])
    far = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    common = np.prod(np.maximum(far - near, 0), axis=-1)
    union = np.prod(a[:, 2:], axis=1)[:, None] + np.prod(b[:, 2:], axis=1) - common
    same = first.classes[:, None] == second.classes
    return np.divide(common, union, out=np.zeros_like(union), where=union > 0) * same
