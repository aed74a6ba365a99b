import copy

import numpy as np
import pytest

from common.metrics.accuracy import interval, resample
from common.metrics.box_accuracy import measure_boxes


def objects_and_results(images=10, seed=0, classes=3, noise=3.0):
    """Boxes of several classes, most of them found with some error, some missed, some false, tails of weak boxes."""
    random = np.random.default_rng(seed)
    truth, results = [], []
    for image in range(1, images + 1):
        for number in range(int(random.integers(1, 6))):
            category = 10 * int(random.integers(1, classes + 1))
            box = [*random.uniform(0, 200, 2).tolist(), *random.uniform(20, 120, 2).tolist()]
            crowd = int(random.random() < 0.1)
            truth.append({"id": 100 * image + number + 1, "image_id": image, "category_id": category, "bbox": box,
                          "area": box[2] * box[3], "iscrowd": crowd})  # fmt: skip
            if random.random() < 0.8:
                moved = (np.array(box) + random.normal(0, noise, 4)).tolist()
                results.append({"image_id": image, "category_id": category, "bbox": moved,
                                "score": float(random.uniform(0.3, 1))})  # fmt: skip
        for _ in range(5):
            box = [*random.uniform(0, 200, 2).tolist(), *random.uniform(5, 50, 2).tolist()]
            category = 10 * int(random.integers(1, classes + 1))
            results.append(
                {"image_id": image, "category_id": category, "bbox": box, "score": float(random.random() / 2)}
            )
    content = {
        "images": [{"id": image} for image in range(1, images + 1)],
        "annotations": truth,
        "categories": [{"id": 10 * number, "name": str(number)} for number in range(1, classes + 1)],
    }
    return content, results


def perfect(truth):
    return [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in truth["annotations"]
    ]


def test_the_objects_themselves_have_ap_1():
    truth, _ = objects_and_results()
    accuracy = measure_boxes(copy.deepcopy(truth), perfect(truth))
    assert accuracy.numbers["AP"] == pytest.approx(1) and accuracy.numbers["AR"] == pytest.approx(1)
    assert accuracy.metric == "AP" and accuracy.statistic.value(np.ones(10, int)) == pytest.approx(1)


def test_nothing_found_is_zero_and_nothing_to_find_is_none():
    truth, results = objects_and_results()
    assert measure_boxes(copy.deepcopy(truth), []).numbers["AP"] == 0
    truth["annotations"] = []
    accuracy = measure_boxes(copy.deepcopy(truth), results)
    assert accuracy.numbers["AP"] is None and accuracy.statistic.value(np.ones(10, int)) is None
    truth["categories"] = []
    assert measure_boxes(truth, results).numbers["AP"] is None


def test_the_mean_is_over_classes_that_have_objects():
    """Class 1 perfect, class 2 never found, class 3 without objects: (1 + 0) / 2."""
    truth, _ = objects_and_results(classes=2)
    truth["categories"].append({"id": 30, "name": "3"})
    results = [entry for entry in perfect(truth) if entry["category_id"] == 10]
    results.append({"image_id": 1, "category_id": 30, "bbox": [0, 0, 9, 9], "score": 0.9})
    accuracy = measure_boxes(truth, results)
    assert accuracy.numbers["AP"] == pytest.approx(0.5)
    assert accuracy.statistic.value(np.ones(10, int)) == pytest.approx(0.5)


def test_the_right_box_under_another_class_is_no_hit():
    truth, _ = objects_and_results(classes=2)
    swapped = [entry | {"category_id": 30 - entry["category_id"]} for entry in perfect(truth)]
    assert measure_boxes(truth, swapped).numbers["AP"] < 0.05


def test_results_of_other_images_and_classes_do_not_count():
    truth, results = objects_and_results()
    before = measure_boxes(copy.deepcopy(truth), results).numbers
    extra = [{"image_id": 999, "category_id": 10, "bbox": [0, 0, 5, 5], "score": 0.99},
             {"image_id": 1, "category_id": 999, "bbox": [0, 0, 5, 5], "score": 0.99}]  # fmt: skip
    assert measure_boxes(copy.deepcopy(truth), [*extra, *results]).numbers == before


@pytest.mark.parametrize("seed", range(5))
def test_own_curves_equal_pycocotools(seed):
    accuracy = measure_boxes(*objects_and_results(seed=seed))
    assert 0.1 < accuracy.numbers["AP"] < 0.95
    assert accuracy.statistic.value(np.ones(10, int)) == pytest.approx(accuracy.numbers["AP"], abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_weights_equal_copied_images(seed):
    """Drawing an image n times is the set with n copies of that image, measured by pycocotools itself; a class whose
    objects are all in images that were not drawn leaves the mean."""
    truth, results = objects_and_results(images=5, seed=seed, classes=4)
    statistic = measure_boxes(copy.deepcopy(truth), results).statistic
    weights = np.array([2, 0, 3, 1, 0])
    copied = {"images": [], "annotations": [], "categories": truth["categories"]}
    copied_results = []
    for image, times in enumerate(weights, start=1):
        for turn in range(times):
            new = 1000 * (turn + 1) + image
            copied["images"].append({"id": new})
            copied["annotations"] += [
                a | {"image_id": new, "id": 10 * a["id"] + turn} for a in truth["annotations"] if a["image_id"] == image
            ]
            copied_results += [r | {"image_id": new} for r in results if r["image_id"] == image]
    expected = measure_boxes(copied, copied_results).numbers["AP"]
    assert statistic.value(weights) == pytest.approx(expected, abs=1e-9)


def test_the_interval_holds_the_estimate():
    accuracy = measure_boxes(*objects_and_results(images=30, seed=3))
    low, high = interval(resample([accuracy.statistic], 100)[:, 0])
    assert low < accuracy.numbers["AP"] < high and high - low > 0.02
