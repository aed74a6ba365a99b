"""Where the parts of an image set lie in each of the layouts that people have, and which sets are known to be whole."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from common.basics.errors import UserError
from common.basics.files import read_json, write_json
from common.datasets.annotations import examples
from common.datasets.image_file import IMAGE_SUFFIXES
from common.datasets.mpii import IMAGE_FOLDER, find_mpii

KEYPOINTS_FILE = "person_keypoints.json"
DETECTIONS_FILE = "person_detections.json"
DETECTIONS_FOLDER = "person_detection_results"  # as HRNet's instructions name it
# annotations/person_keypoints_val2017.json is of the images in val2017/; objects of all classes are in the other one.
PUBLISHED_KEYPOINTS, PUBLISHED_OBJECTS = "person_keypoints_", "instances_"
VERDICTS = Path("out/sets")  # <fingerprint>.json: the sizes of the images of a set that was checked to the last byte
VERDICT_VERSION = 1


@dataclass(frozen=True)
class Layout:
    """images: the folder of the photographs. keypoints, detections: the JSON files, where there are any. mpii: MPII's
    JSON and MATLAB file, where it is such a set."""

    images: Path
    keypoints: Path | None = None
    detections: Path | None = None
    mpii: tuple[Path, Path] | None = None


def find_layout(folder: Path) -> Layout:
    """Find out which layout a folder has. Raises UserError when it is none, or several at once."""
    if not folder.exists():
        raise UserError(f"image set {folder} does not exist", "check the path given as CALIB= or EVAL=")
    if not folder.is_dir():
        raise UserError(f"image set {folder} is not a folder", "give the folder that holds the images")
    if (folder / KEYPOINTS_FILE).exists():
        return Layout(folder, folder / KEYPOINTS_FILE, _detections(folder, folder.name))
    published = _published(folder, PUBLISHED_KEYPOINTS) or _published(folder, PUBLISHED_OBJECTS)
    if len(published) > 1:
        parts = ", ".join(pair[0].name for pair in published)
        raise UserError(f"image set {folder} has several parts: {parts}", "give a folder with one of them only")
    if published:
        place, path = published[0]
        keypoints = path if path.name.startswith(PUBLISHED_KEYPOINTS) else None
        return Layout(place, keypoints, _detections(folder, place.name))
    mpii = find_mpii(folder)
    if mpii:
        return Layout(folder / IMAGE_FOLDER, mpii=mpii)
    return Layout(folder, detections=_detections(folder, folder.name))


def _published(folder: Path, prefix: str) -> list[tuple[Path, Path]]:
    """The parts of COCO that are there, images and annotations: (val2017/, annotations/<prefix>val2017.json).

    The images are where COCO's archive unpacks them, or in images/val2017/, where HRNet's instructions put them.
    """
    found = []
    for path in sorted(folder.glob(f"annotations/{prefix}*.json")):
        part = path.stem.removeprefix(prefix)
        places = [place for place in (folder / part, folder / "images" / part) if place.is_dir()]
        found += [(place, path) for place in places[:1]]
    return found


def _detections(folder: Path, part: str) -> Path | None:
    """person_detections.json, else the one file of person_detection_results/ (that speaks of `part`, of several)."""
    if (folder / DETECTIONS_FILE).exists():
        return folder / DETECTIONS_FILE
    files = sorted((folder / DETECTIONS_FOLDER).glob("*.json"))
    if len(files) > 1:
        files = [path for path in files if part in path.name] or files
    if len(files) > 1:
        raise UserError(
            f"{folder / DETECTIONS_FOLDER} has several detection files: {examples(path.name for path in files)}",
            f"keep the one of these images there, or copy it to {folder / DETECTIONS_FILE}",
        )
    return files[0] if files else None


def image_names(folder: Path) -> list[str]:
    """The image files that lie directly in a folder, sorted."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name for entry in entries if entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.is_file()
        )


def read_verdict(fingerprint: str) -> dict[str, tuple[int, int]] | None:
    """{file: (width, height)} of a set that was checked before and has not changed since; None for any other."""
    path = VERDICTS / f"{fingerprint}.json"
    if not path.is_file():
        return None
    content = read_json(path)
    if content.get("version") != VERDICT_VERSION:
        return None
    return {file: (size[0], size[1]) for file, size in content["sizes"].items()}


def write_verdict(fingerprint: str, folder: Path, sizes: dict[str, tuple[int, int]]) -> None:
    """Remember that these images are whole. A folder that cannot be written to is no reason to fail."""
    content = {
        "version": VERDICT_VERSION,
        "folder": str(folder),
        "sizes": {file: [*size] for file, size in sizes.items()},
    }
    try:
        write_json(VERDICTS / f"{fingerprint}.json", content)
    except OSError:
        return
