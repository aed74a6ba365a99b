"""Whole photographs with what was found in them: looked at pixel by pixel, as in test_draw.py."""

import cv2
import numpy as np
import pytest

from common.basics.files import read_json
from common.declarations.keypoints import COCO17
from common.decoding.predictions import Predictions
from common.draw import MARGIN, PANEL, draw_cell
from common.drawing.image import (
    COLORS,
    MOST_SHOWN,
    best_of,
    counts_in_words,
    draw_box,
    draw_found,
    fit_panel,
    label_in_words,
    shown_score,
)
from common.drawing.skeleton import SIDE_COLORS
from common.job import Cell
from tests.common.cell_fixture import CHIP, make_cell
from tests.common.cell_networks import CLASSES, STANDING, spec_of

TOP, GAP = 92, 12  # where pair_picture puts its panels
WHOLE = ("bottomup_pose", "detection")
DRAWN = {"bottomup_pose": "skeletons", "detection": "boxes"}


def found(count, joints=0, seed=0):
    random = np.random.default_rng(seed)
    return Predictions(
        np.zeros(count, np.int64),
        random.random(count),
        np.zeros((count, joints, 3), np.float32),
        np.tile(np.float32([10, 20, 30, 40]), (count, 1)),
        np.zeros(count, np.int64),
    )


def folder_of(whole_cells, task, variant="int8"):
    return whole_cells / "out" / task / CHIP / variant


def halves(folder, file):
    """The two panels of a picture of one photograph, and the photograph at the panels' size."""
    picture = cv2.imread(str(folder / file))
    width = (picture.shape[1] - 2 * MARGIN - GAP) // 2
    described = read_json(folder.parents[1] / "float/samples.json")
    compared = read_json(folder / "compare.json")
    index = compared["worst_instance" if "worst" in file else "median_instance"]
    photograph = cv2.imread(f"{described['image_folder']}/{described['instances'][index]['file']}")
    panel = fit_panel(photograph, PANEL)
    assert panel.shape[1] == width
    second = MARGIN + width + GAP
    return *(picture[TOP : TOP + panel.shape[0], x : x + width] for x in (MARGIN, second)), panel


def test_boxes_lie_where_they_were_found_in_their_class_s_colour():
    panel = np.full((200, 300, 3), 90, np.uint8)
    one = found(1)
    one.scores[:] = 0.87
    drawn = draw_found(panel, one, (2.0, 3.0), None, ["cat"])
    assert (panel == 90).all()  # the panel itself is left alone
    for x, y in ((20, 120), (80, 120), (50, 180)):  # left, right and lower side of 2 * 10 .. 2 * 40, 3 * 20 .. 3 * 60
        assert tuple(drawn[y, x]) == COLORS[0]
    assert (drawn[70:170, 30:70] == 90).all()
    labelled = drawn[46:60, 20:90].reshape(-1, 3)
    assert (labelled == COLORS[0]).all(axis=1).sum() > 250 and (labelled < 80).all(axis=1).sum() > 40


def test_a_larger_panel_gets_wider_lines_and_larger_letters():
    panel, one = np.full((300, 400, 3), 90, np.uint8), found(1)
    one.boxes[:] = 50, 100, 200, 150
    plain, heavy = (draw_found(panel, one, (1.0, 1.0), None, ["cat"], weight) for weight in (1.0, 2.0))
    for side, more in ((np.s_[150:240, 30:70], 1.3), (np.s_[60:98, 60:250], 2.5)):  # the left edge; the words
        counts = [(drawn[side] != 90).any(axis=2).sum() for drawn in (plain, heavy)]
        assert counts[1] > more * counts[0] > 0


@pytest.mark.parametrize("box", [(-50, -50, 400, 300), (-9, -9, -2, -3), (290, 195, 320, 240), (10, 2, 12, 3)])
def test_the_words_of_a_box_stay_inside_the_picture(box):
    image = np.full((200, 300, 3), 90, np.uint8)
    draw_box(image, box, "traffic light 0.87", COLORS[2])
    filled = (image == COLORS[2]).all(axis=2)
    assert filled.sum() > 800


