"""Where a top-down network looks: at the boxes of a detector, at those of a file, or at the picture as one person.

DETECTOR=finder               a built network that finds people, float
DETECTOR=finder/chip/int8     the same as an artifact of a chip, in its simulator
DETECTOR=boxes.json           COCO's ground truth, or COCO's results list
(nothing)                     the whole picture is one person
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.basics.errors import USAGE_EXIT, UserError
from common.datasets.annotations import load_detections, load_keypoints, read_annotation_json
from common.datasets.imageset import Instance
from common.declarations.spec import ModelSpec
from common.drawing.image import MOST_SHOWN
from common.drawing.networks import Finder, Frame, find_built, find_in, has_random_weights, shown
from common.evaluation.evaluated_network import FLOAT, EvaluatedNetwork
from common.preprocessing.preprocess import clip_ground_truth_box
from common.tasks.topdown import DETECTION_SCORE

PERSON = "person"


class WholePicture:
    """One instance a frame, the frame itself: one person for a top-down network, the photograph for any other."""

    outlined = False

    def __init__(self, words: str = ""):
        self.words = words

    def boxes(self, frames: Sequence[Frame]) -> list[list[Instance]]:
        """See Finder."""
        return [[whole_frame(index, frame)] for index, frame in enumerate(frames)]


class Detected:
    """People found by a network, the best MOST_SHOWN of a frame."""

    outlined = True

    def __init__(self, network: EvaluatedNetwork, random_weights: bool = False):
        """random_weights: it was never trained, so that whom it finds means nothing; the caption says so.

        Raises UserError (exit 2): none of its classes is a person.
        """
        self.network = network
        self.words = f"people found by {network.title}" + ", whose weights are random" * random_weights
        labels = network.task.labels()
        if PERSON not in labels:
            raise UserError(f"{network.title} finds no person; its classes: {', '.join(labels[:8])}",
                            "DETECTOR= names a network that finds people", USAGE_EXIT)  # fmt: skip
        self.person = labels.index(PERSON)

    def boxes(self, frames: Sequence[Frame]) -> list[list[Instance]]:
        """See Finder. Raises UserError when the network fails."""
        found = find_in(self.network, [(frame, whole_frame(0, frame)) for frame in frames])
        return [self._people(index, frame, found.of(index)) for index, frame in enumerate(frames)]

    def _people(self, index: int, frame: Frame, found: Any) -> list[Instance]:
        people = shown(self.network.task, found)
        people = people.select(people.classes == self.person)
        best = people.select(np.sort(np.argsort(-people.scores, kind="stable")[:MOST_SHOWN]))
        pairs = zip(best.boxes.tolist(), best.scores.tolist(), strict=True)
        return [Instance(index, frame.name, tuple(box), score) for box, score in pairs if is_region(box)]


class FileBoxes:
    """People of a COCO file: those of ground truth that are no crowd, or detections of at least DETECTION_SCORE.

    Pictures are told by `file_name` where the file has it; a results list has numbers only: the one in the picture's
    name (000000000785.jpg is 785), else its place among the pictures, from 1 on. Their boxes are of stored pixels.
    Annotated boxes are clipped, and their people's areas taken, as in the proof, so that the figures are the same.
    """

    outlined = True

    def __init__(self, path: Path, names: Sequence[str], convention: str = "hrnet"):
        """names: the pictures' file names, in order. convention: see clip_ground_truth_box().

        Raises UserError: damaged, or no box of any of these pictures.
        """
        self.words, self.convention = f"people of {path.name}", convention
        content = read_annotation_json(path)
        self.sizes: dict[str, tuple[int, int]] = {}
        truth = isinstance(content, dict)
        people = self._annotated(path) if truth else self._detected(path, names)
        self.people = {name: people[name] for name in names if name in people}
        if not self.people:
            listed = "lists no image of that name" if truth else "has no image_id of theirs"
            raise UserError(
                f"{path} has no person in {names[0] if len(names) == 1 else f'any of the {len(names)} pictures'}",
                f"it {listed}, or no person in it; a results list counts by the number in the picture's name",
            )

    def _annotated(self, path: Path) -> dict[str, list[dict[str, Any]]]:
        annotations = load_keypoints(path)
        names = {image["id"]: Path(image["file_name"]).name for image in annotations.images}
        for image in annotations.images:
            if image.get("width") and image.get("height"):
                self.sizes[names[image["id"]]] = image["width"], image["height"]
        people: dict[str, list[dict[str, Any]]] = {}
        for person in annotations.annotations:
            if not person["iscrowd"]:
                people.setdefault(names[person["image_id"]], []).append(person)
        return people

    def _detected(self, path: Path, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        stems = [Path(name).stem for name in names]
        numbered = all(stem.isdecimal() for stem in stems)
        ids = {int(stem) if numbered else place: name
               for place, (stem, name) in enumerate(zip(stems, names, strict=True), start=1)}  # fmt: skip
        people: dict[str, list[dict[str, Any]]] = {}
        for detection in load_detections(path):
            if detection["image_id"] in ids and detection["score"] >= DETECTION_SCORE:
                people.setdefault(ids[detection["image_id"]], []).append(detection)
        return people

    def boxes(self, frames: Sequence[Frame]) -> list[list[Instance]]:
        """See Finder. Raises UserError when a picture is of another size than the file says."""
        for frame in frames:
            height, width = frame.image.shape[:2]
            known = self.sizes.get(frame.name)
            if known and known != (width, height):
                raise UserError(
                    f"{frame.name} has {width}x{height} pixels, but {self.words.removeprefix('people of ')} says "
                    f"{known[0]}x{known[1]}",
                    "the boxes belong to another version of that picture: use the one that was annotated",
                )
        return [
            list(filter(None, (self._instance(index, frame, person) for person in self.people.get(frame.name, []))))
            for index, frame in enumerate(frames)
        ]

    def _instance(self, index: int, frame: Frame, person: dict[str, Any]) -> Instance | None:
        box, height, width = person["bbox"], *frame.image.shape[:2]
        detected = "score" in person
        if not detected:
            box = clip_ground_truth_box(box, width, height, self.convention)
        if box is None or not is_region(box):
            return None
        box = tuple(float(value) for value in box)
        if detected:
            return Instance(index, frame.name, box, float(person["score"]))
        return Instance(index, frame.name, box, 1.0, person["id"], person["area"])


def whole_frame(index: int, frame: Frame) -> Instance:
    """The frame as one network input."""
    height, width = frame.image.shape[:2]
    return Instance(index, frame.name, (0.0, 0.0, float(width), float(height)), 1.0)


def is_region(box: Sequence[float]) -> bool:
    """Whether a crop can be made of a box [x, y, w, h]: it is no point."""
    return min(box[2:]) >= 0 and max(box[2:]) > 0


def find_finder(spec: ModelSpec, detector: str, names: Sequence[str] | None) -> Finder:
    """Who says where this network looks, by DETECTOR=. names: the pictures' file names; None: the frames of a clip.

    Raises UserError: a network that needs no boxes, or a detector that is none (exit 2); not built; a bad file.
    """
    if spec.task != "topdown_pose":
        if detector:
            raise UserError(f"{spec.name} is shown whole pictures, so DETECTOR={detector} says nothing",
                            "leave DETECTOR= out", USAGE_EXIT)  # fmt: skip
        return WholePicture()
    if not detector:
        return WholePicture("the whole picture taken for one person (DETECTOR= finds people)")
    if detector.endswith(".json"):
        if names is None:
            raise UserError("boxes of a file are of pictures, not of a clip's frames",
                            "DETECTOR= names a built network that finds people", USAGE_EXIT)  # fmt: skip
        return FileBoxes(Path(detector), names, spec.decode.ground_truth_boxes)
    model, chip, variant, *more = [*detector.split("/"), "", ""]
    if any(more):
        raise UserError(f"DETECTOR={detector} is no network, network/chip or network/chip/variant",
                        "DETECTOR=network, its float; or boxes.json", USAGE_EXIT)  # fmt: skip
    try:
        network = find_built(model, "", "", chip or FLOAT, variant)
    except UserError as error:
        raise UserError(f"DETECTOR={detector}: {error.message}", error.hint, error.exit_code) from None
    if network.task.spec.task == "topdown_pose":
        raise UserError(f"DETECTOR={detector}: {model} looks at one person's box, it finds nobody",
                        "name a detector or a bottom-up network", USAGE_EXIT)  # fmt: skip
    return Detected(network, has_random_weights(network))
