"""COCO's ground truth for objects of many classes, checked where it enters, for the images of a set.

    folder/instances.json            or COCO as published:  folder/annotations/instances_val2017.json

Without such a file the people of person_keypoints.json are the one class that is known. Images are matched by their
file names and classes by their names: a subset, or a set with ids of its own, works as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.basics.errors import UserError
from common.datasets.annotations import check_unique, examples, is_box, is_id, is_number, read_annotation_json
from common.datasets.imageset import ImageSet

INSTANCES_FILE = "instances.json"
_FORMAT_HINT = "the format is COCO's: https://cocodataset.org/#format-data"


@dataclass(frozen=True)
class Objects:
    """path: the file. images: the set's ids of the images that it lists. annotations: id, image_id (the set's),
    category_id, bbox, area, iscrowd of each. categories: name -> id."""

    path: Path
    images: frozenset[int]
    annotations: list[dict[str, Any]]
    categories: dict[str, int]

    def known(self, names: Sequence[str]) -> dict[str, int]:
        """Those of the categories that have one of these names, in the names' order."""
        return {name: self.categories[name] for name in names if name in self.categories}

    def truth(self, names: Sequence[str], images: Iterable[int]) -> dict[str, Any]:
        """The content for pycocotools.COCO: these classes in these images (fresh: COCOeval writes into it)."""
        known, listed = self.known(names), self.images & set(images)
        ids = set(known.values())
        return {
            "images": [{"id": image} for image in sorted(listed)],
            "annotations": [
                dict(entry) for entry in self.annotations if entry["category_id"] in ids and entry["image_id"] in listed
            ],
            "categories": [{"id": number, "name": name} for name, number in known.items()],
        }


def objects_of(image_set: ImageSet) -> Objects | None:
    """The set's ground truth for boxes: its instances file, else its people, else None. UserError if damaged."""
    published = image_set.folder / "annotations" / f"instances_{image_set.image_folder.name}.json"
    for path in (image_set.folder / INSTANCES_FILE, published):
        if path.exists():
            return load_objects(path, image_set)
    people = image_set.annotations
    if people is None:
        return None
    entries = [_bare(person) for person in people.annotations]
    images = frozenset(image["id"] for image in image_set.images)
    return Objects(people.path, images, entries, {"person": people.category})


def load_objects(path: Path, image_set: ImageSet) -> Objects:
    """Read and check an instances file. Raises UserError that names the file and the entry."""
    content = read_annotation_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) and all(isinstance(entry, dict) for entry in content[key])
        for key in ("images", "annotations", "categories")
    ):
        raise UserError(f"{path} lacks the lists 'images', 'annotations' and 'categories'", _FORMAT_HINT)
    categories = _categories(path, content["categories"])
    images = _images(path, content["images"], image_set)
    known, listed = set(categories.values()), {image["id"] for image in content["images"]}
    entries = []
    for index, entry in enumerate(content["annotations"]):
        where = f"{path}: annotations[{index}]"
        for key in ("id", "image_id", "category_id"):
            if not is_id(entry.get(key)):
                raise UserError(f"{where} lacks a number '{key}'", _FORMAT_HINT)
        if entry["image_id"] not in images:
            if image_set.limited and entry["image_id"] in listed:
                continue
            raise UserError(f"{where} is of the image {entry['image_id']}, which 'images' does not list", _FORMAT_HINT)
        if entry["category_id"] not in known:
            raise UserError(f"{where} has the category {entry['category_id']}, which is not declared", _FORMAT_HINT)
        if not is_box(entry.get("bbox")):
            raise UserError(f"{where} has no 'bbox' of four numbers [x, y, w, h]", _FORMAT_HINT)
        if not is_number(entry.get("area", 0)):
            raise UserError(f"{where} has an 'area' that is not a number", _FORMAT_HINT)
        entries.append(_bare(entry | {"image_id": images[entry["image_id"]]}))
    check_unique(path, "annotation id", (entry["id"] for entry in entries))
    return Objects(path, frozenset(images.values()), entries, categories)


def _bare(entry: dict[str, Any]) -> dict[str, Any]:
    """What box evaluation reads, without the outlines; a missing area is the box's, as there is no outline."""
    return {
        "id": entry["id"],
        "image_id": entry["image_id"],
        "category_id": entry["category_id"],
        "bbox": entry["bbox"],
        "area": float(entry.get("area", entry["bbox"][2] * entry["bbox"][3])),
        "iscrowd": int(bool(entry.get("iscrowd", 0))),
    }


def _categories(path: Path, entries: list[dict[str, Any]]) -> dict[str, int]:
    for index, entry in enumerate(entries):
        if not is_id(entry.get("id")) or not isinstance(entry.get("name"), str):
            raise UserError(f"{path}: categories[{index}] lacks a number 'id' or a 'name'", _FORMAT_HINT)
    check_unique(path, "category id", (entry["id"] for entry in entries))
    check_unique(path, "category name", (entry["name"] for entry in entries))
    return {entry["name"]: entry["id"] for entry in entries}


def _images(path: Path, entries: list[dict[str, Any]], image_set: ImageSet) -> dict[int, int]:
    """The file's image ids and the set's. UserError for images that the set does not have, unless it is limited."""
    for index, entry in enumerate(entries):
        if not is_id(entry.get("id")) or not isinstance(entry.get("file_name"), str):
            raise UserError(f"{path}: images[{index}] lacks a number 'id' or a 'file_name'", _FORMAT_HINT)
    check_unique(path, "image id", (entry["id"] for entry in entries))
    check_unique(path, "file_name", (entry["file_name"] for entry in entries))
    ids = {image["file"]: image["id"] for image in image_set.images}
    missing = [entry["file_name"] for entry in entries if entry["file_name"] not in ids]
    if missing and not image_set.limited:
        raise UserError(
            f"{path} names {len(missing)} images that are not in the set: {examples(missing)}",
            "copy those images into the folder, or take them out of the JSON file",
        )
    return {entry["id"]: ids[entry["file_name"]] for entry in entries if entry["file_name"] in ids}
