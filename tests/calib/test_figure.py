"""Figures: bones that bend as bones do, left and right from every side, and which keypoints are hidden."""

import numpy as np
import pytest

from calib.renderer.annotation import HIDDEN, KEYPOINTS, UNLABELLED, VISIBLE, carriers, label_keypoints
from calib.renderer.figure import LABELS, body_parts, draw_figure, random_outfit
from calib.renderer.painting import Cloth, paint
from calib.renderer.skeleton import LENGTHS, LIMITS, MANNERS, Pose, pose_bones, random_pose, rotation, view

BOTH = {"left": 0.0, "right": 0.0}
STANDING = Pose(0, 0, 0, 0, 0, {"left": 12, "right": 12}, BOTH, BOTH, BOTH, BOTH, BOTH, BOTH)
NO_LIGHT = (0.0, 0.0, 0.0)


def stand(yaw: float, pose: Pose = STANDING, height: float = 260.0):
    """A person of average build in the middle of a 320x320 picture, seen from the front at yaw 0."""
    skeleton = view(*pose_bones(pose, {}), yaw=yaw, elevation=0.0, height=height, distance=8.0)
    skeleton.points = {name: p + np.array([160.0, 165.0, 0.0]) for name, p in skeleton.points.items()}
    return skeleton


def drawn(skeleton):
    labels = draw_figure(
        np.zeros((320, 320, 3), np.float32), skeleton, random_outfit(np.random.default_rng(0), 260), NO_LIGHT
    )
    return dict(zip(KEYPOINTS, label_keypoints(skeleton, labels, labels > 0), strict=True))


def test_who_faces_us_has_the_left_at_our_right_and_who_does_not_at_our_left():
    front, back = stand(0).points, stand(180).points
    for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "ear"):
        assert front[f"left_{joint}"][0] > front[f"right_{joint}"][0] + 5
        assert back[f"left_{joint}"][0] < back[f"right_{joint}"][0] - 5
    # Turned by 90 degrees the nose points to the right of the picture, and the right half is nearer.
    side = stand(90).points
    assert side["nose"][0] > side["head"][0] + 5
    assert side["right_shoulder"][2] > side["left_shoulder"][2]


def test_a_face_is_seen_from_the_front_and_unlabelled_from_behind():
    front, back = drawn(stand(0)), drawn(stand(180))
    for name in ("nose", "left_eye", "right_eye"):
        assert front[name][2] == VISIBLE
        assert back[name].tolist() == [0, 0, 0]
    for name in ("left_shoulder", "right_hip", "left_ankle"):
        assert front[name][2] == back[name][2] == VISIBLE


def test_the_far_side_of_a_profile_is_hidden_not_unlabelled():
    side = drawn(stand(90))
    assert side["right_shoulder"][2] == VISIBLE
    assert side["left_hip"][2] == HIDDEN
    assert side["right_eye"][2] == VISIBLE
    assert side["left_ear"][2] == UNLABELLED  # it looks straight away from the camera


def test_a_wrist_behind_the_back_is_hidden():
    behind = Pose(
        0, 0, 0, 0, 0, {"left": 5, "right": 5}, {"left": -35, "right": 0}, {"left": 75, "right": 0},
        {"left": 70, "right": 0}, BOTH, BOTH, BOTH,
    )  # fmt: skip
    skeleton = stand(0, behind)
    assert skeleton.points["left_wrist"][2] < skeleton.points["chest"][2]
    assert drawn(skeleton)["left_wrist"][2] == HIDDEN
    assert drawn(skeleton)["right_wrist"][2] == VISIBLE


