import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from common.basics.errors import UserError
from common.decoding.detection_decode import decode_boxes, decode_everything, decode_images, suppress
from common.preprocessing.letterbox import Letterbox
from tests.common.detectors import SIZE, detector_spec, pose_detector_spec, put_object, quiet_head

PLAIN = Letterbox.fit(SIZE, SIZE, SIZE, SIZE)


def found_in(outputs, spec, letterbox=PLAIN, threshold=None):
    count = len(next(iter(outputs.values())))
    return decode_images(outputs, spec, [letterbox] * count, "test", threshold)


def corners(predictions):
    return np.concatenate([predictions.boxes[:, :2], predictions.boxes[:, :2] + predictions.boxes[:, 2:]], axis=1)


def test_nothing_is_an_empty_list():
    assert len(found_in(quiet_head(detector_spec(), 3), detector_spec())) == 0
    assert found_in(quiet_head(pose_detector_spec()), pose_detector_spec()).keypoints.shape == (0, 17, 3)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_one_cell_says_one_box(stride):
    """Cell (1, 0): its centre is 1.5 and 0.5 strides; sides at 1, 0.5, 0.25 and 1.5 strides from there."""
    spec = detector_spec()
    outputs = quiet_head(spec)
    put_object(outputs, stride, (1, 0), (1.0, 0.5, 0.25, 1.5), label=1, logit=0.4)
    found = found_in(outputs, spec)
    expected = np.array([[0.5 * stride, 0, 1.75 * stride, 2 * stride]])
    np.testing.assert_allclose(corners(found), expected, atol=1e-4)
    assert found.classes.tolist() == [1] and found.instance.tolist() == [0]
    assert found.scores[0] == pytest.approx(1 / (1 + np.exp(-0.4)), abs=1e-7)


def test_equal_logits_are_the_mean_bin():
    """A flat distribution over 0..15 has the mean 7.5."""
    sides = decode_boxes(np.zeros((64, 1), np.float32), np.array([[20.5, 20.5]], np.float32), 8)
    np.testing.assert_allclose(sides, [[13 * 8, 13 * 8, 28 * 8, 28 * 8]], rtol=1e-6)


def test_huge_logits_do_not_overflow():
    logits = np.full((64, 1), -1e4, np.float32)
    logits[[3, 16 + 3, 32 + 3, 48 + 3]] = 1e4
    np.testing.assert_allclose(decode_boxes(logits, np.full((1, 2), 4.5, np.float32), 8), [[12, 12, 60, 60]])


def test_keypoints_of_one_cell():
    """x = (2 * value + column) * stride: Ultralytics' 2 * value + (anchor - 0.5)."""
    spec = pose_detector_spec()
    outputs = quiet_head(spec)
    put_object(outputs, 16, (2, 1), (1, 1, 1, 1))
    raw = outputs["keypoints_16"][0].reshape(17, 3, 4, 4)
    raw[0, :, 1, 2] = 0.25, -0.1, 3.0
    raw[16, :, 1, 2] = -0.5, 0.5, -3.0
    found = found_in(outputs, spec)
    assert found.keypoints.shape == (1, 17, 3) and found.keypoints.dtype == np.float32
    np.testing.assert_allclose(found.keypoints[0, 0], [(0.5 + 2) * 16, (-0.2 + 1) * 16, expit(3)], rtol=1e-6)
    np.testing.assert_allclose(found.keypoints[0, 16], [(-1 + 2) * 16, (1 + 1) * 16, expit(-3)], rtol=1e-6)
    np.testing.assert_allclose(found.keypoints[0, 5], [32, 16, 0.5], rtol=1e-6)


