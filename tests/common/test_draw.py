"""Pictures are looked at pixel by pixel: what is drawn where, in which colour, and what is written about it."""

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from common.basics.errors import UserError
from common.basics.files import read_json
from common.declarations.keypoints import COCO17, MPII16
from common.draw import MARGIN, PANEL, draw_cell, further_indices
from common.drawing.figure import Text, channel_figure, heatmap_tiles, letter
from common.drawing.person import Sample, joints_in_words, worst_joints
from common.drawing.skeleton import (
    SIDE_COLORS,
    draw_skeleton,
    panel_size,
    person_panel,
    points_on_panel,
    side_of_edge,
)
from common.job import Cell
from tests.common.cell_fixture import CHIP, make_cell
from tests.common.cell_networks import STANDING

TOP, GAP = 92, 12  # where pair_picture puts its panels
NAMES = COCO17.names


def halves(path):
    """The two panels of a picture of one person; the fixture's network is 96 wide and 128 high."""
    picture = cv2.imread(str(path))
    width, height = panel_size(96, 128, PANEL)
    second = MARGIN + width + GAP
    return tuple(picture[TOP : TOP + height, x : x + width] for x in (MARGIN, second))


def sample(float_points, chip_points):
    zeros = np.zeros((17, 1))
    points = [np.hstack([np.asarray(points, float), zeros]) for points in (float_points, chip_points)]
    return Sample(0, "a.jpg", [0, 0], [1, 1], *points, 1.0)


def test_both_halves_are_equal_when_the_chip_equals_float(made_cells):
    left, right = halves(made_cells / "out/toy_pose" / CHIP / "fp32/skeletons_worst.png")
    assert np.array_equal(left, right)


def test_halves_differ_when_the_chip_differs_and_float_is_drawn_left(made_cells):
    noisy = made_cells / "out/toy_pose" / CHIP / "int8"
    left, right = halves(noisy / "skeletons_worst.png")
    assert (left != right).any()
    # The chip's image differs from float's only around limbs; far corners are the same photograph.
    assert np.array_equal(left[:40, :40], right[:40, :40])
    index = read_json(noisy / "compare.json")["worst_instance"]
    prediction = read_json(made_cells / "out/toy_pose/float/predictions.json")["found"][index]
    instance = read_json(made_cells / "out/toy_pose/float/samples.json")["instances"][index]
    points = np.reshape(prediction["keypoints"], (17, 3))
    spots = points_on_panel(points, instance["center"], instance["scale"], panel_size(96, 128, PANEL))
    for name in ("left_ankle", "left_wrist", "left_knee"):
        x, y = spots[NAMES.index(name)].round().astype(int)
        assert tuple(left[y, x]) == SIDE_COLORS["left"]


def test_pictures_are_listed_with_the_figures_of_compare_json(made_cells):
    folder = made_cells / "out/toy_pose" / CHIP / "int8"
    listed, compared = read_json(folder / "pictures.json"), read_json(folder / "compare.json")
    files = [picture["file"] for picture in listed["pictures"]]
    assert files == ["skeletons_worst.png", "skeletons_median.png", "skeletons_further.png", "heatmaps_worst.png",
                     "heatmaps_median.png", "channels.png"]  # fmt: skip
    assert listed["preview"] in files
    for file in files:
        image = cv2.imread(str(folder / file))
        assert image.shape[1] <= 1400
        assert image.std() > 10
    worst = compared["agreement_instances"][compared["worst_instance"]]
    assert worst == min(compared["agreement_instances"])
    assert f"OKS {worst:.4f}" in listed["pictures"][0]["caption"]
    assert f"{CHIP} int8" in listed["pictures"][0]["caption"]
    assert not list(folder.glob(".partial-*"))


def test_random_weights_are_marked_on_the_pictures_and_in_their_captions(made_cells):
    random, known = (made_cells / "out" / model / CHIP / "int8" for model in ("lost_pose", "toy_pose"))
    for folder, marked in ((random, True), (known, False)):
        captions = [picture["caption"] for picture in read_json(folder / "pictures.json")["pictures"]]
        assert all(caption.startswith("random weights") == marked for caption in captions)
    # The warning is lettered in red below the panels.
    red = [(cv2.imread(str(folder / "skeletons_worst.png"))[-24:] == (0x20, 0x00, 0xB0)).all(axis=2).sum()
           for folder in (random, known)]  # fmt: skip
    assert red[0] > 100
    assert red[1] == 0


