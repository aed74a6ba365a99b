import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.basics.errors import UserError
from common.declarations.keypoints import COCO17
from common.decoding.heatmaps import blur_heatmap, decode_heatmaps, decode_people, flip_average, flip_back


def heatmap(values, height=8, width=6):
    """A map [1, 1, height, width] with the given {(x, y): value}."""
    result = np.zeros((1, 1, height, width), np.float32)
    for (x, y), value in values.items():
        result[0, 0, y, x] = value
    return result


def decoded(values, refine="quarter", **size):
    points, scores = decode_heatmaps(heatmap(values, **size), refine)
    return tuple(points[0, 0]), scores[0, 0]


def gaussian(x, y, height=64, width=48, sigma=2.0):
    rows, columns = np.mgrid[:height, :width]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))[None, None]


def test_one_peak_moves_a_quarter_towards_its_larger_neighbours():
    assert decoded({(3, 4): 9, (2, 4): 5, (4, 4): 7, (3, 3): 1, (3, 5): 2}) == ((3.25, 4.25), 9)
    assert decoded({(3, 4): 9, (2, 4): 7, (4, 4): 5, (3, 3): 2, (3, 5): 1}) == ((2.75, 3.75), 9)


def test_equal_neighbours_leave_that_axis():
    assert decoded({(3, 4): 9, (2, 4): 5, (4, 4): 5, (3, 5): 1}) == ((3.0, 4.25), 9)


def test_refine_none_is_the_bare_argmax():
    assert decoded({(3, 4): 9, (4, 4): 7}, refine="none") == ((3.0, 4.0), 9)


@pytest.mark.parametrize("x", [0, 1, 5])
def test_border_columns_are_not_shifted_in_either_axis(x):
    """Strict bounds on both axes, px = 1 included: neighbours in y do not count on a border column."""
    assert decoded({(x, 4): 9, (x, 5): 5, (2, 4): 3}) == ((x, 4.0), 9)


@pytest.mark.parametrize("y", [0, 1, 7])
def test_border_rows_are_not_shifted_in_either_axis(y):
    assert decoded({(3, y): 9, (4, y): 5}) == ((3.0, y), 9)


def test_second_last_column_and_row_are_shifted():
    assert decoded({(4, 6): 9, (3, 6): 5, (4, 7): 3}) == ((3.75, 6.25), 9)


def test_tie_goes_to_the_first_in_row_order():
    assert decoded({(4, 2): 9, (2, 5): 9}, refine="none")[0] == (4.0, 2.0)


@pytest.mark.parametrize("value", [0.0, -0.5])
def test_no_positive_peak_gives_the_corner_and_the_raw_score(value):
    points, scores = decode_heatmaps(np.full((1, 1, 8, 6), value, np.float32))
    assert tuple(points[0, 0]) == (0, 0) and scores[0, 0] == pytest.approx(value)


def test_negative_peak_in_the_middle_is_not_a_place():
    maps = np.full((1, 1, 8, 6), -5, np.float32)
    maps[0, 0, 4, 3] = -1
    points, scores = decode_heatmaps(maps)
    assert tuple(points[0, 0]) == (0, 0) and scores[0, 0] == -1


def test_scores_are_not_squashed():
    assert decoded({(3, 4): 17.5})[1] == 17.5


def test_integer_heatmaps_do_not_wrap_around():
    maps = heatmap({(3, 4): 200, (2, 4): 100, (4, 4): 0}).astype(np.uint8)
    assert tuple(decode_heatmaps(maps)[0][0, 0]) == (2.75, 4.0)


def test_wrong_shape_and_unknown_refinement():
    with pytest.raises(UserError, match="shape"):
        decode_heatmaps(np.zeros((17, 8, 6)))
    with pytest.raises(UserError, match="refine"):
        decode_heatmaps(np.zeros((1, 17, 8, 6)), "subpixel")


@given(st.integers(3, 20), st.integers(3, 28), st.integers(0, 20), st.integers(0, 28), st.integers(0, 99))
def test_shifting_the_map_shifts_the_point(x, y, dx, dy, seed):
    patch = np.random.default_rng(seed).random((3, 3))
    patch[1, 1] = 2
    first, second = np.zeros((2, 1, 1, 64, 48))
    first[0, 0, y - 1 : y + 2, x - 1 : x + 2] = patch
    second[0, 0, y + dy - 1 : y + dy + 2, x + dx - 1 : x + dx + 2] = patch
    for refine in ("quarter", "none"):
        moved = decode_heatmaps(second, refine)[0] - decode_heatmaps(first, refine)[0]
        np.testing.assert_allclose(moved[0, 0], [dx, dy])


