"""`make draw`: the user's own pictures, upright and whole, with what was found where it is; networks that find dots."""

import sys
import weakref

import cv2
import numpy as np
import pytest

from common import draw_photo
from common.basics.files import write_json
from common.draw_photo import draw_pictures, output_paths
from common.drawing import networks as draw_networks
from common.drawing.comparison import Style, compare_picture, fixed_notes
from common.drawing.figure import letter
from common.drawing.networks import Frame, Sides, find_built, find_sides, mean_agreement
from common.drawing.person_boxes import Detected, WholePicture
from common.drawing.skeleton import SIDE_COLORS
from tests.common.cell_networks import spec_of
from tests.common.dot_networks import DotDetector, dotted, refused, save_dotted, sides_of

RED_BAND = (0x20, 0x00, 0xB0)
SKELETON = [np.array(color) for color in SIDE_COLORS.values()]


@pytest.fixture(autouse=True)
def own_out(tmp_path, monkeypatch):
    monkeypatch.setattr(draw_photo.plan, "OUT", tmp_path / "out")


def drawn_at(picture, x, y, reach=4):
    """Whether a joint's colours are within a few pixels of a place."""
    near = picture[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].reshape(-1, 3).astype(int)
    return any((np.abs(near - color).max(axis=1) < 30).any() for color in SKELETON)


def panels(picture, image):
    """Both panels, and how many of their pixels one of the image's is."""
    width = (picture.shape[1] - 4) // 2
    zoom = width / image.shape[1]
    height = round(image.shape[0] * zoom)
    return picture[:height, :width], picture[:height, width + 4 : 2 * width + 4], zoom


def test_float_left_chip_right_and_the_joints_where_they_were_found(tmp_path, capsys):
    path = save_dotted(tmp_path / "street.png", 300, 400, (200, 120))
    (target,) = draw_pictures(sides_of(shift=6), WholePicture("the whole picture"), [path])
    assert target == tmp_path / "out/drawn/street-tester-testchip-int8.png"
    picture = cv2.imread(str(target))
    left, right, zoom = panels(picture, dotted(300, 400))
    x, y = round(200 * zoom), round(120 * zoom)
    moved = round((200 + 6 * 400 * 1.25 / 32) * zoom)  # a heatmap of 32 rows for 1.25 times the picture's height
    assert drawn_at(left, x, y) and not drawn_at(left, moved, y)
    assert drawn_at(right, moved, y) and not drawn_at(right, x, y)
    said = capsys.readouterr().out
    assert f"{target}: OKS 0." in said and "1 person" in said and "the whole picture" in said


def test_a_chip_that_agrees_has_an_oks_of_one_and_float_alone_none(tmp_path, capsys):
    path = save_dotted(tmp_path / "a.png", 300, 400, (200, 120))
    draw_pictures(sides_of(), WholePicture(), [path])
    assert "OKS 1.0000 with float, 1 person" in capsys.readouterr().out
    (target,) = draw_pictures(sides_of(chip=False), WholePicture(), [path])
    assert target.name == "a-tester-float.png" and "OKS" not in capsys.readouterr().out
    assert cv2.imread(str(target)).shape[1] == 520  # one panel, on a ground that leaves the caption room


def test_a_detector_says_where_people_are(tmp_path, capsys):
    path = save_dotted(tmp_path / "two.png", 400, 300, (90, 100), (310, 200))
    detector = DotDetector()
    (target,) = draw_pictures(sides_of(), Detected(detector), [path])
    assert "OKS 1.0000 with float, 2 people, lowest 1.0000" in capsys.readouterr().out
    left, right, zoom = panels(cv2.imread(str(target)), dotted(400, 300))
    for panel in (left, right):
        for x, y in ((90, 100), (310, 200)):
            assert drawn_at(panel, round(x * zoom), round(y * zoom))
    # The detector's box around the first dot: 44 pixels of its input of 128, which holds 400.
    edge = round((90 - 22 * 400 / 128) * zoom)
    assert np.abs(left[round(100 * zoom), edge - 2 : edge + 3].astype(int) - 120).max() > 25
    empty = save_dotted(tmp_path / "nobody.png", 400, 300)
    (target,) = draw_pictures(sides_of(), Detected(detector), [empty])
    assert "nobody found here" in capsys.readouterr().out and target.is_file()