def test_the_threshold_is_exclusive_and_each_class_counts():
    spec = detector_spec(score_threshold=0.5)
    outputs = quiet_head(spec)
    put_object(outputs, 8, (2, 2), (1, 1, 1, 1), label=0, logit=1.0)
    outputs["class_8"][0, 1, 2, 2] = 0.5  # the same cell, the other class
    outputs["class_8"][0, 0, 6, 6] = 0.0  # a score of exactly 0.5
    found = found_in(outputs, spec)
    assert found.classes.tolist() == [0, 1] and found.scores.tolist() == pytest.approx([expit(1), expit(0.5)])
    np.testing.assert_array_equal(found.boxes[0], found.boxes[1])
    assert len(found_in(outputs, spec, threshold=0.7)) == 1
    assert len(found_in(outputs, spec, threshold=0.0)) > 2 and len(found_in(outputs, spec, threshold=1.0)) == 0


def test_overlapping_boxes_of_one_class_and_of_two():
    spec = detector_spec()
    for label, left in ((0, 1), (1, 2)):
        outputs = quiet_head(spec)
        put_object(outputs, 8, (3, 3), (3, 3, 3, 3), label=0, logit=2.0)
        put_object(outputs, 8, (4, 3), (4, 3, 2, 3), label=label, logit=3.0)  # the very same box from the next cell
        found = found_in(outputs, spec)
        assert len(found) == left and found.scores[0] == pytest.approx(expit(3)), "best first"


def test_the_letterbox_leads_back_and_the_border_clips():
    """A photograph of 128x64 in 64x64: half its size, 16 free above. A box over everything becomes the photograph."""
    spec = detector_spec()
    outputs = quiet_head(spec)
    put_object(outputs, 16, (1, 1), (1.5, 0.5, 2.5, 0.75))  # x 0..64, y 16..36 in the input
    put_object(outputs, 32, (0, 0), (9, 9, 9, 9), label=1)
    found = found_in(outputs, spec, Letterbox.fit(128, 64, SIZE, SIZE))
    first, second = found.select(found.classes == 0), found.select(found.classes == 1)
    np.testing.assert_allclose(first.boxes, [[0, 0, 128, 40]], atol=1e-4)
    np.testing.assert_array_equal(second.boxes, [[0, 0, 128, 64]])


def test_photographs_do_not_mix():
    spec = detector_spec()
    outputs = quiet_head(spec, 3)
    put_object(outputs, 8, (1, 1), (1, 1, 1, 1), image=0)
    put_object(outputs, 8, (5, 5), (1, 1, 1, 1), image=2)
    put_object(outputs, 16, (2, 0), (1, 0.5, 1, 1), image=2, logit=5)
    found = found_in(outputs, spec)
    assert found.instance.tolist() == [0, 2, 2] and found.scores[1] > found.scores[2]


def test_outputs_are_told_by_shape_whatever_their_names_and_order():
    spec = pose_detector_spec()
    outputs = quiet_head(spec)
    put_object(outputs, 32, (1, 0), (0.5, 0.25, 0.5, 0.75))
    shuffled = {str(index): value for index, value in enumerate(reversed(outputs.values()))}
    np.testing.assert_array_equal(found_in(outputs, spec).boxes, found_in(shuffled, spec).boxes)


def test_values_that_are_not_finite_are_refused():
    outputs = quiet_head(detector_spec())
    outputs["box_16"][0, 3, 1, 1] = np.nan
    with pytest.raises(UserError, match=r"box_16 is not finite"):
        found_in(outputs, detector_spec())


