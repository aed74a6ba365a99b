"""The page's pictures: made small once, kept, and thrown away when nothing shows them."""

import cv2
import numpy as np
import pytest

from common.basics.errors import UserError
from common.reporting.pictures import Pictures, PictureSize


def small(folder, *paths, cells=1):
    """(how often a file was read, what was added) of these pictures."""
    pictures, read = Pictures(folder, PictureSize.for_cells(cells)), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cv2, "imread", lambda path, *rest, kept=cv2.imread: (read.append(path), kept(path, *rest))[1])
        added = pictures.add(list(paths))
    pictures.prune()
    return len(read), added


def test_a_picture_is_made_small_once_and_again_when_it_changes(tmp_path):
    image = np.zeros((600, 2400, 3), np.uint8)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), image)
    files, kept = (tmp_path / "a.png", tmp_path / "b.png"), tmp_path / "kept"
    read, (first, second) = small(kept, *files)
    assert read == 2 and first is second and first.shown == 2 and (first.width, first.height) == (1200, 300)
    assert small(kept, *files)[0] == 0
    cv2.imwrite(str(files[0]), image + 200)
    read, (first, second) = small(kept, *files)
    assert read == 1 and first is not second
    assert len(list(kept.glob("*"))) == 2  # the old one is gone
    assert small(kept, files[0], cells=200)[1][0].width == 640
    assert len(list(kept.glob("*"))) == 1


def test_a_lost_or_damaged_picture_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"channels\.png is missing or is no picture"):
        small(tmp_path / "kept", tmp_path / "channels.png")
    (tmp_path / "channels.png").write_bytes(b"\x89PNG\r\n\x1a\n half")
    with pytest.raises(UserError, match=r"channels\.png is missing or is no picture"):
        small(tmp_path / "kept", tmp_path / "channels.png")
