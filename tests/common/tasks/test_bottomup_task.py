"""The bottom-up task: whole photographs in a fixed input, everybody in them."""

import json

import numpy as np
import pytest

from common.basics.errors import UserError
from common.datasets.imageset import ImageSet, Instance
from common.declarations.keypoints import COCO17
from common.decoding.predictions import Predictions
from common.preprocessing.preprocess import denormalize
from common.tasks import instance_of, task_of
from common.tasks.bottomup import BottomUp
from tests.common.decoding.test_bottomup import network, spec_of
from tests.common.detectors import pose_detector_spec
from tests.common.image_sets import change_json, make_set, picture

FLIP = COCO17.flip_order
FRAME = (160, 128)  # width, height; the photographs are 160 x 120


@pytest.fixture
def task():
    return task_of(spec_of(FRAME[1], FRAME[0]))


def joints_of(annotation):
    return np.reshape(annotation["keypoints"], (-1, 3))[:, :2].astype(float)


def seen(task, instance, people):
    """Outputs, [1, ...], for people, each [17, 2] in image pixels: every one with a tag of its own around it."""
    placement = task.placement(instance)
    zoom = placement.size[0] / (placement.scale[0] * 200)
    tensor = np.zeros((1, 3, *placement.size[::-1]), np.float32)
    first, second = np.zeros((1, 34, 32, 40), np.float32), np.zeros((1, 17, 64, 80), np.float32)
    for number, joints in enumerate(people):
        points = (joints - placement.center) * zoom + np.array(placement.size) / 2
        one = network(tensor, points)
        near = one["first"][:, :17] > np.maximum(first[:, :17], 0.01)
        first[:, 17:][near] = 5 * number
        first[:, :17] = np.maximum(first[:, :17], one["first"][:, :17])
        second = np.maximum(second, one["second"])
    return {"x": second, "y": first}


def joined(outputs):
    return {name: np.concatenate([one[name] for one in outputs]) for name in outputs[0]}


@pytest.fixture
def everybody(tmp_path, task):
    """A set of 3 images with 2 people each, its instances, and what a perfect network says."""
    image_set = ImageSet.open(make_set(tmp_path / "set", images=3, people=2))
    instances = task.instances(image_set)
    people = {image["id"]: [] for image in image_set.images}
    for annotation in image_set.annotations.people():
        people[annotation["image_id"]].append(joints_of(annotation))
    return image_set, instances, joined([seen(task, one, people[one.image_id]) for one in instances])


def test_the_instances_are_the_images(task, everybody):
    image_set, instances, _ = everybody
    assert isinstance(task, BottomUp)
    assert [one.box for one in instances] == [(0, 0, 160, 120)] * 3
    assert instance_of(task.describe(instances[1])) == instances[1]
    with pytest.raises(UserError, match="BOXES=gt"):
        task.instances(image_set, "gt")


def test_the_input_holds_the_photograph_unstretched_and_black_beside_it(task):
    image = picture(1)
    before = image.copy()
    tensor = task.input_of(image, Instance(1, "1.png", (0, 0, 160, 120), 1.0))
    assert tensor.shape == (3, 128, 160) and tensor.dtype == np.float32
    pixels = denormalize(tensor, task.spec.input)
    np.testing.assert_array_equal(pixels[4:-4], image)
    assert not pixels[:4].any() and not pixels[-4:].any()
    np.testing.assert_array_equal(image, before)


def test_everybody_is_found_where_they_are_and_measured(task, everybody):
    image_set, instances, outputs = everybody
    found = task.decode(outputs, instances)
    assert found.instance.tolist() == [0, 0, 1, 1, 2, 2] and not found.classes.any()
    for annotation in image_set.annotations.people():
        own = found.of(annotation["image_id"] - 1)
        offs = np.abs(own.keypoints[..., :2] - joints_of(annotation)).max(axis=(1, 2))
        assert offs.min() < 2.01
    accuracy = task.measure(image_set, instances, found)
    assert accuracy.metric == "AP" and accuracy.numbers["AP50"] == pytest.approx(1)
    some = task.measure(image_set, instances, found.select(found.instance != 1))
    assert some.numbers["AR50"] == pytest.approx(4 / 6)


def test_the_flip_test_of_a_symmetric_network_changes_little(task, everybody):
    _, instances, outputs = everybody
    both = np.concatenate([FLIP, 17 + FLIP])
    flipped = {"x": outputs["x"][:, FLIP, :, ::-1].copy(), "y": outputs["y"][:, both, :, ::-1].copy()}
    plain, tested = task.decode(outputs, instances), task.decode(outputs, instances, flipped)
    assert task.agreement(plain, tested, instances).overall > 0.99
    assert plain.instance.tolist() == tested.instance.tolist()


def test_a_person_found_in_an_image_without_people_costs_precision(task, everybody):
    image_set, instances, outputs = everybody
    content = image_set.folder / "person_keypoints.json"
    change_json(content, lambda c: c.update(annotations=[a for a in c["annotations"] if a["image_id"] != 2]))
    fewer = ImageSet.open(image_set.folder)
    found = task.decode(outputs, instances)
    with_strangers = task.measure(fewer, instances, found).numbers["AP"]
    without = task.measure(fewer, instances, found.select(found.instance != 1)).numbers["AP"]
    assert with_strangers < without


