"""A photograph: a cluttered background, one to four people and things in front of them, light, lens and JPEG."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from calib.renderer.annotation import label_keypoints
from calib.renderer.figure import SKINS, draw_figure, random_cloth, random_outfit
from calib.renderer.painting import Cloth, paint
from calib.renderer.skeleton import LENGTHS, Skeleton, pose_bones, random_pose, view

SIZES = ((320, 256), (320, 320), (256, 320), (400, 300), (360, 480), (480, 360), (426, 320))  # width, height
MOST_PEOPLE = 4
MINIMUM_KEYPOINTS = 7  # of a person; with fewer there is hardly a pose to estimate
FULL_AREA = 0.18  # pixels of a whole figure that is one pixel tall, in the median (measured: 0.13 to 0.26)
MINIMUM_VISIBLE = 0.26  # share of that which must be seen: neither outside the picture nor behind something
MINIMUM_UNCOVERED = 0.5  # share of what is inside the picture
MINIMUM_AREA = 32 * 32  # pixels: COCO's "small" objects have no keypoints


@dataclass
class Person:
    """keypoints: float64 [17, 3] as COCO's; mask: bool HxW of visible pixels."""

    keypoints: np.ndarray
    mask: np.ndarray


@dataclass
class Scene:
    """jpeg: the encoded photograph; image: uint8 HxWx3 BGR, as it decodes; people in it."""

    jpeg: bytes
    image: np.ndarray
    people: list[Person]


