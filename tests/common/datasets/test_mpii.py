"""MPII's files, crops and PCKh, against sums done by hand and the formula in other words."""

import json

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from common.basics.errors import UserError
from common.datasets.imageset import ImageSet
from common.datasets.mpii import find_mpii
from common.declarations.keypoints import MPII16
from common.decoding.predictions import Predictions
from common.metrics.pck import measure_pckh
from common.preprocessing.preprocess import box_to_center_scale
from common.tasks import task_of
from tests.common.image_sets import picture, pose_spec

NAMES = ("annot/valid.json", "annot/gt_valid.mat")


def mpii_folder(root, people=6, names=NAMES, seed=0):
    """Three photographs, `people` people in them by turns of two; returns the JSON's and the MATLAB file's content."""
    random = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    (root / names[0]).parent.mkdir()
    files = [f"{number:09d}.jpg" for number in (15601864, 5808361, 86617615)]
    for number, file in enumerate([*files, "000000001.jpg"]):  # the last one is of MPII's training part
        cv2.imwrite(str(root / "images" / file), picture(number))
    joints = random.uniform(5, 150, (people, 16, 2))
    missing = random.random((people, 16)) < 0.2
    entries = [
        {
            "image": files[person // 2 % 3],
            "center": [float(value) for value in random.uniform(40, 120, 2)],
            "scale": float(random.uniform(0.3, 0.9)),
            "joints": joints[person].tolist(),
            "joints_vis": (~missing[person]).astype(int).tolist(),
        }
        for person in range(people)
    ]
    heads = np.empty((2, 2, people))
    heads[0] = random.uniform(10, 50, (2, people))
    heads[1] = heads[0] + random.uniform(10, 40, (2, people))
    truth = {
        "pos_gt_src": joints.transpose(1, 2, 0),
        "jnt_missing": missing.T.astype(np.float64),
        "headboxes_src": heads,
    }
    (root / names[0]).write_text(json.dumps(entries))
    savemat(root / names[1], truth)
    return entries, truth


@pytest.fixture()
def mpii(tmp_path):
    entries, truth = mpii_folder(tmp_path / "mpii")
    return tmp_path / "mpii", entries, truth


def mpii_task():
    return task_of(pose_spec(keypoints="mpii16", shape=[1, 3, 64, 64]))


@pytest.mark.parametrize("names", [NAMES, ("annotations/mpii_val.json", "annotations/mpii_gt_val.mat")])
def test_both_layouts(tmp_path, names):
    mpii_folder(tmp_path / "set", names=names)
    image_set = ImageSet.open(tmp_path / "set")
    assert [image["file"] for image in image_set.images] == ["015601864.jpg", "005808361.jpg", "086617615.jpg"]
    assert [image["id"] for image in image_set.images] == [15601864, 5808361, 86617615]
    assert image_set.box_source == "gt" and not image_set.has_keypoints and len(image_set.instances()) == 6


def test_the_crop_is_hrnets(mpii):
    """lib/dataset/mpii.py: c[1] += 15 * s, s *= 1.25, c -= 1; the crop is then s * 200 wide around c."""
    folder, entries, _ = mpii
    instances = mpii_task().instances(ImageSet.open(folder))
    assert [instance.annotation_id for instance in instances] == [0, 1, 2, 3, 4, 5]
    for instance in instances:
        entry = entries[instance.annotation_id]
        assert instance.file == entry["image"]
        center, scale = box_to_center_scale(instance.box, 1.0, 1.25)
        wanted = np.array(entry["center"]) + np.array([0, 15 * entry["scale"]]) - 1
        np.testing.assert_allclose(center, wanted, rtol=2e-7)
        np.testing.assert_allclose(scale, [entry["scale"] * 1.25] * 2, rtol=2e-7)


def test_people_are_grouped_by_image(tmp_path):
    """Person 6 is in the first photograph again: its row stays 6, its place in the list is beside its neighbours."""
    mpii_folder(tmp_path / "set", people=8)
    instances = mpii_task().instances(ImageSet.open(tmp_path / "set"))
    assert [instance.annotation_id for instance in instances] == [0, 1, 6, 7, 2, 3, 4, 5]


def predicted(keypoints):
    """Predictions [N, 16, 2] for instances 0..N-1."""
    count = len(keypoints)
    people = np.concatenate([keypoints, np.ones((count, 16, 1))], axis=2).astype(np.float32)
    return Predictions(
        np.arange(count), np.ones(count), people, np.zeros((count, 4), np.float32), np.zeros(count, np.int64)
    )


def order_of(instances):
    return [instance.annotation_id for instance in instances]


def test_exact_predictions_are_all_right(mpii):
    folder, _, truth = mpii
    image_set, task = ImageSet.open(folder), mpii_task()
    instances = task.instances(image_set)
    exact = truth["pos_gt_src"].transpose(2, 0, 1) - 1  # pixels are counted from 0 here
    found = predicted(exact[order_of(instances)])
    numbers = measure_pckh(image_set.mpii, instances, found).numbers
    assert task.measure(image_set, instances, found).numbers == numbers
    assert set(numbers.values()) == {1.0} and set(numbers) == {
        "PCKh", "PCKh@0.1", "Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle"}  # fmt: skip


def test_the_threshold_is_half_of_0_6_head_diagonals(mpii):
    """Joint 9 (head top) of person 0 moves right by 0.499 and 0.501 head sizes, by 0.109 and 0.111 of them."""
    folder, _, truth = mpii
    image_set = ImageSet.open(folder)
    truth_file = truth["pos_gt_src"].transpose(2, 0, 1)
    truth["jnt_missing"][:] = 1
    truth["jnt_missing"][9, 0] = 0
    savemat(folder / NAMES[1], truth)
    image_set = ImageSet.open(folder)
    instances = image_set.instances()
    heads = truth["headboxes_src"][:, :, 0]
    size = 0.6 * np.hypot(*(heads[1] - heads[0]))
    for moved, expected in ((0.499, (1, 0)), (0.501, (0, 0)), (0.109, (1, 1)), (0.111, (1, 0))):
        keypoints = truth_file - 1
        keypoints[0, 9, 0] += moved * size
        numbers = measure_pckh(image_set.mpii, instances, predicted(keypoints)).numbers
        assert (numbers["PCKh"], numbers["PCKh@0.1"]) == expected and numbers["Head"] == expected[0]
        assert numbers["Knee"] is None  # none is visible


def test_pelvis_and_thorax_do_not_count(mpii):
    folder, _, truth = mpii
    image_set = ImageSet.open(folder)
    instances = image_set.instances()
    keypoints = truth["pos_gt_src"].transpose(2, 0, 1) - 1
    keypoints[:, [6, 7]] += 1000
    assert MPII16.names[6:8] == ("pelvis", "thorax")
    assert measure_pckh(image_set.mpii, instances, predicted(keypoints)).numbers["PCKh"] == 1


def test_the_formula_in_other_words(tmp_path):
    """HRNet's evaluate(), array by array: percentages per joint, weighted by how often each is visible."""
    _, truth = mpii_folder(tmp_path / "set", people=9, seed=5)
    image_set = ImageSet.open(tmp_path / "set")
    instances = image_set.instances()
    rows = order_of(instances)
    random = np.random.default_rng(1)
    keypoints = truth["pos_gt_src"].transpose(2, 0, 1) - 1 + random.normal(0, 8, (9, 16, 2))
    accuracy = measure_pckh(image_set.mpii, instances, predicted(keypoints[rows]))

    found = (keypoints.astype(np.float32).astype(np.float64) + 1).transpose(1, 2, 0)
    visible = 1 - truth["jnt_missing"]
    error = np.linalg.norm(found - truth["pos_gt_src"], axis=1)
    heads = np.linalg.norm(truth["headboxes_src"][1] - truth["headboxes_src"][0], axis=0) * 0.6
    right = (error / heads * visible <= 0.5) * visible
    counts = visible.sum(axis=1)
    each = 100 * right.sum(axis=1) / counts
    body = [joint for joint in range(16) if joint not in (6, 7)]
    mean = (each[body] * counts[body]).sum() / counts[body].sum()
    assert 20 < mean < 95
    assert 100 * accuracy.numbers["PCKh"] == pytest.approx(mean)
    assert 100 * accuracy.numbers["Knee"] == pytest.approx((each[1] + each[4]) / 2)
    assert 100 * accuracy.numbers["Head"] == pytest.approx(each[9])

    statistic = accuracy.statistic
    assert accuracy.metric == "PCKh" and statistic.images == 3
    assert statistic.value(np.ones(3, int)) == pytest.approx(accuracy.numbers["PCKh"])
    of_second = [row for row, instance in zip(rows, instances, strict=True) if instance.file == "005808361.jpg"]
    alone = right[body][:, of_second].sum() / visible[body][:, of_second].sum()
    assert statistic.value(np.array([0, 3, 0])) == pytest.approx(alone)
    assert statistic.value(np.zeros(3, int)) is None


def test_a_person_that_nobody_predicted_is_missed(mpii):
    folder, _, truth = mpii
    image_set = ImageSet.open(folder)
    instances = image_set.instances()
    exact = predicted(truth["pos_gt_src"].transpose(2, 0, 1) - 1).select(slice(0, 3))
    visible = truth["jnt_missing"] == 0
    visible[6:8] = False
    share = visible[:, :3].sum() / visible.sum()
    assert measure_pckh(image_set.mpii, instances, exact).numbers["PCKh"] == pytest.approx(share)


def test_the_first_images_only(mpii):
    folder, _, truth = mpii
    few = ImageSet.open(folder).first(2)
    instances = few.instances()
    assert order_of(instances) == [0, 1, 2, 3] and len(few.mpii.files) == 2
    exact = truth["pos_gt_src"].transpose(2, 0, 1)[:4] - 1
    assert measure_pckh(few.mpii, instances, predicted(exact)).numbers["PCKh"] == 1


def test_a_network_of_other_joints_is_not_measured(mpii):
    folder, _, _ = mpii
    assert "annotated in mpii16" in task_of(pose_spec()).ground_truth_missing(ImageSet.open(folder))
    assert mpii_task().ground_truth_missing(ImageSet.open(folder)) is None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda people: people[2].pop("image"), "entry 2 has no 'image'"),
        (lambda people: people[1].update(image="../a.jpg"), "entry 1: image .* leaves the folder"),
        (lambda people: people[1].update(image="other.jpg"), r"names 1 images that are not in .*other\.jpg"),
        (lambda people: people[3].pop("scale"), "entry 3 has no 'center'"),
        (lambda people: people[0].update(center=[1, "x"]), "entry 0 has no 'center'"),
        (lambda people: people[0].update(center=[1]), "entry 0: center"),
        (lambda people: people[0].update(scale=-1), "entry 0: center .* and scale -1.0 say no place"),
        (lambda people: people.pop(), "belong|lists 5 people"),
        (lambda people: people.clear(), "is not a list of people"),
    ],
)
def test_damaged_people(mpii, change, match):
    folder, entries, _ = mpii
    change(entries)
    (folder / NAMES[0]).write_text(json.dumps(entries))
    with pytest.raises(UserError, match=match) as caught:
        ImageSet.open(folder)
    assert caught.value.hint


def test_damaged_truth(mpii):
    folder, _, truth = mpii
    path = folder / NAMES[1]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"gt_valid\.mat cannot be read"):
        ImageSet.open(folder)
    savemat(path, {"pos_gt_src": truth["pos_gt_src"]})
    with pytest.raises(UserError, match="lacks jnt_missing, headboxes_src"):
        ImageSet.open(folder)
    savemat(path, truth | {"headboxes_src": np.zeros((2, 2, 6))})
    with pytest.raises(UserError, match="head box of entry 0 has no size"):
        ImageSet.open(folder)
    path.unlink()
    with pytest.raises(UserError, match=r"gt_valid\.mat, which PCKh is measured with, is not"):
        ImageSet.open(folder)
    assert find_mpii(folder / "images") is None
