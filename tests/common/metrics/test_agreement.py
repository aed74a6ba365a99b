"""Two lists of found things, of which nobody says which is which: closed-form cases of their agreement."""

import itertools

import numpy as np
import pytest

from common.datasets.imageset import Instance
from common.decoding.predictions import Predictions
from common.metrics.agreement import BOX_TO_AREA, match_predictions, person_areas

SHOWN = 0.4


def things(*found):
    """Things at a place on a line: (instance, place, score) each."""
    instance, place, score = (np.array(column) for column in zip(*found, strict=True)) if found else ([], [], [])
    boxes = np.zeros((len(found), 4), np.float32)
    boxes[:, 0] = place
    return Predictions(
        np.array(instance, np.int64), np.array(score, np.float64), np.zeros((len(found), 0, 3), np.float32), boxes,
        np.zeros(len(found), np.int64),
    )  # fmt: skip


def nearness(first, second):
    """1 at the same place, 0 from 10 on."""
    distance = np.abs(first.boxes[:, :1].astype(float) - second.boxes[:, 0])
    return np.clip(1 - distance / 10, 0, 1)


def agree(reference, value, count=1):
    overall, per_instance, looked = match_predictions(reference, value, count, nearness, SHOWN)
    turned, per_turned, turned_looked = match_predictions(value, reference, count, nearness, SHOWN)
    assert (overall, list(per_instance)) == (pytest.approx(turned), pytest.approx(list(per_turned)))  # symmetric
    assert looked == turned_looked
    return overall, list(per_instance)


def test_how_many_looked_for_a_partner_is_known():
    """Two shown on one side, one on the other; of the weak one nobody asks."""
    two, one = things((0, 0, 0.9), (0, 50, 0.9)), things((0, 0, 0.9), (0, 90, 0.1))
    assert match_predictions(two, one, 1, nearness, SHOWN)[2] == 3
    assert match_predictions(things(), things(), 4, nearness, SHOWN)[2] == 0


def test_the_same_things_agree_in_any_order():
    reference = things((0, 0, 0.9), (0, 50, 0.5))
    assert agree(reference, things((0, 50, 0.5), (0, 0, 0.9))) == (1, [1])


def test_a_near_thing_counts_by_its_nearness():
    assert agree(things((0, 0, 0.9)), things((0, 4, 0.9))) == (pytest.approx(0.6), [pytest.approx(0.6)])


def test_a_missing_and_an_extra_thing_count_nothing():
    """Two against one: the two look for a partner and one finds it, the one finds it, too: 2 of 3."""
    two, one = things((0, 0, 0.9), (0, 50, 0.9)), things((0, 0, 0.9))
    assert agree(two, one) == (pytest.approx(2 / 3), [pytest.approx(2 / 3)])


def test_everything_lost_is_0():
    assert agree(things((0, 0, 0.9)), things()) == (0, [0])
    assert agree(things((0, 0, 0.9)), things((0, 30, 0.9))) == (0, [0])


def test_nobody_on_both_sides_agrees():
    assert agree(things(), things(), 3) == (1, [1, 1, 1])
    weak = things((0, 0, 0.39))  # shown by neither side
    assert agree(weak, things()) == agree(weak, weak) == (1, [1])


def test_a_score_that_moves_across_the_limit_is_no_loss():
    """0.41 is shown, 0.39 is not, but it is a partner down to half of the limit; below that it is none."""
    shown = things((0, 0, 0.41))
    assert agree(shown, things((0, 0, 0.39))) == (1, [1])
    assert agree(shown, things((0, 0, 0.2))) == (1, [1])
    assert agree(shown, things((0, 0, 0.19))) == (0, [0])


def test_a_thing_has_one_partner_only():
    """Two things in one place against one: the second must not match the same partner again."""
    double, single = things((0, 0, 0.9), (0, 0, 0.8)), things((0, 0, 0.9))
    assert agree(double, single)[0] == pytest.approx(2 / 3)


def test_partners_are_chosen_for_the_best_sum():
    """0 and 6 against 3 and 9: whoever takes 6-3 (0.7) first is left with 0-9 (0.1); 0-3 and 6-9 are 0.7 each."""
    overall, _ = agree(things((0, 0, 0.9), (0, 6, 0.9)), things((0, 9, 0.9), (0, 3, 0.9)))
    assert overall == pytest.approx(0.7)


def test_things_of_other_images_are_no_partners():
    reference, value = things((0, 0, 0.9), (2, 0, 0.9)), things((1, 0, 0.9), (2, 0, 0.9))
    overall, per_instance = agree(reference, value, 4)
    assert per_instance == [0, 0, 1, 1]
    assert overall == pytest.approx(2 / 4)  # of the four that look for a partner; the empty image looks for none


@pytest.mark.parametrize("seed", range(5))
def test_the_best_sum_is_that_of_all_assignments(seed):
    random = np.random.default_rng(seed)
    reference, value = ([(0, place, 1.0) for place in random.uniform(0, 30, 4)] for _ in range(2))
    best = max(
        np.mean([max(0, 1 - abs(reference[i][1] - value[j][1]) / 10) for i, j in enumerate(order)])
        for order in itertools.permutations(range(4))
    )
    assert agree(things(*reference), things(*value))[0] == pytest.approx(best, abs=1e-6)


def test_areas_are_the_annotated_ones_or_part_of_the_box():
    boxes = [Instance(1, "1.png", (0, 0, 10, 20), 1.0, 1, area) for area in (70.0, None, 0.0)]
    np.testing.assert_allclose(person_areas(boxes), [70, BOX_TO_AREA * 200, BOX_TO_AREA * 200])