@given(
    st.integers(0, 5), st.integers(0, 5), st.integers(0, 2), st.integers(0, 2),
    st.tuples(*[st.floats(0, 3)] * 4), st.floats(-2, 4),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_a_shift_by_cells_shifts_the_box_by_strides(column, row, right, down, sides, logit):
    spec = detector_spec(size=(128, 128))
    letterbox = Letterbox.fit(128, 128, 128, 128)
    boxes = []
    for cell in ((column + 4, row + 4), (column + 4 + right, row + 4 + down)):
        outputs = quiet_head(spec)
        put_object(outputs, 8, cell, sides, logit=logit)
        boxes.append(corners(found_in(outputs, spec, letterbox))[0])
    np.testing.assert_allclose(boxes[1] - boxes[0], 8.0 * np.array([right, down, right, down]), atol=1e-3)


@given(st.integers(0, 7), st.integers(0, 7), st.tuples(*[st.floats(0, 3)] * 4))
@settings(deadline=None, max_examples=40)
def test_a_mirrored_head_gives_mirrored_boxes(column, row, sides):
    spec = detector_spec()
    outputs, mirrored = quiet_head(spec), quiet_head(spec)
    put_object(outputs, 8, (column, row), sides)
    put_object(mirrored, 8, (7 - column, row), (sides[2], sides[1], sides[0], sides[3]))
    x1, y1, x2, y2 = corners(found_in(outputs, spec))[0]
    np.testing.assert_allclose(corners(found_in(mirrored, spec))[0], [SIZE - x2, y1, SIZE - x1, y2], atol=1e-3)


@pytest.mark.parametrize("spec", [detector_spec(score_threshold=0.0), pose_detector_spec(score_threshold=0.0)])
def test_the_fast_way_equals_the_decode_of_all_cells(spec):
    """Nothing suppressed and nothing below the threshold: the same boxes, scores and keypoints, in another order."""
    random = np.random.default_rng(1)
    outputs = {name: random.normal(0, 2, value.shape).astype(np.float32) for name, value in quiet_head(spec).items()}
    free = spec.model_copy(
        update={"decode": spec.decode.model_copy(update={"overlap_threshold": 1.0, "maximum_detections": 10**6})}
    )
    wide = Letterbox(10**6, 10**6, 10**6, 10**6, 10**6, 10**6, -500, -500)  # moves by 500: nothing is clipped
    found = found_in(outputs, free, wide)
    every = decode_everything(outputs, spec, "test")[0]
    classes = len(spec.decode.classes)
    expected = sorted(
        (
            round(float(every[4 + label, cell]), 5),
            label,
            *every[:4, cell].tolist(),
            *every[4 + classes :, cell].tolist(),
        )
        for label in range(classes)
        for cell in range(every.shape[1])
    )
    rows = []
    for score, label, box, keypoints in zip(
        found.scores, found.classes, corners(found) - 500, found.keypoints, strict=True
    ):
        centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        points = keypoints - np.array([500, 500, 0])
        rows.append(
            (round(float(score), 5), int(label), *centre.tolist(), *size.tolist(), *points.reshape(-1).tolist())
        )
    np.testing.assert_allclose(sorted(rows), expected, atol=2e-3)


def slow_suppress(boxes, scores, classes, overlap, most):
    """The definition, one pair at a time."""
    kept = []
    for index in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        for other in kept:
            if classes[other] != classes[index]:
                continue
            a, b = boxes[other], boxes[index]
            common = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
            union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
            if union > 0 and common / union > overlap:
                break
        else:
            kept.append(index)
    return kept[:most]


@given(st.integers(0, 10**6), st.integers(0, 60), st.sampled_from([0.1, 0.45, 0.7]), st.integers(1, 30))
@settings(deadline=None, max_examples=60)
def test_suppression_equals_its_definition(seed, count, overlap, most):
    random = np.random.default_rng(seed)
    near = random.uniform(0, 40, (count, 2))
    boxes = np.concatenate([near, near + random.choice([0.0, 10.0, 15.0, 20.0], (count, 2))], axis=1)
    scores = random.choice([0.1, 0.3, 0.5, 0.7, 0.9], count)  # ties
    classes = random.integers(0, 3, count)
    kept = suppress(boxes, scores, classes, overlap, most)
    assert kept.tolist() == slow_suppress(boxes, scores, classes, overlap, most)


def test_an_overlap_of_exactly_the_threshold_stays():
    """IoU 1/3: two boxes of 2x1 that share one square."""
    boxes = np.array([[0, 0, 2, 1], [1, 0, 3, 1.0]])
    for overlap, left in ((1 / 3, 2), (0.33, 1)):
        assert len(suppress(boxes, np.array([0.9, 0.8]), np.zeros(2, int), overlap, 9)) == left
