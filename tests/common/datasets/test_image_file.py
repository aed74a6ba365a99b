import cv2
import numpy as np
import pytest

from common.basics.errors import UserError
from common.datasets.image_file import image_size
from tests.common.image_sets import picture

FORMATS = [".jpg", ".jpeg", ".png", ".bmp", ".webp"]


def encoded(suffix, width=53, height=37, flags=()):
    return cv2.imencode(suffix, picture(3, width, height), list(flags))[1].tobytes()


@pytest.mark.parametrize("suffix", FORMATS)
def test_size_from_the_header(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    path.write_bytes(encoded(suffix))
    assert image_size(path) == (53, 37)
    assert image_size(path, whole=False) == (53, 37)


def test_lossless_webp_and_progressive_jpeg(tmp_path):
    (tmp_path / "a.webp").write_bytes(encoded(".webp", flags=[cv2.IMWRITE_WEBP_QUALITY, 101]))
    progressive = encoded(".jpg", flags=[cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2])
    (tmp_path / "b.jpg").write_bytes(progressive)
    assert image_size(tmp_path / "a.webp") == image_size(tmp_path / "b.jpg") == (53, 37)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98])
def test_truncated_file_is_an_error_that_names_it(tmp_path, suffix, share):
    data = encoded(suffix)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match="cut") as caught:
        image_size(path)
    assert caught.value.hint


def test_jpeg_with_an_embedded_thumbnail_is_judged_by_its_own_end(tmp_path):
    """A thumbnail in EXIF has an end marker of its own, which must not pass for the picture's."""
    data, small = encoded(".jpg"), encoded(".jpg", 16, 16)
    segment = b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small
    whole = data[:2] + segment + data[2:]
    path = tmp_path / "exif.jpg"
    path.write_bytes(whole + b"trailing bytes of some camera")
    assert image_size(path) == (53, 37)
    path.write_bytes(whole[:-40])
    with pytest.raises(UserError, match="truncated"):
        image_size(path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 50, b"<html>not found</html>", b"\xff\xd8", b"\x89PNG\r\n\x1a\n"])
def test_not_an_image(tmp_path, content):
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.jpg"):
        image_size(path)


@pytest.mark.parametrize("seed", range(20))
def test_damage_at_random_places_never_ends_in_a_traceback(tmp_path, seed):
    random = np.random.default_rng(seed)
    for suffix in FORMATS:
        data = bytearray(encoded(suffix))
        for position in random.integers(0, len(data), 6):
            data[position] = random.integers(0, 256)
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(bytes(data[: random.integers(1, len(data) + 1)]))
        try:
            width, height = image_size(path)
        except UserError:
            continue
        assert width > 0 and height > 0


def test_the_header_alone_is_enough_unless_it_is_long(tmp_path, monkeypatch):
    """A camera may put its preview and colour profile before the size: then the file is read further."""
    path = tmp_path / "photo.jpg"
    data = encoded(".jpg", 300, 200)
    path.write_bytes(data[: len(data) // 2])
    assert image_size(path, whole=False) == (300, 200)
    long = b"".join(b"\xff\xe2\xff\xff" + bytes(65533) for _ in range(3))
    path.write_bytes(data[:2] + long + data[2:])
    assert image_size(path, whole=False) == image_size(path) == (300, 200)
    path.write_bytes(data[:2] + long)
    with pytest.raises(UserError, match=r"photo\.jpg is truncated"):
        image_size(path, whole=False)
