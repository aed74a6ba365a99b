import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from common.preprocess import (
    box_to_center_scale,
    clip_ground_truth_box,
    crop_matrix,
    crop_person,
    denormalize,
    normalize,
    read_image,
    to_image,
)
from tests.common.image_sets import MEAN, STD, picture, pose_spec


def test_read_image_is_bgr_and_ignores_exif_orientation(tmp_path):
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, :, 2] = 200  # red
    data = cv2.imencode(".jpg", image)[1].tobytes()
    # EXIF: one entry, orientation (0x0112) = 6, "rotate by 90 degrees".
    tiff = b"MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    exif = b"Exif\x00\x00" + tiff
    path = tmp_path / "turned.jpg"
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    assert cv2.imread(str(path)).shape == (30, 20, 3)  # the mark is there, and OpenCV would obey it
    found = read_image(path)
    assert found.shape == (20, 30, 3) and found.dtype == np.uint8
    assert found[10, 15, 2] > 190 and found[10, 15, 0] < 10


def test_read_image_makes_three_channels_of_grey_and_refuses_missing_and_truncated(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), picture(1)[:, :, 0])
    assert read_image(tmp_path / "grey.png").shape == (120, 160, 3)
    with pytest.raises(UserError, match=r"none\.jpg"):
        read_image(tmp_path / "none.jpg")
    data = cv2.imencode(".jpg", picture(1))[1].tobytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    assert cv2.imread(str(tmp_path / "cut.jpg")) is not None  # OpenCV fills the rest with grey
    with pytest.raises(UserError, match=r"cut\.jpg is truncated"):
        read_image(tmp_path / "cut.jpg")


def test_ground_truth_box_is_one_pixel_smaller_and_clipped():
    np.testing.assert_allclose(clip_ground_truth_box([10, 20, 30, 40], 640, 480), [10, 20, 29, 39])
    np.testing.assert_allclose(clip_ground_truth_box([600, 20, 60, 40], 640, 480), [600, 20, 39, 39])
    # A negative corner moves to 0 and the width is counted from there, as HRNet does.
    np.testing.assert_allclose(clip_ground_truth_box([-5, -6, 30, 40], 640, 480), [0, 0, 29, 39])
    np.testing.assert_allclose(clip_ground_truth_box([10, 20, 0, 0], 640, 480), [10, 20, 0, 0])
    assert clip_ground_truth_box([700, 20, 30, 40], 640, 480) is None


def test_annotated_box_keeps_its_size_but_is_clipped():
    np.testing.assert_allclose(clip_ground_truth_box([10, 20, 30, 40], 640, 480, "annotated"), [10, 20, 30, 40])
    np.testing.assert_allclose(clip_ground_truth_box([600, 20, 60, 40], 640, 480, "annotated"), [600, 20, 39, 40])


def test_center_and_scale_by_hand():
    # 100 x 100 at aspect 3/4: the short side is the height, 100 / 0.75 = 133.3; both times 1.25 over 200.
    center, scale = box_to_center_scale([50, 60, 100, 100], 192 / 256)
    np.testing.assert_allclose(center, [100, 110])
    np.testing.assert_allclose(scale, [100 * 1.25 / 200, 100 / 0.75 * 1.25 / 200], rtol=1e-6)
    # 30 x 200: the short side is the width, 200 * 0.75 = 150.
    _, scale = box_to_center_scale([0, 0, 30, 200], 192 / 256)
    np.testing.assert_allclose(scale, [150 * 1.25 / 200, 200 * 1.25 / 200], rtol=1e-6)
    assert center.dtype == scale.dtype == np.float32
    _, tight = box_to_center_scale([0, 0, 30, 200], 192 / 256, padding=1.0)
    np.testing.assert_allclose(scale / tight, 1.25, rtol=1e-6)


def test_crop_matrix_is_a_similarity_without_half_pixel():
    # scale 0.48 is 96 pixels over a crop of 192: every image pixel becomes two crop pixels.
    matrix = crop_matrix([30, 40], [0.48, 99.0], (192, 256))
    np.testing.assert_allclose(matrix, [[2, 0, 96 - 60], [0, 2, 128 - 80]])


