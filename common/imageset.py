"""An image set: a folder of images, with or without people annotated or detected in them.

    folder/                          or COCO as published:
      000000000785.jpg ...             folder/val2017/000000000139.jpg ...
      person_keypoints.json            folder/annotations/person_keypoints_val2017.json   COCO ground truth
      person_detections.json           folder/person_detections.json                      COCO results list

Both JSON files are optional. Everything is checked here, where it enters.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from common.annotations import Annotations, examples, load_detections, load_keypoints
from common.errors import UserError
from common.image_file import IMAGE_SUFFIXES, image_size
from common.keypoints import KeypointSet
from common.preprocess import clip_ground_truth_box

KEYPOINTS_FILE = "person_keypoints.json"
DETECTIONS_FILE = "person_detections.json"


@dataclass(frozen=True)
class Instance:
    """One person in one image, as a top-down network will be shown it.

    box: (x, y, w, h) in image pixels: from ground truth clipped to the image, from a detector untouched.
    score: the detector's, 1.0 for ground truth. annotation_id, area: of the ground truth (area in square pixels,
    COCO's segment area); None for a detection.
    """

    image_id: int
    file: str
    box: tuple[float, float, float, float]
    score: float
    annotation_id: int | None = None
    area: float | None = None


@dataclass(frozen=True)
class ImageSet:
    """An opened and checked image set.

    folder: what the user named. image_folder: where the images lie. images: [{"id", "file", "width", "height"}],
    file relative to image_folder. annotations: the ground truth, or None. detections: the results list, or None.
    """

    folder: Path
    image_folder: Path
    images: list[dict[str, Any]]
    annotations: Annotations | None
    detections: list[dict[str, Any]] | None
    _by_id: dict[int, dict[str, Any]] = field(repr=False)

    @classmethod
    def open(cls, folder: str | Path) -> ImageSet:
        """Open a folder and check all of it: images whole, annotations intact, both fitting each other.

        Raises UserError with a hint: no folder, no images, an unreadable or truncated image, damaged JSON,
        annotations or detections of images that are not there, sizes that differ from the annotated ones.
        Images that person_keypoints.json does not list are left out, with a warning.
        """
        folder = Path(folder)
        image_folder, keypoints_file, detections_file = _layout(folder)
        annotations = load_keypoints(keypoints_file) if keypoints_file else None
        names = _image_names(image_folder)
        if not names and not (annotations and annotations.images):
            raise UserError(f"image set {folder} has no images", f"put {', '.join(IMAGE_SUFFIXES)} files into it")
        if annotations is None:
            images = _number(names)
            for image in images:
                image["width"], image["height"] = image_size(image_folder / image["file"])
        else:
            images = _annotated_images(annotations, image_folder, names)
        by_id = {image["id"]: image for image in images}
        detections = None
        if detections_file:
            detections = load_detections(detections_file)
            _check_detections(detections, detections_file, by_id)
        return cls(folder, image_folder, images, annotations, detections, by_id)

    @property
    def has_keypoints(self) -> bool:
        """Whether there is at least one person with annotated keypoints, so that AP can be measured."""
        return bool(self.annotations and self.annotations.people())

    @property
    def coco_file(self) -> Path | None:
        """The ground-truth file, or None."""
        return self.annotations.path if self.annotations else None

    @property
    def box_source(self) -> str | None:
        """What instances("auto") uses: "gt", "detections", or None when there is neither."""
        if self.has_keypoints:
            return "gt"
        return "detections" if self.detections else None

    def path(self, file: str) -> Path:
        """The path of an image of this set."""
        return self.image_folder / file

    def check_keypoints(self, keypoints: KeypointSet) -> None:
        """UserError when the annotations are of another keypoint set than the network's."""
        if self.annotations:
            self.annotations.check_keypoints(keypoints)

    def instances(
        self, boxes: str = "auto", minimum_score: float = 0.0, ground_truth_boxes: str = "hrnet"
    ) -> list[Instance]:
        """The people of the set, image by image in the set's order.

        boxes: "gt" (annotated people that evaluation counts), "detections", or "auto": ground truth if there is
        any, else detections. minimum_score: for detections only; HRNet runs every box (IMAGE_THRE 0).
        ground_truth_boxes: "hrnet" or "annotated", see clip_ground_truth_box().
        Boxes without area are dropped, as HRNet does (lib/dataset/coco.py, sanitize bboxes).
        """
        if boxes == "auto":
            boxes = self.box_source or "gt"
        if boxes == "gt":
            found = self._ground_truth(ground_truth_boxes)
        elif boxes == "detections":
            found = self._detected(minimum_score)
        else:
            raise ValueError(f"boxes should be auto, gt or detections, not {boxes!r}")
        order = {image["id"]: index for index, image in enumerate(self.images)}
        return sorted(found, key=lambda instance: order[instance.image_id])

    def _ground_truth(self, convention: str) -> list[Instance]:
        found = []
        for person in self.annotations.people() if self.annotations else []:
            image = self._by_id[person["image_id"]]
            box = clip_ground_truth_box(person["bbox"], image["width"], image["height"], convention)
            if box is None or box[2] <= 0 or box[3] <= 0:
                continue
            found.append(
                Instance(image["id"], image["file"], tuple(box.tolist()), 1.0, person["id"], float(person["area"]))
            )
        return found

    def _detected(self, minimum_score: float) -> list[Instance]:
        found = []
        for detection in self.detections or []:
            box = tuple(float(value) for value in detection["bbox"])
            if box[2] > 0 and box[3] > 0 and detection["score"] >= minimum_score:
                file = self._by_id[detection["image_id"]]["file"]
                found.append(Instance(detection["image_id"], file, box, float(detection["score"])))
        return found


