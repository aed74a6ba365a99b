"""A dressed person: an outfit is drawn by chance, and the skeleton gets flesh, clothes, hair and a face.

Every part carries a label, so that the picture of labels tells which keypoint something hides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.renderer.painting import PATTERNS, Capsule, Cloth, paint
from calib.renderer.skeleton import LENGTHS, SIDES, Skeleton

# Labels in the picture of parts; 0 is "nothing of this person".
LABELS = {
    name: i + 1
    for i, name in enumerate(
        ["trunk", "head"] + [f"{side}_{part}" for side in SIDES for part in ("upper_arm", "forearm", "thigh", "shin")]
    )
}
# BGR skins from light to dark, and hair.
SKINS = np.array(
    [[190, 210, 240], [160, 190, 228], [130, 165, 210], [95, 130, 180], [65, 95, 145], [45, 65, 100]], float
)
HAIRS = np.array([[30, 30, 35], [35, 50, 75], [50, 80, 120], [90, 150, 200], [150, 150, 155], [40, 60, 140]], float)


@dataclass
class Part:
    """One thing to paint: label in LABELS, its shape, its surface, and a depth (larger is painted later)."""

    label: int
    capsules: list[Capsule]
    cloth: Cloth
    depth: float


@dataclass
class Outfit:
    """Everything about a person's looks that chance decides once."""

    skin: Cloth
    hair: Cloth
    upper: Cloth
    lower: Cloth
    shoes: Cloth
    sleeve: float  # 0 none, 1 to the elbow, 2 to the wrist
    leg: float  # 0 shorts' minimum, 1 to the knee, 2 to the ankle
    skirt: float  # 0 none, else its length in thighs
    hair_style: str
    girth: float  # trunk and limbs, 1 for the average
    tucked: bool


def random_cloth(rng: np.random.Generator, height: float, plain: float = 0.5) -> Cloth:
    """A fabric for a person of `height` pixels: one colour in `plain` of the cases, else a pattern of two."""
    color = _random_color(rng)
    second = np.clip(color * rng.uniform(0.3, 0.7), 0, 255) if rng.random() < 0.4 else _random_color(rng)
    pattern = "plain" if rng.random() < plain else str(rng.choice(PATTERNS[1:]))
    return Cloth(color, second, pattern, height * rng.uniform(0.02, 0.07), max(0.0, rng.normal(0.0, 0.25)))


def _random_color(rng: np.random.Generator) -> np.ndarray:
    """Mostly subdued colours, as clothes have, some bright ones, black and white."""
    value = rng.choice([rng.uniform(15, 60), rng.uniform(60, 190), rng.uniform(190, 245)], p=[0.25, 0.5, 0.25])
    return np.clip(value + rng.normal(0, rng.choice([8, 45]), 3), 5, 250)


def random_outfit(rng: np.random.Generator, height: float) -> Outfit:
    """Clothes, skin and hair for a person of `height` pixels."""
    tone = rng.uniform(0, len(SKINS) - 1)
    skin = SKINS[int(tone)] + (tone % 1) * (SKINS[min(int(tone) + 1, len(SKINS) - 1)] - SKINS[int(tone)])
    skin = np.clip(skin + rng.normal(0, 8, 3), 10, 250)
    hair = np.clip(HAIRS[rng.integers(len(HAIRS))] + rng.normal(0, 10, 3), 5, 250)
    upper = random_cloth(rng, height)
    suit = rng.random() < 0.15
    lower = upper if suit else random_cloth(rng, height, plain=0.75)
    return Outfit(
        skin=Cloth(skin, skin),
        hair=Cloth(hair, hair * 0.8, "lines", height * 0.012, 0.2),
        upper=upper,
        lower=lower,
        shoes=random_cloth(rng, height, plain=0.9),
        sleeve=float(rng.choice([0.0, rng.uniform(0.4, 0.9), rng.uniform(1.2, 1.6), 1.95], p=[0.12, 0.4, 0.1, 0.38])),
        leg=float(rng.choice([rng.uniform(0.35, 0.9), rng.uniform(1.0, 1.6), 1.93], p=[0.25, 0.12, 0.63])),
        skirt=float(rng.choice([0.0, rng.uniform(0.5, 1.2)], p=[0.87, 0.13])),
        hair_style=str(rng.choice(["short", "long", "bald", "bun", "cap"], p=[0.4, 0.25, 0.1, 0.1, 0.15])),
        girth=float(np.clip(rng.normal(1.15, 0.12), 0.85, 1.5)),
        tucked=bool(rng.random() < 0.35),
    )


