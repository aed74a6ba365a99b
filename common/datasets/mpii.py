"""MPII Human Pose's validation set as HRNet's and mmpose's users have it.

    folder/images/*.jpg          the photographs, those of other parts of MPII too
    folder/annot/valid.json      [{"image", "center", "scale", "joints", "joints_vis"}], one entry per person
    folder/annot/gt_valid.mat    the same people in the same order: joints, which are missing, head boxes
    (mmpose: folder/annotations/mpii_val.json and mpii_gt_val.mat)

Coordinates in all of them are MATLAB's, counted from 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from common.basics.errors import UserError
from common.basics.files import read_json
from common.declarations.keypoints import MPII16
from common.preprocessing.preprocess import PIXELS_PER_SCALE

FILES = (("annot/valid.json", "annot/gt_valid.mat"), ("annotations/mpii_val.json", "annotations/mpii_gt_val.mat"))
IMAGE_FOLDER = "images"
HEAD_SIZE = 0.6  # of the head box's diagonal: SC_BIAS in MPII's own evaluation
_HINT = "both files come with HRNet's and mmpose's instructions for MPII; download them again"
_MAT_KEYS = ("pos_gt_src", "jnt_missing", "headboxes_src")


@dataclass(frozen=True)
class GroundTruth:
    """N annotated people.

    path: of the JSON file. files: the images, in the order of their first person. rows: int [N], the entry of the
    JSON file. image_of: int64 [N], index into files. centers: float64 [N, 2] and scales: float64 [N] as the crop
    takes them, counted from 0 and moved down to the body's middle, in units of 200 px and before any padding.
    joints: float64 [N, 16, 2], counted from 1. visible: bool [N, 16]. head_sizes: float64 [N], pixels.
    """

    path: Path
    files: list[str]
    rows: list[int]
    image_of: np.ndarray
    centers: np.ndarray
    scales: np.ndarray
    joints: np.ndarray
    visible: np.ndarray
    head_sizes: np.ndarray

    def box(self, person: int) -> tuple[float, float, float, float]:
        """The box (x, y, w, h) that leads to the crop of MPII's centre and scale.

        It is the square of side scale * 200 around the centre: box_to_center_scale() with the padding 1.25 gives
        back this centre and 1.25 * scale, which is what HRNet's lib/dataset/mpii.py computes.
        """
        side = float(self.scales[person]) * PIXELS_PER_SCALE
        x, y = self.centers[person]
        return float(x) - side / 2, float(y) - side / 2, side, side

    def of_images(self, count: int) -> GroundTruth:
        """The people of the first `count` images."""
        kept = np.flatnonzero(self.image_of < count)
        return GroundTruth(
            self.path,
            self.files[:count],
            [self.rows[index] for index in kept],
            *(
                array[kept]
                for array in (self.image_of, self.centers, self.scales, self.joints, self.visible, self.head_sizes)
            ),
        )


def find_mpii(folder: Path) -> tuple[Path, Path] | None:
    """The JSON and the MATLAB file of an MPII folder; None for another kind of folder. UserError for half of one."""
    for names in FILES:
        people, truth = (folder / name for name in names)
        if people.is_file() and not truth.is_file():
            raise UserError(f"{people} is there, but {truth.name}, which PCKh is measured with, is not", _HINT)
        if people.is_file():
            return people, truth
    return None


def load_mpii(people_path: Path, truth_path: Path) -> GroundTruth:
    """Read and check both files. Raises UserError that names the file and the entry."""
    entries = read_json(people_path)
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{people_path} is not a list of people", _HINT)
    files: dict[str, int] = {}
    image_of = np.empty(len(entries), np.int64)
    centers, scales = np.empty((len(entries), 2)), np.empty(len(entries))
    for row, entry in enumerate(entries):
        file, centers[row], scales[row] = _checked_person(f"{people_path}: entry {row}", entry)
        image_of[row] = files.setdefault(file, len(files))
    # Move the centre from the torso to the body's middle, then count pixels from 0 (HRNet lib/dataset/mpii.py).
    centers[:, 1] += 15 * scales
    centers -= 1
    truth = _load_truth(truth_path, len(entries), people_path)
    heads = truth["headboxes_src"]
    head_sizes = np.linalg.norm(heads[1] - heads[0], axis=0) * HEAD_SIZE
    if not (head_sizes > 0).all():
        raise UserError(f"{truth_path}: the head box of entry {int(np.argmin(head_sizes))} has no size", _HINT)
    return GroundTruth(
        people_path,
        list(files),
        list(range(len(entries))),
        image_of,
        centers,
        scales,
        truth["pos_gt_src"].transpose(2, 0, 1),
        truth["jnt_missing"].T == 0,
        head_sizes,
    )


def _checked_person(where: str, entry: Any) -> tuple[str, list[float], float]:
    if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
        raise UserError(f"{where} has no 'image'", _HINT)
    file = PurePosixPath(entry["image"])
    if file.is_absolute() or ".." in file.parts:
        raise UserError(f"{where}: image {str(file)!r} leaves the folder", _HINT)
    try:
        center, scale = [float(value) for value in entry["center"]], float(entry["scale"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{where} has no 'center' of two numbers and 'scale'", _HINT) from None
    if len(center) != 2 or not np.isfinite([*center, scale]).all() or scale <= 0:
        raise UserError(f"{where}: center {center} and scale {scale} say no place", _HINT)
    return str(file), center, scale


def _load_truth(path: Path, people: int, people_path: Path) -> dict[str, np.ndarray]:
    from scipy.io import loadmat  # only MPII needs it, and it takes a moment to import

    try:
        content = loadmat(path)
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise UserError(f"{path} cannot be read as a MATLAB file: {error}", _HINT) from None
    missing = [key for key in _MAT_KEYS if key not in content]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}", _HINT)
    arrays = {key: np.asarray(content[key], np.float64) for key in _MAT_KEYS}
    expected = {"pos_gt_src": (MPII16.count, 2, people), "jnt_missing": (MPII16.count, people),
                "headboxes_src": (2, 2, people)}  # fmt: skip
    for key, shape in expected.items():
        if arrays[key].shape != shape:
            raise UserError(
                f"{path}: {key} has shape {arrays[key].shape}, but {people_path.name} lists {people} people, "
                f"which makes {shape}",
                "the two files belong to different parts of MPII: take valid.json with gt_valid.mat",
            )
    return arrays
