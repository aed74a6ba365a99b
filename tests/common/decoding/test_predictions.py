"""What a network found, as arrays and as a file: nothing is lost on the way, and damage is said."""

import json

import numpy as np
import pytest

from common.basics.errors import UserError
from common.datasets.imageset import Instance
from common.decoding.predictions import Predictions, check_finite, concatenate, read_predictions, write_predictions

INSTANCES = [Instance(7, "7.png", (0.0, 0.0, 64.0, 48.0), 1.0), Instance(8, "8.png", (0.0, 0.0, 64.0, 48.0), 1.0),
             Instance(9, "9.png", (0.0, 0.0, 64.0, 48.0), 1.0)]  # fmt: skip


def some(joints=17, seed=0, instance=(0, 0, 2)):
    random = np.random.default_rng(seed)
    count = len(instance)
    return Predictions(
        np.array(instance, np.int64),
        random.random(count),
        random.normal(0, 100, (count, joints, 3)).astype(np.float32),
        random.normal(0, 100, (count, 4)).astype(np.float32),
        random.integers(0, 80, count),
    )


def assert_same(first, second):
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(array, second.arrays()[name], strict=True)


@pytest.mark.parametrize("found", [some(), some(joints=0), some(instance=()), Predictions.empty(16)])
def test_the_file_gives_the_same_arrays_to_the_bit(tmp_path, found):
    write_predictions(tmp_path / "predictions.json", INSTANCES, found)
    assert_same(read_predictions(tmp_path / "predictions.json", INSTANCES), found)


@pytest.mark.parametrize("found", [some(), some(joints=0), Predictions.empty(17)])
def test_arrays_survive_an_archive(tmp_path, found):
    np.savez(tmp_path / "found.npz", **found.arrays())
    with np.load(tmp_path / "found.npz") as stored:
        assert_same(Predictions.from_arrays(dict(stored), "found.npz"), found)


def test_the_file_names_image_and_class(tmp_path):
    write_predictions(tmp_path / "predictions.json", INSTANCES, some())
    content = json.loads((tmp_path / "predictions.json").read_text())
    assert [entry["image_id"] for entry in content["found"]] == [7, 7, 9]
    assert [entry["class"] for entry in content["found"]] == some().classes.tolist()
    assert content["shown"] == [[7, None], [8, None], [9, None]] and content["joints"] == 17


def test_another_set_is_refused_even_where_nobody_was_found(tmp_path):
    write_predictions(tmp_path / "predictions.json", INSTANCES, Predictions.empty(17))
    with pytest.raises(UserError, match="another evaluation set"):
        read_predictions(tmp_path / "predictions.json", INSTANCES[:2])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda content: content["found"][0].pop("score"), "is damaged"),
        (lambda content: content["found"][1]["keypoints"].pop(), "is damaged"),
        (lambda content: content["found"][1].update(box=[1, 2, 3]), "is damaged"),
        (lambda content: content["found"].reverse(), "do not fit"),
        (lambda content: content["found"][2].update(score="high"), "is damaged"),
        (lambda content: content.pop("shown"), "another evaluation set"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, match):
    path = tmp_path / "predictions.json"
    write_predictions(path, INSTANCES, some())
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=match) as caught:
        read_predictions(path, INSTANCES)
    assert "predictions.json" in caught.value.message and caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        {"scores": np.zeros(2)},
        {"keypoints": np.zeros((3, 17, 2))},
        {"boxes": np.zeros((3, 5))},
        {"classes": np.zeros((3, 1))},
        {"instance": np.array([1, 0, 2])},
        {"instance": np.array(["a", "b", "c"])},
    ],
)
def test_arrays_that_do_not_fit_are_refused(change):
    with pytest.raises(UserError, match=r"part\.npz"):
        Predictions.from_arrays(some().arrays() | change, "part.npz")


def test_missing_arrays_are_refused():
    arrays = some().arrays()
    del arrays["boxes"]
    with pytest.raises(UserError, match=r"part\.npz holds no predictions"):
        Predictions.from_arrays(arrays, "part.npz")


def test_parts_of_a_longer_list():
    first, second = some(), some(seed=1, instance=(0, 1))
    joined = concatenate([first, second.shifted(3)], 17)
    assert joined.instance.tolist() == [0, 0, 2, 3, 4]
    assert_same(joined.of(0), first.select(slice(0, 2)))
    assert len(joined.of(1)) == 0
    assert_same(joined.of(4).shifted(-4 + 1), second.select(np.array([False, True])))
    assert_same(concatenate([], 5), Predictions.empty(5))


def test_the_first_value_that_is_no_number_is_placed():
    values = np.zeros((3, 4, 2, 2), np.float32)
    check_finite(values, "outputs")
    values[1, 3, 0, 1] = np.inf
    values[2, 0] = np.nan
    with pytest.raises(UserError, match=r"outputs is not finite \(inf\) at sample 1, channel 3"):
        check_finite(values, "outputs")
