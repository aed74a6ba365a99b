"""The pictures that IMAGE= names: a file, a folder, or a pattern such as 'holiday/*.jpg'; read as people see them."""

from __future__ import annotations

import glob
from pathlib import Path

import numpy as np

from common.basics.errors import USAGE_EXIT, UserError
from common.datasets.image_file import IMAGE_SUFFIXES
from common.datasets.set_layout import image_names
from common.preprocessing.preprocess import read_image

CLIP_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
KINDS = "JPEG, PNG, BMP and WebP are read"


def picture_paths(image: str) -> list[Path]:
    """The files that IMAGE= names, a folder's and a pattern's in the order of their names.

    Raises UserError: unset (exit 2), nothing there, a folder without pictures, a clip.
    """
    if not image:
        raise UserError("which picture? IMAGE= is not set", "IMAGE=photo.jpg, a folder, or 'folder/*.jpg'", USAGE_EXIT)
    path = Path(image)
    if path.is_dir():
        found = [path / name for name in image_names(path)]
        if not found:
            raise UserError(f"{path} has no pictures", f"{KINDS}: {', '.join(IMAGE_SUFFIXES)} directly in it")
        return found
    if path.is_file():
        found = [path]
    elif not glob.has_magic(image):
        raise UserError(f"picture {path} does not exist", "check the path")
    else:
        matched = sorted(Path(name) for name in glob.glob(image))
        found = [path for path in matched if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES]
        if not found:
            raise UserError(f"no picture fits {image}", f"check the pattern; {KINDS}")
    if found[0].suffix.lower() in CLIP_SUFFIXES:
        raise UserError(f"{found[0]} is a clip, not a picture", f"make video VIDEO={found[0]}", USAGE_EXIT)
    return found


def read_picture(path: Path) -> np.ndarray:
    """A picture upright, as its EXIF orientation says: uint8 [h, w, 3] BGR. Raises UserError like read_image()."""
    import cv2

    try:
        stored = read_image(path)
    except UserError as error:
        raise UserError(error.message, f"{KINDS}; save it as one of them, or copy it again") from None
    data = np.fromfile(path, np.uint8)
    if b"exif" not in data.tobytes().lower():  # to decode it again takes a while
        return stored
    upright = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return stored if upright is None else upright


def read_stored(path: Path, size: tuple[int, int] | None) -> tuple[np.ndarray, bool]:
    """A picture for boxes of a file: (uint8 [h, w, 3] BGR, whether it lies as it is stored and not as it is looked at).

    COCO counts stored pixels. size: (width, height) as the file has them, None where it has not: boxes that only fit
    the upright picture are of it. Raises UserError like read_image().
    """
    stored, upright = read_image(path), read_picture(path)
    fits_upright = size is not None and size != stored.shape[1::-1] and size == upright.shape[1::-1]
    if fits_upright or np.array_equal(stored, upright):
        return upright, False
    return stored, True
