import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.preprocessing.letterbox import Letterbox
from tests.common.image_sets import picture

SIDES = st.integers(1, 3000)


def box_of(letterbox):
    return letterbox.left, letterbox.top, letterbox.resized_width, letterbox.resized_height


def test_a_landscape_photograph():
    """640x480 to 640x640: as it is, 80 above and below."""
    letterbox = Letterbox.fit(640, 480, 640, 640)
    assert box_of(letterbox) == (0, 80, 640, 480)
    np.testing.assert_array_equal(letterbox.gain, [1, 1])
    np.testing.assert_allclose(letterbox.to_image(np.array([[0, 80], [640, 560]])), [[0, 0], [640, 480]])


def test_a_portrait_photograph_and_an_odd_border():
    """427x640: 213 are free; 106 of them on the left (106.5 - 0.1 rounds to 106), 107 on the right."""
    assert box_of(Letterbox.fit(427, 640, 640, 640)) == (106, 0, 427, 640)


def test_a_small_photograph_is_enlarged():
    assert box_of(Letterbox.fit(160, 120, 640, 640)) == (0, 80, 640, 480)


def test_one_pixel_fills_the_input():
    boxed = Letterbox.fit(1, 1, 64, 64).apply(np.full((1, 1, 3), 7, np.uint8), 114)
    np.testing.assert_array_equal(boxed, np.full((64, 64, 3), 7))


def test_a_very_thin_photograph_keeps_a_pixel():
    letterbox = Letterbox.fit(3000, 1, 64, 64)
    assert box_of(letterbox) == (0, 31, 64, 1)
    boxed = letterbox.apply(np.full((1, 3000, 3), 9, np.uint8), 114)
    assert (boxed[31] == 9).all() and (np.delete(boxed, 31, axis=0) == 114).all()


def test_an_input_that_is_no_square():
    assert box_of(Letterbox.fit(640, 480, 640, 384)) == (64, 0, 512, 384)


def test_the_photograph_lies_in_the_border():
    image = picture(3, 64, 48)
    boxed = Letterbox.fit(64, 48, 64, 64).apply(image, 114)
    np.testing.assert_array_equal(boxed[8:56], image)
    assert (boxed[:8] == 114).all() and (boxed[56:] == 114).all()


@given(SIDES, SIDES, st.integers(1, 20).map(lambda n: 32 * n), st.integers(1, 20).map(lambda n: 32 * n))
def test_it_fits_is_centred_and_leads_back(width, height, input_width, input_height):
    letterbox = Letterbox.fit(width, height, input_width, input_height)
    left, top, resized_width, resized_height = box_of(letterbox)
    right, bottom = input_width - left - resized_width, input_height - top - resized_height
    assert right - left in (0, 1) and bottom - top in (0, 1) and left >= 0 and top >= 0
    assert min(left + right, top + bottom) == 0
    points = np.random.default_rng(0).random((5, 2)) * (width, height)
    np.testing.assert_allclose(letterbox.to_image(letterbox.to_input(points)), points, rtol=1e-9, atol=1e-9)


def test_points_outside_the_photograph_are_clipped():
    letterbox = Letterbox.fit(100, 50, 64, 64)
    corners = letterbox.to_image(np.array([[-9.0, -9.0], [99.0, 99.0]]))
    np.testing.assert_array_equal(corners, [[0, 0], [100, 50]])


@pytest.mark.parametrize(("width", "height"), [(500, 375), (333, 500), (1, 3), (640, 427)])
def test_a_mark_is_found_where_the_mapping_says(width, height):
    """Pixels and coordinates agree: the centre of a bright rectangle lies where to_input() puts it."""
    image = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = width // 4, height // 4, max(width // 2, 1), max(height // 2, 1)
    image[y1:y2, x1:x2] = 255
    letterbox = Letterbox.fit(width, height, 320, 320)
    weights = letterbox.apply(image, 0)[..., 0].astype(float)
    rows, columns = np.indices(weights.shape) + 0.5  # a pixel's centre, in coordinates of edges
    found = np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()
    expected = letterbox.to_input(np.array([(x1 + x2) / 2, (y1 + y2) / 2]))
    tolerance = 0.5 if min(width, height) > 10 else 30  # a picture of one pixel is bright up to its border
    np.testing.assert_allclose(found, expected, atol=tolerance)
