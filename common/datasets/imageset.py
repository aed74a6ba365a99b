"""An image set: a folder of images, with or without people annotated or detected in them.

    folder/                          or COCO as published:
      000000000785.jpg ...             folder/val2017/000000000139.jpg ...   (or folder/images/val2017/)
      person_keypoints.json            folder/annotations/person_keypoints_val2017.json   COCO ground truth
      person_detections.json           folder/person_detections.json                      COCO results list
                                       (or folder/person_detection_results/*.json, as HRNet's users have it)

or MPII, see common/datasets/mpii.py. All the JSON files are optional. Everything is checked here, where it enters.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from common.basics.errors import UserError
from common.basics.files import folder_fingerprint
from common.datasets.annotations import Annotations, examples, load_detections, load_keypoints
from common.datasets.image_file import IMAGE_SUFFIXES, image_size
from common.datasets.mpii import GroundTruth, load_mpii
from common.datasets.set_layout import find_layout, image_names, read_verdict, write_verdict
from common.declarations.keypoints import KeypointSet
from common.preprocessing.preprocess import clip_ground_truth_box, read_image


@dataclass(frozen=True, slots=True)
class Instance:
    """One network input: a person's box (top-down), or a whole image (bottom-up, detection).

    box: (x, y, w, h) in image pixels: from ground truth clipped to the image, from a detector untouched; of a whole
    image (0, 0, width, height). score: the detector's, 1.0 for ground truth. annotation_id, area: of the ground truth
    (area in square pixels, COCO's segment area; of MPII the entry's number and None); None for a detection.
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
    file relative to image_folder. annotations: COCO's ground truth, or None. detections: the results list, or None.
    mpii: MPII's ground truth, or None. limited: only some of the folder's images, see first().
    """

    folder: Path
    image_folder: Path
    images: list[dict[str, Any]]
    annotations: Annotations | None
    detections: list[dict[str, Any]] | None
    _by_id: dict[int, dict[str, Any]] = field(repr=False)
    mpii: GroundTruth | None = None
    limited: bool = False

    @classmethod
    def open(cls, folder: str | Path, whole: bool = True) -> ImageSet:
        """Open a folder and check it: images whole, annotations intact, both fitting each other.

        whole: read every image to its end, unless that was done before and no file has changed since. False: look
        only at the headers of images whose size no file says; a damaged one is then found by read().
        Raises UserError with a hint: no folder, no images, an unreadable or truncated image, damaged JSON,
        annotations or detections of images that are not there, sizes that differ from the annotated ones.
        Images that person_keypoints.json does not list are left out, with a warning.
        """
        folder = Path(folder)
        layout = find_layout(folder)
        # Taken before the images are read: a file that changes meanwhile must not count as checked.
        fingerprint = folder_fingerprint(folder) if whole else ""
        checker = _ImageChecker(layout.images, whole, read_verdict(fingerprint) if whole else None)
        annotations = load_keypoints(layout.keypoints) if layout.keypoints else None
        mpii = load_mpii(*layout.mpii) if layout.mpii else None
        names = image_names(layout.images) if layout.images.is_dir() else []
        if not names and not (annotations and annotations.images):
            raise UserError(
                f"image set {layout.images} has no images", f"put {', '.join(IMAGE_SUFFIXES)} files into it"
            )
        if annotations is not None:
            images = _annotated_images(annotations, checker, names)
        else:
            if mpii:
                _check_present(mpii.path, layout.images, mpii.files, names)
            images = _number(mpii.files if mpii else names)
            for image in images:
                image["width"], image["height"] = checker.size(image["file"])
        by_id = {image["id"]: image for image in images}
        detections = None
        if layout.detections:
            detections = load_detections(layout.detections)
            _check_detections(detections, layout.detections, by_id)
        if whole and checker.known is None:
            write_verdict(fingerprint, folder, checker.found)
        return cls(folder, layout.images, images, annotations, detections, by_id, mpii)

    def first(self, count: int) -> ImageSet:
        """The set of the first `count` images only, with their annotations and detections."""
        images = self.images[:count]
        by_id = {image["id"]: image for image in images}
        return replace(
            self,
            images=images,
            annotations=self.annotations.of_images(set(by_id)) if self.annotations else None,
            detections=None
            if self.detections is None
            else [detection for detection in self.detections if detection["image_id"] in by_id],
            _by_id=by_id,
            mpii=self.mpii.of_images(count) if self.mpii else None,
            limited=True,
        )

    def read(self, instance: Instance) -> np.ndarray:
        """The image of an instance, uint8 [H, W, 3] BGR. UserError when it is damaged, or not of the known size."""
        image, known = read_image(self.path(instance.file)), self._by_id[instance.image_id]
        _check_size(self.path(instance.file), image.shape[1::-1], (known["width"], known["height"]), "its annotation")
        return image

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
        if self.has_keypoints or self.mpii:
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
        Boxes that are nothing are dropped: no crop can be made of a point. One without width or without height
        remains where HRNet keeps it (lib/dataset/coco.py: the crop grows to the aspect ratio), so not of mmpose's
        "annotated" boxes.
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
        if self.mpii:
            return self._of_mpii(self.mpii)
        found = []
        for person in self.annotations.people() if self.annotations else []:
            image = self._by_id[person["image_id"]]
            box = clip_ground_truth_box(person["bbox"], image["width"], image["height"], convention)
            if box is None or max(box[2:]) <= 0 or (convention != "hrnet" and min(box[2:]) <= 0):
                continue
            found.append(
                Instance(image["id"], image["file"], tuple(box.tolist()), 1.0, person["id"], float(person["area"]))
            )
        return found

    def _of_mpii(self, truth: GroundTruth) -> list[Instance]:
        ids = {image["file"]: image["id"] for image in self.images}
        files = [truth.files[index] for index in truth.image_of]
        return [
            Instance(ids[file], file, truth.box(person), 1.0, row)
            for person, (file, row) in enumerate(zip(files, truth.rows, strict=True))
        ]

    def _detected(self, minimum_score: float) -> list[Instance]:
        found = []
        for detection in self.detections or []:
            box = tuple(float(value) for value in detection["bbox"])
            if min(box[2:]) >= 0 and max(box[2:]) > 0 and detection["score"] >= minimum_score:
                file = self._by_id[detection["image_id"]]["file"]
                found.append(Instance(detection["image_id"], file, box, float(detection["score"])))
        return found


class _ImageChecker:
    """The sizes of images: read and checked to the end of the file, taken from an earlier check, or from headers.

    known: {file: (width, height)} of an earlier check of this very set, or None. found: the sizes so far.
    """

    def __init__(self, folder: Path, whole: bool, known: dict[str, tuple[int, int]] | None):
        self.folder, self.whole, self.known = folder, whole, known
        self.found: dict[str, tuple[int, int]] = {}

    def size(self, file: str) -> tuple[int, int]:
        """(width, height) of an image, in pixels. UserError when it is unreadable or truncated."""
        size = self.known.get(file) if self.known is not None else None
        self.found[file] = size or image_size(self.folder / file, self.whole)
        return self.found[file]


def _number(names: list[str]) -> list[dict[str, Any]]:
    """Give images their ids: COCO's number where all names are numbers (000000000785.jpg), else 1, 2, 3..."""
    stems = [Path(name).stem for name in names]
    if all(stem.isdecimal() for stem in stems) and len({int(stem) for stem in stems}) == len(stems):
        return [{"id": int(stem), "file": name} for stem, name in zip(stems, names, strict=True)]
    return [{"id": number, "file": name} for number, name in enumerate(names, start=1)]


