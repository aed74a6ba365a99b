"""Top-down pose: a person's crop in, that person's heatmaps out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from common.basics.errors import UserError
from common.basics.wording import shape_text
from common.datasets.imageset import ImageSet, Instance
from common.declarations.keypoints import KeypointSet, keypoint_set
from common.declarations.spec import ModelSpec
from common.decoding.heatmaps import decode_people, flip_average
from common.decoding.predictions import Predictions, check_finite
from common.metrics.accuracy import Accuracy, measure_keypoints
from common.metrics.agreement import BOX_TO_AREA, Agreement, person_areas
from common.metrics.oks import oks, oks_nms
from common.metrics.pck import measure_pckh
from common.preprocessing.preprocess import PIXELS_PER_SCALE, box_to_center_scale, crop_person, normalize
from common.tasks import Outputs, Task

# Without ground truth a proof needs real people: a detector's long tail of empty boxes says nothing.
DETECTION_SCORE = 0.3
COUNTED_SCORE = 0.2  # HRNet TEST.IN_VIS_THRE: weaker keypoints do not count in a person's score
OKS_NMS_THRESHOLD = 0.9  # HRNet TEST.OKS_THRE
REFINEMENTS = {
    "quarter": "move the peak 0.25 towards the larger neighbour in x and in y, where 1 < x < width - 1 and "
    "1 < y < height - 1 (HRNet)",
    "dark": "DARK: one Newton step on the logarithm of the smoothed heatmap",
    "none": "the peak's pixel as it is",
}
_REFINED_BY = {"quarter": "quarter-pixel shift", "dark": "DARK refinement", "none": "no sub-pixel refinement"}


def geometry(instances: Sequence[Instance], spec: ModelSpec) -> tuple[np.ndarray, np.ndarray]:
    """Centres and scales of the crops: two float32 [N, 2]; scales in units of 200 px, padding included."""
    aspect_ratio = spec.input.width / spec.input.height
    pairs = [box_to_center_scale(instance.box, aspect_ratio, spec.decode.padding) for instance in instances]
    if not pairs:
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    return np.stack([center for center, _ in pairs]), np.stack([scale for _, scale in pairs])


def instance_scores(keypoints: np.ndarray, box_scores: np.ndarray) -> np.ndarray:
    """A person's score: box score times the mean of the keypoint scores above 0.2 (none: 0). float64 [N].

    keypoints: [N, K, 3]; box_scores: [N]. Source: HRNet lib/dataset/coco.py evaluate (rescoring).
    """
    scores = keypoints[..., 2].astype(np.float64)
    counted = scores > COUNTED_SCORE
    mean = (scores * counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    return mean * np.asarray(box_scores, np.float64)


def heatmaps_of(outputs: Outputs, keypoints: KeypointSet, where: str) -> np.ndarray:
    """Pick the heatmaps [N, K, h, w] among a network's outputs and check them.

    Of several outputs with K channels (stacked hourglass) the last one counts: it is the final stage.
    Raises UserError when none fits or a value is not finite.
    """
    fitting = [name for name, value in outputs.items() if value.ndim == 4 and value.shape[1] == keypoints.count]
    if not fitting:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in outputs.items())
        raise UserError(
            f"{where}: no output is a heatmap of {keypoints.count} channels ({keypoints.name}): {shapes}",
            "check decode.keypoints in the model's YAML",
        )
    check_finite(outputs[fitting[-1]], f"{where}, output {fitting[-1]}")
    return outputs[fitting[-1]]


class TopDown(Task):
    """One person's box at a time, cut out as HRNet does (lib/dataset/coco.py), decoded as HRNet does."""

    unit = "people"

    @property
    def keypoints(self) -> KeypointSet:
        return keypoint_set(self.spec.decode.keypoints)

    def instances(self, image_set: ImageSet, boxes: str = "auto") -> list[Instance]:
        """The people of the set: annotated ones, or all detections, however weak (HRNet IMAGE_THRE 0); "auto" takes
        the annotated ones, or else detections of at least 0.3."""
        missing = self.other_keypoints(image_set)
        if image_set.annotations and not missing:
            image_set.check_keypoints(self.keypoints)
        found = image_set.instances(
            boxes, DETECTION_SCORE if boxes == "auto" else 0.0, self.spec.decode.ground_truth_boxes
        )
        if not found:
            wanted = {"gt": "annotated people", "detections": "detected boxes"}.get(boxes, "person boxes")
            raise UserError(
                f"evaluation set {image_set.folder} has no {wanted}",
                "add person_keypoints.json (COCO ground truth, AP is measured) or person_detections.json",
            )
        return found

    def input_of(self, image: np.ndarray, instance: Instance) -> np.ndarray:
        declared = self.spec.input
        size = (declared.width, declared.height)
        center, scale = box_to_center_scale(instance.box, size[0] / size[1], self.spec.decode.padding)
        return normalize(crop_person(image, center, scale, size), declared)

    def check_outputs(self, outputs: dict[str, tuple[int, ...]], where: str) -> None:
        joints = self.keypoints.count
        if len(outputs) == 1:
            (shape,) = outputs.values()
            if len(shape) == 4 and shape[1] == joints:
                return
        found = ", ".join(f"{name} {shape_text(shape)}" for name, shape in outputs.items())
        raise UserError(
            f"{where} gives {found}; heatmap decoding of {self.keypoints.name} needs one output 1x{joints}xHxW",
            "correct decode in the spec, or export the network up to its heatmaps",
        )

    def decode(self, outputs: Outputs, instances: Sequence[Instance], flipped: Outputs | None = None) -> Predictions:
        heatmaps = heatmaps_of(outputs, self.keypoints, self.spec.name)
        if len(heatmaps) != len(instances):
            raise UserError(
                f"{self.spec.name}: {len(heatmaps)} outputs for {len(instances)} samples", "run the same make again"
            )
        if flipped is not None:
            mirrored = heatmaps_of(flipped, self.keypoints, f"{self.spec.name}, mirrored")
            heatmaps = flip_average(heatmaps, mirrored, self.keypoints.flip_order)
        centers, scales = geometry(instances, self.spec)
        people = decode_people(heatmaps, centers, scales, self.spec.decode.refine)
        boxes = np.array([instance.box for instance in instances], np.float32).reshape(-1, 4)
        scores = instance_scores(people, np.array([instance.score for instance in instances]))
        count = len(instances)
        return Predictions(np.arange(count), scores, people, boxes, np.zeros(count, np.int64))

    def agreement(self, reference: Predictions, value: Predictions, instances: Sequence[Instance]) -> Agreement:
        """OKS of the same person's keypoints. All of them count, whatever their score: a joint that jumps because
        its peak is weak is a difference too."""
        per_instance, terms = oks(value.keypoints, reference.keypoints, person_areas(instances), self.keypoints.sigmas)
        joints = {name: float(term) for name, term in zip(self.keypoints.names, terms.mean(axis=0), strict=True)}
        return Agreement(
            float(per_instance.mean()),
            per_instance,
            len(instances),
            joints,
            f"OKS over annotated segment area, else {BOX_TO_AREA} of the box; all keypoints count",
        )

    def ground_truth_missing(self, image_set: ImageSet) -> str | None:
        if image_set.mpii:
            annotated = "mpii16"
            return None if self.keypoints.name == annotated else f"{image_set.folder} is annotated in {annotated}"
        return self.keypoints_missing(image_set)

    def _suppressed(self, instances: Sequence[Instance], predictions: Predictions) -> list[int]:
        """Indices that OKS-NMS keeps, image by image (HRNet lib/dataset/coco.py evaluate; area = prod(scale * 200))."""
        by_image: dict[int, list[int]] = defaultdict(list)
        for index, instance in enumerate(instances):
            by_image[instance.image_id].append(index)
        _, scales = geometry(instances, self.spec)
        areas = np.prod(scales.astype(np.float64) * PIXELS_PER_SCALE, axis=1)
        kept: list[int] = []
        for indices in by_image.values():
            chosen = oks_nms(
                predictions.keypoints[indices], predictions.scores[indices], areas[indices], self.keypoints.sigmas,
                OKS_NMS_THRESHOLD,
            )  # fmt: skip
            kept += [indices[index] for index in chosen]
        return kept

    def results(
        self, image_set: ImageSet, instances: Sequence[Instance], predictions: Predictions
    ) -> list[dict[str, Any]]:
        kept = range(len(instances)) if image_set.mpii else self._suppressed(instances, predictions)
        category = image_set.annotations.category if image_set.annotations else 1
        return [
            {
                "image_id": instances[index].image_id,
                "category_id": category,
                "keypoints": predictions.keypoints[index].astype(np.float64).reshape(-1).tolist(),
                "score": float(predictions.scores[index]),
            }
            for index in kept
        ]

    def measure(self, image_set: ImageSet, instances: Sequence[Instance], predictions: Predictions) -> Accuracy:
        if image_set.mpii:
            return measure_pckh(image_set.mpii, instances, predictions)
        results = self.results(image_set, instances, predictions)
        return measure_keypoints(image_set.annotations.as_coco(), results, self.keypoints)

    def protocol(
        self, image_set: ImageSet, instances: Sequence[Instance], boxes: str = "auto", flip: bool = False
    ) -> str:
        missing = self.ground_truth_missing(image_set)
        counted = f"{len(instances)} people in {len(image_set.images)} images of {image_set.folder.resolve().name}"
        if missing:
            return f"no metric ({missing}): {counted}"
        how = f"{'flip test' if flip else 'no flip test'}, single scale, {_REFINED_BY[self.spec.decode.refine]}"
        if image_set.mpii:
            return f"PCKh@0.5 of MPII (pelvis and thorax not counted), {counted}, annotated centre and scale, {how}"
        boxes = image_set.box_source if boxes == "auto" else boxes
        source = f"{len(instances)} detected boxes, rescored by their keypoints"
        if boxes == "gt":
            source = "ground-truth boxes"
            if self.spec.decode.ground_truth_boxes == "hrnet":
                source += " (one pixel smaller, as HRNet takes them)"
        people = len(image_set.annotations.people())
        return (
            f"COCO keypoint AP (OKS 0.50:0.95, {self.keypoints.name}), {people} people with keypoints in "
            f"{len(image_set.images)} images of {image_set.folder.resolve().name}, {source}, {how}, "
            f"OKS-NMS {OKS_NMS_THRESHOLD:g}"
        )

    def preprocessing_steps(self) -> list[str]:
        declared, padding = self.spec.input, self.spec.decode.padding
        width, height = declared.width, declared.height
        return [
            "decode the photograph as it is stored, EXIF orientation ignored",
            f"box [x, y, w, h]; centre = (x + w / 2, y + h / 2); grow the short side until w / h = {width}/{height}",
            f"multiply w and h by {padding:g}",
            f"cut out by the affine map with {width} / w crop pixels per image pixel that puts the centre on "
            f"({width / 2:g}, {height / 2:g}): bilinear, black outside the photograph, size {width}x{height}",
            f"order the channels {declared.color.upper()}",
            f"value = (pixel / {declared.scale:g} - mean) / std, per channel, float32",
        ]

    def decoding_steps(self, outputs: list[dict[str, Any]]) -> list[str]:
        height, width = outputs[-1]["shape"][2:]
        return [
            "per channel: the place (x, y) of the largest value, which is the score; (0, 0) if that is not positive",
            REFINEMENTS[self.spec.decode.refine],
            f"image x = centre x + (x - {width / 2:g}) * w / {width}; image y = centre y + (y - {height / 2:g}) * w / "
            f"{width}; w: the padded box's width",
        ]

    def describe(self, instance: Instance) -> dict[str, Any]:
        (center,), (scale,) = geometry([instance], self.spec)
        return super().describe(instance) | {
            "center": [float(value) for value in center],
            "scale": [float(value) for value in scale],
        }