def test_where_nothing_was_found_no_agreement_is_named(own_cell):
    compared = read_json(own_cell / "compare.json")
    (own_cell / "compare.json").write_text(json.dumps(compared | {"compared": 0}))
    draw_cell(Cell(own_cell))
    captions = [picture["caption"] for picture in read_json(own_cell / "pictures.json")["pictures"][:2]]
    assert all("nothing found on either side" in caption and "OKS" not in caption for caption in captions)


def test_sides_are_told_by_name_in_both_keypoint_sets():
    def side(keypoints, first, second):
        return side_of_edge(keypoints, keypoints.names.index(first), keypoints.names.index(second))

    assert side(COCO17, "left_elbow", "left_wrist") == "left"
    assert side(COCO17, "nose", "right_eye") == "right"
    assert side(COCO17, "left_hip", "right_hip") == "middle"
    assert side(MPII16, "right_knee", "right_ankle") == "right"
    assert side(MPII16, "pelvis", "thorax") == "middle"


def test_limbs_have_their_side_s_colour_and_faint_ones_show_the_photograph():
    panel = np.full((600, 400, 3), 100, np.uint8)
    points = STANDING * 560 + [200, 20]
    scores = np.ones(17)
    scores[NAMES.index("right_wrist")] = 0.05
    drawn = draw_skeleton(panel, points, scores, COCO17)
    assert (panel == 100).all()  # the panel itself is left alone

    def middle_of(first, second):
        x, y = (points[NAMES.index(first)] + points[NAMES.index(second)]) / 2
        return drawn[round(y), round(x)].astype(int)

    assert tuple(middle_of("left_knee", "left_ankle")) == SIDE_COLORS["left"]
    assert tuple(middle_of("right_knee", "right_ankle")) == SIDE_COLORS["right"]
    assert tuple(middle_of("left_hip", "right_hip")) == SIDE_COLORS["middle"]
    faint = middle_of("right_elbow", "right_wrist")
    expected = 0.4 * np.array(SIDE_COLORS["right"]) + 0.6 * 100
    assert np.abs(faint - expected).max() <= 2
    x, y = points[NAMES.index("left_wrist")].round().astype(int)
    assert tuple(drawn[y, x]) == SIDE_COLORS["left"]
    x, y = points[NAMES.index("right_wrist")].round().astype(int)
    assert tuple(drawn[y, x]) != SIDE_COLORS["right"]  # hollow


def test_points_and_photograph_share_one_map():
    image = np.zeros((300, 400, 3), np.uint8)
    image[118:123, 218:223] = 255
    center, scale, size = [200.0, 150.0], [0.75, 1.0], (300, 400)  # 150x200 image pixels on 300x400: twice as large
    spot = points_on_panel(np.array([[220.0, 120.0, 1.0]]), center, scale, size)[0]
    assert np.allclose(spot, [150 + 2 * 20, 200 - 2 * 30])
    panel = person_panel(image, center, scale, size)
    bright = np.argwhere(panel[..., 0] > 200)[:, ::-1].mean(axis=0)
    assert np.abs(bright - spot).max() <= 1


def test_worst_joints_go_by_distance_over_sigma():
    moved = STANDING * 100
    chip = moved.copy()
    chip[NAMES.index("nose"), 0] += 5  # 5 / 0.026 = 192
    chip[NAMES.index("left_hip"), 1] += 10  # 10 / 0.107 = 93
    chip[NAMES.index("left_wrist"), 1] += 0.4  # too little to name
    found = worst_joints(sample(moved, chip), COCO17)
    assert [name for name, _ in found] == ["nose", "left_hip"]
    assert np.allclose([distance for _, distance in found], [5, 10])
    assert joints_in_words(sample(moved, chip), COCO17) == "furthest off: nose 5.0 px, left hip 10.0 px"
    assert joints_in_words(sample(moved, moved), COCO17) == "no joint moved by more than 0.5 px"


