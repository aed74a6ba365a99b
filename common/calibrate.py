"""Calibration tensors for a cell: person crops, or whole photographs for a network that sees those; made exactly as
at run time, linted before they are believed.

python -m common.calibrate out/<model>/<chip>/<variant>     writes calib/NNNN.npy, manifest.json, contact_sheet.jpg
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from common.basics.errors import UserError, run
from common.basics.files import folder_fingerprint, replacing_folder, sha256_file, write_json
from common.basics.progress import Progress, track
from common.calibration.lint import Finding, Subject, lint
from common.datasets.imageset import ImageSet, Instance
from common.declarations.keypoints import keypoint_set
from common.declarations.spec import ModelSpec
from common.job import Cell
from common.preprocessing.preprocess import denormalize
from common.samples import network_inputs
from common.tasks import Task, task_of, whole_images
from common.tasks.topdown import DETECTION_SCORE

OVERLAP_LIMIT = 0.7  # two boxes with a larger intersection over union are one person twice
SHEET_COLUMNS, SHEET_TILE_HEIGHT, SHEET_ROWS = 10, 128, 20


def box_overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes [x, y, w, h], 0..1."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    common = max(0.0, width) * max(0.0, height)
    union = first[2] * first[3] + second[2] * second[3] - common
    return common / union if union > 0 else 0.0


def choose(instances: Sequence[Instance], count: int) -> list[Instance]:
    """Choose calibration samples: every image gives its best person, then every image its second best, and so on.

    Best is the highest score, among equals (ground truth) the largest box. Boxes that cover a chosen one of the same
    image by more than 0.7 are passed over. Deterministic; the result is in the set's order.
    """
    queues: dict[int, list[int]] = defaultdict(list)
    for index, instance in enumerate(instances):
        queues[instance.image_id].append(index)
    for image, indices in queues.items():
        ranked = sorted(indices, key=lambda i: (-instances[i].score, -instances[i].box[2] * instances[i].box[3], i))
        kept: list[int] = []
        for index in ranked:
            if all(box_overlap(instances[index].box, instances[other].box) <= OVERLAP_LIMIT for other in kept):
                kept.append(index)
        queues[image] = kept
    rounds = max((len(queue) for queue in queues.values()), default=0)
    ordered = [queue[turn] for turn in range(rounds) for queue in queues.values() if turn < len(queue)]
    return [instances[index] for index in sorted(ordered[:count])]


def candidates(image_set: ImageSet, spec: ModelSpec) -> tuple[list[Instance], str]:
    """All that could be calibrated on, and where their boxes come from ("gt", "detections", "whole_images").

    A network that sees whole images takes every one of the set. A top-down network takes the people; without any
    box there are only the whole images, which the lint refuses.
    """
    if spec.task != "topdown_pose":
        return whole_images(image_set), "whole_images"
    check_calibration_keypoints(image_set, spec)
    found = image_set.instances("auto", DETECTION_SCORE, spec.decode.ground_truth_boxes)
    if found:
        return found, str(image_set.box_source)
    if image_set.detections:
        best = max(detection["score"] for detection in image_set.detections)
        raise UserError(
            f"{image_set.folder}: no detection reaches a score of {DETECTION_SCORE} (the best has {best:.3g})",
            "use a detector with scores of 0..1, or images with people",
        )
    return whole_images(image_set), "whole_images"


def check_calibration_keypoints(image_set: ImageSet, spec: ModelSpec) -> None:
    """UserError when people are annotated in keypoints that nobody knows, or in an order of their own.

    Another known set than the network's is welcome: only the boxes matter here.
    """
    if image_set.annotations and image_set.annotations.keypoint_set() in (None, spec.keypoints):
        image_set.check_keypoints(keypoint_set(spec.keypoints))


def write_tensors(folder: Path, image_set: ImageSet, chosen: Sequence[Instance], task: Task) -> list[dict[str, Any]]:
    """Write NNNN.npy (float32 [1, C, H, W]) for each network input; returns the manifest's entries."""
    hashes: dict[str, str] = {}
    samples = []
    for index, instance in enumerate(track(chosen, "calibrate", "inputs")):
        name = f"{index:04d}.npy"
        np.save(folder / name, network_inputs(image_set, [instance], task))
        if instance.file not in hashes:
            hashes[instance.file] = sha256_file(image_set.path(instance.file))
        entry = task.describe(instance)
        samples.append(
            {"file": name, "image": entry.pop("file"), "image_sha256": hashes[instance.file]}
            | entry
            | {"sha256": sha256_file(folder / name)}
        )
    return samples