def _layout(folder: Path) -> tuple[Path, Path | None, Path | None]:
    if not folder.exists():
        raise UserError(f"image set {folder} does not exist", "check the path given as CALIB= or EVAL=")
    if not folder.is_dir():
        raise UserError(f"image set {folder} is not a folder", "give the folder that holds the images")
    detections = folder / DETECTIONS_FILE
    detections_file = detections if detections.exists() else None
    if (folder / KEYPOINTS_FILE).exists():
        return folder, folder / KEYPOINTS_FILE, detections_file
    published = [
        (folder / path.stem.removeprefix("person_keypoints_"), path)
        for path in sorted(folder.glob("annotations/person_keypoints_*.json"))
    ]
    published = [pair for pair in published if pair[0].is_dir()]
    if len(published) > 1:
        parts = ", ".join(pair[0].name for pair in published)
        raise UserError(f"image set {folder} has several parts: {parts}", "give a folder with one of them only")
    if published:
        return published[0][0], published[0][1], detections_file
    return folder, None, detections_file


def _image_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def _number(names: list[str]) -> list[dict[str, Any]]:
    """Give images their ids: COCO's number where all names are numbers (000000000785.jpg), else 1, 2, 3..."""
    stems = [Path(name).stem for name in names]
    if all(stem.isdecimal() for stem in stems) and len({int(stem) for stem in stems}) == len(stems):
        return [{"id": int(stem), "file": name} for stem, name in zip(stems, names, strict=True)]
    return [{"id": number, "file": name} for number, name in enumerate(names, start=1)]


def _annotated_images(annotations: Annotations, folder: Path, names: list[str]) -> list[dict[str, Any]]:
    images, missing = [], []
    for entry in annotations.images:
        file = entry["file_name"]
        pure = PurePosixPath(file)
        if pure.is_absolute() or ".." in pure.parts:
            raise UserError(
                f"{annotations.path}: file_name {file!r} leaves the folder", "write file names relative to the folder"
            )
        if not (folder / file).is_file():
            missing.append(file)
        images.append({"id": entry["id"], "file": file, "width": entry.get("width"), "height": entry.get("height")})
    if missing:
        raise UserError(
            f"{annotations.path} names {len(missing)} images that are not in {folder}: {examples(missing)}",
            "copy those images into the folder, or take them out of the JSON file",
        )
    for image in images:
        size = image_size(folder / image["file"])
        if image["width"] is None or image["height"] is None:
            image["width"], image["height"] = size
        if (image["width"], image["height"]) != size:
            raise UserError(
                f"{folder / image['file']} has {size[0]}x{size[1]} pixels, but {annotations.path.name} says "
                f"{image['width']}x{image['height']}",
                "the boxes belong to another version of that image: use the image that was annotated",
            )
    extra = sorted(set(names) - {image["file"] for image in images})
    for name in extra:
        image_size(folder / name)  # an unreadable file among good ones is an error, listed or not
    if extra:
        print(
            f"warning: {len(extra)} images in {folder} are not in {annotations.path.name} and are left out: "
            f"{examples(extra)}",
            file=sys.stderr,
        )
    return images


def _check_detections(detections: list[dict[str, Any]], path: Path, by_id: dict[int, dict[str, Any]]) -> None:
    missing = sorted({detection["image_id"] for detection in detections} - by_id.keys())
    if missing:
        raise UserError(
            f"{path} has boxes for {len(missing)} images that are not in the set: image_id {examples(missing)}",
            "copy those images into the folder, or take their boxes out; image_id is the number in the file name "
            "(000000000785.jpg is 785), or the id in person_keypoints.json",
        )