def test_further_samples_run_from_bad_to_good_without_those_already_shown():
    values = [0.5, 0.9, 0.1, 0.7, 0.95, 0.3, 0.8, 0.6]
    found = further_indices(values, taken=[2, 7])
    assert not {2, 7} & set(found)
    assert [values[index] for index in found] == sorted(values[index] for index in found)
    assert found[-1] == 4
    assert further_indices([0.2, 0.3], taken=[0, 1]) == []


def test_a_difference_of_nothing_is_white_and_a_rise_is_orange():
    heat = np.zeros((8, 6), np.float32)
    heat[3, 2] = 0.8
    row = heatmap_tiles(heat, heat, 1.0).astype(int)
    assert np.array_equal(row[:, :6], row[:, 7:13])
    assert row[:, 14:20].min() > 240
    assert tuple(row[3, 2]) == (253, 231, 37)  # viridis ends in this yellow
    risen = heat.copy()
    risen[0, 0] = 0.4
    red, _, blue = heatmap_tiles(heat, risen, 0.4).astype(int)[0, 14]
    assert red > blue + 50


def test_bars_of_a_joint_below_the_gate_are_another_colour():
    channels = [{"name": name, "sqnr_db": 20.0, "cosine": 0.99} for name in NAMES]
    good = dict.fromkeys(NAMES, 0.99)
    bad_color = np.array([0x00, 0x5E, 0xD5])  # D55E00 as blue, green, red

    def bad_pixels(joints):
        return (channel_figure(channels, joints, 0.95, "t", "n") == bad_color).all(axis=2).sum()

    assert bad_pixels(good) == 0
    assert bad_pixels(good | {"nose": 0.5}) > 500


def test_lettering_takes_names_literally():
    plain = letter(300, 40, [Text(5, 20, "a_b $x$ <y>")])
    assert plain.shape == (40, 300, 3)
    assert plain.min() < 100


def test_long_words_are_set_smaller_to_stay_within_their_width():
    long = Text(5, 20, "a chip with quite a long title", 12, width=120)
    inked = np.nonzero((letter(400, 40, [long]) < 200).any(axis=(0, 2)))[0]
    assert inked.max() <= 126
    wide = np.nonzero((letter(400, 40, [replace(long, width=None)]) < 200).any(axis=(0, 2)))[0]
    assert wide.max() > 200


@pytest.fixture
def own_cell(tmp_path, test_chip):
    return make_cell(tmp_path, "int8", noise=0.05, people=5)


def test_a_missing_photograph_is_named_and_no_pictures_json_is_left(own_cell):
    described = read_json(own_cell.parents[1] / "float/samples.json")
    (own_cell.parents[3] / "evaluation" / described["instances"][0]["file"]).unlink()
    compared = read_json(own_cell / "compare.json")
    (own_cell / "compare.json").write_text(json.dumps(compared | {"worst_instance": 0}))
    with pytest.raises(UserError, match=r"002_000\.jpg"):
        draw_cell(Cell(own_cell))
    assert not (own_cell / "pictures.json").exists()


def test_outputs_of_another_run_are_refused(own_cell):
    with np.load(own_cell / "outputs.npz") as stored:
        maps = stored["heatmaps"]
    np.savez(own_cell / "outputs.npz", heatmaps=maps[:-1])
    with pytest.raises(UserError, match="different runs"):
        draw_cell(Cell(own_cell))


def test_damaged_outputs_are_an_error(own_cell):
    whole = (own_cell / "outputs.npz").read_bytes()
    (own_cell / "outputs.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"outputs\.npz is damaged"):
        draw_cell(Cell(own_cell))


def test_two_people_need_no_sheet_and_an_old_one_goes_away(tmp_path, test_chip):
    cell = make_cell(tmp_path, "int8", people=2)
    (cell / "skeletons_further.png").write_bytes(b"old")
    shutil.copy(cell / "compile.log", cell / "loss.png")  # somebody else's picture
    draw_cell(Cell(cell))
    assert not (cell / "skeletons_further.png").exists()
    assert (cell / "loss.png").exists()
    assert len(read_json(cell / "pictures.json")["pictures"]) == 5