def statistics(folder: Path, samples: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Minimum, maximum, mean and standard deviation per channel over all tensors on disk."""
    rows = []
    for sample in samples:
        array = np.load(folder / sample["file"], allow_pickle=False).astype(np.float64)[0]
        rows.append([f(axis=(1, 2)) for f in (array.min, array.max, array.mean, (array**2).mean)])
    minima, maxima, means, mean_squares = np.swapaxes(np.array(rows), 0, 1)
    mean, squares = means.mean(axis=0), mean_squares.mean(axis=0)
    return {
        "minimum": minima.min(axis=0).tolist(),
        "maximum": maxima.max(axis=0).tolist(),
        "mean": mean.tolist(),
        "standard_deviation": np.sqrt(np.maximum(squares - mean**2, 0)).tolist(),
    }


def contact_sheet(folder: Path, samples: Sequence[dict[str, Any]], spec: ModelSpec) -> np.ndarray:
    """The inputs as the network sees them, de-normalised from the written files: uint8 [H, W, 3] BGR, 10 a row."""
    import cv2

    height = SHEET_TILE_HEIGHT
    width = max(1, round(height * spec.input.width / spec.input.height))
    tiles = []
    for sample in samples[: SHEET_COLUMNS * SHEET_ROWS]:
        picture = denormalize(np.load(folder / sample["file"], allow_pickle=False)[0], spec.input)
        tiles.append(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))
    columns = min(SHEET_COLUMNS, len(tiles))
    tiles += [np.full((height, width, 3), 255, np.uint8)] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    return np.vstack(rows)


def judge(findings: Sequence[Finding], where: str, force: bool) -> None:
    """Print warnings; UserError with the first failure's hint unless forced (then failures are warnings, too)."""
    failed = [finding for finding in findings if finding.state == "fail"]
    for finding in findings:
        if finding.state == "warn" or (finding.state == "fail" and force):
            print(f"warning: {where}: {finding.check}: {finding.message}", file=sys.stderr)
    if failed and not force:
        reasons = "; ".join(f"{finding.check}: {finding.message}" for finding in failed)
        hint = failed[0].hint or "mend the calibration set"
        raise UserError(f"{where}: the calibration lint refuses the set: {reasons}", f"{hint} (FORCE=1 goes on anyway)")


@contextmanager
def unchanged(folder: Path, fingerprint: str | None, where: str) -> Iterator[None]:
    """The block, with a folder of images that is the one of `fingerprint` before and after it (None: any folder).

    Raises UserError when it is not; also in place of whatever the block stumbled over then.
    """

    def check() -> None:
        try:
            same = fingerprint is None or folder_fingerprint(folder) == fingerprint
        except FileNotFoundError:  # a file went away between its listing and its size
            same = False
        if not same:
            raise UserError(
                f"{where}: {folder} changed while the calibration tensors were made from it",
                "wait until it is complete, then run the same make again: it begins with what is there then",
            )

    check()
    try:
        yield
    except Exception:  # an image that is cut off or gone makes trouble of many kinds
        check()
        raise
    check()


def calibrate(
    folder: Path,
    image_set: ImageSet,
    evaluation: ImageSet | None,
    spec: ModelSpec,
    count: int,
    force: bool,
    where: str,
    fingerprint: str | None = None,
) -> dict[str, Any]:
    """Make a calibration folder from an image set, whole or not at all; returns its manifest.

    folder: calib/ of the cell. evaluation: for the overlap check. count: at most so many samples. fingerprint: that of
    the set's folder as it was asked for, where that is known.
    Raises UserError when the lint refuses the set and force is not given, and when the set is or becomes another one.
    """
    import cv2

    found, boxes = candidates(image_set, spec)
    chosen = choose(found, count)
    with replacing_folder(folder) as temporary, unchanged(image_set.folder, fingerprint, where):
        samples = write_tensors(temporary, image_set, chosen, task_of(spec))
        with Progress(f"lint {where}"):
            findings = lint(Subject(temporary, samples, boxes, spec, image_set, evaluation))
        judge(findings, where, force)
        if not cv2.imwrite(str(temporary / "contact_sheet.jpg"), contact_sheet(temporary, samples, spec)):
            raise UserError(f"{where}: contact_sheet.jpg cannot be written", "is the disk full?")
        manifest = {
            "version": 1,
            "set": str(image_set.folder),
            "boxes": boxes,
            "candidates": len(found),
            "count": len(samples),
            "force": force,
            "lint": [finding.as_json() for finding in findings],
            "statistics": statistics(temporary, samples),
            "input": spec.input.model_dump(mode="json"),
            "samples": samples,
        }
        write_json(temporary / "manifest.json", manifest)
    return manifest


def calibrate_cell(cell: Cell) -> None:
    """Make calib/ of a cell from the images that were asked for, as they were when they were asked for."""
    source = cell.calibration_folder
    if source is None or cell.calibration_request is None:
        raise UserError(f"{cell.name} needs no calibration", "int8 variants do")
    with unchanged(source, cell.calibration_request["fingerprint"], cell.name):
        images, evaluation = ImageSet.open(source), ImageSet.open(cell.evaluation_folder)
    calibrate(
        cell.folder / "calib",
        images,
        evaluation,
        cell.spec,
        cell.calibration_count,
        cell.force,
        cell.name,
        cell.calibration_request["fingerprint"],
    )


def main() -> None:
    """python -m common.calibrate CELL"""
    cell = Cell(sys.argv[1])
    calibrate_cell(cell)


if __name__ == "__main__":
    run(main)