def test_a_network_of_whole_pictures_draws_its_boxes(tmp_path, capsys):
    path = save_dotted(tmp_path / "two.png", 400, 300, (90, 100), (310, 200))
    sides = sides_of(0, True, DotDetector)
    (target,) = draw_pictures(sides, WholePicture(), [path])
    said = capsys.readouterr().out
    assert "IoU 1.0000 with float, objects with a score of 0.25 or more: 2 by float, 2 by the chip" in said
    draw_pictures(sides, WholePicture(), [save_dotted(tmp_path / "none.png", 400, 300)])
    assert "no objects with a score of 0.25 or more on either side" in capsys.readouterr().out
    assert cv2.imread(str(target)).std() > 20


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "is empty"), (b"GIF89a", "is not a JPEG, PNG, BMP or WebP"), ("cut", "is truncated")],
)
def test_a_picture_that_cannot_be_read(tmp_path, content, expected):
    good = save_dotted(tmp_path / "good.png", 60, 60, (30, 30))
    data = good.read_bytes()
    bad = tmp_path / "broken.png"
    bad.write_bytes(data[:-30] if content == "cut" else content)
    assert expected in refused(draw_pictures, sides_of(), WholePicture(), [bad])
    assert not (tmp_path / "out").exists()
    # Among others it is left out and said; the exit is red all the same.
    message = refused(draw_pictures, sides_of(), WholePicture(), [bad, good])
    assert "1 of 2 pictures could not be read" in message and expected in message
    assert [path.name for path in (tmp_path / "out/drawn").iterdir()] == ["good-tester-testchip-int8.png"]


def test_where_drawings_go(tmp_path):
    one, same, other = (tmp_path / name for name in ("x/a.jpg", "x/a.png", "y/a.jpg"))
    drawn = tmp_path / "out/drawn"
    assert output_paths([one], "net-chip-int8", "") == {one: drawn / "a-net-chip-int8.png"}
    names = [path.name for path in output_paths([one, same, other], "w", "").values()]
    assert names == ["a_jpg-w.png", "a_png-w.png", "a_jpg-2-w.png"]
    assert output_paths([one], "w", str(tmp_path / "my.png")) == {one: tmp_path / "my.png"}
    assert output_paths([one], "w", str(tmp_path / "mine")) == {one: tmp_path / "mine/a-w.png"}
    assert "is one file, IMAGE= names 2 pictures" in refused(output_paths, [one, other], "w", "my.png", code=2)
    assert "is no .png file" in refused(output_paths, [one], "w", "my.jpg", code=2)
    assert "is the picture itself" in refused(
        output_paths, [tmp_path / "my.png"], "w", str(tmp_path / "my.png"), code=2
    )
    (tmp_path / "out/drawn/a-w.png").mkdir(parents=True)
    assert "is a folder" in refused(output_paths, [one], "w", "", code=2)


def test_many_pictures_are_looked_at_in_pieces_and_alike(tmp_path, monkeypatch):
    frames = [Frame(str(index), dotted(90 + index, 120, (40 + index, 60))) for index in range(10)]
    at_once = list(sides_of(3).look(frames, WholePicture()))
    monkeypatch.setattr(draw_networks, "CHUNK_FRAMES", 3)
    sides, given = sides_of(3), []
    piecewise = sides.look((given.append(frame) or frame for frame in frames), WholePicture())
    first = next(piecewise)
    assert len(given) == 3 and first.frame is frames[0]
    seen = [first, *piecewise]
    assert sides.chip.ran == [3, 3, 3, 1]
    for one, other in zip(at_once, seen, strict=True):
        assert one.agreement.overall == other.agreement.overall < 1
        for found, again in zip(one.found, other.found, strict=True):
            assert np.array_equal(found.keypoints, again.keypoints) and again.instance.tolist() == [0]
    # By size, too: a frame of 32 kB at a time.
    monkeypatch.setattr(draw_networks, "CHUNK_BYTES", 20_000)
    sides = sides_of()
    assert len(list(sides.look(frames, WholePicture()))) == 10 and sides.chip.ran == [1] * 10


