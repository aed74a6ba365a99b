"""A person as bones: proportions, joint limits, a random pose, a viewpoint, and where every joint then is.

Frames. Body: x to the person's LEFT, y up, z forwards, lengths in body heights. Camera: x right, y up, z towards the
camera; a person with yaw 0 faces the camera, so the person's left is at the right of the picture, as it should be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Segment lengths as fractions of body height: Drillis and Contini 1966, as printed in Winter, "Biomechanics and Motor
# Control of Human Movement", figure 4.1 (hips' width .191, shoulders' width .259 are halved here).
LENGTHS = {
    "upper_arm": 0.186, "forearm": 0.146, "hand": 0.07, "thigh": 0.245, "shin": 0.246, "foot": 0.11,
    "shoulder": 0.118, "hip": 0.08, "trunk": 0.288, "neck": 0.052, "head": 0.13,
}  # fmt: skip
SIDES = {"left": 1.0, "right": -1.0}
FACE = {  # in the head's frame, in head heights from its centre: position, outward normal
    "nose": ((0.0, -0.08, 0.50), (0.0, 0.0, 1.0)),
    "left_eye": ((0.16, 0.07, 0.40), (0.45, 0.0, 0.89)),
    "right_eye": ((-0.16, 0.07, 0.40), (-0.45, 0.0, 0.89)),
    "left_ear": ((0.36, 0.0, -0.04), (0.99, 0.0, -0.1)),
    "right_ear": ((-0.36, 0.0, -0.04), (-0.99, 0.0, -0.1)),
}


def rotation(axis: str, degrees: float) -> np.ndarray:
    """The right-handed 3x3 rotation about x, y or z."""
    angle = np.deg2rad(degrees)
    cosine, sine = np.cos(angle), np.sin(angle)
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = cosine
    matrix[i, j], matrix[j, i] = -sine, sine
    return matrix


@dataclass
class Pose:
    """Joint angles in degrees; per side where a dictionary. All are zero for a person who stands, arms hanging."""

    lean: float  # trunk forwards
    bend: float  # trunk to the left
    twist: float  # trunk about its axis
    head_yaw: float
    head_pitch: float
    arm_raise: dict[str, float]  # sideways
    arm_flexion: dict[str, float]  # forwards
    arm_turn: dict[str, float]  # upper arm about its axis, inwards
    elbow: dict[str, float]
    leg_raise: dict[str, float]
    leg_flexion: dict[str, float]
    knee: dict[str, float]


# What a healthy adult reaches, roughly, in degrees (American Academy of Orthopaedic Surgeons' ranges, rounded inwards).
LIMITS = {
    "lean": (-20, 80), "bend": (-30, 30), "twist": (-40, 40), "head_yaw": (-70, 70), "head_pitch": (-40, 45),
    "arm_raise": (-5, 170), "arm_flexion": (-50, 170), "arm_turn": (-60, 80), "elbow": (0, 145),
    "leg_raise": (-8, 45), "leg_flexion": (-25, 115), "knee": (0, 140),
}  # fmt: skip

# Ranges that a manner is drawn from; what is not listed comes from "calm".
CALM = {
    "lean": (-4, 10), "bend": (-5, 5), "twist": (-10, 10), "head_yaw": (-18, 18), "head_pitch": (-7, 10),
    "arm_raise": (3, 18), "arm_flexion": (-10, 15), "arm_turn": (-10, 40), "elbow": (3, 35),
    "leg_raise": (0, 9), "leg_flexion": (-4, 8), "knee": (0, 10),
}  # fmt: skip
MANNERS: dict[str, dict[str, tuple[float, float]]] = {
    "calm": {},
    "walk": {"leg_flexion": (-22, 35), "knee": (0, 45), "arm_flexion": (-30, 35), "elbow": (5, 70), "lean": (0, 15)},
    "run": {
        "leg_flexion": (-25, 75), "knee": (15, 110), "arm_flexion": (-45, 50), "elbow": (60, 115), "lean": (5, 28),
    },
    "sit": {
        "leg_flexion": (70, 105), "knee": (60, 115), "leg_raise": (0, 25), "arm_flexion": (5, 60), "elbow": (10, 95),
    },
    "crouch": {
        "leg_flexion": (50, 110), "knee": (70, 135), "leg_raise": (0, 30), "lean": (10, 55), "arm_flexion": (10, 80),
    },
    "reach": {"arm_raise": (20, 165), "arm_flexion": (-10, 80), "elbow": (0, 90), "bend": (-15, 15)},
    "akimbo": {"arm_raise": (30, 55), "arm_turn": (40, 75), "elbow": (75, 120), "arm_flexion": (-30, 5)},
    "hold": {"arm_flexion": (15, 75), "elbow": (40, 125), "arm_turn": (0, 60)},
    "play": {
        "lean": (-10, 45), "bend": (-20, 20), "twist": (-25, 25), "arm_raise": (0, 130), "arm_flexion": (-30, 120),
        "elbow": (0, 120), "leg_raise": (0, 38), "leg_flexion": (-20, 75), "knee": (0, 90), "head_yaw": (-50, 50),
    },
}  # fmt: skip
MANNER_WEIGHTS = np.array([0.25, 0.22, 0.06, 0.05, 0.03, 0.15, 0.09, 0.11, 0.04])
PER_SIDE = ("arm_raise", "arm_flexion", "arm_turn", "elbow", "leg_raise", "leg_flexion", "knee")


def random_pose(rng: np.random.Generator) -> Pose:
    """A pose within LIMITS: a manner first, then every angle in that manner's range."""
    manner = str(rng.choice(list(MANNERS), p=MANNER_WEIGHTS / MANNER_WEIGHTS.sum()))
    ranges = {**CALM, **MANNERS[manner]}
    # Two people in three do with both arms what their manner says; the third keeps one arm calm.
    calm_arm = str(rng.choice(list(SIDES))) if rng.random() < 0.33 else None

    def draw(name: str, side: str | None = None) -> float:
        low, high = CALM[name] if side == calm_arm and side and not name.startswith(("leg", "knee")) else ranges[name]
        return float(np.clip(rng.uniform(low, high), *LIMITS[name]))

    angles = {name: {s: draw(name, s) for s in SIDES} if name in PER_SIDE else draw(name) for name in LIMITS}
    pose = Pose(**angles)
    if manner in ("walk", "run"):
        _stride(pose, rng)
    return pose