def test_labels_name_class_and_score():
    assert label_in_words(CLASSES, 2, 0.256) == "traffic light 0.26"
    assert label_in_words(["Fußgänger"], 0, 1.0) == "class 0 1.00"  # OpenCV has no such letters


def test_joints_that_were_not_found_are_left_out():
    """A score of 0 has no place: nothing may be drawn at the origin, nor a limb to it."""
    person = found(1, 17)
    person.keypoints[0, :, :2] = STANDING * 180 + [100, 10]
    person.keypoints[0, :, 2] = 0.9
    panel = np.full((200, 200, 3), 90, np.uint8)
    whole = draw_found(panel, person, (1.0, 1.0), COCO17, None)
    wrist = COCO17.names.index("left_wrist")
    x, y = person.keypoints[0, wrist, :2].round().astype(int)
    assert tuple(whole[y, x]) == SIDE_COLORS["left"]
    person.keypoints[0, wrist] = 0
    without = draw_found(panel, person, (1.0, 1.0), COCO17, None)
    assert (without[y, x] == 90).all()
    assert (without[:12, :60] == 90).all()
    assert tuple(without[tuple(person.keypoints[0, 15, 1::-1].round().astype(int))]) == SIDE_COLORS["left"]
    person.keypoints[0] = 0
    assert (draw_found(panel, person, (1.0, 1.0), COCO17, None) == panel).all()


def test_limbs_of_a_small_person_are_thin():
    person = found(1, 17)
    person.keypoints[0, :, 2] = 0.9
    panel = np.full((600, 600, 3), 90, np.uint8)
    drawn = []
    for size in (60, 580):
        person.keypoints[0, :, :2] = STANDING * size + [300, 5]
        changed = (draw_found(panel, person, (1.0, 1.0), COCO17, None) != 90).any(axis=2)
        drawn.append(changed.sum() / size)  # per pixel of the person's height
    assert drawn[0] < 0.7 * drawn[1]


def test_the_best_are_drawn_and_the_best_last():
    many = best_of(found(80))
    assert len(many) == MOST_SHOWN
    assert (np.diff(many.scores) > 0).all() and many.scores[-1] == found(80).scores.max()
    assert counts_in_words([80, 3], 0.25, "objects") == (
        "objects with a score of 0.25 or more: 80 by float, 3 by the chip; the best 50 are drawn"
    )
    assert counts_in_words([50, 0], 0.1, "people").endswith("50 by float, 0 by the chip")


@pytest.mark.parametrize("size", [(1, 1), (3000, 4), (4, 3000), (640, 480), (30, 20)])
def test_photographs_of_any_shape_fit(size):
    panel = fit_panel(np.full((size[1], size[0], 3), 7, np.uint8), 300)
    assert max(panel.shape) == 300 and min(panel.shape[:2]) >= 1 and (panel == 7).all()


def test_what_is_shown_is_what_people_call_found():
    assert shown_score(spec_of("detection")) == 0.25 and shown_score(spec_of("bottomup_pose")) == 0.1


@pytest.mark.parametrize("task", WHOLE)
def test_both_halves_are_equal_when_the_chip_equals_float(whole_cells, task):
    left, right, panel = halves(folder_of(whole_cells, task, "fp32"), f"{DRAWN[task]}_worst.png")
    assert np.array_equal(left, right)
    changed = (left != panel).any(axis=2)
    assert 0.002 < changed.mean() < 0.5
    assert not changed[:10, :10].any()  # a corner is the photograph and nothing else


@pytest.mark.parametrize("task", WHOLE)
def test_float_is_drawn_left_where_it_finds_the_person(whole_cells, task):
    folder = folder_of(whole_cells, task)
    left, right, panel = halves(folder, f"{DRAWN[task]}_worst.png")
    assert (left != right).any()
    index = read_json(folder / "compare.json")["worst_instance"]
    described = read_json(folder.parents[1] / "float/samples.json")["instances"][index]
    predictions = read_json(folder.parents[1] / "float/predictions.json")["found"]
    (best,) = [one for one in predictions if one["instance"] == index and one["score"] > 0.25]
    zoom = panel.shape[1] / described["box"][2]
    if task == "detection":
        x, y, width, height = np.array(best["box"]) * zoom
        assert tuple(left[round(y + height / 2), round(x)]) == COLORS[CLASSES.index("person")]
        assert tuple(left[round(y + height), round(x + width / 2)]) == COLORS[CLASSES.index("person")]
    else:
        x, y = np.reshape(best["keypoints"], (17, 3))[COCO17.names.index("left_ankle"), :2] * zoom
        assert tuple(left[round(y), round(x)]) == SIDE_COLORS["left"]