def test_no_more_than_a_piece_of_the_pictures_is_held(monkeypatch):
    monkeypatch.setattr(draw_networks, "CHUNK_FRAMES", 4)
    images, held = [], []

    def frames():
        for index in range(12):
            image = dotted(90, 120, (40, 60))
            images.append(weakref.ref(image))
            held.append(sum(reference() is not None for reference in images))
            yield Frame(str(index), image)
            del image

    assert sum(1 for _ in sides_of().look(frames(), WholePicture())) == 12
    assert max(held) <= 4 + 1  # the last one that was drawn is still in somebody's hands


def test_everybody_is_found_in_their_own_picture():
    dots = [((90, 100), (310, 200)), ((60, 60), (200, 230)), ((350, 50),)]
    frames = [Frame(str(index), dotted(400, 300, *some)) for index, some in enumerate(dots)]
    for seen, some in zip(sides_of().look(frames, Detected(DotDetector())), dots, strict=True):
        for found in seen.found:
            hips = found.keypoints[:, 11:13, :2].mean(axis=1)
            assert found.instance.tolist() == list(range(len(some)))
            assert all(np.abs(hips - dot).max(axis=1).min() < 4 for dot in some)


def test_the_mean_is_over_people_not_over_pictures(tmp_path):
    frames = [Frame("two", dotted(400, 300, (90, 100), (310, 200))), Frame("none", dotted(400, 300))]
    seen = list(sides_of(2).look(frames, Detected(DotDetector())))
    mean, count = mean_agreement(one.agreement for one in seen)
    assert seen[1].agreement is None and count == 2
    assert mean == pytest.approx(seen[0].agreement.per_instance.mean()) and mean < 1
    assert mean_agreement([None]) == (1.0, 0)


def test_a_stand_in_s_picture_has_its_red_band_and_random_weights_are_said(monkeypatch):
    frame = Frame("a", dotted(300, 200, (100, 100)))
    sides = sides_of()
    (seen,) = sides.look([frame], WholePicture())
    plain = compare_picture(Style(sides, WholePicture(), 640, 1280), seen)
    monkeypatch.setattr(Sides, "double", property(lambda self: True))
    banded = compare_picture(Style(sides, WholePicture(), 640, 1280), seen)
    assert tuple(banded[4, 4]) == RED_BAND and tuple(plain[4, 4]) != RED_BAND
    assert np.array_equal(banded[36 : 36 + plain.shape[0]], plain)
    sides.random_weights = True
    assert "random weights" in Style(sides, WholePicture(), 640, 1280).warning