def test_crop_matrix_equals_three_point_construction():
    """HRNet builds the map from three points: the centre, the middle of the upper side, and their third corner."""
    center, scale, (width, height) = np.array([123.4, 77.7]), np.array([1.23, 1.64]), (192, 256)
    reach = scale[0] * 200 / 2
    source = np.float32([center, center - (0, reach), center - reach])
    target = np.float32([[96, 128], [96, 128 - 96], [0, 128 - 96]])
    np.testing.assert_allclose(
        crop_matrix(center, scale, (width, height)), cv2.getAffineTransform(source, target), atol=1e-4
    )


def test_crop_is_exact_where_the_map_is_whole_pixels():
    image = picture(5)
    # One to one: 48 px over 48; centre (80, 60) -> (24, 32): crop (0, 0) is image (56, 28).
    crop = crop_person(image, [80, 60], [48 / 200, 64 / 200], (48, 64))
    np.testing.assert_array_equal(crop, image[28:92, 56:104])


def test_crop_is_black_outside_the_image_before_normalising():
    image = np.full((120, 160, 3), 255, np.uint8)
    crop = crop_person(image, [0, 0], [48 / 200, 64 / 200], (48, 64))
    assert (crop[:32] == 0).all() and (crop[:, :24] == 0).all() and (crop[33:, 25:] == 255).all()
    tensor = normalize(crop, pose_spec().input)
    np.testing.assert_allclose(tensor[:, 0, 0], -np.array(MEAN) / STD, rtol=1e-6)


def test_normalize_by_hand_for_each_colour_order():
    crop = np.zeros((64, 48, 3), np.uint8)
    crop[..., 0], crop[..., 1], crop[..., 2] = 10, 100, 200  # blue, green, red
    rgb = normalize(crop, pose_spec().input)
    assert rgb.shape == (3, 64, 48) and rgb.dtype == np.float32 and rgb.flags.c_contiguous
    expected = [(200 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (10 / 255 - 0.406) / 0.225]
    np.testing.assert_allclose(rgb[:, 5, 7], expected, rtol=1e-5)
    bgr = normalize(crop, pose_spec(color="bgr", scale=1, mean=[1.5, 2, 3], std=[2, 4, 8]).input)
    np.testing.assert_allclose(bgr[:, 5, 7], [(10 - 1.5) / 2, (100 - 2) / 4, (200 - 3) / 8])
    grey = normalize(crop, pose_spec(shape=[1, 1, 64, 48], color="gray", mean=[0.5], std=[0.25]).input)
    assert grey.shape == (1, 64, 48)
    luminance = round(0.299 * 200 + 0.587 * 100 + 0.114 * 10)
    np.testing.assert_allclose(grey[0, 5, 7], (luminance / 255 - 0.5) / 0.25, rtol=1e-5)


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_denormalize_gives_the_pixels_back(color):
    declared = pose_spec(color=color).input
    crop = picture(8, 48, 64)
    np.testing.assert_array_equal(denormalize(normalize(crop, declared), declared), crop)


finite = st.floats(-500, 500)


@given(x=finite, y=finite, width=st.floats(1, 800), height=st.floats(1, 800), px=finite, py=finite)
def test_to_image_inverts_the_crop(x, y, width, height, px, py):
    center, scale = box_to_center_scale([x, y, width, height], 0.75)
    matrix = crop_matrix(center, scale, (192, 256))
    inside = matrix @ [px, py, 1]
    allowed = 1e-6 * (1 + width + height)
    np.testing.assert_allclose(to_image(inside, center, scale, (192, 256)), [px, py], atol=allowed)
    # At heatmap size the same place is a quarter of the crop coordinate: 48 = 192 / 4, not 47.
    np.testing.assert_allclose(
        to_image(inside / 4, center, scale, (48, 64)), [px, py], atol=1e-6 * (1 + width + height)
    )


def test_to_image_takes_one_center_per_person():
    centers, scales = np.array([[10.0, 20], [30, 40]]), np.array([[0.24, 1], [0.48, 1]])
    points = np.array([[[24.0, 32], [25, 32]], [[24, 32], [25, 34]]])
    expected = [[[10, 20], [11, 20]], [[30, 40], [32, 44]]]
    np.testing.assert_allclose(to_image(points, centers, scales, (48, 64)), expected)
