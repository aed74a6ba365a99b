import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.bench.straightforward_grouping import group_straightforwardly
from common.declarations.decode_spec import AssociativeEmbeddingSpec
from common.declarations.keypoints import COCO17, MPII16
from common.decoding.associative_embedding import group_people, joint_order

ORDER = joint_order(COCO17)
NOSE, LEFT_EYE, RIGHT_EYE, LEFT_EAR = range(4)


def rules(**changes):
    return AssociativeEmbeddingSpec(kind="associative_embedding", keypoints="coco17", **changes)


def maps(peaks, height=32, width=40, background=0.0, components=1):
    """Heatmaps and tags with {(joint, x, y): (value, tag)} and a tag that is far from everybody elsewhere."""
    heatmaps = np.full((17, height, width), background, np.float32)
    tags = np.full((components, 17, height, width), 1000, np.float32)
    for (joint, x, y), (value, tag) in peaks.items():
        heatmaps[joint, y, x] = value
        tags[:, joint, y, x] = tag
    return heatmaps, tags


def group(peaks, size=None, **changes):
    return group_people(*maps(peaks, **(size or {})), rules(**changes), ORDER)


def places(person):
    """{joint: (x, y, score)} of the joints that were found."""
    return {joint: tuple(np.round(person[joint], 5)) for joint in np.flatnonzero(person[:, 2] > 0)}


def test_nobody():
    people, scores = group({})
    assert people.shape == (0, 17, 3) and people.dtype == np.float32 and scores.shape == (0,)


def test_one_peak_moves_left_and_up_among_equal_neighbours_and_half_a_pixel_on():
    people, scores = group({(NOSE, 10, 5): (0.8, 1.0)}, refine=False)
    assert places(people[0]) == {NOSE: (10.25, 5.25, pytest.approx(0.8))}
    assert scores == pytest.approx([0.8 / 17])  # the missing joints count as 0


def test_the_quarter_goes_to_the_larger_neighbour():
    people, _ = group({(NOSE, 10, 5): (0.8, 1.0), (NOSE, 11, 5): (0.2, 1.0), (NOSE, 10, 6): (0.1, 1.0)}, refine=False)
    assert places(people[0])[NOSE][:2] == (10.75, 5.75)


def test_without_adjusting_the_place_is_the_pixel():
    people, _ = group({(NOSE, 10, 5): (0.8, 1.0)}, adjust=False, refine=False)
    assert places(people[0])[NOSE][:2] == (10, 5)


def test_corners_are_their_own_neighbours():
    """Beyond the border the peak itself is the neighbour: larger than the one inside."""
    corner = {(NOSE, 0, 0): (0.8, 1.0), (LEFT_EYE, 39, 31): (0.7, 1.0)}
    people, _ = group(corner, refine=False)
    assert places(people[0])[NOSE][:2] == (0.25, 0.25)
    assert places(people[0])[LEFT_EYE][:2] == (39.75, 31.75)


@pytest.mark.parametrize(("value", "found"), [(0.1, 1), (np.nextafter(np.float32(0.1), np.float32(0)), 0)])
def test_the_threshold_is_compared_in_float64(value, found):
    """float32's 0.1 is a little above 0.1, so it is a candidate."""
    assert len(group({(NOSE, 10, 5): (value, 1.0)})[0]) == found


def test_only_the_largest_of_five_by_five_is_a_candidate():
    near = {(NOSE, 10, 5): (0.8, 1.0), (NOSE, 12, 7): (0.7, 9.0)}
    assert len(group(near)[0]) == 1
    assert len(group(near, nms_kernel=3)[0]) == 2
    assert len(group({(NOSE, 10, 5): (0.8, 1.0), (NOSE, 13, 5): (0.7, 9.0)})[0]) == 2


def test_equal_pixels_side_by_side_are_both_candidates_in_row_order():
    people, _ = group({(NOSE, 11, 5): (0.8, 5.0), (NOSE, 10, 5): (0.8, 1.0)}, adjust=False, refine=False)
    assert [places(person)[NOSE][0] for person in people] == [10, 11]


