"""From a photograph and a person's box to the tensor that a top-down network eats, and back to image pixels.

The convention is that of HRNet (lib/dataset/coco.py, lib/utils/transforms.py; not UDP): the crop is a similarity
around the box centre, without a half pixel and without W-1, padded with black before normalising.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from common.basics.errors import UserError
from common.datasets.image_file import image_size_of

PIXELS_PER_SCALE = 200.0  # HRNet's pixel_std: scales are stored in units of 200 px, as in MPII
DEFAULT_PADDING = 1.25  # HRNet lib/dataset/coco.py _xywh2cs: the box grows by this factor


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file as uint8 [H, W, 3] BGR, EXIF orientation ignored (COCO's boxes are in stored pixels).

    Grey and palette become colour, CMYK (inks inverted, as Adobe stores and everybody reads them) too; of 16 bits the
    upper 8 are kept; transparency is dropped, the colour below it stays. The kind is told by content, not by suffix.
    Raises UserError that names the file when it is missing, not an image, truncated or undecodable.
    """
    import cv2

    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"image {path} cannot be read: {error.strerror}", "check the folder and the file") from None
    image_size_of(data, path)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # e.g. more pixels than OpenCV allows
        image = None
    if image is None:
        raise UserError(f"image {path} cannot be decoded", "copy or download that file again, or take it out")
    return image


def clip_ground_truth_box(box: Any, width: int, height: int, convention: str = "hrnet") -> np.ndarray | None:
    """The box that is used for an annotated person, clipped to the image.

    box: [x, y, w, h] in pixels as annotated. Returns float64 [4], or None when nothing is left of it.
    convention: "hrnet" makes it one pixel smaller, x2 = min(W-1, x1 + max(0, w-1)) (HRNet lib/dataset/coco.py);
    "annotated" keeps its size, x2 = min(W-1, x1 + w) (mmpose 0.x datasets/coco). Detector boxes are used untouched.
    """
    x, y, box_width, box_height = (float(value) for value in box)
    less = 1.0 if convention == "hrnet" else 0.0
    x1, y1 = max(0.0, x), max(0.0, y)
    x2 = min(width - 1.0, x1 + max(0.0, box_width - less))
    y2 = min(height - 1.0, y1 + max(0.0, box_height - less))
    if x2 < x1 or y2 < y1:
        return None
    return np.array([x1, y1, x2 - x1, y2 - y1])


def box_to_center_scale(
    box: Any, aspect_ratio: float, padding: float = DEFAULT_PADDING
) -> tuple[np.ndarray, np.ndarray]:
    """Turn a box into the centre and scale of its crop (HRNet lib/dataset/coco.py _xywh2cs).

    box: [x, y, w, h] in pixels. aspect_ratio: crop width / height; the short side grows to it.
    Returns (center float32 [2] in pixels, scale float32 [2] in units of 200 px, padding included).
    """
    x, y, width, height = (float(value) for value in box)
    center = np.array([x + width * 0.5, y + height * 0.5], np.float32)
    if width > aspect_ratio * height:
        height = width / aspect_ratio
    elif width < aspect_ratio * height:
        width = height * aspect_ratio
    scale = np.array([width / PIXELS_PER_SCALE, height / PIXELS_PER_SCALE], np.float32) * np.float32(padding)
    return center, scale


def crop_matrix(center: Any, scale: Any, size: tuple[int, int]) -> np.ndarray:
    """The affine map from image pixels to crop pixels, float64 [2, 3].

    size: (width, height) of the crop. Only scale[0] enters: the map is a pure similarity with
    scale[0] * 200 / width image pixels per crop pixel, and the centre lands on (width / 2, height / 2).
    Source: HRNet lib/utils/transforms.py get_affine_transform with rotation 0.
    """
    width, height = size
    zoom = width / (float(scale[0]) * PIXELS_PER_SCALE)
    return np.array(
        [
            [zoom, 0.0, width * 0.5 - zoom * float(center[0])],
            [0.0, zoom, height * 0.5 - zoom * float(center[1])],
        ]
    )


def crop_person(image: np.ndarray, center: Any, scale: Any, size: tuple[int, int]) -> np.ndarray:
    """Cut a person out of an image: uint8 [height, width, C], bilinear, black where the crop leaves the image.

    image: uint8 [H, W, C]; size: (width, height) of the crop.
    """
    import cv2

    return cv2.warpAffine(image, crop_matrix(center, scale, size), tuple(size), flags=cv2.INTER_LINEAR)


def normalize(crop: np.ndarray, input_spec: Any) -> np.ndarray:
    """Turn a BGR crop into the network's input: float32 [C, H, W] = (pixel / scale - mean) / std.

    crop: uint8 [H, W, 3] BGR. input_spec: color ("rgb", "bgr" or "gray"), scale, mean and std as in model.yaml.
    A pixel has 256 values, so the arithmetic is done once for each of them and looked up: the same bits, 15 times
    as fast.
    """
    import cv2

    if input_spec.color == "rgb":
        planes = cv2.split(crop)[::-1]
    elif input_spec.color == "bgr":
        planes = cv2.split(crop)
    elif input_spec.color == "gray":
        planes = (cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY),)
    else:
        raise UserError(f"unknown input.color {input_spec.color!r}", "write rgb, bgr or gray")
    tables = _normalized_values(float(input_spec.scale), tuple(input_spec.mean), tuple(input_spec.std))
    tensor = np.empty((len(planes), *crop.shape[:2]), np.float32)
    for plane, table, channel in zip(planes, tables, tensor, strict=True):
        cv2.LUT(plane, table, dst=channel)
    return tensor


@lru_cache(maxsize=16)
def _normalized_values(scale: float, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """What each of the 256 pixel values becomes: float32 [C, 256]."""
    pixels = np.arange(256, dtype=np.float32)[:, None] / np.float32(scale)
    return np.ascontiguousarray(((pixels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)).T)


def denormalize(tensor: np.ndarray, input_spec: Any) -> np.ndarray:
    """Undo normalize(), for looking at it: float32 [C, H, W] -> uint8 [H, W, 3] BGR, clipped to 0..255."""
    values = np.asarray(tensor, np.float32).transpose(1, 2, 0) * np.asarray(input_spec.std, np.float32)
    values = (values + np.asarray(input_spec.mean, np.float32)) * np.float32(input_spec.scale)
    pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    if input_spec.color == "gray":
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, ::-1] if input_spec.color == "rgb" else pixels)


def to_image(points: np.ndarray, center: Any, scale: Any, size: tuple[int, int]) -> np.ndarray:
    """Map heatmap (or crop) pixels back to image pixels; the inverse of crop_matrix() at that size.

    points: [N, K, 2] with center and scale [N, 2], or [..., 2] with center and scale [2].
    size: (width, height) of the map that the points were found in, so one heatmap pixel is
    scale[0] * 200 / width image pixels. Returns float64 of points' shape.
    Source: HRNet lib/utils/transforms.py transform_preds.
    """
    points = np.asarray(points, np.float64)
    center, scale = np.asarray(center, np.float64), np.asarray(scale, np.float64)
    zoom = scale[..., :1] * PIXELS_PER_SCALE / size[0]
    middle = np.array([size[0] * 0.5, size[1] * 0.5])
    if center.ndim == 2:
        center, zoom = center[:, None, :], zoom[:, None, :]
    return (points - middle) * zoom + center