@given(x=st.integers(2, 45), y=st.integers(2, 61), seed=st.integers(0, 99))
def test_mirroring_the_map_mirrors_the_point(x, y, seed):
    maps = np.random.default_rng(seed).random((1, 17, 64, 48))
    maps[:, :, y, x] = 2
    points, _ = decode_heatmaps(maps)
    mirrored, _ = decode_heatmaps(flip_back(maps, COCO17.flip_order, shift=False))
    np.testing.assert_allclose(mirrored[..., 1], points[:, COCO17.flip_order, 1])
    # Column 46 mirrors to column 1, which is not refined: only columns 2..45 are symmetric.
    np.testing.assert_allclose(mirrored[..., 0], 47 - points[:, COCO17.flip_order, 0])


def test_people_are_placed_by_the_heatmap_size():
    maps = np.zeros((1, 1, 64, 48), np.float32)
    maps[0, 0, 40, 30] = 1
    # A crop of 96 pixels over 48 columns: two image pixels per heatmap pixel, the map's middle on the centre.
    people = decode_people(maps, np.array([[100.0, 200.0]]), np.array([[0.48, 0.64]]))
    np.testing.assert_allclose(people, [[[100 + 2 * (30 - 24), 200 + 2 * (40 - 32), 1]]])
    assert people.dtype == np.float32


@given(x=st.floats(5, 40), y=st.floats(5, 55))
def test_dark_finds_the_centre_of_a_gaussian(x, y):
    points, _ = decode_heatmaps(gaussian(x, y), "dark")
    np.testing.assert_allclose(points[0, 0], [x, y], atol=0.03)  # the bare argmax is off by up to 0.5
    quarter, _ = decode_heatmaps(gaussian(x, y), "quarter")
    assert np.abs(quarter[0, 0] - [x, y]).max() <= 0.2501


@pytest.mark.parametrize(("x", "y"), [(1, 30), (46, 30), (20, 1), (20, 62), (0, 0), (47, 63)])
def test_dark_leaves_the_border(x, y):
    maps = gaussian(x, y)
    maps[0, 0, y, x] = 3
    assert tuple(decode_heatmaps(maps, "dark")[0][0, 0]) == (x, y)


def test_dark_blur_keeps_the_maximum_and_is_centred():
    spike = np.zeros((21, 21))
    spike[10, 10] = 4
    smooth = blur_heatmap(spike, 11)
    assert smooth.max() == pytest.approx(4) and smooth[10, 10] == smooth.max()
    sigma = 0.3 * ((11 - 1) * 0.5 - 1) + 0.8  # OpenCV's rule for a sigma from a kernel
    np.testing.assert_allclose(smooth[10, 12] / 4, np.exp(-4 / (2 * sigma**2)), rtol=1e-6)
    assert smooth[10, 16] == 0 and smooth[10, 15] > 0
    np.testing.assert_array_equal(blur_heatmap(np.zeros((9, 9))), 0)


def test_flip_back_swaps_pairs_mirrors_and_shifts_keeping_column_0():
    maps = np.zeros((1, 17, 4, 6), np.float32)
    maps[0, 5, 2] = [1, 2, 3, 4, 5, 6]  # the left shoulder of the mirrored image
    plain = flip_back(maps, COCO17.flip_order, shift=False)
    np.testing.assert_array_equal(plain[0, 6, 2], [6, 5, 4, 3, 2, 1])
    assert (plain[0, 5] == 0).all()
    shifted = flip_back(maps, COCO17.flip_order)
    np.testing.assert_array_equal(shifted[0, 6, 2], [6, 6, 5, 4, 3, 2])


def test_flip_average_is_the_mean():
    maps, other = np.full((1, 17, 4, 6), 2.0), np.full((1, 17, 4, 6), 4.0)
    np.testing.assert_array_equal(flip_average(maps, other, COCO17.flip_order), 3.0)
