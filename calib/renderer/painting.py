"""How a body part becomes pixels: a union of tapered capsules with cloth on it, shaded as something round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Capsule = tuple[np.ndarray, np.ndarray, float, float]  # ends a and b in pixels, radius at each, in pixels


@dataclass
class Cloth:
    """What a surface looks like: two BGR colours (0..255), a pattern, its period in pixels, and how shiny it is."""

    color: np.ndarray
    second: np.ndarray
    pattern: str = "plain"
    period: float = 8.0
    shine: float = 0.0


SMOOTHNESS = 0.5  # of a union, in radii
PATTERNS = ("plain", "rings", "lines", "checks", "dots", "halves")


def pattern_weight(cloth: Cloth, along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """How much of the second colour is where: 0..1, the shape of `along` (pixels along and across the part's axis)."""
    turn = 2 * np.pi / max(cloth.period, 2.0)
    if cloth.pattern == "rings":
        wave = np.sin(along * turn)
    elif cloth.pattern == "lines":
        wave = np.sin(across * turn)
    elif cloth.pattern == "checks":
        wave = np.sin(along * turn) * np.sin(across * turn) * 2
    elif cloth.pattern == "dots":
        wave = (np.cos(along * turn) + np.cos(across * turn) - 1.1) * 2
    elif cloth.pattern == "halves":
        wave = (along - 2.2 * cloth.period) * 0.5
    else:
        raise ValueError(f"unknown pattern {cloth.pattern!r}")
    return np.clip(0.5 + 1.5 * wave, 0, 1)


def capsule_field(x: np.ndarray, y: np.ndarray, capsule: Capsule) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed distance to a tapered capsule in radii of that place (-1 on the axis, 0 on the outline), and the offset
    from the axis (x, y) in the same unit. All float32 of the grid's shape."""
    (ax, ay), (bx, by) = (tuple(float(v) for v in end[:2]) for end in capsule[:2])
    radius_a, radius_b = float(capsule[2]), float(capsule[3])
    dx, dy = bx - ax, by - ay
    squared = max(dx * dx + dy * dy, 1e-6)
    x, y = x - ax, y - ay
    t = np.clip(x * (dx / squared) + y * (dy / squared), 0, 1)
    inverse = 1 / (radius_a + t * (radius_b - radius_a) + 1e-3)
    offset_x, offset_y = (x - t * dx) * inverse, (y - t * dy) * inverse
    return np.sqrt(offset_x * offset_x + offset_y * offset_y) - 1, offset_x, offset_y


def paint(
    canvas: np.ndarray, capsules: list[Capsule], cloth: Cloth, light: tuple[float, float, float]
) -> tuple[tuple[slice, slice], np.ndarray] | None:
    """Paint a smooth union of capsules onto canvas (HxWx3 float32 BGR 0..255, in place).

    light: x, y of the direction that brightness comes from, and its strength. Returns (region, coverage 0..1 in that
    region), or None when nothing of it lies on the canvas.
    """
    height, width = canvas.shape[:2]
    ends = np.array([[p[0], p[1], r] for a, b, ra, rb in capsules for p, r in ((a, ra), (b, rb))])
    thickness = float(ends[:, 2].mean())
    low = np.floor((ends[:, :2] - ends[:, 2:]).min(0) - 2).astype(int)
    high = np.ceil((ends[:, :2] + ends[:, 2:]).max(0) + 3).astype(int)
    x0, y0, x1, y1 = max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)
    if x0 >= x1 or y0 >= y1:
        return None
    region = (slice(y0, y1), slice(x0, x1))
    x = np.arange(x0, x1, dtype=np.float32)[None, :]
    y = np.arange(y0, y1, dtype=np.float32)[:, None]
    field, side_x, side_y = capsule_field(x, y, capsules[0])
    for capsule in capsules[1:]:
        # The polynomial smooth minimum (Quilez), so that a trunk of several capsules has no seams.
        other, other_x, other_y = capsule_field(x, y, capsule)
        share = np.clip(0.5 + (other - field) * (0.5 / SMOOTHNESS), 0, 1)
        field = other + (field - other) * share - SMOOTHNESS * share * (1 - share)
        side_x, side_y = other_x + (side_x - other_x) * share, other_y + (side_y - other_y) * share
    coverage = np.clip(0.5 - field * thickness, 0, 1)

    # Round things darken towards their outline, and more on the side away from the light.
    side = np.clip(side_x * light[0] + side_y * light[1], -1, 1)
    shade = 1.05 - 0.3 * np.clip(1 + field, 0, 1) ** 3 + light[2] * side
    color = _surface(cloth, capsules[0], x, y) * shade[..., None]
    if cloth.shine:
        color += (cloth.shine * 160 * np.clip(side, 0, 1) ** 4)[..., None]
    np.clip(color, 0, 255, out=color)
    patch = canvas[region]
    patch += (color - patch) * coverage[..., None]
    return region, coverage


def _surface(cloth: Cloth, capsule: Capsule, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The cloth's colour in every pixel, float32 [h, w, 3] (or [1, 1, 3]), its pattern along the capsule's axis."""
    first, second = cloth.color.astype(np.float32), cloth.second.astype(np.float32)
    if cloth.pattern == "plain":
        return first[None, None, :]
    (ax, ay), (bx, by) = (tuple(float(v) for v in end[:2]) for end in capsule[:2])
    length = max(float(np.hypot(bx - ax, by - ay)), 1e-3)
    dx, dy = (bx - ax) / length, (by - ay) / length
    weight = pattern_weight(cloth, (x - ax) * dx + (y - ay) * dy, (y - ay) * dx - (x - ax) * dy)
    return first + (second - first) * weight[..., None]