def test_two_people_whose_strength_is_the_other_way_round():
    """The weaker left eye belongs to the stronger nose."""
    people, scores = group(
        {
            (NOSE, 5, 5): (0.9, -2.0),
            (NOSE, 25, 5): (0.8, 3.0),
            (LEFT_EYE, 6, 3): (0.3, -1.9),
            (LEFT_EYE, 26, 3): (0.7, 3.2),
        },
        adjust=False,
        refine=False,
    )
    assert [places(person)[LEFT_EYE][0] for person in people] == [6, 26]
    assert scores == pytest.approx([1.2 / 17, 1.5 / 17])


def test_whole_distances_count_first_and_then_each_person_takes_its_own():
    """0.4 rounds to 0 as 0.1 does: a tie, which goes to the first of each, not to the nearest."""
    peaks = {
        (NOSE, 5, 5): (0.9, 0.0),
        (NOSE, 25, 5): (0.8, 0.4),
        (LEFT_EYE, 26, 3): (0.7, 0.4),
        (LEFT_EYE, 6, 3): (0.6, 0.0),
    }
    people, _ = group(peaks, adjust=False, refine=False)
    assert [places(person)[LEFT_EYE][0] for person in people] == [26, 6]
    near, _ = group(peaks, adjust=False, refine=False, use_detection_value=False)
    assert [places(person)[LEFT_EYE][0] for person in near] == [6, 26]


@pytest.mark.parametrize(("tag", "people"), [(1.99, 1), (2.0, 2)])
def test_a_candidate_joins_below_the_tag_threshold_only(tag, people):
    assert len(group({(NOSE, 5, 5): (0.9, 1.0), (LEFT_EYE, 6, 3): (0.8, tag)})[0]) == people


def test_the_mean_tag_moves_with_the_joints_that_join():
    """1.9 is too far from the nose's 0.8, but not from the mean with the eye's 1.4."""
    peaks = {(NOSE, 5, 5): (0.9, 0.8), (LEFT_EYE, 6, 3): (0.8, 1.4), (RIGHT_EYE, 4, 3): (0.7, 1.9)}
    assert len(group(peaks)[0]) == 1
    del peaks[LEFT_EYE, 6, 3]
    assert len(group(peaks)[0]) == 2


def test_the_torso_is_grouped_before_the_elbows():
    """A hip (11) is asked before an elbow (7), so that it is the hip that begins the person."""
    hip, elbow = {(11, 5, 20): (0.5, 1.0)}, {(7, 9, 9): (0.9, 1.5)}
    candidates = {**hip, **elbow, (NOSE, 30, 2): (0.9, 50.0), (13, 6, 25): (0.5, 2.2)}
    people, _ = group(candidates, adjust=False, refine=False)
    assert sorted(places(people[1])) == [7, 11, 13]  # the mean of 1.0 and 1.5 is within 1 of the knee's 2.2
    assert sorted(ORDER) == list(range(17)) and ORDER.index(11) < ORDER.index(7)
    assert joint_order(MPII16) == tuple(range(16))


def test_a_second_candidate_with_exactly_the_same_tag_takes_the_place_of_the_first():
    people, _ = group({(NOSE, 5, 5): (0.9, 1.0), (NOSE, 25, 5): (0.8, 1.0)}, adjust=False, refine=False)
    assert [places(person) for person in people] == [{NOSE: (25, 5, pytest.approx(0.8))}]


def test_a_new_person_with_the_tag_of_an_old_one_takes_over_its_tags_but_keeps_its_joints():
    """Two ears: one joins person 1.0, whose mean tag is 1.4 by then; the other is not near, but has its key."""
    people, _ = group(
        {
            (NOSE, 5, 5): (0.9, 1.0),
            (LEFT_EYE, 6, 4): (0.9, 1.8),
            (LEFT_EAR, 8, 4): (0.8, 1.4),
            (LEFT_EAR, 20, 4): (0.7, 1.0),
        },
        adjust=False,
        refine=False,
    )
    assert [sorted(places(person)) for person in people] == [[NOSE, LEFT_EYE, LEFT_EAR]]
    assert places(people[0])[LEFT_EAR][0] == 20