def noise_field(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Smooth grey noise, float32 HxWx1 about -1..1, with about `cells` bumps along a side."""
    grid = rng.normal(0, 0.5, (cells + 2, cells + 2)).astype(np.float32)
    method = cv2.INTER_LINEAR if cells > 40 else cv2.INTER_CUBIC
    return cv2.resize(grid, (width, height), interpolation=method)[..., None]


def muted_color(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """A BGR colour of brightness low..high, float32: mostly nearly grey, as rooms and streets are, sometimes vivid."""
    spread = rng.choice([12.0, 45.0], p=[0.7, 0.3])
    return np.clip(rng.uniform(low, high) + rng.normal(0, spread, 3), 5, 250).astype(np.float32)


def background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Wall and floor with textures, shapes and limb-like things: float32 HxWx3 BGR 0..255."""
    horizon = int(height * rng.uniform(0.3, 0.85))
    canvas = np.empty((height, width, 3), np.float32)
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    for rows in (slice(0, height), slice(horizon, height)):
        canvas[rows] = muted_color(rng, 30, 230) + ramp[rows] * rng.uniform(-50, 50, 3).astype(np.float32)
    for cells in (3, 9, 30, 90):
        tint = rng.normal(1, 0.15, 3).astype(np.float32)
        canvas += noise_field(rng, height, width, cells) * tint * np.float32(rng.uniform(0, 30))
    for _ in range(rng.integers(3, 16)):
        _clutter(canvas, rng)
    if rng.random() < 0.25:
        _bars(canvas, rng)
    # A background is rarely as sharp as the people in front of it.
    blur = rng.choice([0.0, rng.uniform(0.5, 1.5), rng.uniform(1.5, 4)], p=[0.4, 0.4, 0.2])
    return cv2.GaussianBlur(canvas, (0, 0), blur) if blur else canvas


def _clutter(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """One thing somewhere: a polygon, an ellipse, a rod with cloth on it, sometimes of a skin's colour."""
    height, width = canvas.shape[:2]
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    size = height * rng.uniform(0.04, 0.3)
    color = tuple(float(v) for v in muted_color(rng, 5, 250))
    kind = rng.integers(4)
    if kind == 0:
        points = np.array([[x, y]]) + rng.normal(0, size * 0.6, (rng.integers(3, 7), 2))
        cv2.fillPoly(canvas, [points.astype(np.int32)], color, cv2.LINE_AA)
    elif kind == 1:
        axes = (int(size * rng.uniform(0.2, 0.8)) + 1, int(size * rng.uniform(0.2, 0.8)) + 1)
        cv2.ellipse(canvas, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, color, -1, cv2.LINE_AA)
    elif kind == 2:
        corner = (int(x + size), int(y + size * rng.uniform(0.3, 2.5)))
        cv2.rectangle(canvas, (int(x), int(y)), corner, color, -1 if rng.random() < 0.7 else 2, cv2.LINE_AA)
    else:
        _rod(canvas, rng, np.array([x, y, 0.0]), size)


def _rod(canvas: np.ndarray, rng: np.random.Generator, start: np.ndarray, size: float) -> np.ndarray | None:
    """A tapered rod such as a post, a branch or an arm that belongs to nobody; its coverage as a bool HxW, or None."""
    angle = rng.uniform(0, 2 * np.pi)
    end = start + 2 * size * np.array([np.cos(angle), np.sin(angle), 0.0])
    cloth = random_cloth(rng, canvas.shape[0], plain=0.6)
    if rng.random() < 0.2:
        skin = SKINS[rng.integers(len(SKINS))]
        cloth = Cloth(skin, skin)
    radii = size * rng.uniform(0.08, 0.3, 2)
    painted = paint(canvas, [(start, end, radii[0], radii[1])], cloth, (0.7, -0.7, 0.2))
    if painted is None:
        return None
    covered = np.zeros(canvas.shape[:2], bool)
    covered[painted[0]] = painted[1] > 0.5
    return covered


def _bars(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """A fence, shelves or panelling: parallel lines over the picture."""
    height, width = canvas.shape[:2]
    color, step = tuple(float(v) for v in muted_color(rng, 5, 250)), int(rng.integers(14, 60))
    thickness, slope = int(rng.integers(1, 7)), int(rng.normal(0, 12))
    if rng.random() < 0.6:
        for x in range(-step, width + step, step):
            cv2.line(canvas, (x, 0), (x + slope, height), color, thickness, cv2.LINE_AA)
    else:
        for y in range(-step, height + step, step):
            cv2.line(canvas, (0, y), (width, y + slope), color, thickness, cv2.LINE_AA)


def random_skeleton(rng: np.random.Generator, height: int, width: int, slot: float) -> Skeleton:
    """A posed person somewhere in the picture: about `slot` (0..1) across it, most of the body inside."""
    build = {name: float(np.clip(rng.normal(1, 0.04), 0.88, 1.12)) for name in LENGTHS}
    if rng.random() < 0.08:  # children: a larger head, shorter limbs
        build |= {"head": 1.3, "thigh": 0.88, "shin": 0.86, "upper_arm": 0.9, "forearm": 0.9}
    bones, head = pose_bones(random_pose(rng), build)
    # More people face the camera than turn their back to it, as in photographs.
    yaw = rng.normal(0, 28) if rng.random() < 0.86 else rng.uniform(-180, 180)
    elevation = float(np.clip(rng.normal(5, 6), -12, 25))
    skeleton = view(bones, head, yaw, elevation, height * rng.uniform(0.5, 1.05), rng.uniform(3.5, 9))
    turn = np.deg2rad(rng.normal(0, 3))  # the camera is rarely level
    level = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = {name: np.append(level @ p[:2], p[2]) for name, p in skeleton.points.items()}
    ends = np.array([p[:2] for p in points.values()])
    low, high = ends.min(0), ends.max(0)
    room = np.array([width, height]) - (high - low)
    # Somebody in eight is cut by the picture's edge; the others fit in where they can.
    margin = 0.15 if rng.random() < 0.12 else -0.03
    place = np.array([slot + rng.normal(0, 0.12), rng.uniform(0, 1)])
    slack = np.abs(high - low) * margin
    corner = np.clip(room * place, np.minimum(-slack, room + slack), np.maximum(-slack, room + slack))
    shift = np.append(corner - low, 0.0)
    skeleton.points = {name: p + shift for name, p in points.items()}
    return skeleton


def render_scene(rng: np.random.Generator, most_people: int = MOST_PEOPLE) -> Scene:
    """One photograph with 1 to `most_people` people, each of whom can be annotated; another try where one cannot."""
    while True:
        scene = _attempt(rng, most_people)
        if scene is not None:
            return scene


def _attempt(rng: np.random.Generator, most_people: int) -> Scene | None:
    width, height = SIZES[rng.integers(len(SIZES))]
    canvas = background(rng, height, width)
    count = min(int(rng.choice([1, 2, 3, 4], p=[0.68, 0.25, 0.05, 0.02])), most_people)
    slots = (np.arange(count) + 0.5) / count
    angle = rng.uniform(0, 2 * np.pi)
    light = (float(np.cos(angle)), float(np.sin(angle)), float(rng.uniform(0.05, 0.35)))
    skeletons = [random_skeleton(rng, height, width, float(slot)) for slot in slots]
    skeletons.sort(key=lambda skeleton: skeleton.height)  # a taller figure is a nearer one
    labels, masks = [], []
    for skeleton in skeletons:
        _shadow(canvas, skeleton)
        own = draw_figure(canvas, skeleton, random_outfit(rng, skeleton.height), light)
        for mask in masks:
            mask &= own == 0
        labels.append(own)
        masks.append(own > 0)
        if rng.random() < 0.15:
            spot = skeleton.points[str(rng.choice(list(skeleton.points)))] + rng.normal(0, skeleton.height * 0.12, 3)
            hidden = _rod(canvas, rng, spot, skeleton.height * rng.uniform(0.05, 0.14))
            if hidden is not None:
                for mask in masks:
                    mask &= ~hidden
    people = []
    for skeleton, own, mask in zip(skeletons, labels, masks, strict=True):
        keypoints = label_keypoints(skeleton, own, mask)
        whole = FULL_AREA * skeleton.height**2
        least = max(MINIMUM_AREA, MINIMUM_VISIBLE * whole, MINIMUM_UNCOVERED * (own > 0).sum())
        if (keypoints[:, 2] > 0).sum() < MINIMUM_KEYPOINTS or mask.sum() < least:
            return None
        people.append(Person(keypoints, mask))
    return Scene(*expose(canvas, rng), people)


def _shadow(canvas: np.ndarray, skeleton: Skeleton) -> None:
    """A soft dark patch under the feet, so that people stand in the scene rather than on the picture."""
    feet = (skeleton.points["left_ankle"] + skeleton.points["right_ankle"]) / 2
    low = max(skeleton.points["left_toe"][1], skeleton.points["right_toe"][1])
    height, width = canvas.shape[:2]
    x = (np.arange(width, dtype=np.float32) - float(feet[0])) / (0.2 * skeleton.height)
    y = (np.arange(height, dtype=np.float32) - float(low)) / (0.05 * skeleton.height)
    canvas *= (1 - 0.45 * np.outer(np.exp(-(y**2)), np.exp(-(x**2))))[..., None]


def expose(canvas: np.ndarray, rng: np.random.Generator) -> tuple[bytes, np.ndarray]:
    """Light, lens, sensor and JPEG: the encoded photograph, and uint8 HxWx3 BGR as it decodes."""
    height, width = canvas.shape[:2]
    image = np.clip(canvas, 0, 255) * rng.uniform(0.85, 1.12, 3).astype(np.float32)  # white balance
    image *= 1 + noise_field(rng, height, width, 2) * np.float32(rng.uniform(0, 0.35))  # uneven light
    image = np.clip(image / 255, 0, 1) ** np.float32(rng.uniform(0.75, 1.35)) * np.float32(255 * rng.uniform(0.75, 1.1))
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.0))
    if rng.random() < 0.06:
        image = _shake(image, rng)
    image += rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(1, 8))
    quality = int(rng.integers(45, 96))
    done, data = cv2.imencode(".jpg", np.clip(image, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError("cv2 could not encode a JPEG")
    return data.tobytes(), cv2.imdecode(data, cv2.IMREAD_COLOR)


def _shake(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Motion blur along a short line."""
    length = int(rng.integers(3, 7))
    kernel = np.zeros((length, length), np.float32)
    step = rng.uniform(0, np.pi)
    for t in np.linspace(-0.5, 0.5, 4 * length):
        kernel[round((length - 1) * (0.5 + t * np.sin(step))), round((length - 1) * (0.5 + t * np.cos(step)))] = 1
    return cv2.filter2D(image, -1, kernel / kernel.sum())
