"""The calibration lint: is a calibration set what the network will see at run time?

A quantiser believes whatever it is fed, so a wrong set gives a bad artifact without a warning. Each check is a small
function that looks at a Subject and returns a Finding; LINT lists them. What is judged are the written .npy files,
not the arrays that were in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from common.basics.files import sha256_file
from common.calibration.likeness import alike, file_thumbnail, thumbnail
from common.calibration.lint_arithmetic import explain_border, explain_difference, recompute
from common.datasets.annotations import examples
from common.datasets.imageset import ImageSet
from common.declarations.spec import ModelSpec
from common.preprocessing.preprocess import denormalize

FEWEST_SAMPLES = 8  # below this a calibration is luck
FEW_SAMPLES = 32  # vendors' guides ask for 50 to several hundred
MOST_DUPLICATES = 0.25
LEAST_SPAN = 0.25  # of the possible range; a photograph's pixels span most of 0..255
BOX_HINT = "add person_keypoints.json (COCO ground truth) or person_detections.json (COCO results) to the folder"

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """What one check found. state "fail" stops the build unless FORCE=1."""

    check: str
    state: State
    message: str
    hint: str | None = field(default=None, compare=False)

    def as_json(self) -> dict[str, str]:
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Subject:
    """What is linted: the folder with NNNN.npy, its manifest entries, the sets and the model's declaration.

    samples: manifest["samples"]; boxes: "gt", "detections" or "whole_images"; evaluation: the evaluation set.
    """

    folder: Path
    samples: list[dict[str, Any]]
    boxes: str
    spec: ModelSpec
    calibration: ImageSet
    evaluation: ImageSet | None

    @property
    def tensors(self) -> Iterator[np.ndarray]:
        """The tensors as they lie on disk, in the samples' order, one at a time (a set may be larger than memory)."""
        return (np.load(self.folder / sample["file"], allow_pickle=False) for sample in self.samples)

    @cached_property
    def thumbnails(self) -> np.ndarray:
        """One thumbnail per tensor."""
        return np.stack([thumbnail(denormalize(tensor[0], self.spec.input)) for tensor in self.tensors])

    @cached_property
    def images(self) -> list[str]:
        """The image files that were used, each once, sorted."""
        return sorted({sample["image"] for sample in self.samples})


def check_person_crops(subject: Subject) -> Finding:
    """A top-down network sees crops of persons, and whole photographs have other statistics; for the others, whole
    photographs are what they see.
    """
    if subject.spec.task != "topdown_pose":
        size = f"{subject.spec.input.width}x{subject.spec.input.height}"
        message = f"{len(subject.samples)} whole photographs, fitted into {size} as at run time: what the network sees"
        return Finding("whole_images", "ok", message)
    if subject.boxes == "whole_images":
        message = f"{subject.calibration.folder} has no person boxes: whole photographs are not what the network sees"
        return Finding("person_crops", "fail", message, BOX_HINT)
    source = "ground-truth boxes" if subject.boxes == "gt" else "detected boxes"
    return Finding("person_crops", "ok", f"{len(subject.samples)} person crops from {source}")


def check_count(subject: Subject) -> Finding:
    """Too few samples make ranges a matter of luck; repeated ones do not count."""
    count = len({sample["sha256"] for sample in subject.samples})
    message = f"{count} different samples from {len(subject.images)} images"
    people = "" if subject.spec.task == "detection" else " with people"
    hint = f"add images{people} to CALIB; 50 or more is usual"
    if count < FEWEST_SAMPLES:
        return Finding("count", "fail", f"only {message}, at least {FEWEST_SAMPLES} are needed", hint)
    if count < FEW_SAMPLES:
        return Finding("count", "warn", f"only {message}, {FEW_SAMPLES} or more are better", hint)
    return Finding("count", "ok", message)


def check_shape(subject: Subject) -> Finding:
    """Every file is float32 [1, C, H, W] of the network's input, without NaN or infinity."""
    expected = tuple(subject.spec.input.shape)
    for sample, tensor in zip(subject.samples, subject.tensors, strict=True):
        if tensor.shape != expected or tensor.dtype != np.float32:
            message = f"{sample['file']} is {tensor.dtype} {list(tensor.shape)}, expected float32 {list(expected)}"
            return Finding("shape", "fail", message, "make the calibration again: remove the calib folder")
        if not np.isfinite(tensor).all():
            return Finding("shape", "fail", f"{sample['file']} has values that are not finite", "check mean and std")
    return Finding("shape", "ok", f"float32 {list(expected)}")


def check_units(subject: Subject) -> Finding:
    """Values lie where pixels of 0..255 land under the declared scale, mean and std, and use a fair part of it."""
    declared = subject.spec.input
    mean, std = np.asarray(declared.mean), np.asarray(declared.std)
    low, high = (0 / declared.scale - mean) / std, (255 / declared.scale - mean) / std
    extremes = [(tensor.min(axis=(0, 2, 3)), tensor.max(axis=(0, 2, 3))) for tensor in subject.tensors]
    lowest, highest = np.min([least for least, _ in extremes], axis=0), np.max([most for _, most in extremes], axis=0)
    hint = "input.scale, mean and std must be in one unit: scale 255 with mean 0.485, or scale 1 with mean 123.675"
    allowed = 1e-3 * (high - low)
    if (lowest < low - allowed).any() or (highest > high + allowed).any():
        message = f"values {_span(lowest, highest)} leave the possible range {_span(low, high)}"
        return Finding("units", "fail", message, hint)
    if not ((low < 0) & (high > 0) | (mean == 0)).all():
        message = f"mean {declared.mean} lies outside the pixels' own range 0..{255 / declared.scale:g}"
        return Finding("units", "fail", message, hint)
    if (highest - lowest < LEAST_SPAN * (high - low)).any():
        message = f"values {_span(lowest, highest)} use little of the possible range {_span(low, high)}"
        return Finding("units", "fail", message, "the images are nearly black, white or plain: use photographs")
    return Finding("units", "ok", f"values {_span(lowest, highest)} within {_span(low, high)}")


