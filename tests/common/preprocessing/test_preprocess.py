import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.basics.errors import UserError
from common.preprocessing.preprocess import (
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


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_one_pixel(tmp_path, suffix):
    cv2.imwrite(str(tmp_path / f"a{suffix}"), np.full((1, 1, 3), 77, np.uint8))
    image = read_image(tmp_path / f"a{suffix}")
    assert image.shape == (1, 1, 3) and (abs(image.astype(int) - 77) <= 2).all()
    crop = crop_person(image, [0.5, 0.5], [1 / 200, 1 / 200], (48, 64))
    assert np.isfinite(normalize(crop, pose_spec().input)).all()


def test_of_sixteen_bits_the_upper_eight_are_kept(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (9, 8, 3), np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), values)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), values // 256)
    cv2.imwrite(str(tmp_path / "grey.png"), values[..., 0])
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.repeat(values[..., :1] // 256, 3, axis=2))


def test_transparency_is_dropped_and_the_colour_below_it_stays(tmp_path):
    values = np.random.default_rng(1).integers(0, 256, (9, 8, 4), np.uint8)
    values[0, 0] = (10, 20, 30, 0)
    cv2.imwrite(str(tmp_path / "alpha.png"), values)
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), values[..., :3])


def pillow():
    return pytest.importorskip("PIL.Image", reason="Pillow writes what OpenCV cannot")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P"])
def test_black_and_white_grey_and_palette(tmp_path, mode):
    source = pillow().fromarray(picture(3)[..., ::-1]).convert(mode)
    source.save(tmp_path / "image.png", **({"transparency": 3} if mode == "P" else {}))
    expected = np.asarray(source.convert("L" if mode == "LA" else "RGB"))
    expected = expected[..., ::-1] if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_image(tmp_path / "image.png"), expected)


def without_adobe_marker(data):
    start = data.index(b"Adobe") - 4
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]


@pytest.mark.parametrize("marked", [True, False])
def test_cmyk_is_printed_on_white_paper(tmp_path, marked):
    """Each ink takes its share of the light, and black its share of what is left: R = (1 - C) (1 - K).

    The file stores 255 - ink, as Adobe does; without Adobe's marker readers take it for the same.
    """
    ink = cv2.resize(
        np.random.default_rng(2).integers(0, 256, (4, 5, 4), np.uint8), (80, 64), interpolation=cv2.INTER_CUBIC
    )
    path = tmp_path / "print.jpg"
    pillow().frombytes("CMYK", (80, 64), ink.tobytes()).save(path, quality=100, subsampling=0)
    assert b"Adobe" in path.read_bytes()
    if not marked:
        path.write_bytes(without_adobe_marker(path.read_bytes()))
    light = 1 - ink / 255.0
    expected = 255 * light[..., 2::-1] * light[..., 3:]
    assert np.abs(read_image(path) - expected).mean() < 1.5  # JPEG, and OpenCV's rounding


@pytest.mark.parametrize(("suffix", "stored"), [(".jpg", ".png"), (".png", ".jpg"), (".bmp", ".webp")])
def test_a_wrong_suffix_does_not_matter(tmp_path, suffix, stored):
    path = tmp_path / f"image{suffix}"
    path.write_bytes(cv2.imencode(stored, picture(1))[1].tobytes())
    assert read_image(path).shape == (120, 160, 3)


@pytest.mark.parametrize(
    ("name", "start"), [("a.jpg", b"GIF89a"), ("a.png", b"II*\x00"), ("a.jpg", b"%PDF-1.4"), ("a.webp", b"RIFF")]
)
def test_another_kind_of_file_is_refused_by_name(tmp_path, name, start):
    (tmp_path / name).write_bytes(start + bytes(200))
    with pytest.raises(UserError, match=f"{name} is not a JPEG, PNG, BMP or WebP file"):
        read_image(tmp_path / name)


def test_damaged_pixels_are_refused_by_name(tmp_path):
    """PNG has checksums: what libpng cannot unpack must not pass as grey."""
    data = bytearray(cv2.imencode(".png", picture(1))[1].tobytes())
    data[len(data) // 2] ^= 0x55
    (tmp_path / "bad.png").write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"bad\.png cannot be decoded"):
        read_image(tmp_path / "bad.png")


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


def test_looked_up_values_are_those_of_the_arithmetic():
    """Bit for bit, for all 256 values: float32 divisions in the written order, no precomputed factor."""
    crop = np.arange(256, dtype=np.uint8).reshape(16, 16)[..., None].repeat(3, axis=2)
    for declared in (
        pose_spec().input,
        pose_spec(color="bgr", scale=1, mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395]).input,
    ):
        values = crop.astype(np.float32) / np.float32(declared.scale)
        expected = (values - np.float32(declared.mean)) / np.float32(declared.std)
        np.testing.assert_array_equal(normalize(crop, declared), expected.transpose(2, 0, 1))


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
