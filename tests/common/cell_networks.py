"""Three small networks that were never trained: their declarations, and outputs that find the stick figures of
cell_fixture.py where they really are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from common.datasets.imageset import ImageSet, Instance
from common.declarations.spec import ModelSpec, model_from_dict
from common.decoding.bottomup import Placement
from common.preprocessing.preprocess import crop_matrix
from common.tasks import Outputs, Task
from common.tasks.topdown import geometry

# A standing person in units of the body height, x right and y down, in the order of COCO17.names.
STANDING = np.array(
    [[0.00, 0.06], [0.03, 0.04], [-0.03, 0.04], [0.06, 0.06], [-0.06, 0.06], [0.11, 0.20], [-0.11, 0.20],
     [0.15, 0.36], [-0.15, 0.36], [0.17, 0.50], [-0.17, 0.50], [0.08, 0.52], [-0.08, 0.52], [0.09, 0.74],
     [-0.09, 0.74], [0.09, 0.95], [-0.09, 0.95]]
)  # fmt: skip
CLASSES = ["dog", "person", "traffic light"]
NEVER = -12.0  # the logit of a class that is not there: a score of 6e-6

_COMMON = {"color": "rgb", "scale": 255}
_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
SPECS: dict[str, dict[str, Any]] = {
    "topdown_pose": {
        "decode": {"kind": "heatmap", "keypoints": "coco17"},
        "input": {"shape": [1, 3, 128, 96], **_COMMON, **_IMAGENET},
        "gate": {"int8": {"oks": 0.95, "ap_drop": 0.03}},
    },
    "bottomup_pose": {
        "decode": {"kind": "associative_embedding", "keypoints": "coco17"},
        "input": {"shape": [1, 3, 128, 128], **_COMMON, **_IMAGENET, "sizes": [[128, 192]]},
        "gate": {"int8": {"oks": 0.95, "ap_drop": 0.03}},
    },
    "detection": {
        "decode": {"kind": "yolov8", "classes": CLASSES},
        "input": {"shape": [1, 3, 128, 128], **_COMMON, "mean": [0, 0, 0], "std": [1, 1, 1], "border": 114},
        "gate": {"int8": {"iou": 0.9, "ap_drop": 0.03}},
    },
}  # fmt: skip


def spec_of(task: str, **changes: Any) -> ModelSpec:
    """The declaration of one of the networks; keys of input can be changed."""
    content = SPECS[task] | {"name": "tester", "task": task, "input": SPECS[task]["input"] | changes}
    return model_from_dict(content, "the test's spec")


def true_joints(image_set: ImageSet, image_id: int | None = None) -> dict[int, np.ndarray]:
    """{annotation id: [17, 2] image pixels} of the annotated people, of one image or of all."""
    people = image_set.annotations.people() if image_set.annotations else []
    return {
        one["id"]: np.reshape(one["keypoints"], (-1, 3))[:, :2] for one in people if image_id in (None, one["image_id"])
    }


def topdown_outputs(task: Task, image_set: ImageSet, instances: list[Instance]) -> Outputs:
    """Gaussians on the joints; where nobody knows those, a standing person in each box."""
    centers, scales = geometry(instances, task.spec)
    known = true_joints(image_set)
    joints = [
        known.get(one.annotation_id, STANDING * one.box[3] + [one.box[0] + one.box[2] / 2, one.box[1]])
        for one in instances
    ]
    matrices = [crop_matrix(center, scale, (48, 64)) for center, scale in zip(centers, scales, strict=True)]
    return {
        "heatmaps": np.stack(
            [gaussians(points, matrix, (48, 64)) for points, matrix in zip(joints, matrices, strict=True)]
        )
    }


def gaussians(points: np.ndarray, matrix: np.ndarray, size: tuple[int, int], sigma: float = 2.0) -> np.ndarray:
    """Heatmaps float32 [17, h, w] with a peak of 1 on each joint. points: [17, 2] image pixels; matrix: to the map."""
    grid_y, grid_x = np.mgrid[: size[1], : size[0]]
    places = points @ matrix[:, :2].T + matrix[:, 2]
    maps = [np.exp(-((grid_x - x) ** 2 + (grid_y - y) ** 2) / (2 * sigma**2)) for x, y in places]
    return np.array(maps, np.float32)


def bottomup_outputs(task: Task, image_set: ImageSet, instances: list[Instance]) -> Outputs:
    """Both stages of a HigherHRNet: peaks on everybody's joints, and one tag for each person around their joints."""
    first, second = [], []
    for instance in instances:
        people = list(true_joints(image_set, instance.image_id).values())
        place = Placement.fit(*(round(side) for side in instance.box[2:]), (128, 128))
        stages = []
        for side in (32, 64):
            matrix = crop_matrix(place.center, place.scale, (side, side))
            matrix[:, 2] -= 0.5  # its decoder takes a map's pixel for the place in the pixel's middle
            maps = [gaussians(points, matrix, (side, side), side / 40) for points in people]
            stages.append(np.max(maps, axis=0))
            if side == 32:  # far apart where several are: the tag of whoever is nearest
                tags = 1 + 4 * np.argmax(np.add(maps, 1e-9 * np.arange(len(maps))[:, None, None, None]), axis=0)
                stages[0] = np.concatenate([stages[0], tags]).astype(np.float32)
        first.append(stages[0])
        second.append(stages[1])
    return {"heatmaps_and_tags": np.stack(first), "heatmaps": np.stack(second)}


def detection_outputs(task: Task, image_set: ImageSet, instances: list[Instance]) -> Outputs:
    """A head with strides 8, 16 and 32 whose middle level finds each person by their box, and nothing else."""
    random, bins, height, width = np.random.default_rng(3), 16, task.spec.input.height, task.spec.input.width
    outputs: Outputs = {}
    for stride in (8, 16, 32):
        shape = (len(instances), height // stride, width // stride)
        outputs[f"class_{stride}"] = np.full((shape[0], len(CLASSES), *shape[1:]), NEVER, np.float32)
        outputs[f"box_{stride}"] = random.normal(0, 1, (shape[0], 4 * bins, *shape[1:])).astype(np.float32)
    boxes = {one["id"]: (one["image_id"], one["bbox"]) for one in image_set.annotations.people()}
    for index, instance in enumerate(instances):
        for number, (image_id, box) in boxes.items():
            if image_id != instance.image_id:
                continue
            corners = np.array([box[:2], np.add(box[:2], box[2:])])
            (left, top), (right, bottom) = task.letterbox(instance).to_input(corners) / 16
            column, row = int((left + right) / 2), int((top + bottom) / 2)
            sides = np.array([column + 0.5 - left, row + 0.5 - top, right - column - 0.5, bottom - row - 0.5])
            outputs["box_16"][index, :, row, column] = expectations(sides, bins).ravel()
            outputs["class_16"][index, CLASSES.index("person"), row, column] = 1 + 0.2 * (number % 7)
    return outputs


def expectations(values: np.ndarray, bins: int) -> np.ndarray:
    """Logits [n, bins] of distributions over 0, 1, ... whose means are these values."""
    low = np.floor(values).astype(int)
    weights = np.full((len(values), bins), 1e-9)
    weights[np.arange(len(values)), low] = 1 - (values - low)
    weights[np.arange(len(values)), low + 1] = np.maximum(values - low, 1e-9)
    return np.log(weights)


OUTPUTS = {"topdown_pose": topdown_outputs, "bottomup_pose": bottomup_outputs, "detection": detection_outputs}
