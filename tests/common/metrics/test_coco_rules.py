"""What COCO's evaluation does with people that it does not count: finding them is neither right nor wrong."""

import numpy as np
import pytest

from common.datasets.imageset import ImageSet
from common.decoding.predictions import Predictions
from common.tasks import task_of
from tests.common.image_sets import change_json, make_set, person, pose_spec

COUNTED, OTHER = [10.0, 12.0, 40.0, 80.0], [90.0, 20.0, 40.0, 80.0]


def measured(folder, others, detected=OTHER):
    """AP when the counted person of image 1 is found exactly with score 0.5, and another one, in `detected`, with 0.9.

    others: further annotations of the image.
    """
    change_json(
        folder / "person_keypoints.json",
        lambda content: content.update(annotations=[person(1, 1, COUNTED), *others]),
    )
    image_set, task = ImageSet.open(folder), task_of(pose_spec())
    (instance,) = task.instances(image_set, "gt")  # nobody else is a top-down input
    keypoints = np.array([person(0, 1, box)["keypoints"] for box in (COUNTED, detected)], np.float32)
    keypoints = keypoints.reshape(2, 17, 3)
    keypoints[..., 2] = 1
    found = Predictions(
        np.arange(2), np.array([0.5, 0.9]), keypoints, np.array([COUNTED, detected], np.float32), np.zeros(2, np.int64)
    )
    return task.measure(image_set, [instance, instance], found).numbers["AP"]


@pytest.fixture()
def folder(tmp_path):
    return make_set(tmp_path / "set", images=1)


def test_somebody_who_is_not_annotated_is_a_false_alarm(folder):
    """One right of two, the wrong one first: precision 1/2 at every recall."""
    assert measured(folder, []) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "changes",
    [
        {"iscrowd": 1},
        {"iscrowd": 1, "keypoints": [0] * 51, "num_keypoints": 0},
        {"keypoints": [0] * 51, "num_keypoints": 0},
        {"keypoints": [], "num_keypoints": 0},
    ],
)
def test_crowds_and_people_without_keypoints_are_neither_right_nor_wrong(folder, changes):
    assert measured(folder, [person(2, 1, OTHER, **changes)]) == pytest.approx(1)


def test_the_list_of_keypoints_may_be_missing(folder):
    other = person(2, 1, OTHER)
    other.pop("keypoints"), other.pop("num_keypoints")
    assert measured(folder, [other]) == pytest.approx(1)


@pytest.mark.parametrize("box", [[90.0, 20.0, 0.0, 0.0], [500.0, 400.0, 40.0, 80.0]])
def test_boxes_of_no_size_or_outside_are_no_inputs(folder, box):
    """COCOeval still looks for such a person if keypoints are marked: of two people one is found, after a false alarm.

    That is 51 of the 101 recall points, at precision 1/2.
    """
    assert measured(folder, [person(2, 1, box, area=3200.0)]) == pytest.approx(51 / 101 * 0.5)
