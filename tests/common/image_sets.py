"""Small image sets and specs for the tests, drawn here: no photograph is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from common.declarations.keypoints import COCO17
from common.declarations.spec import ModelSpec, model_from_dict

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def pose_spec(**changes: Any) -> ModelSpec:
    """A top-down spec with a small input, 64x48; keys of input and decode can be changed."""
    content: dict[str, Any] = {
        "name": "tester",
        "task": "topdown_pose",
        "input": {"shape": [1, 3, 64, 48], "color": "rgb", "scale": 255, "mean": MEAN, "std": STD},
        "decode": {"kind": "heatmap", "keypoints": "coco17"},
    }
    for key, value in changes.items():
        content["decode" if key in ("refine", "padding", "ground_truth_boxes", "keypoints") else "input"][key] = value
    return model_from_dict(content, "the test's spec")


def picture(seed: int, width: int = 160, height: int = 120) -> np.ndarray:
    """A colourful picture with structure at several sizes: uint8 [height, width, 3] BGR."""
    random = np.random.default_rng(seed)
    coarse = cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    fine = random.normal(0, 12, (height, width, 3))
    return np.clip(coarse + fine, 0, 255).astype(np.uint8)


def person(number: int, image_id: int, box: list[float], **changes: Any) -> dict[str, Any]:
    """A COCO annotation whose 17 keypoints lie on a grid inside the box."""
    x, y, width, height = box
    keypoints: list[float] = []
    for index in range(COCO17.count):
        keypoints += [x + width * (0.1 + 0.2 * (index % 5)), y + height * (0.1 + 0.25 * (index // 5)), 2]
    return {
        "id": number, "image_id": image_id, "category_id": 1, "bbox": box, "area": box[2] * box[3] * 0.6,
        "iscrowd": 0, "num_keypoints": COCO17.count, "keypoints": keypoints,
    } | changes  # fmt: skip


def make_set(
    folder: Path, images: int = 10, seed: int = 0, annotated: bool = True, people: int = 1, suffix: str = ".png"
) -> Path:
    """A folder of pictures 1.png, 2.png...; annotated: with person_keypoints.json, `people` in each image."""
    folder.mkdir(parents=True)
    entries, annotations = [], []
    for number in range(1, images + 1):
        cv2.imwrite(str(folder / f"{number}{suffix}"), picture(1000 * seed + number))
        entries.append({"id": number, "file_name": f"{number}{suffix}", "width": 160, "height": 120})
        for index in range(people):
            box = [10.0 + 45 * index, 12.0 + 2 * index, 40.0, 80.0]
            annotations.append(person(10 * number + index, number, box))
    if annotated:
        category = {"id": 1, "name": "person", "keypoints": list(COCO17.names)}
        content = {"images": entries, "annotations": annotations, "categories": [category]}
        (folder / "person_keypoints.json").write_text(json.dumps(content))
    return folder


def change_json(path: Path, change: Any) -> None:
    """Read a JSON file, let change(content) alter it in place, write it back."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