@pytest.mark.parametrize("size", [(1, 1), (40, 30), (60, 900), (641, 301), (3000, 400), (2500, 1800)])
def test_pictures_of_any_size_and_shape(size):
    sides = sides_of()
    (seen,) = sides.look([Frame("a", dotted(*size, (size[0] // 2, size[1] // 2)))], WholePicture("words " * 30))
    picture = compare_picture(Style(sides, WholePicture("words " * 30), 640, 1280), seen)
    assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0
    sides = sides_of(chip=False)
    (seen,) = sides.look([seen.frame], WholePicture())
    assert compare_picture(Style(sides, WholePicture(), 640, 1280), seen).shape[1] % 2 == 0
    assert 520 <= picture.shape[1] <= 2564 and picture.shape[0] <= 1280 + 200


def test_words_that_do_not_fit_take_further_lines():
    few = fixed_notes(900, 1.0, "", "legend")
    assert fixed_notes(900, 1.0, "", "legend " * 60).shape[0] > few.shape[0]
    warned = fixed_notes(900, 1.0, "random", "legend")
    assert warned.shape[0] > few.shape[0]
    red = warned[:, :, 2].astype(int) - warned[:, :, 0]
    assert (red > 60).any() and not (few[:, :, 2].astype(int) - few[:, :, 0] > 60).any()


def test_lettering_has_the_size_that_was_asked_for():
    for width in (520, 964, 1284, 1923, 1924, 2564):  # some of which are not what they were after / 100 * 100
        assert letter(width, 29, []).shape == (29, width, 3)
    assert {letter(8, height, []).shape[0] - height for height in range(20, 130)} == {0}


def test_the_only_variant_that_was_built_needs_no_name(tmp_path, monkeypatch, test_chip):
    out = tmp_path / "out/hrnet_tiny/testchip"
    message = refused(find_built, "hrnet_tiny", "", "", "testchip", "")
    assert message == "hrnet_tiny has not been built for testchip"
    asked = []
    monkeypatch.setattr(draw_networks, "find_network", lambda *names: asked.append(names))
    write_json(out / "int8/compile.json", {})
    find_built("hrnet_tiny", "", "", "testchip", "")
    find_built("hrnet_tiny", "", "", "testchip", "fp32")
    find_built("hrnet_tiny", "", "", "float", "")
    assert [names[4] for names in asked] == ["int8", "fp32", ""]
    write_json(out / "fp32/compile.json", {})
    assert "2 are built" in refused(find_built, "hrnet_tiny", "", "", "testchip", "", code=2)
    assert "unknown chip" in refused(find_built, "hrnet_tiny", "", "", "testchop", "", code=2)


def test_a_network_of_one_s_own_goes_by_the_name_that_it_was_built_under(tmp_path, monkeypatch, test_chip):
    asked = []
    monkeypatch.setattr(draw_networks, "find_network", lambda *names: asked.append(names))
    monkeypatch.setattr(draw_networks, "load_model", lambda path: spec_of("detection") if path == "mine.yaml" else None)
    write_json(tmp_path / "out/mine/float/source.json", {"spec_path": "mine.yaml"})
    write_json(tmp_path / "out/tester/testchip/int8/compile.json", {})
    find_built("mine", "", "", "testchip", "")
    find_built("mine", "other.yaml", "", "float", "")
    find_built("hrnet_tiny", "", "", "float", "")
    assert [names[1] for names in asked] == ["mine.yaml", "other.yaml", ""] and asked[0][4] == "int8"


@pytest.mark.parametrize(
    ("names", "expected", "code"),
    [
        (("", "", "", "float", ""), "MODEL= is not set", 2),
        (("hrnet_tiny", "", "", "", ""), "CHIP= is not set", 2),
        (("hrnet_tiny", "", "", "float", ""), "has not been built", 1),
        (("hrnet_tiny", "", "", "testchip", "int8"), "has not been built", 1),
        (("hrnet_tiny", "", "", "testchip", "int3"), "does not build precision", 2),
    ],
)
def test_a_network_that_is_not_there(test_chip, names, expected, code):
    assert expected in refused(find_sides, *names, code=code)


def test_the_command_line(tmp_path, monkeypatch, capsys):
    path = save_dotted(tmp_path / "my photo's.png", 100, 100, (50, 50))
    monkeypatch.setattr(draw_photo, "find_sides", lambda *names: sides_of() if names[3:] == ("testchip", "int8") else 0)
    words = ["draw", "--model", "x", "--chip", "testchip", "--variant", "int8", "--detector", "", "--spec", ""]
    monkeypatch.setattr(sys, "argv", [*words, "--image", str(path), "--out", str(tmp_path / "drawn.png")])
    draw_photo.main()
    assert (tmp_path / "drawn.png").is_file() and "OKS 1.0000" in capsys.readouterr().out
    assert sorted(item.name for item in tmp_path.iterdir()) == ["drawn.png", "my photo's.png"]