def test_nobody_anywhere_is_no_error(task, everybody):
    image_set, instances, outputs = everybody
    found = task.decode({name: np.zeros_like(value) for name, value in outputs.items()}, instances)
    assert len(found) == 0
    assert task.measure(image_set, instances, found).numbers["AP"] == 0
    assert task.results(image_set, instances, found) == []
    assert task.agreement(found, found, instances).overall == 1


def test_results_are_a_coco_list_of_everybody(task, everybody):
    image_set, instances, outputs = everybody
    found = task.decode(outputs, instances)
    results = json.loads(json.dumps(task.results(image_set, instances, found)))
    assert [entry["image_id"] for entry in results] == [1, 1, 2, 2, 3, 3]
    assert results[0]["category_id"] == 1 and len(results[0]["keypoints"]) == 51
    assert results[0]["score"] == found.scores[0]


def test_agreement_counts_who_is_missing_on_either_side(task, everybody):
    _, instances, outputs = everybody
    found = task.decode(outputs, instances)
    assert task.agreement(found, found, instances).overall == pytest.approx(1)
    one_less = found.select(np.arange(1, len(found)))
    agreement = task.agreement(found, one_less, instances)
    assert agreement.overall == pytest.approx(10 / 11)
    np.testing.assert_allclose(agreement.per_instance, [2 / 3, 1, 1])
    assert task.agreement(one_less, found, instances).overall == pytest.approx(10 / 11)


def test_agreement_falls_with_the_distance_and_ignores_the_faint(task, everybody):
    _, instances, outputs = everybody
    found = task.decode(outputs, instances)

    def moved(pixels):
        keypoints = found.keypoints + np.array([pixels, 0, 0], np.float32)
        return Predictions(found.instance, found.scores, keypoints, found.boxes, found.classes)

    near, far = (task.agreement(found, moved(pixels), instances).overall for pixels in (1, 4))
    assert 0.1 < far < near < 1
    faint = Predictions(found.instance, found.scores * 0 + 0.04, moved(50).keypoints, found.boxes, found.classes)
    assert task.agreement(faint, faint.select(slice(0, 0)), instances).overall == 1
    assert "0.1 or more" in task.agreement(found, found, instances).explanation


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"a": (1, 34, 32, 40)}, None),
        ({"b": (1, 17, 64, 80), "a": (1, 34, 32, 40)}, None),
        ({"a": (1, 34, 64, 80), "b": (1, 17, 128, 160)}, "1x34x64x80 for an input of 128x160"),
        ({"a": (1, 17, 64, 80)}, "1x17x64x80; decoding needs 1x34xHxW"),
    ],
)
def test_outputs_are_checked_against_the_input(task, shapes, words):
    if words is None:
        task.check_outputs(shapes, "net.onnx")
    else:
        with pytest.raises(UserError, match=words):
            task.check_outputs(shapes, "net.onnx")


def test_as_many_outputs_as_instances(task, everybody):
    _, instances, outputs = everybody
    with pytest.raises(UserError, match="3 outputs for 2 samples"):
        task.decode(outputs, instances[:2])
    with pytest.raises(UserError, match="1 outputs for 3 samples"):
        task.decode(outputs, instances, {name: value[:1] for name, value in outputs.items()})


def test_why_nothing_can_be_measured(task, tmp_path):
    image_set = ImageSet.open(make_set(tmp_path / "plain", images=1, annotated=False))
    assert "no person_keypoints.json" in task.ground_truth_missing(image_set)
    assert task.protocol(image_set, task.instances(image_set)).startswith("no metric")


def test_the_words(task, everybody):
    image_set, instances, _ = everybody
    assert task.ground_truth_missing(image_set) is None
    protocol = task.protocol(image_set, instances, flip=True)
    assert "6 people with keypoints in 3 images" in protocol and ", flip test, single scale" in protocol
    assert "fixed input of 160x128" in protocol and "no OKS-NMS" in protocol
    published = task.protocol(image_set, instances, shown="whole images, short side 128")
    assert "short side 128" in published and "fixed input" not in published
    assert any("160 / w" in step for step in task.preprocessing_steps())
    outputs = [{"name": "x", "shape": [1, 17, 64, 80]}, {"name": "y", "shape": [1, 34, 32, 40]}]
    steps = task.decoding_steps(outputs)
    assert steps[0].startswith("y: channels 0..16 are heatmaps") and "resize y to the size of x" in steps[1]
    assert not any("resize y to the size" in step for step in task.decoding_steps(outputs[1:]))


@pytest.mark.parametrize("spec", [spec_of(FRAME[1], FRAME[0]), pose_detector_spec()], ids=lambda spec: spec.task)
def test_keypoints_that_no_known_set_has_are_refused_by_number(tmp_path, spec):
    folder = make_set(tmp_path / "set", images=3, people=1)

    def shorten(content):
        for annotation in content["annotations"]:
            annotation["keypoints"] = annotation["keypoints"][: 3 * 12]

    change_json(folder / "person_keypoints.json", shorten)
    with pytest.raises(UserError, match=r"36 keypoint numbers, but coco17 has 17"):
        task_of(spec).ground_truth_missing(ImageSet.open(folder))
