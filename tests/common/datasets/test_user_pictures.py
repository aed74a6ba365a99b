"""Which pictures IMAGE= means, and how they are read: upright, unless the boxes count stored pixels."""

import struct

import cv2
import numpy as np
import pytest

from common.datasets.user_pictures import picture_paths, read_picture, read_stored
from tests.common.dot_networks import dotted, refused, save_dotted


def with_exif(jpeg, orientation):
    """The same JPEG with an orientation, as cameras write it."""
    tiff = b"II*\x00\x08\x00\x00\x00\x01\x00" + struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0) + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 8 + len(tiff)) + b"Exif\x00\x00" + tiff + jpeg[2:]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_s_picture_is_drawn_upright(tmp_path, orientation):
    stored = dotted(200, 120, (30, 20))
    path = tmp_path / "phone.jpg"
    path.write_bytes(with_exif(cv2.imencode(".jpg", stored)[1].tobytes(), orientation))
    upright = read_picture(path)
    turned = {1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.transpose(1, 0, 2),
              6: np.rot90(stored, -1), 7: stored[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(stored)}  # fmt: skip
    expected = turned[orientation]
    assert upright.shape == expected.shape and np.abs(upright.astype(int) - expected).mean() < 4
    # COCO's boxes count stored pixels, unless they only fit the other way round.
    kept, lies = read_stored(path, None)
    assert kept.shape == stored.shape and np.abs(kept.astype(int) - stored).mean() < 4 and lies == (orientation > 1)
    if orientation >= 5:
        fitting, lies = read_stored(path, (120, 200))
        assert fitting.shape == (200, 120, 3) and not lies


def test_which_pictures_are_meant(tmp_path):
    for name in ("b.jpg", "a.PNG", "[x].jpg"):
        save_dotted(tmp_path / "photos" / name, 20, 20)
    (tmp_path / "photos/notes.txt").write_text("no picture")
    photos = tmp_path / "photos"
    assert [path.name for path in picture_paths(str(photos))] == ["[x].jpg", "a.PNG", "b.jpg"]
    assert [path.name for path in picture_paths(str(photos / "*.*"))] == ["[x].jpg", "a.PNG", "b.jpg"]
    assert picture_paths(str(photos / "[x].jpg")) == [photos / "[x].jpg"]  # a name that looks like a pattern
    (tmp_path / "empty").mkdir()
    (tmp_path / "film.mp4").write_bytes(b"film")
    assert "IMAGE= is not set" in refused(picture_paths, "", code=2)
    assert "nothing.jpg does not exist" in refused(picture_paths, "nothing.jpg")
    assert "empty has no pictures" in refused(picture_paths, str(tmp_path / "empty"))
    assert "no picture fits" in refused(picture_paths, str(tmp_path / "*.webp"))
    assert "is a clip" in refused(picture_paths, str(tmp_path / "film.mp4"), code=2)


@pytest.mark.parametrize("kind", ["grey", "alpha", "16 bit", "16 bit grey", "grey and alpha"])
def test_pictures_of_other_kinds(tmp_path, kind):
    image = dotted(200, 120, (30, 20))
    if "grey" in kind:
        image = image[:, :, 2]
    if kind == "alpha":
        image = np.dstack([image, np.full((120, 200), 7, np.uint8)])
    if kind == "grey and alpha":  # OpenCV writes no such file
        image = np.dstack([image] * 3 + [np.full((120, 200), 255, np.uint8)])
    if "16 bit" in kind:
        image = image.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "odd.png"), image)
    read = read_picture(tmp_path / "odd.png")
    assert read.dtype == np.uint8 and read.shape == (120, 200, 3)
    assert read[20, 30, 2] == 255 and tuple(read[100, 150]) == (120, 120, 120)
