import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from common.declarations.keypoints import COCO17
from common.metrics.oks import oks, oks_nms
from tests.common.image_sets import person


def test_equal_keypoints_give_one_and_far_ones_zero():
    points = np.random.default_rng(0).random((4, 17, 2)) * 100
    whole, terms = oks(points, points, np.full(4, 900.0), COCO17.sigmas)
    np.testing.assert_array_equal(whole, 1)
    assert terms.shape == (4, 17)
    np.testing.assert_allclose(oks(points, points + 1e5, np.full(4, 900.0), COCO17.sigmas)[0], 0)


def test_closed_form():
    """A joint that is off by 2 * sigma * sqrt(2 * area) has a term of 1/e; the other 16 keep theirs."""
    reference = np.zeros((1, 17, 2))
    prediction = reference.copy()
    area = 400.0
    prediction[0, 9] = [0, 2 * COCO17.sigmas[9] * np.sqrt(2 * area)]
    whole, terms = oks(prediction, reference, np.array([area]), COCO17.sigmas)
    assert terms[0, 9] == pytest.approx(np.exp(-1))
    assert whole[0] == pytest.approx((16 + np.exp(-1)) / 17)
    visible = np.zeros((1, 17), bool)
    assert oks(prediction, reference, np.array([area]), COCO17.sigmas, visible)[0][0] == 0
    visible[0, 9] = True
    assert oks(prediction, reference, np.array([area]), COCO17.sigmas, visible)[0][0] == pytest.approx(np.exp(-1))


def test_invariant_to_size():
    """Keypoints and differences twice as large on four times the area are the same OKS."""
    random = np.random.default_rng(1)
    first, second = random.random((2, 3, 17, 2)) * 30
    small, _ = oks(first, second, np.full(3, 500.0), COCO17.sigmas)
    large, _ = oks(2 * first, 2 * second, np.full(3, 2000.0), COCO17.sigmas)
    np.testing.assert_allclose(small, large)


def test_equals_pycocotools():
    random = np.random.default_rng(2)
    truth = [person(n, 1, [20.0 * n, 10, 60, 90]) for n in range(1, 4)]
    truth[1]["keypoints"][2::3] = [0] * 9 + [2] * 8
    coco = COCO()
    coco.dataset = {"images": [{"id": 1}], "annotations": truth, "categories": [{"id": 1}]}
    coco.createIndex()
    predictions = np.array([np.array(t["keypoints"]).reshape(17, 3) for t in truth]) + random.normal(0, 4, (3, 17, 3))
    results = [
        {"image_id": 1, "category_id": 1, "keypoints": p.ravel().tolist(), "score": 1 - n / 10}
        for n, p in enumerate(predictions)
    ]
    evaluation = COCOeval(coco, coco.loadRes(results), "keypoints")
    evaluation.evaluate()
    expected = evaluation.ious[1, 1]
    for row in range(3):
        for column in range(3):
            points = np.array(truth[column]["keypoints"]).reshape(1, 17, 3)
            found, _ = oks(
                predictions[row][None], points, np.array([truth[column]["area"]]), COCO17.sigmas, points[..., 2] > 0
            )
            assert found[0] == pytest.approx(expected[row, column])


def test_nms_keeps_the_best_of_duplicates_and_everybody_else():
    base = np.random.default_rng(3).random((17, 2)) * 50
    people = np.stack([base, base + 0.1, base + 300, base + 0.2])
    kept = oks_nms(people, np.array([0.5, 0.9, 0.1, 0.7]), np.full(4, 2500.0), COCO17.sigmas, 0.9)
    assert kept == [1, 2]
    assert oks_nms(people[:0], np.zeros(0), np.zeros(0), COCO17.sigmas) == []


def test_nms_uses_the_mean_of_both_areas():
    reference = np.zeros((17, 2))
    off = reference.copy()
    off[:, 0] = 2 * COCO17.sigmas * np.sqrt(2 * 1000) * np.sqrt(0.1)  # OKS exp(-0.1) = 0.905 on an area of 1000
    people, scores = np.stack([reference, off]), np.array([0.9, 0.8])
    assert oks_nms(people, scores, np.array([1900.0, 200.0]), COCO17.sigmas, 0.9) == [0]
    assert oks_nms(people, scores, np.array([500.0, 1500.0]), COCO17.sigmas, 0.9) == [0]
    assert oks_nms(people, scores, np.array([500.0, 500.0]), COCO17.sigmas, 0.9) == [0, 1]
