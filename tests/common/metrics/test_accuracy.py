import copy

import numpy as np
import pytest

from common.datasets.annotations import Annotations
from common.datasets.imageset import ImageSet, Instance
from common.declarations.keypoints import COCO17
from common.decoding.predictions import Predictions
from common.metrics.accuracy import interval, measure_keypoints, resample
from common.tasks.topdown import TopDown
from tests.common.image_sets import person, pose_spec


def people_and_truth(images=12, seed=0, noise=6.0, wild=0.2):
    """Annotated people, predictions that are off by some pixels (some wildly), and the arguments of measure()."""
    random = np.random.default_rng(seed)
    truth, instances, predictions = [], [], []
    for image in range(1, images + 1):
        for index in range(int(random.integers(1, 4))):
            box = [150.0 * index + 5, 20.0, *random.uniform(60, 130, 2).tolist()]
            entry = person(100 * image + index, image, box)
            truth.append(entry)
            points = np.array(entry["keypoints"]).reshape(17, 3)
            points[:, :2] += random.normal(0, noise * (8 if random.random() < wild else random.random()), (17, 2))
            points[:, 2] = random.uniform(0.1, 1, 17)
            instances.append(Instance(image, f"{image}.png", tuple(box), 1.0, entry["id"], entry["area"]))
            predictions.append(points)
    annotations = Annotations(None, [{"id": image} for image in range(1, images + 1)], truth, 1, None)
    predictions = np.array(predictions, np.float32)
    return annotations, instances, predictions, predictions[..., 2].mean(axis=1)


def measure(annotations, instances, people, scores):
    """The top-down task's own measure(): OKS-NMS, COCO's results list, pycocotools."""
    image_set = ImageSet("set", "set", annotations.images, annotations, None, {})
    count = len(instances)
    boxes = np.array([instance.box for instance in instances], np.float32)
    found = Predictions(np.arange(count), scores.astype(float), people, boxes, np.zeros(count, np.int64))
    return TopDown(pose_spec()).measure(image_set, instances, found)


def test_perfect_predictions_have_ap_1():
    annotations, instances, people, scores = people_and_truth(noise=0)
    accuracy = measure(annotations, instances, people, scores)
    assert accuracy.numbers["AP"] == pytest.approx(1) and accuracy.numbers["AR"] == pytest.approx(1)
    assert accuracy.metric == "AP"
    rows = resample([accuracy.statistic], 20)
    np.testing.assert_allclose(rows, 1)
    assert interval(rows[:, 0]) == pytest.approx([1, 1])


def test_half_of_the_people_found_without_a_false_one():
    """Recall 1/2 at precision 1: 51 of COCO's 101 recall points (0 to 0.50) have precision 1."""
    annotations, instances, people, scores = people_and_truth(noise=0)
    if len(instances) % 2:
        annotations.annotations.pop()
        instances, people, scores = instances[:-1], people[:-1], scores[:-1]
    half = slice(0, len(instances), 2)
    accuracy = measure(annotations, instances[half], people[half], scores[half])
    assert accuracy.numbers["AP"] == pytest.approx(51 / 101)


def test_no_people_of_a_size_is_null():
    annotations, instances, people, scores = people_and_truth(noise=0)
    for entry in annotations.annotations:
        entry["area"] = 50_000.0  # all large
    numbers = measure(annotations, instances, people, scores).numbers
    assert numbers["AP_M"] is None and numbers["AP_L"] == pytest.approx(1)


@pytest.mark.parametrize("seed", range(5))
def test_own_curve_equals_pycocotools(seed):
    accuracy = measure(*people_and_truth(seed=seed))
    assert 0.1 < accuracy.numbers["AP"] < 0.95
    weights = np.ones(12, int)
    assert accuracy.statistic.value(weights) == pytest.approx(accuracy.numbers["AP"], abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_weights_equal_copied_images(seed):
    """Drawing an image n times is the set with n copies of that image, measured by pycocotools itself."""
    annotations, instances, people, scores = people_and_truth(images=5, seed=seed)
    curve = measure(annotations, instances, people, scores).statistic
    weights = np.array([2, 0, 3, 1, 1])
    images, truth, rows, copies = [], [], [], []
    for image, times in enumerate(weights, start=1):
        for turn in range(times):
            new_id = 1000 * (turn + 1) + image
            images.append({"id": new_id})
            truth += [
                copy.deepcopy(a) | {"image_id": new_id, "id": a["id"] * 10 + turn}
                for a in annotations.annotations
                if a["image_id"] == image
            ]
            for row, i in enumerate(instances):
                if i.image_id == image:
                    rows.append(row)
                    copies.append(Instance(new_id, i.file, i.box, i.score))
    copied = Annotations(None, images, truth, 1, None)
    expected = measure(copied, copies, people[rows], scores[rows]).numbers["AP"]
    assert curve.value(weights) == pytest.approx(expected, abs=1e-9)


def test_resamples_are_paired_and_repeatable():
    first, second = measure(*people_and_truth(seed=1)), measure(*people_and_truth(seed=1, noise=9))
    rows = resample([first.statistic, second.statistic], 100)
    np.testing.assert_array_equal(rows, resample([first.statistic, second.statistic], 100))
    np.testing.assert_array_equal(resample([first.statistic, first.statistic], 50)[:, 0], rows[:50, 0])
    same = resample([first.statistic, first.statistic], 50)
    assert interval(same[:, 0] - same[:, 1]) == [0, 0]
    low, high = interval(rows[:, 0])
    assert low < first.numbers["AP"] < high and high - low > 0.02


def test_images_without_people_do_not_matter_for_ap():
    annotations, instances, people, scores = people_and_truth()
    before = measure(annotations, instances, people, scores).numbers["AP"]
    annotations.images.append({"id": 99})
    accuracy = measure(annotations, instances, people, scores)
    assert accuracy.numbers["AP"] == before and accuracy.statistic.truths[-1] == 0


def test_nothing_found_is_ap_0_and_resamples():
    """pycocotools reads the first result to learn the kind; without any it must not fail."""
    annotations, *_ = people_and_truth()
    accuracy = measure_keypoints(annotations.as_coco(), [], COCO17)
    assert accuracy.numbers["AP"] == 0 and accuracy.numbers["AR"] == 0
    np.testing.assert_array_equal(resample([accuracy.statistic], 5), np.zeros((5, 1)))


def test_a_set_without_anybody_is_null():
    empty = Annotations(None, [{"id": 1}, {"id": 2}], [], 1, None)
    accuracy = measure_keypoints(empty.as_coco(), [], COCO17)
    assert accuracy.numbers["AP"] is None
    assert accuracy.statistic.value(np.ones(2, int)) is None
    assert interval(resample([accuracy.statistic], 5)[:, 0]) is None
