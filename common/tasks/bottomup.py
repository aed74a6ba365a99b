"""Bottom-up pose: a whole photograph in, everybody's heatmaps and tags out, grouped to people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.basics.errors import UserError
from common.basics.wording import shape_text
from common.datasets.imageset import ImageSet, Instance
from common.declarations.keypoints import KeypointSet, keypoint_set
from common.declarations.spec import ModelSpec
from common.decoding.associative_embedding import joint_order
from common.decoding.bottomup import Placement, find_people
from common.decoding.bottomup_maps import check_maps, find_stages, maps_of_input
from common.decoding.predictions import Predictions, concatenate
from common.metrics.accuracy import Accuracy, measure_keypoints
from common.metrics.agreement import BOX_TO_AREA, Agreement, match_predictions, oks_of_pairs
from common.preprocessing.preprocess import normalize
from common.tasks import Outputs, WholeImageTask, image_size


class BottomUp(WholeImageTask):
    """HigherHRNet in an input of fixed size, which holds the whole photograph; decoded as HigherHRNet does.

    What the paper measures, an input size for every photograph, is common.decoding.bottomup.PublishedProtocol.
    """

    def __init__(self, spec: ModelSpec):
        super().__init__(spec)
        # A person's score is a mean over all joints: one with a tenth of all that could be found is not shown.
        self.shown_score = spec.decode.detection_threshold

    @property
    def keypoints(self) -> KeypointSet:
        return keypoint_set(self.spec.decode.keypoints)

    def placement(self, instance: Instance) -> Placement:
        """How this photograph lies in the network's input."""
        return Placement.fit(*image_size(instance), (self.spec.input.width, self.spec.input.height))

    def input_of(self, image: np.ndarray, instance: Instance) -> np.ndarray:
        return normalize(self.placement(instance).apply(image, self.spec.input.border), self.spec.input)

    def check_outputs(self, outputs: dict[str, tuple[int, ...]], where: str) -> None:
        first, _ = find_stages(outputs, self.keypoints.count, where)
        height, width = self.spec.input.height, self.spec.input.width
        if tuple(outputs[first][2:]) != (height // 4, width // 4):
            raise UserError(
                f"{where} gives {first} {shape_text(outputs[first])} for an input of {height}x{width}; heatmaps and "
                f"tags have a quarter of that, {height // 4}x{width // 4}",
                "correct input.shape in the spec, or export the network for that input",
            )

    def decode(self, outputs: Outputs, instances: Sequence[Instance], flipped: Outputs | None = None) -> Predictions:
        name, keypoints = self.spec.name, self.keypoints
        stages = check_maps(outputs, keypoints.count, name)
        mirrored = check_maps(flipped, keypoints.count, f"{name}, mirrored") if flipped is not None else None
        for first, _ in filter(None, (stages, mirrored)):
            if len(first) != len(instances):
                raise UserError(f"{name}: {len(first)} outputs for {len(instances)} samples", "run the same make again")
        parts = []
        for index, instance in enumerate(instances):
            placement = self.placement(instance)
            heatmaps, tags = maps_of_input(
                _of(stages, index), _of(mirrored, index) if mirrored else None, keypoints.flip_order, placement.size
            )
            parts.append(find_people(heatmaps, tags, placement, self.spec).shifted(index))
        return concatenate(parts, keypoints.count)

    def agreement(self, reference: Predictions, value: Predictions, instances: Sequence[Instance]) -> Agreement:
        overall, per_instance, count = match_predictions(
            reference, value, len(instances), self._similarity, self.shown_score
        )
        explanation = (
            f"OKS over {BOX_TO_AREA} of the joints' extent, of people scored {self.shown_score:g} or more on either "
            "side, matched one to one within their image; one without a partner counts 0; all keypoints count"
        )
        return Agreement(overall, per_instance, count, None, explanation)

    def _similarity(self, first: Predictions, second: Predictions) -> np.ndarray:
        return oks_of_pairs(first, second, self.keypoints.sigmas)

    def ground_truth_missing(self, image_set: ImageSet) -> str | None:
        return self.keypoints_missing(image_set)

    def results(
        self, image_set: ImageSet, instances: Sequence[Instance], predictions: Predictions
    ) -> list[dict[str, Any]]:
        """Everybody that was found: the published evaluation suppresses no duplicates (COCODataset.evaluate)."""
        category = image_set.annotations.category if image_set.annotations else 1
        return [
            {
                "image_id": instances[index].image_id,
                "category_id": category,
                "keypoints": person.astype(np.float64).reshape(-1).tolist(),
                "score": float(score),
            }
            for index, person, score in zip(
                predictions.instance, predictions.keypoints, predictions.scores, strict=True
            )
        ]

    def measure(self, image_set: ImageSet, instances: Sequence[Instance], predictions: Predictions) -> Accuracy:
        # Images without people count too: whoever is found there is found wrongly.
        truth = image_set.annotations.of_images({instance.image_id for instance in instances}).as_coco()
        return measure_keypoints(truth, self.results(image_set, instances, predictions), self.keypoints)

    def protocol(
        self,
        image_set: ImageSet,
        instances: Sequence[Instance],
        boxes: str = "auto",
        flip: bool = False,
        shown: str = "",
    ) -> str:
        """See Task. shown: PublishedProtocol.text where that was used instead of the fixed input."""
        counted = f"{len(instances)} images of {image_set.folder.resolve().name}"
        missing = self.ground_truth_missing(image_set)
        if missing:
            return f"no metric ({missing}): {counted}"
        people = len(image_set.annotations.of_images({instance.image_id for instance in instances}).people())
        return (
            f"COCO keypoint AP (OKS 0.50:0.95, {self.keypoints.name}), {people} people with keypoints in {counted}, "
            f"no boxes given, {shown or self._input_words(flip)}, people grouped by tags, no OKS-NMS"
        )

    def _input_words(self, flip: bool) -> str:
        size = f"{self.spec.input.width}x{self.spec.input.height}"
        return f"whole images in a fixed input of {size}, {'flip test' if flip else 'no flip test'}, single scale"

    def preprocessing_steps(self) -> list[str]:
        declared = self.spec.input
        width, height = declared.width, declared.height
        return [
            "decode the photograph as it is stored, EXIF orientation ignored",
            f"zoom = min({width} / w, {height} / h); centre = (int(w / 2 + 0.5), int(h / 2 + 0.5))",
            f"warp by the affine map with zoom input pixels per image pixel that puts the centre on ({width / 2:g}, "
            f"{height / 2:g}): bilinear, the value {declared.border} outside the photograph, size {width}x{height}",
            f"order the channels {declared.color.upper()}",
            f"value = (pixel / {declared.scale:g} - mean) / std, per channel, float32",
        ]

    def decoding_steps(self, outputs: list[dict[str, Any]]) -> list[str]:
        settings, joints, declared = self.spec.decode, self.keypoints.count, self.spec.input
        first, second = find_stages({one["name"]: one["shape"] for one in outputs}, joints, self.spec.name)
        order = ", ".join(self.keypoints.names[joint] for joint in joint_order(self.keypoints))
        cost = "round(distance) * 100 - score" if settings.use_detection_value else "the distance"
        steps = [f"{first}: channels 0..{joints - 1} are heatmaps, {joints}..{2 * joints - 1} tags, joint by joint"]
        if second:
            steps.append(
                f"resize {first} to the size of {second}, bilinear; heatmaps = the mean of both, tags = {first}'s"
            )
        steps += [
            f"resize heatmaps and tags to {declared.width}x{declared.height}, bilinear between pixel centres",
            f"candidates of a joint: pixels above {settings.detection_threshold:g} that are the largest of "
            f"{settings.nms_kernel}x{settings.nms_kernel}, the best {settings.maximum_people}",
            f"in the order {order}: give candidates to people one to one (Munkres), cost {cost}; distance: of the "
            f"candidate's tag to the mean tag of the person's joints; at a distance of {settings.tag_threshold:g} or "
            "more it begins a new person",
        ]
        if settings.adjust:
            steps.append(
                "x + 0.75 if the right neighbour is larger than the left one, else x + 0.25; y likewise with the lower "
                "and the upper one"
            )
        steps.append(f"a person's score: the sum of its joints' heatmap values / {joints}")
        if settings.refine:
            steps.append(
                "a joint that is missing: where heatmap - round(tag distance) is largest, if the heatmap is positive "
                "there; moved as above"
            )
        return [
            *steps,
            f"image x = centre x + (x - {declared.width / 2:g}) / zoom; image y = centre y + (y - "
            f"{declared.height / 2:g}) / zoom",
        ]


def _of(stages: tuple[np.ndarray, np.ndarray | None], index: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The maps of one input out of a batch's."""
    first, second = stages
    return first[index], None if second is None else second[index]
