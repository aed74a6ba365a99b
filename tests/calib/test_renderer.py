"""The renderer: what it says about a picture is true of that picture, and the same seed draws the same one."""

import hashlib
import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from calib.renderer import image_set
from calib.renderer.annotation import HIDDEN, UNLABELLED, VISIBLE
from calib.renderer.image_set import render_set
from calib.renderer.scene import render_scene
from calib.renderer.seeds import PURPOSES, scene_generator
from common.basics.errors import UserError
from common.declarations.keypoints import KEYPOINT_SETS

SET = "renderer: people\npurpose: evaluation\nseed: 3\npeople: 9\n"


def make_set(folder: Path, text: str = SET) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "set.yaml").write_text(text)
    return folder


def fingerprint(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    folder = make_set(tmp_path_factory.mktemp("sets") / "people")
    render_set(folder)
    return folder


@pytest.fixture(scope="module")
def ground_truth(rendered):
    return json.loads((rendered / "person_keypoints.json").read_text())


def test_the_same_set_is_drawn_byte_for_byte_again(rendered, tmp_path):
    again = make_set(tmp_path / "again")
    render_set(again)
    assert fingerprint(again) == fingerprint(rendered)


def test_another_seed_draws_other_pictures(rendered, tmp_path):
    other = make_set(tmp_path / "other", SET.replace("seed: 3", "seed: 4"))
    render_set(other)
    pictures = {value for name, value in fingerprint(rendered).items() if name.endswith(".jpg")}
    assert not pictures & set(fingerprint(other).values())


def test_no_two_purposes_share_random_numbers():
    triples = list(itertools.product(PURPOSES, range(4), range(50)))
    states = {scene_generator(*triple).bit_generator.state["state"]["state"] for triple in triples}
    assert len(states) == len(triples) == 800


@pytest.mark.parametrize("arguments", [("testing", 0, 0), ("training", -1, 0), ("training", 2**32, 0)])
def test_a_seed_that_could_meet_another_is_refused(arguments):
    with pytest.raises(ValueError, match=r"purpose|must be in"):
        scene_generator(*arguments)


def test_the_sets_of_the_project_have_their_own_purpose():
    names = ("people_evaluation", "people_calibration")
    specs = {name: image_set.load_set(Path("calib") / name / "set.yaml") for name in names}
    assert specs["people_evaluation"].purpose == "evaluation"
    assert specs["people_evaluation"].people == 200
    assert specs["people_calibration"].purpose == "calibration"


def test_annotations_count_what_they_list(ground_truth):
    assert len(ground_truth["annotations"]) == 9
    assert [a["id"] for a in ground_truth["annotations"]] == list(range(1, 10))
    for annotation in ground_truth["annotations"]:
        rows = np.array(annotation["keypoints"]).reshape(17, 3)
        assert set(rows[:, 2]) <= {UNLABELLED, HIDDEN, VISIBLE}
        assert annotation["num_keypoints"] == (rows[:, 2] > 0).sum() >= 7
        assert (rows[rows[:, 2] == UNLABELLED] == 0).all()
        assert annotation["iscrowd"] == 0
        width, height = annotation["bbox"][2:]
        assert 32 * 32 <= annotation["area"] <= width * height


def test_keypoints_boxes_and_images_fit_each_other(ground_truth, rendered):
    images = {image["id"]: image for image in ground_truth["images"]}
    for image in images.values():
        assert cv2.imread(str(rendered / image["file_name"])).shape[:2] == (image["height"], image["width"])
    for annotation in ground_truth["annotations"]:
        image, (x, y, width, height) = images[annotation["image_id"]], annotation["bbox"]
        assert x >= 0 and y >= 0 and x + width <= image["width"] and y + height <= image["height"]
        rows = np.array(annotation["keypoints"]).reshape(17, 3)
        labelled, visible = rows[rows[:, 2] > 0], rows[rows[:, 2] == VISIBLE]
        assert (labelled[:, :2] >= -0.5).all()
        assert (labelled[:, :2] <= [image["width"] - 0.5, image["height"] - 0.5]).all()
        # A visible keypoint lies on the person, an ear at most just beside it.
        slack = 0.03 * height + 1
        assert (visible[:, :2] >= [x - slack, y - slack]).all()
        assert (visible[:, :2] <= [x + width + slack, y + height + slack]).all()


def test_the_category_is_cocos(ground_truth):
    category = ground_truth["categories"][0]
    coco = KEYPOINT_SETS["coco17"]
    assert tuple(category["keypoints"]) == coco.names
    assert {frozenset(edge) for edge in category["skeleton"]} == {frozenset((a + 1, b + 1)) for a, b in coco.edges}


def test_pycocotools_gives_the_truth_full_marks_and_a_shifted_truth_fewer(rendered, ground_truth, capsys):
    truth = COCO(str(rendered / "person_keypoints.json"))

    def average_precision(shift: float) -> float:
        results = [
            {
                "image_id": a["image_id"],
                "category_id": 1,
                "score": 1.0,
                "keypoints": [v + shift * (i % 3 == 0) for i, v in enumerate(a["keypoints"])],
            }
            for a in ground_truth["annotations"]
        ]
        evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return evaluation.stats[0]

    assert average_precision(0.0) == pytest.approx(1.0)
    assert average_precision(12.0) < 0.5


def test_the_manifest_names_every_file_with_its_hash(rendered):
    manifest = json.loads((rendered / "manifest.json").read_text())
    hashes = fingerprint(rendered)
    assert (manifest["people"], manifest["seed"], manifest["purpose"]) == (9, 3, "evaluation")
    assert manifest["sha256"] == {n: h for n, h in hashes.items() if n not in ("manifest.json", "set.yaml")}
    assert manifest["images"] == len([name for name in hashes if name.endswith(".jpg")])


def test_scenes_vary_and_have_hidden_joints():
    scenes = [render_scene(scene_generator("validation", 7, i)) for i in range(12)]
    people = [person for scene in scenes for person in scene.people]
    flags = np.concatenate([person.keypoints[:, 2] for person in people])
    assert len({len(scene.people) for scene in scenes}) >= 2
    assert 0.4 < (flags == VISIBLE).mean() < 0.95
    assert 0.02 < (flags == HIDDEN).mean() < 0.4
    assert all(not (a.mask & b.mask).any() for s in scenes for a in s.people for b in s.people if a is not b)


def test_an_interrupted_rendering_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    folder = make_set(tmp_path / "people")
    calls = []

    def interrupted(rng, most_people):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return render_scene(rng, most_people)

    monkeypatch.setattr(image_set, "render_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        render_set(folder)
    assert len(calls) == 3
    assert [path.name for path in folder.iterdir()] == ["set.yaml"]
    assert [path.name for path in tmp_path.iterdir()] == ["people"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (SET.replace("people: 9", "people: 0"), "people"),
        (SET.replace("evaluation", "training"), "purpose"),
        (SET.replace("renderer: people", "renderer: cars"), "renderer"),
        (SET.replace("seed: 3", "seed: -1"), "seed"),
        (SET + "colour: red\n", "colour"),
        ("[1, 2", "not valid YAML"),
        ("", "the file"),
        (None, "missing"),
    ],
)
def test_a_wrong_set_file_is_the_users_error(tmp_path, text, word):
    folder = make_set(tmp_path / "people", text or "")
    if text is None:
        (folder / "set.yaml").unlink()
    before = fingerprint(folder)
    with pytest.raises(UserError, match=word) as caught:
        render_set(folder)
    assert "set.yaml" in caught.value.message
    assert fingerprint(folder) == before
