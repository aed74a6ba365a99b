"""The top-down task: one person a sample, the same person before and after."""

import json

import numpy as np
import pytest

from common.basics.errors import UserError
from common.datasets.imageset import ImageSet, Instance
from common.declarations.keypoints import COCO17, MPII16
from common.decoding.predictions import Predictions
from common.preprocessing.preprocess import box_to_center_scale, crop_person, normalize
from common.tasks import instance_of, task_of
from common.tasks.topdown import TopDown, geometry, heatmaps_of, instance_scores
from tests.common.image_sets import change_json, make_set, picture, pose_spec


def test_instance_score_is_box_score_times_mean_of_counted_keypoints():
    people = np.zeros((3, 17, 3), np.float32)
    people[0, :4, 2] = [0.19, 0.4, 0.8, -1]  # 0.19 is not above 0.2
    people[1, :, 2] = 0.1
    people[2, :, 2] = 1.5
    np.testing.assert_allclose(instance_scores(people, np.array([0.5, 1, 1])), [0.5 * 0.6, 0, 1.5], rtol=1e-6)


def test_the_last_of_several_fitting_outputs_counts():
    outputs = {"stage1": np.zeros((1, 17, 4, 4)), "stage2": np.ones((1, 17, 4, 4)), "tags": np.zeros((1, 34, 4, 4))}
    assert heatmaps_of(outputs, COCO17, "cell").max() == 1


def test_heatmaps_of_other_keypoints_are_refused():
    with pytest.raises(UserError, match=r"cell: no output is a heatmap of 16 channels .*: maps \[1, 17, 4, 4\]"):
        heatmaps_of({"maps": np.zeros((1, 17, 4, 4))}, MPII16, "cell")


def test_the_task_of_a_pose_spec():
    task = task_of(pose_spec())
    assert isinstance(task, TopDown)
    assert (task.similarity, task.labels()) == ("OKS", ["person"])


def test_the_input_is_the_normalised_crop_and_the_photograph_stays():
    image = picture(3)
    before = image.copy()
    instance = Instance(1, "1.png", (10.0, 12.0, 40.0, 80.0), 1.0)
    center, scale = box_to_center_scale(instance.box, 48 / 64)
    expected = normalize(crop_person(image, center, scale, (48, 64)), pose_spec().input)
    np.testing.assert_array_equal(TopDown(pose_spec()).input_of(image, instance), expected)
    np.testing.assert_array_equal(image, before)


def peaks(places, size=(12, 16)):
    """Heatmaps [N, 17, h, w], all joints of a person in one place (x, y)."""
    maps = np.zeros((len(places), 17, *size[::-1]), np.float32)
    for person, (x, y) in enumerate(places):
        maps[person, :, y, x] = 0.8
    return maps


BOX = (80.8, 74.4, 38.4, 51.2)  # padded, it is 48 x 64 pixels around (100, 100): a heatmap pixel is 4 image pixels


def test_decoding_goes_back_to_image_pixels_with_scores_boxes_and_order():
    instances = [Instance(1, "1.png", BOX, 0.5), Instance(1, "1.png", BOX, 1.0)]
    found = TopDown(pose_spec(refine="none")).decode({"maps": peaks([(6, 8), (7, 5)])}, instances)
    assert found.instance.tolist() == [0, 1] and found.classes.tolist() == [0, 0]
    np.testing.assert_allclose(found.keypoints[0, 3], [100, 100, 0.8], rtol=1e-6)
    np.testing.assert_allclose(found.keypoints[1, 16], [104, 100 - 3 * 4, 0.8], rtol=1e-6)
    np.testing.assert_allclose(found.scores, [0.4, 0.8], rtol=1e-6)
    np.testing.assert_allclose(found.boxes, [BOX, BOX], rtol=1e-6)


def test_the_flip_test_averages_and_changes_sides():
    """The mirrored pass sees the left wrist as right; its map is mirrored back and moved right by one pixel."""
    plain, mirrored = np.zeros((2, 1, 17, 16, 12), np.float32)
    left, right = COCO17.names.index("left_wrist"), COCO17.names.index("right_wrist")
    plain[0, left, 8, 4] = 1
    mirrored[0, right, 8, 11 - 3] = 0.6  # mirrored back: column 3; moved: column 4
    instances = [Instance(1, "1.png", BOX, 1.0)]
    task = TopDown(pose_spec(refine="none"))
    found = task.decode({"maps": plain}, instances, {"maps": mirrored})
    np.testing.assert_allclose(found.keypoints[0, left], [100 - 2 * 4, 100, 0.8], rtol=1e-6)
    assert found.keypoints[0, right, 2] == 0


def test_another_number_of_outputs_than_people_is_refused():
    with pytest.raises(UserError, match="1 outputs for 2 samples"):
        TopDown(pose_spec()).decode({"maps": peaks([(1, 1)])}, [Instance(1, "1.png", BOX, 1.0)] * 2)


