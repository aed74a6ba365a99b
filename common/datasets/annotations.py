"""COCO's JSON files for people: ground truth (person_keypoints.json) and detector results, checked as they enter."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.basics.errors import UserError
from common.basics.files import read_json
from common.declarations.keypoints import KEYPOINT_SETS, KeypointSet

PERSON = 1  # COCO's category id of a person
_FORMAT_HINT = "the format is COCO's: https://cocodataset.org/#format-data"
_RESULTS_HINT = "the format is COCO's results list: https://cocodataset.org/#format-results"


@dataclass(frozen=True)
class Annotations:
    """A checked person_keypoints.json.

    images: as in the file. annotations: the people's, with num_keypoints, area and iscrowd filled in where they
    were missing (pycocotools needs them), and keypoints [] where there was no such list. category: the id of the
    person category. names: its keypoints' names.
    """

    path: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    category: int
    names: list[str] | None

    def people(self) -> list[dict[str, Any]]:
        """The annotations that top-down evaluation counts: no crowd regions, keypoints marked, area above zero.

        Source: HRNet lib/dataset/coco.py (iscrowd=False, area > 0, max of keypoints not 0).
        """
        return [
            person
            for person in self.annotations
            if not person["iscrowd"] and person["num_keypoints"] > 0 and person["area"] > 0
        ]

    def keypoint_set(self) -> str | None:
        """The known keypoint set that these annotations are of, by their number and, where given, names; else None."""
        named = self._plain_names()
        numbers = {len(person["keypoints"]) for person in self.annotations if person["keypoints"]}
        for keypoints in KEYPOINT_SETS.values():
            if numbers <= {3 * keypoints.count} and (not named or named == list(keypoints.names)):
                return keypoints.name if numbers or named else None
        return None

    def of_images(self, images: set[int]) -> Annotations:
        """The same, of some images by their ids only."""
        return Annotations(
            self.path,
            [image for image in self.images if image["id"] in images],
            [person for person in self.annotations if person["image_id"] in images],
            self.category,
            self.names,
        )

    def check_keypoints(self, keypoints: KeypointSet) -> None:
        """UserError when the number of keypoints, or their order as named by the file, is another."""
        for person in self.annotations:
            found = len(person["keypoints"])
            if found and found != 3 * keypoints.count:
                raise UserError(
                    f"{self.path}: annotation {person['id']} has {found} keypoint numbers, but {keypoints.name} has "
                    f"{keypoints.count} keypoints of 3 numbers each ({3 * keypoints.count})",
                    "use annotations of the network's keypoint set, or correct decode.keypoints in the model's YAML",
                )
        named = self._plain_names()
        if sorted(named) == sorted(keypoints.names) and named != list(keypoints.names):
            raise UserError(
                f"{self.path}: the keypoints are those of {keypoints.name}, but in another order",
                f"the order of {keypoints.name} is {', '.join(keypoints.names)}",
            )

    def _plain_names(self) -> list[str]:
        return [name.strip().lower().replace(" ", "_").replace("-", "_") for name in self.names or []]

    def as_coco(self) -> dict[str, Any]:
        """The content for pycocotools.COCO, fresh lists and dicts (COCOeval writes into them).

        A person without a list of keypoints gets zeros: COCOeval reads them even of people that it does not count.
        """
        category: dict[str, Any] = {"id": self.category, "name": "person"}
        nothing = [0] * max((len(person["keypoints"]) for person in self.annotations), default=0)
        return {
            "images": [dict(image) for image in self.images],
            "annotations": [person | {"keypoints": person["keypoints"] or nothing} for person in self.annotations],
            "categories": [category],
        }


def load_keypoints(path: Path) -> Annotations:
    """Read and check person_keypoints.json. Raises UserError that names the file and the entry."""
    content = read_annotation_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) and all(isinstance(entry, dict) for entry in content[key])
        for key in ("images", "annotations")
    ):
        raise UserError(f"{path} lacks the lists 'images' and 'annotations'", _FORMAT_HINT)
    images = content["images"]
    for index, image in enumerate(images):
        if not is_id(image.get("id")) or not isinstance(image.get("file_name"), str):
            raise UserError(f"{path}: images[{index}] lacks a number 'id' or a 'file_name'", _FORMAT_HINT)
    check_unique(path, "image id", (image["id"] for image in images))
    check_unique(path, "file_name", (image["file_name"] for image in images))
    category, names = _person_category(content)
    known = {image["id"] for image in images}
    people, orphans = [], set()
    for index, person in enumerate(content["annotations"]):
        if person.get("category_id", category) != category:
            continue
        people.append(_checked_person(path, index, person, category))
        if person["image_id"] not in known:
            orphans.add(person["image_id"])
    if orphans:
        raise UserError(
            f"{path} has annotations of {len(orphans)} images that it does not list: image_id {examples(orphans)}",
            "add those images to the list 'images' and to the folder, or take the annotations out",
        )
    check_unique(path, "annotation id", (person["id"] for person in people))
    return Annotations(path, images, people, category, names)


def load_detections(path: Path) -> list[dict[str, Any]]:
    """Read and check a results list [{"image_id", "category_id", "bbox", "score"}]; people only."""
    content = read_annotation_json(path)
    if not isinstance(content, list):
        raise UserError(f"{path} is not a list of detections", _RESULTS_HINT)
    people = []
    for index, detection in enumerate(content):
        if not isinstance(detection, dict) or not is_id(detection.get("image_id")):
            raise UserError(f"{path}: entry {index} lacks a number 'image_id'", _RESULTS_HINT)
        if not is_box(detection.get("bbox")):
            raise UserError(f"{path}: entry {index} has no 'bbox' of four numbers [x, y, w, h]", _RESULTS_HINT)
        if not is_number(detection.get("score")):
            raise UserError(f"{path}: entry {index} has no number 'score'", _RESULTS_HINT)
        if detection.get("category_id", PERSON) == PERSON:
            people.append(detection)
    return people


def read_annotation_json(path: Path) -> Any:
    """read_json() with a hint that suits a file the user brought (npumake cannot make it again)."""
    try:
        return read_json(path)
    except UserError as error:
        raise UserError(error.message, "copy or download that file again") from None


def examples(items: Iterable[Any], count: int = 3) -> str:
    """The first few of a list, for a message: "a, b, c and 5 more"."""
    items = sorted(items)
    text = ", ".join(str(item) for item in items[:count])
    return text if len(items) <= count else f"{text} and {len(items) - count} more"


def _checked_person(path: Path, index: int, person: dict[str, Any], category: int) -> dict[str, Any]:
    where = f"{path}: annotations[{index}]"
    for key in ("id", "image_id"):
        if not is_id(person.get(key)):
            raise UserError(f"{where} lacks a number '{key}'", _FORMAT_HINT)
    if not is_box(person.get("bbox")):
        raise UserError(f"{where} has no 'bbox' of four numbers [x, y, w, h]", _FORMAT_HINT)
    keypoints = person.get("keypoints", [])  # a box without keypoints: known, but nobody that AP counts
    if not isinstance(keypoints, list) or len(keypoints) % 3 or not all(map(is_number, keypoints)):
        raise UserError(f"{where} has no 'keypoints' of x, y, visibility triples", _FORMAT_HINT)
    marked = sum(1 for visibility in keypoints[2::3] if visibility > 0)
    area = person.get("area", person["bbox"][2] * person["bbox"][3])
    if not is_number(area):
        raise UserError(f"{where} has an 'area' that is not a number", _FORMAT_HINT)
    # Outlines are most of COCO's file, and nothing here looks at them.
    kept = {key: value for key, value in person.items() if key != "segmentation"}
    return kept | {
        "category_id": category,
        "keypoints": keypoints,
        "num_keypoints": int(person.get("num_keypoints", marked)) if marked else 0,
        "area": float(area),
        "iscrowd": int(bool(person.get("iscrowd", 0))),
    }


def _person_category(content: dict[str, Any]) -> tuple[int, list[str] | None]:
    categories = [entry for entry in content.get("categories") or [] if isinstance(entry, dict)]
    for entry in categories:
        if entry.get("name") == "person" and is_id(entry.get("id")):
            names = entry.get("keypoints")
            return entry["id"], [str(name) for name in names] if isinstance(names, list) else None
    return PERSON, None


def check_unique(path: Path, what: str, values: Iterable[Any]) -> None:
    """UserError that names the first value that comes twice."""
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            raise UserError(f"{path} has the {what} {value} twice", "every entry needs its own")
        seen.add(value)


def is_id(value: Any) -> bool:
    """A whole number; True and False, which JSON has too, are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """A finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_box(value: Any) -> bool:
    """Four finite numbers."""
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))