def _stride(pose: Pose, rng: np.random.Generator) -> None:
    """Walking legs and arms swing against each other; a leg that is behind may bend its knee, a leading one less."""
    lead, trail = rng.permutation(list(SIDES))
    low, high = sorted(pose.leg_flexion.values())
    pose.leg_flexion = {lead: high, trail: low}
    low, high = sorted(pose.arm_flexion.values())
    pose.arm_flexion = {lead: low, trail: high}


@dataclass
class Skeleton:
    """Where a posed person's joints are, in the picture.

    points: name -> float64 [3]: x, y in pixels, and depth in pixels, larger towards the camera.
    facing: face keypoint -> cosine between its outward normal and the direction to the camera.
    head: 3x3 rotation of the head in the camera's frame. height: body height in pixels.
    """

    points: dict[str, np.ndarray]
    facing: dict[str, float]
    head: np.ndarray
    height: float


def pose_bones(pose: Pose, build: dict[str, float]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Forward kinematics: (joint -> float64 [3] in body heights from the middle of the hips, the head's rotation).

    build: factor on each of LENGTHS (1 for the average person).
    """
    length = {name: value * build.get(name, 1.0) for name, value in LENGTHS.items()}
    down = np.array([0.0, -1.0, 0.0])
    trunk = rotation("x", pose.lean) @ rotation("z", -pose.bend) @ rotation("y", pose.twist)
    head = trunk @ rotation("x", -0.6 * pose.lean) @ rotation("y", pose.head_yaw) @ rotation("x", pose.head_pitch)
    points = {"pelvis": np.zeros(3)}
    points["chest"] = trunk @ np.array([0.0, length["trunk"], 0.0])
    points["neck"] = points["chest"] + trunk @ np.array([0.0, 0.5 * length["neck"], 0.0])
    points["head"] = points["neck"] + head @ np.array([0.0, 0.5 * length["neck"] + 0.5 * length["head"], 0.012])
    for side, sign in SIDES.items():
        shoulder = points["chest"] + trunk @ np.array([sign * length["shoulder"], 0.0, 0.0])
        upper = (
            trunk @ rotation("z", sign * pose.arm_raise[side]) @ rotation("x", -pose.arm_flexion[side])
            @ rotation("y", -sign * pose.arm_turn[side])
        )  # fmt: skip
        lower = upper @ rotation("x", -pose.elbow[side])
        points[f"{side}_shoulder"] = shoulder
        points[f"{side}_elbow"] = shoulder + length["upper_arm"] * (upper @ down)
        points[f"{side}_wrist"] = points[f"{side}_elbow"] + length["forearm"] * (lower @ down)
        points[f"{side}_hand"] = points[f"{side}_wrist"] + length["hand"] * (lower @ down)

        thigh = rotation("z", sign * pose.leg_raise[side]) @ rotation("x", -pose.leg_flexion[side])
        shin = thigh @ rotation("x", pose.knee[side])
        points[f"{side}_hip"] = np.array([sign * length["hip"], 0.0, 0.0])
        points[f"{side}_knee"] = points[f"{side}_hip"] + length["thigh"] * (thigh @ down)
        points[f"{side}_ankle"] = points[f"{side}_knee"] + length["shin"] * (shin @ down)
        toe = shin @ np.array([0.1 * sign, -0.3, 0.95])
        points[f"{side}_toe"] = points[f"{side}_ankle"] + length["foot"] * toe
    for name, (position, _) in FACE.items():
        points[name] = points["head"] + length["head"] * (head @ np.array(position))
    return points, head


def view(
    bones: dict[str, np.ndarray], head: np.ndarray, yaw: float, elevation: float, height: float, distance: float
) -> Skeleton:
    """See the bones from a viewpoint.

    yaw: degrees the person is turned about the vertical, 0 faces the camera, 180 turns the back to it. elevation:
    degrees that the camera looks down. height: body height in pixels. distance: of the camera, in body heights, for
    perspective. Points are centred on the middle of the hips.
    """
    camera = rotation("x", elevation) @ rotation("y", yaw)
    points = {}
    for name, position in bones.items():
        x, y, z = camera @ position
        nearness = distance / (distance - z)
        points[name] = np.array([x * nearness, -y * nearness, z]) * height
    facing = {name: float((camera @ head @ np.array(normal))[2]) for name, (_, normal) in FACE.items()}
    return Skeleton(points, facing, camera @ head, height)