def test_two_tag_components_are_one_distance():
    heatmaps, tags = maps({(NOSE, 5, 5): (0.9, 0.0), (LEFT_EYE, 6, 3): (0.8, 0.0)}, components=2)
    tags[:, LEFT_EYE, 3, 6] = 0.6, 0.6  # 0.85 away
    assert len(group_people(heatmaps, tags, rules(), ORDER)[0]) == 1
    tags[:, LEFT_EYE, 3, 6] = 0.8, 0.8  # 1.13 away
    assert len(group_people(heatmaps, tags, rules(), ORDER)[0]) == 2


def crowd(noses, eyes):
    """Noses and left eyes with tags 10 apart, 8 pixels apart, the strongest first; the eyes are other people's."""
    peaks = {(NOSE, 8 * (i % 10), 8 * (i // 10)): (0.9 - i / 100, 10.0 * i) for i in range(noses)}
    return peaks | {(LEFT_EYE, 8 * (i % 10), 8 * (i // 10)): (0.9 - i / 100, 5000 + 10.0 * i) for i in range(eyes)}


def test_a_joint_has_thirty_candidates_at_most():
    people, _ = group(crowd(40, 0), size={"width": 80}, refine=False)
    assert len(people) == 30
    np.testing.assert_allclose(people[:, NOSE, 2], 0.9 - np.arange(30) / 100, rtol=1e-6)


def test_more_people_than_thirty_are_begun_unless_that_is_forbidden():
    """As published: later joints of strangers begin people of their own; ignore_too_much stops that."""
    assert len(group(crowd(30, 5), size={"width": 80}, refine=False)[0]) == 35
    assert len(group(crowd(30, 5), size={"width": 80}, refine=False, ignore_too_much=True)[0]) == 30
    assert len(group(crowd(3, 2), size={"width": 80}, refine=False, maximum_people=2)[0]) == 4


def test_a_missing_joint_is_where_the_tags_are_near_even_below_the_threshold():
    peaks = {
        (NOSE, 5, 5): (0.9, 1.0),
        (LEFT_EYE, 30, 20): (0.6, 3.0),  # somebody else's: worth 0.6 - 2
        (LEFT_EYE, 7, 4): (0.05, 1.4),
        (LEFT_EYE, 8, 4): (0.03, 1.0),
    }
    people, scores = group(peaks)
    assert places(people[0]) == {NOSE: (5.25, 5.25, pytest.approx(0.9)), LEFT_EYE: (7.75, 4.25, pytest.approx(0.05))}
    assert scores[0] == pytest.approx(0.9 / 17)  # the score is that of before


def test_a_missing_joint_stays_missing_where_the_best_place_is_not_positive():
    people, _ = group({(NOSE, 5, 5): (0.9, 1.0), (LEFT_EYE, 7, 4): (-0.2, 1.0)}, size={"background": -0.5})
    assert places(people[0]) == {NOSE: (5.25, 5.25, pytest.approx(0.9))}
    assert tuple(people[0, LEFT_EYE]) == (0, 0, 0)


def test_a_stronger_pixel_with_another_tag_may_still_be_the_best():
    """0.9 - 0 in whole tags against 0.3 - 0: a distance of 0.4 costs nothing; 0.6 costs 1."""
    near = {(NOSE, 5, 5): (0.9, 1.0), (LEFT_EYE, 20, 20): (0.09, 1.4), (LEFT_EYE, 7, 4): (0.03, 1.0)}
    assert places(group(near)[0][0])[LEFT_EYE][0] == 20.25
    near[LEFT_EYE, 20, 20] = (0.09, 1.6)
    assert places(group(near)[0][0])[LEFT_EYE][0] == 7.25


def test_a_tie_between_missing_places_goes_to_the_first_in_row_order():
    tie = {(NOSE, 5, 5): (0.9, 1.0), (LEFT_EYE, 3, 20): (0.05, 1.0), (LEFT_EYE, 35, 2): (0.05, 1.0)}
    assert places(group(tie)[0][0])[LEFT_EYE][:2] == (35.25, 2.25)


def scene(seed, height, width, people, components, levels=0):
    """Noise with peaks of people whose tags are near or far; levels: values are rounded so that ties abound."""
    random = np.random.default_rng(seed)
    heatmaps = random.normal(0, 0.05, (17, height, width))
    tags = random.normal(0, 1, (components, 17, height, width))
    for _ in range(people):
        own = random.normal(0, 1, components)
        for joint in range(17):
            if random.random() < 0.6:
                x, y = random.integers(width), random.integers(height)
                heatmaps[joint, y, x] = random.uniform(0.05, 1)
                tags[:, joint, y, x] = own + random.normal(0, 0.2, components)
    if levels:
        heatmaps, tags = np.round(heatmaps * levels) / levels, np.round(tags * levels) / levels
    return heatmaps.astype(np.float32), tags.astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 99999),
    size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    people=st.integers(0, 12),
    components=st.sampled_from([1, 2]),
    levels=st.sampled_from([0, 0, 8]),
    changes=st.sampled_from([{}, {"maximum_people": 4}, {"use_detection_value": False}, {"nms_kernel": 3},
                             {"adjust": False}, {"ignore_too_much": True, "maximum_people": 3}]),
)  # fmt: skip
def test_equal_to_the_straightforward_way(seed, size, people, components, levels, changes):
    heatmaps, tags = scene(seed, *size, people, components, levels)
    ours = group_people(heatmaps, tags, rules(**changes), ORDER)
    plain = group_straightforwardly(heatmaps, tags, rules(**changes), ORDER)
    np.testing.assert_array_equal(ours[0], plain[0])
    np.testing.assert_array_equal(ours[1], plain[1])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), dx=st.integers(0, 9), dy=st.integers(0, 9))
def test_shifting_the_maps_shifts_the_people(seed, dx, dy):
    heatmaps, tags = np.zeros((17, 48, 48), np.float32), np.full((1, 17, 48, 48), 1000, np.float32)
    heatmaps[:, 10:30, 10:30], tags[:, :, 10:30, 10:30] = scene(seed, 20, 20, 4, 1)
    moved = np.roll(heatmaps, (dy, dx), (1, 2)), np.roll(tags, (dy, dx), (2, 3))
    people, scores = group_people(heatmaps, tags, rules(), ORDER)
    others, other_scores = group_people(*moved, rules(), ORDER)
    found = people[..., 2] > 0
    np.testing.assert_allclose(others[found] - people[found], np.broadcast_to([dx, dy, 0], people[found].shape))
    np.testing.assert_array_equal(other_scores, scores)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999))