def test_what_stands_in_front_hides_and_what_nobody_could_guess_is_unlabelled():
    skeleton = stand(0)
    outfit = random_outfit(np.random.default_rng(0), 260)
    labels = draw_figure(np.zeros((320, 320, 3), np.float32), skeleton, outfit, NO_LIGHT)
    mask = labels > 0
    knee, ankle = skeleton.points["left_knee"], skeleton.points["left_ankle"]
    mask[int(knee[1]) - 5 :] = False  # a wall from just above the knees down
    rows = dict(zip(KEYPOINTS, label_keypoints(skeleton, labels, mask), strict=True))
    assert ankle[1] < 320
    assert rows["left_knee"][2] == HIDDEN
    assert rows["left_ankle"][2] == UNLABELLED
    assert rows["left_hip"][2] == VISIBLE


def test_random_poses_stay_within_the_joints_limits_and_limbs_use_them():
    rng = np.random.default_rng(1)
    poses = [random_pose(rng) for _ in range(300)]
    for name, (low, high) in LIMITS.items():
        angles = [getattr(pose, name) for pose in poses]
        values = [v for angle in angles for v in (angle.values() if isinstance(angle, dict) else [angle])]
        assert low <= min(values) and max(values) <= high
        if name in ("arm_raise", "arm_flexion", "elbow", "leg_flexion", "knee"):
            assert max(values) - min(values) > 0.6 * (high - low)
    assert len(MANNERS) == 9


def test_bones_keep_their_length_in_every_pose():
    bones = (("shoulder", "elbow", "upper_arm"), ("elbow", "wrist", "forearm"), ("knee", "ankle", "shin"))
    rng = np.random.default_rng(2)
    for _ in range(20):
        points, head = pose_bones(random_pose(rng), {})
        for side in ("left", "right"):
            for a, b, name in bones:
                length = np.linalg.norm(points[f"{side}_{a}"] - points[f"{side}_{b}"])
                assert length == pytest.approx(LENGTHS[name])
        assert head @ head.T == pytest.approx(np.eye(3))
        assert np.linalg.det(head) == pytest.approx(1.0)


def test_joints_bend_the_way_joints_bend():
    bent = Pose(
        0, 0, 0, 0, 0, BOTH, {"left": 90, "right": 0}, BOTH, {"left": 0, "right": 90}, BOTH, {"left": 0, "right": 90},
        {"left": 90, "right": 0},
    )  # fmt: skip
    points, _ = pose_bones(bent, {})
    assert points["left_wrist"][2] > 0.3  # an arm flexed by 90 degrees points forwards
    assert points["right_wrist"][2] == pytest.approx(LENGTHS["forearm"])  # so does a forearm
    assert points["left_ankle"][2] < -0.2  # a knee bends backwards
    assert points["right_knee"][2] == pytest.approx(LENGTHS["thigh"])  # a hip forwards
    # A quarter turn about y takes forwards (z) to the left (x).
    assert rotation("y", 90) @ np.array([0, 0, 1.0]) == pytest.approx([1, 0, 0])


def test_a_painted_capsule_has_its_area_and_its_colour():
    canvas = np.zeros((80, 120, 3), np.float32)
    cloth = Cloth(np.array([10.0, 100.0, 200.0]), np.zeros(3))
    a, b = np.array([30.0, 40.0, 0.0]), np.array([80.0, 40.0, 0.0])
    region, coverage = paint(canvas, [(a, b, 12.0, 12.0)], cloth, NO_LIGHT)
    # A rectangle of 50 x 24 and two half discs of radius 12.
    assert coverage.sum() == pytest.approx(50 * 24 + np.pi * 144, rel=0.02)
    assert canvas[40, 55] == pytest.approx(cloth.color * 1.05, rel=0.05)  # lit a little on the axis
    assert (canvas[:20] == 0).all() and canvas[region].max() > 0
    assert paint(canvas, [(a + 500, b + 500, 12.0, 12.0)], cloth, NO_LIGHT) is None


def test_every_part_of_a_person_is_drawn_and_carries_its_keypoints():
    outfit = random_outfit(np.random.default_rng(5), 260)
    assert {part.label for part in body_parts(stand(20), outfit)} == set(LABELS.values())
    assert all(carriers(name) <= set(LABELS.values()) and carriers(name) for name in KEYPOINTS)
