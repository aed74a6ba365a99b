import cv2
import numpy as np
import pytest

from common.calibration.likeness import alike, file_thumbnail, thumbnail
from tests.common.image_sets import picture


def write(path, image, flags=()):
    cv2.imwrite(str(path), image, list(flags))
    return path


def test_copies_are_alike_however_they_are_encoded(tmp_path):
    image = picture(1, 320, 240)
    original = file_thumbnail(write(tmp_path / "a.png", image))
    copies = [
        file_thumbnail(write(tmp_path / "b.jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])),
        file_thumbnail(write(tmp_path / "c.png", cv2.resize(image, (160, 120), interpolation=cv2.INTER_AREA))),
        file_thumbnail(write(tmp_path / "d.bmp", image)),
    ]
    assert alike(original[None], np.stack(copies)).all()


def test_different_pictures_are_not_alike():
    thumbnails = np.stack([thumbnail(picture(seed)) for seed in range(30)])
    np.testing.assert_array_equal(alike(thumbnails, thumbnails), np.eye(30, dtype=bool))


def test_brightness_alone_is_not_likeness_and_plain_pictures_are_judged_by_it():
    image = picture(2) // 2
    assert not alike(thumbnail(image)[None], thumbnail(image + 60)[None])[0, 0]
    plain = [thumbnail(np.full((50, 50), value, np.uint8))[None] for value in (100, 102, 140)]
    assert alike(plain[0], plain[1])[0, 0] and not alike(plain[0], plain[2])[0, 0]


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_empty(shape):
    assert alike(np.zeros((shape[0], 1024)), np.zeros((shape[1], 1024))).shape == shape