def _between(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    return a + (b - a) * t


def _depth(capsules: list[Capsule], bias: float) -> float:
    """Mean depth of the axis ends (points carry depth as their third number), plus a bias in the same pixels."""
    return float(np.mean([p[2] for a, b, *_ in capsules for p in (a, b)])) + bias


def _limb(
    ends: tuple[np.ndarray, np.ndarray, np.ndarray],
    radii: tuple[float, float, float],
    labels: tuple[int, int],
    skin: Cloth,
    cloth: Cloth,
    covered: float,
    bias: float,
) -> list[Part]:
    """Two segments of skin, and cloth from the top over `covered` of them (0..2); cloth is a little wider."""
    parts = []
    for i in range(2):
        a, b, radius_a, radius_b = ends[i], ends[i + 1], radii[i], radii[i + 1]
        bare: list[Capsule] = [(a, b, radius_a, radius_b)]
        depth = _depth(bare, bias)
        share = float(np.clip(covered - i, 0, 1))
        if share < 0.99:
            parts.append(Part(labels[i], bare, skin, depth))
        if share > 0.05:
            end, radius = _between(a, b, share), radius_a + (radius_b - radius_a) * share
            parts.append(Part(labels[i], [(a, end, radius_a * 1.1, radius * 1.22)], cloth, depth + 0.1))
    return parts


def body_parts(skeleton: Skeleton, outfit: Outfit) -> list[Part]:
    """All parts of a person, farthest first."""
    p, size = skeleton.points, skeleton.height
    thick = outfit.girth * size
    parts: list[Part] = []

    shoulders, hips = [p[f"{s}_shoulder"] for s in SIDES], [p[f"{s}_hip"] for s in SIDES]
    trunk: list[Capsule] = [(p["chest"], p["pelvis"], 0.062 * thick, 0.06 * thick)]
    for shoulder, hip in zip(shoulders, hips, strict=True):
        high, low = _between(shoulder, p["chest"], 0.28), _between(hip, p["pelvis"], 0.35)
        trunk.append((_between(high, low, 0.12), low, 0.058 * thick, 0.058 * thick))
    trunk.append((shoulders[0], shoulders[1], 0.036 * thick, 0.036 * thick))
    pelvis: list[Capsule] = [(hips[0], hips[1], 0.062 * thick, 0.062 * thick)]
    parts.append(Part(LABELS["trunk"], trunk, outfit.upper, _depth(trunk, 0.0)))
    parts.append(Part(LABELS["trunk"], pelvis, outfit.lower, _depth(trunk, 0.2 if outfit.tucked else -0.2)))
    neck: list[Capsule] = [(p["chest"], _between(p["neck"], p["head"], 0.5), 0.032 * size, 0.03 * size)]
    parts.append(Part(LABELS["trunk"], neck, outfit.skin, _depth(trunk, 0.4 if skeleton.head[2, 2] > 0 else -0.1)))

    for side in SIDES:
        arm = (p[f"{side}_shoulder"], p[f"{side}_elbow"], p[f"{side}_wrist"])
        labels = (LABELS[f"{side}_upper_arm"], LABELS[f"{side}_forearm"])
        radii = (0.033 * thick, 0.026 * thick, 0.019 * size)
        parts += _limb(arm, radii, labels, outfit.skin, outfit.upper, outfit.sleeve, 0.012 * size)
        hand: list[Capsule] = [(p[f"{side}_wrist"], p[f"{side}_hand"], 0.02 * size, 0.021 * size)]
        parts.append(Part(labels[1], hand, outfit.skin, _depth(hand, 0.012 * size)))

        leg = (p[f"{side}_hip"], p[f"{side}_knee"], p[f"{side}_ankle"])
        labels = (LABELS[f"{side}_thigh"], LABELS[f"{side}_shin"])
        radii = (0.053 * thick, 0.037 * thick, 0.024 * size)
        parts += _limb(leg, radii, labels, outfit.skin, outfit.lower, outfit.leg, -0.03 * size)
        foot: list[Capsule] = [(p[f"{side}_ankle"], p[f"{side}_toe"], 0.025 * size, 0.018 * size)]
        parts.append(Part(labels[1], foot, outfit.shoes, _depth(foot, -0.03 * size)))

    if outfit.skirt:
        hem = [_between(p[f"{s}_hip"], p[f"{s}_knee"], outfit.skirt) for s in SIDES]
        skirt: list[Capsule] = [(p["pelvis"], _between(hem[0], hem[1], 0.5), 0.06 * thick, 0.075 * thick)]
        skirt += [(hip, end, 0.06 * thick, 0.065 * thick) for hip, end in zip(hips, hem, strict=True)]
        parts.append(Part(LABELS["trunk"], skirt, outfit.lower, _depth(skirt, 0.05 * size)))
    parts += head_parts(skeleton, outfit)
    return sorted(parts, key=lambda part: part.depth)


def head_parts(skeleton: Skeleton, outfit: Outfit) -> list[Part]:
    """Skull, jaw, ears, hair or cap, and those features of the face that look towards the camera."""
    p, size = skeleton.points, skeleton.height
    unit = LENGTHS["head"] * size
    label, depth = LABELS["head"], p["head"][2] + 0.02 * size

    def at(x: float, y: float, z: float) -> np.ndarray:
        """A point of the head's frame, in head heights, in the picture (image y runs downwards)."""
        offset = skeleton.head @ np.array([x, y, z]) * unit
        return p["head"] + np.array([offset[0], -offset[1], offset[2]])

    def part(capsules: list[Capsule], cloth: Cloth, above: float) -> Part:
        return Part(label, capsules, cloth, depth + above)

    skull: list[Capsule] = [(at(0, 0.12, -0.06), at(0, -0.22, 0.1), 0.37 * unit, 0.27 * unit)]
    parts = [part(skull, outfit.skin, 0.0)]
    dark = outfit.skin.color * 0.72
    for side, sign in SIDES.items():
        if skeleton.facing[f"{side}_ear"] > 0:
            ear = at(sign * 0.36, 0.03, -0.04), at(sign * 0.36, -0.07, -0.04)
            parts.append(part([(*ear, 0.07 * unit, 0.05 * unit)], Cloth(outfit.skin.color * 0.9, dark), 0.5))
    back = -skeleton.head[2, 2]  # how much of the back of the head is seen
    if outfit.hair_style != "bald":
        crown: list[Capsule] = [(at(-0.1, 0.22, -0.12), at(0.1, 0.22, -0.12), 0.36 * unit, 0.36 * unit)]
        if outfit.hair_style == "long":
            crown += [(at(s * 0.24, 0.1, -0.18), at(s * 0.28, -0.6, -0.2), 0.22 * unit, 0.15 * unit) for s in (1, -1)]
        if outfit.hair_style == "bun":
            crown.append((at(0, 0.35, -0.4), at(0, 0.35, -0.45), 0.16 * unit, 0.16 * unit))
        nape: list[Capsule] = [(at(0, 0.15, -0.18), at(0, -0.12, -0.2), 0.36 * unit, 0.28 * unit)]
        cloth = outfit.shoes if outfit.hair_style == "cap" else outfit.hair
        parts.append(Part(label, crown[1:] + nape, outfit.hair, depth + (0.7 if back > 0 else -0.3)))
        # A fringe is above the brow: seen from the front it is only the top of the crown.
        top: list[Capsule] = [(at(-0.14, 0.38, 0.0), at(0.14, 0.38, 0.0), 0.22 * unit, 0.22 * unit)]
        parts.append(Part(label, [crown[0]] if back > -0.2 else top, cloth, depth + 0.6))
        if outfit.hair_style == "cap":
            brim = at(0, 0.3, 0.2), at(0, 0.26, 0.62)
            parts.append(Part(label, [(*brim, 0.16 * unit, 0.12 * unit)], cloth, depth + (0.9 if back < 0 else -0.4)))
    white, iris = np.array([225.0, 228, 230]), np.array([40.0, 35, 35])
    for side, sign in SIDES.items():
        if skeleton.facing[f"{side}_eye"] > 0:
            eye = at(sign * 0.13, 0.07, 0.41), at(sign * 0.19, 0.07, 0.38)
            brow = at(sign * 0.09, 0.17, 0.42), at(sign * 0.22, 0.17, 0.37)
            parts.append(part([(*eye, 0.05 * unit, 0.05 * unit)], Cloth(white, white), 1.0))
            pupil = at(sign * 0.16, 0.07, 0.42)
            parts.append(part([(pupil, pupil + 0.1, 0.04 * unit, 0.04 * unit)], Cloth(iris, iris), 1.1))
            parts.append(part([(*brow, 0.022 * unit, 0.022 * unit)], outfit.hair, 1.1))
    if skeleton.facing["nose"] > 0:
        nose = at(0, 0.04, 0.42), at(0, -0.08, 0.5)
        parts.append(part([(*nose, 0.03 * unit, 0.06 * unit)], Cloth(outfit.skin.color * 0.86, dark), 1.2))
        mouth = at(-0.1, -0.25, 0.38), at(0.1, -0.25, 0.38)
        parts.append(part([(*mouth, 0.03 * unit, 0.03 * unit)], Cloth(dark * [0.8, 0.8, 1.1], dark), 1.2))
    return parts


def draw_figure(
    canvas: np.ndarray, skeleton: Skeleton, outfit: Outfit, light: tuple[float, float, float]
) -> np.ndarray:
    """Paint a person onto canvas (HxWx3 float32 BGR, in place); uint8 HxW of LABELS comes back, 0 elsewhere."""
    labels = np.zeros(canvas.shape[:2], np.uint8)
    for part in body_parts(skeleton, outfit):
        painted = paint(canvas, part.capsules, part.cloth, light)
        if painted is not None:
            region, coverage = painted
            labels[region][coverage > 0.5] = part.label
    return labels