@pytest.mark.parametrize("task", WHOLE)
def test_pictures_are_listed_with_their_figures(whole_cells, task):
    folder = folder_of(whole_cells, task)
    listed, compared = read_json(folder / "pictures.json"), read_json(folder / "compare.json")
    drawn = DRAWN[task]
    assert [picture["file"] for picture in listed["pictures"]] == [
        f"{drawn}_worst.png", f"{drawn}_median.png", f"{drawn}_further.png", "heatmaps_worst.png",
        "heatmaps_median.png", "channels.png",
    ]  # fmt: skip
    assert listed["preview"] == f"{drawn}_median.png"
    assert all(picture["wide"] for picture in listed["pictures"])
    for picture in listed["pictures"]:
        image = cv2.imread(str(folder / picture["file"]))
        assert image.shape[1] <= 1400 and image.std() > 10
    similarity = "IoU" if task == "detection" else "OKS"
    worst = min(compared["agreement_instances"])
    things = "objects with a score of 0.25" if task == "detection" else "people with a score of 0.1"
    assert f"{similarity} {worst:.4f} against float; {things} or more: 1 by float" in listed["pictures"][0]["caption"]


def test_many_boxes_are_capped_and_an_old_kind_of_picture_goes_away(tmp_path, test_chip):
    """Noise on every class logit finds objects everywhere, as random weights do."""
    folder = make_cell(tmp_path, "int8", people=3, weights="random", task="detection")
    with np.load(folder / "outputs.npz") as stored:
        outputs = dict(stored)
    outputs["class_8"] += 13
    outputs["box_8"][:] = 0
    outputs["box_8"][:, ::16] = 9  # all boxes are small: none suppresses another
    np.savez(folder / "outputs.npz", **outputs)
    (folder / "skeletons_worst.png").write_bytes(b"old")
    draw_cell(Cell(folder))
    captions = [picture["caption"] for picture in read_json(folder / "pictures.json")["pictures"]]
    assert "by the chip; the best 50 are drawn" in captions[0]
    assert all(caption.startswith("random weights: the boxes mean nothing") for caption in captions)
    assert not (folder / "skeletons_worst.png").exists()


@pytest.mark.parametrize("task", WHOLE)
def test_nothing_found_on_either_side_is_a_picture_of_the_photograph(tmp_path, test_chip, task):
    folder = make_cell(tmp_path, "fp32", people=2, task=task)
    for place in (folder, folder.parents[1] / "float"):
        with np.load(place / "outputs.npz") as stored:
            np.savez(place / "outputs.npz", **{name: np.full_like(value, -9) for name, value in stored.items()})
    draw_cell(Cell(folder))
    left, right, panel = halves(folder, f"{DRAWN[task]}_worst.png")
    assert np.array_equal(left, panel) and np.array_equal(right, panel)
    assert ": 0 by float, 0 by the chip" in read_json(folder / "pictures.json")["pictures"][0]["caption"]


def test_a_pose_detector_draws_boxes_and_skeletons():
    person = found(1, 17)
    person.keypoints[0, :, :2] = STANDING * 38 + [25, 21]
    person.keypoints[0, :, 2] = 0.9
    panel = np.full((300, 300, 3), 90, np.uint8)
    drawn = draw_found(panel, person, (4.0, 4.0), COCO17, ["person"])
    assert tuple(drawn[160, 40]) == COLORS[0]
    x, y = (person.keypoints[0, 15, :2] * 4).round().astype(int)
    assert tuple(drawn[y, x]) == SIDE_COLORS["left"]