def test_mirrored_maps_with_exchanged_sides_give_mirrored_people(seed):
    """Without adjusting, whose ties go left; people as sets, because among equal costs the order of joints decides."""
    heatmaps, tags = scene(seed, 24, 24, 3, 1)
    flip = COCO17.flip_order
    far = rules(adjust=False, tag_threshold=0.5, maximum_people=3)
    people, scores = group_people(heatmaps, tags, far, range(17))
    order = [int(flip[joint]) for joint in range(17)]
    others, other_scores = group_people(heatmaps[flip, :, ::-1].copy(), tags[:, flip, :, ::-1].copy(), far, order)
    assert len(others) == len(people)
    mirrored = others[:, flip]
    found = people[..., 2] > 0
    np.testing.assert_array_equal(mirrored[..., 2], people[..., 2])
    np.testing.assert_array_equal(mirrored[..., 1], people[..., 1])
    before = np.array([group_people(heatmaps, tags, far.model_copy(update={"refine": False}), range(17))[0]])[0]
    joined, filled = before[..., 2] > 0, found & (before[..., 2] == 0)
    np.testing.assert_array_equal(mirrored[..., 0][joined], 23 - people[..., 0][joined])
    # Joints that were looked for are adjusted always: 0.5 to the centre of the pixel, and a quarter either way.
    np.testing.assert_allclose(mirrored[..., 0][filled], 24 - people[..., 0][filled], atol=1e-6)
    np.testing.assert_allclose(other_scores, scores, atol=1e-7)