def _check_present(listing: Path, folder: Path, files: list[str], names: list[str]) -> None:
    """UserError unless all files that the listing names are in the folder; names: of the images directly in it."""
    there = set(names)
    missing = [file for file in files if file not in there and not (folder / file).is_file()]
    if missing:
        raise UserError(
            f"{listing} names {len(missing)} images that are not in {folder}: {examples(missing)}",
            "copy those images into the folder, or take them out of the JSON file",
        )


def _check_size(path: Path, found: tuple[int, ...], expected: tuple[int, int], says: str) -> None:
    if tuple(found) != tuple(expected):
        raise UserError(
            f"{path} has {found[0]}x{found[1]} pixels, but {says} says {expected[0]}x{expected[1]}",
            "the boxes belong to another version of that image: use the image that was annotated",
        )


def _annotated_images(annotations: Annotations, checker: _ImageChecker, names: list[str]) -> list[dict[str, Any]]:
    images, folder = [], checker.folder
    for entry in annotations.images:
        file = entry["file_name"]
        pure = PurePosixPath(file)
        if pure.is_absolute() or ".." in pure.parts:
            raise UserError(
                f"{annotations.path}: file_name {file!r} leaves the folder", "write file names relative to the folder"
            )
        images.append({"id": entry["id"], "file": file, "width": entry.get("width"), "height": entry.get("height")})
    _check_present(annotations.path, folder, [image["file"] for image in images], names)
    for image in images:
        unknown = image["width"] is None or image["height"] is None
        if not (unknown or checker.whole):
            continue
        size = checker.size(image["file"])
        if unknown:
            image["width"], image["height"] = size
        _check_size(folder / image["file"], size, (image["width"], image["height"]), annotations.path.name)
    extra = sorted(set(names) - {image["file"] for image in images})
    for name in extra if checker.whole else []:
        checker.size(name)  # an unreadable file among good ones is an error, listed or not
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