@pytest.mark.parametrize(
    "outputs",
    [{"a": (1, 16, 16, 12)}, {"a": (1, 17, 16, 12), "b": (1, 17, 16, 12)}, {"a": (1, 17)}, {}],
)
def test_outputs_that_are_no_heatmaps_are_refused(outputs):
    TopDown(pose_spec()).check_outputs({"a": (1, 17, 16, 12)}, "net.onnx")
    with pytest.raises(UserError, match=r"net\.onnx gives .*needs one output 1x17xHxW"):
        TopDown(pose_spec()).check_outputs(outputs, "net.onnx")


def test_agreement_is_that_of_the_same_person_whatever_the_scores():
    instances = [Instance(1, "1.png", BOX, 1.0, 5, 1000.0), Instance(2, "2.png", BOX, 1.0, 6, 1000.0)]
    task = TopDown(pose_spec(refine="none"))
    reference, value = (task.decode({"maps": peaks(places)}, instances) for places in ([(6, 8)] * 2, [(6, 8), (7, 8)]))
    value.keypoints[..., 2] = 0.01  # a score is no part of it
    found = task.agreement(reference, value, instances)
    term = np.exp(-(4.0**2) / (2 * 1000 * (2 * COCO17.sigmas) ** 2))
    np.testing.assert_allclose(found.per_instance, [1, term.mean()], rtol=1e-6)
    assert found.overall == pytest.approx((1 + term.mean()) / 2)
    assert found.joints["nose"] == pytest.approx((1 + term[0]) / 2)


def test_duplicates_of_a_person_go_but_only_within_an_image():
    points = np.tile(np.random.default_rng(0).random((1, 17, 3)).astype(np.float32) * 50, (3, 1, 1))
    instances = [Instance(1, "1.png", (0, 0, 50, 50), 0.8), Instance(1, "1.png", (1, 0, 50, 50), 0.9),
                 Instance(2, "2.png", (0, 0, 50, 50), 0.7)]  # fmt: skip
    boxes = np.array([one.box for one in instances], np.float32)
    found = Predictions(np.arange(3), np.array([0.8, 0.9, 0.7]), points, boxes, np.zeros(3, np.int64))
    image_set = ImageSet("set", "set", [{"id": 1}, {"id": 2}], None, None, {})
    results = TopDown(pose_spec()).results(image_set, instances, found)
    assert [(entry["image_id"], entry["score"]) for entry in results] == [(1, 0.9), (2, 0.7)]
    np.testing.assert_allclose(results[0]["keypoints"], points[1].ravel())


def test_a_description_is_read_back(tmp_path):
    task = TopDown(pose_spec())
    for instance in task.instances(ImageSet.open(make_set(tmp_path / "set", people=2))):
        described = json.loads(json.dumps(task.describe(instance)))
        assert instance_of(described) == instance
        (center,), (scale,) = geometry([instance], pose_spec())
        assert (described["center"], described["scale"]) == (center.tolist(), scale.tolist())


def test_another_keypoint_set_gives_boxes_but_no_metric(tmp_path):
    image_set = ImageSet.open(make_set(tmp_path / "set"))
    coco, mpii = TopDown(pose_spec()), TopDown(pose_spec(keypoints="mpii16"))
    assert coco.ground_truth_missing(image_set) is None
    assert mpii.instances(image_set) == coco.instances(image_set)
    assert "annotated in coco17, the network finds mpii16" in mpii.ground_truth_missing(image_set)
    assert mpii.protocol(image_set, mpii.instances(image_set)).startswith("no metric (")


def test_unknown_keypoints_are_refused(tmp_path):
    folder = make_set(tmp_path / "set")
    change_json(folder / "person_keypoints.json", lambda content: content["categories"][0]["keypoints"].reverse())
    with pytest.raises(UserError, match="another order"):
        TopDown(pose_spec()).instances(ImageSet.open(folder))


def detected(folder, scores):
    boxes = [{"image_id": 1, "category_id": 1, "bbox": [5 + 20 * i, 10, 15, 40], "score": score}
             for i, score in enumerate(scores)]  # fmt: skip
    (folder / "person_detections.json").write_text(json.dumps(boxes))
    return ImageSet.open(folder)


def test_which_boxes_are_shown(tmp_path):
    """By itself the truth, else detections that are people; asked for detections, all of them, however weak."""
    task = TopDown(pose_spec())
    scores = [0.9, 0.3, 0.29, 0.01]
    only = detected(make_set(tmp_path / "plain", annotated=False), scores)
    assert [one.score for one in task.instances(only)] == [0.9, 0.3]
    assert [one.score for one in task.instances(only, "detections")] == scores
    both = detected(make_set(tmp_path / "both"), scores)
    assert len(task.instances(both)) == 10 and [one.score for one in task.instances(both, "detections")] == scores
    with pytest.raises(UserError, match="no annotated people"):
        task.instances(only, "gt")
    with pytest.raises(UserError, match="no detected boxes"):
        task.instances(ImageSet.open(make_set(tmp_path / "third")), "detections")
    assert "4 detected boxes, rescored" in task.protocol(both, task.instances(both, "detections"), "detections")