def check_preprocessing(subject: Subject) -> Finding:
    """Each tensor is recomputed from its photograph by other code; a known slip is named when it explains it.

    Slips that are told apart: red and blue swapped, mean or std or scale left out, another border. Grey pictures look
    the same in either colour order; a set of nothing else gets a warning.
    """
    import cv2

    image, name, coloured = None, None, False
    for sample, tensor in zip(subject.samples, subject.tensors, strict=True):
        if sample["image"] != name:
            name = sample["image"]
            image = cv2.imread(str(subject.calibration.path(name)), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        pixels = recompute(image, sample, subject.spec)
        coloured = coloured or bool((pixels[..., 0] != pixels[..., 2]).any())
        slip = explain_difference(tensor[0], pixels, subject.spec.input)
        slip = slip and (explain_border(tensor[0], image, sample, subject.spec) or slip)
        if slip:
            message = f"{sample['file']} is not what {name} gives under the declared preprocessing: {slip}"
            return Finding("preprocessing", "fail", message, "make the calibration again: remove the calib folder")
    if not coloured and subject.spec.input.color != "gray":
        message = "all samples are grey: the colour order cannot be told from them"
        return Finding("preprocessing", "warn", message, "calibrate on colour photographs")
    return Finding("preprocessing", "ok", f"recomputed from the photographs; colour order {subject.spec.input.color}")


def check_duplicates(subject: Subject) -> Finding:
    """Samples that repeat others, to the bit or to the eye, make a set look larger than it is."""
    hashes = [sample["sha256"] for sample in subject.samples]
    exact = {index for index, value in enumerate(hashes) if value in hashes[:index]}
    same = np.tril(alike(subject.thumbnails, subject.thumbnails), k=-1)
    near = set(np.nonzero(same.any(axis=1))[0].tolist())
    repeated = sorted(exact | near)
    if not repeated:
        return Finding("duplicates", "ok", f"no two of {len(hashes)} samples are alike")
    files = examples(subject.samples[index]["file"] for index in repeated)
    message = f"{len(repeated)} of {len(hashes)} samples repeat others ({len(exact)} to the bit): {files}"
    state: State = "fail" if len(repeated) > MOST_DUPLICATES * len(hashes) else "warn"
    return Finding("duplicates", state, message, "use different photographs, not copies or neighbouring video frames")


def check_variety(subject: Subject) -> Finding:
    """More than one photograph: one scene's light and colours set every range otherwise."""
    hashes = {sample["image_sha256"] for sample in subject.samples}
    hint = "calibrate on photographs of different scenes"
    if len(hashes) == 1 and len(subject.samples) > 0:
        return Finding("variety", "fail", f"all samples come from one photograph: {subject.images[0]}", hint)
    if len(hashes) < min(FEWEST_SAMPLES, len(subject.samples)):
        return Finding("variety", "warn", f"the samples come from {len(hashes)} photographs only", hint)
    return Finding("variety", "ok", f"{len(hashes)} different photographs")


def check_evaluation_overlap(subject: Subject) -> Finding:
    """Images that the artifact is measured on must not have shaped it: same bytes, same pixels, or re-encoded."""
    if subject.evaluation is None or not subject.samples:
        return Finding("evaluation_overlap", "ok", "there is no evaluation set")
    ours = [subject.calibration.path(name) for name in subject.images]
    theirs = [subject.evaluation.path(image["file"]) for image in subject.evaluation.images]
    sizes = {path.stat().st_size for path in ours}
    their_hashes = {sha256_file(path): path.name for path in theirs if path.stat().st_size in sizes}
    same = {path.name: their_hashes[digest] for path in ours if (digest := sha256_file(path)) in their_hashes}
    looks = alike(np.stack([file_thumbnail(path) for path in ours]), np.stack([file_thumbnail(p) for p in theirs]))
    for row, column in np.argwhere(looks):
        same.setdefault(ours[row].name, theirs[column].name)
    if same:
        pairs = [name if name == other else f"{name} (as {other})" for name, other in same.items()]
        message = f"{len(same)} calibration images are also in the evaluation set: {examples(pairs)}"
        return Finding("evaluation_overlap", "fail", message, "take them out of CALIB, or measure on another EVAL")
    return Finding("evaluation_overlap", "ok", f"none of {len(ours)} images is among the {len(theirs)} of evaluation")


LINT: tuple[Callable[[Subject], Finding], ...] = (
    check_person_crops,
    check_count,
    check_shape,
    check_units,
    check_preprocessing,
    check_duplicates,
    check_variety,
    check_evaluation_overlap,
)


def lint(subject: Subject) -> list[Finding]:
    """Run every check; after a failed shape check the ones that read the tensors are left out."""
    findings: list[Finding] = []
    for check in LINT:
        shape_failed = any(finding.check == "shape" and finding.state == "fail" for finding in findings)
        if shape_failed and check in (check_units, check_preprocessing, check_duplicates):
            continue
        findings.append(check(subject))
    return findings


def _span(low: np.ndarray, high: np.ndarray) -> str:
    return f"{float(np.min(low)):.2f}..{float(np.max(high)):.2f}"
