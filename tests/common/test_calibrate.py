import json
import shutil

import cv2
import numpy as np
import pytest

from common.basics.errors import UserError
from common.basics.files import sha256_file
from common.calibrate import box_overlap, calibrate, choose
from common.datasets.imageset import ImageSet, Instance
from common.preprocessing.preprocess import box_to_center_scale, crop_person, denormalize, normalize, read_image
from common.tasks import task_of, whole_images
from tests.common.cell_networks import spec_of
from tests.common.datasets.test_mpii import mpii_folder
from tests.common.image_sets import change_json, make_set, person, picture, pose_spec

WHOLE = ("bottomup_pose", "detection")  # tasks whose networks see whole photographs


def run(folder, calibration, evaluation=None, count=100, force=False, spec=None):
    other = ImageSet.open(evaluation) if evaluation else None
    return calibrate(folder, ImageSet.open(calibration), other, spec or pose_spec(), count, force, "cell")


def refused(tmp_path, calibration, match, **options):
    """The lint must stop the build and leave nothing; returns the error."""
    with pytest.raises(UserError, match=match) as caught:
        run(tmp_path / "calib", calibration, **options)
    assert "FORCE=1" in caught.value.hint
    assert not (tmp_path / "calib").exists() and not list(tmp_path.glob(".partial*"))
    return caught.value


def states(manifest):
    return {finding["check"]: finding["state"] for finding in manifest["lint"]}


def test_good_set(tmp_path):
    calibration = make_set(tmp_path / "set", images=20, people=2)
    manifest = run(tmp_path / "calib", calibration, make_set(tmp_path / "other", images=5, seed=1))
    assert set(states(manifest).values()) == {"ok"}, manifest["lint"]
    assert manifest == json.loads((tmp_path / "calib" / "manifest.json").read_text())
    assert manifest["count"] == 40 and manifest["boxes"] == "gt" and manifest["force"] is False
    files = sorted((tmp_path / "calib").glob("*.npy"))
    assert [path.name for path in files] == [f"{index:04d}.npy" for index in range(40)]
    first = manifest["samples"][0]
    tensor = np.load(files[0])
    assert tensor.shape == (1, 3, 64, 48) and tensor.dtype == np.float32
    assert first["sha256"] == sha256_file(files[0])
    assert first["image"] == "1.png" and first["image_sha256"] == sha256_file(calibration / "1.png")
    center, scale = box_to_center_scale([10, 12, 40, 80], 48 / 64)
    crop = crop_person(read_image(calibration / "1.png"), center, scale, (48, 64))
    np.testing.assert_array_equal(tensor[0], normalize(crop, pose_spec().input))
    tensors = np.concatenate([np.load(path) for path in files]).astype(np.float64)
    np.testing.assert_allclose(manifest["statistics"]["mean"], tensors.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(manifest["statistics"]["standard_deviation"], tensors.std(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(manifest["statistics"]["maximum"], tensors.max(axis=(0, 2, 3)))
    assert cv2.imread(str(tmp_path / "calib" / "contact_sheet.jpg")).shape == (4 * 128, 10 * 96, 3)


def test_deterministic_and_count(tmp_path):
    calibration = make_set(tmp_path / "set", images=20, people=2)
    first = run(tmp_path / "first", calibration, count=33)
    assert first == run(tmp_path / "second", calibration, count=33) and first["count"] == 33
    assert {sample["image"] for sample in first["samples"]} == {f"{number}.png" for number in range(1, 21)}


def test_old_tensors_do_not_survive_a_smaller_calibration(tmp_path):
    calibration = make_set(tmp_path / "set", images=40)
    run(tmp_path / "calib", calibration)
    run(tmp_path / "calib", calibration, count=33)
    assert len(list((tmp_path / "calib").glob("*.npy"))) == 33


def test_detections_when_there_is_no_ground_truth(tmp_path):
    calibration = make_set(tmp_path / "set", images=10, annotated=False)
    boxes = [
        {"image_id": number, "category_id": 1, "bbox": [10 + 30 * i, 10, 40, 90], "score": score}
        for number in range(1, 11)
        for i, score in enumerate((0.9, 0.5, 0.1))
    ]
    (calibration / "person_detections.json").write_text(json.dumps(boxes))
    manifest = run(tmp_path / "calib", calibration)
    assert manifest["boxes"] == "detections"
    assert sorted({sample["score"] for sample in manifest["samples"]}) == [0.5, 0.9]
    assert states(manifest)["count"] == "warn"  # 20 samples


def instance(image_id, score, box=(0.0, 0.0, 10.0, 20.0)):
    return Instance(image_id, f"{image_id}.png", box, score)


def test_choose_spreads_over_images_and_takes_the_best_first():
    people = [instance(1, 0.5), instance(1, 0.9, (50, 0, 9, 9)), instance(2, 0.4), instance(2, 0.35, (90, 0, 9, 9))]
    assert choose(people, 2) == [people[1], people[2]]
    assert choose(people, 3) == [people[0], people[1], people[2]]
    assert choose(people, 99) == people


def test_choose_takes_the_larger_of_equal_scores_and_drops_double_boxes():
    small, large, double = instance(1, 1.0), instance(1, 1.0, (50, 0, 30, 30)), instance(1, 0.8, (51, 0, 30, 30))
    assert choose([small, large, double], 1) == [large]
    assert choose([small, large, double], 3) == [small, large]


def test_box_overlap():
    assert box_overlap([0, 0, 10, 10], [0, 0, 10, 10]) == 1
    assert box_overlap([0, 0, 10, 10], [5, 0, 10, 10]) == pytest.approx(50 / 150)
    assert box_overlap([0, 0, 10, 10], [10, 0, 10, 10]) == box_overlap([0, 0, 0, 0], [0, 0, 0, 0]) == 0


def test_three_images_are_refused(tmp_path):
    refused(tmp_path, make_set(tmp_path / "set", images=3), "only 3 different samples")


def test_forced_failure_goes_on_and_is_recorded(tmp_path, capsys):
    manifest = run(tmp_path / "calib", make_set(tmp_path / "set", images=3), force=True)
    assert manifest["force"] is True and states(manifest)["count"] == "fail"
    assert "only 3 different samples" in capsys.readouterr().err


def test_whole_photographs_are_refused(tmp_path):
    error = refused(tmp_path, make_set(tmp_path / "set", images=40, annotated=False), "whole photographs")
    assert "person_keypoints.json" in error.hint and "person_detections.json" in error.hint


def test_detections_below_the_threshold_are_not_whole_photographs(tmp_path):
    calibration = make_set(tmp_path / "set", images=10, annotated=False)
    entry = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 90], "score": 0.2}
    (calibration / "person_detections.json").write_text(json.dumps([entry]))
    with pytest.raises(UserError, match=r"no detection reaches a score of 0\.3"):
        run(tmp_path / "calib", calibration)


@pytest.mark.parametrize("how", ["same file", "same file, other name", "re-encoded", "resized"])
def test_images_that_are_also_in_the_evaluation_set_are_refused(tmp_path, how):
    calibration = make_set(tmp_path / "set", images=12)
    evaluation = make_set(tmp_path / "other", images=4, seed=1, annotated=False)
    image = picture(5)  # image 5 of seed 0
    if how == "same file":
        shutil.copy(calibration / "5.png", evaluation / "5.png")
    elif how == "same file, other name":
        shutil.copy(calibration / "5.png", evaluation / "holiday.png")
    elif how == "re-encoded":
        cv2.imwrite(str(evaluation / "9.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 70])
    else:
        cv2.imwrite(str(evaluation / "9.png"), cv2.resize(image, (120, 90), interpolation=cv2.INTER_AREA))
    error = refused(tmp_path, calibration, "1 calibration images are also in the evaluation set", evaluation=evaluation)
    assert "5.png" in error.message


def test_copies_of_one_photograph_are_refused(tmp_path):
    calibration = make_set(tmp_path / "set", images=12)
    for number in range(2, 13):
        shutil.copy(calibration / "1.png", calibration / f"{number}.png")
    error = refused(tmp_path, calibration, "only 1 different samples")
    assert "variety" in error.message and "duplicates" in error.message


def test_near_copies_are_refused(tmp_path):
    calibration = make_set(tmp_path / "set", images=12)
    for number in range(2, 13):  # frames of one film, so to speak: a little noise on one picture
        noise = np.random.default_rng(number).integers(0, 4, (120, 160, 3))
        cv2.imwrite(str(calibration / f"{number}.png"), np.clip(picture(1) + noise, 0, 255).astype(np.uint8))
    error = refused(tmp_path, calibration, r"duplicates: 11 of 12 samples repeat others \(0 to the bit\)")
    assert "count" not in error.message


def test_one_photograph_with_many_people_is_refused(tmp_path):
    calibration = make_set(tmp_path / "set", images=1)

    def crowd(content):
        boxes = [[16.0 * n, 10.0 + 30 * m, 15.0, 28.0] for n in range(10) for m in range(3)]
        content["annotations"] = [person(index, 1, box) for index, box in enumerate(boxes, 1)]

    change_json(calibration / "person_keypoints.json", crowd)
    refused(tmp_path, calibration, "variety: all samples come from one photograph")


def test_dark_images_are_refused(tmp_path):
    calibration = make_set(tmp_path / "set", images=12)
    for number in range(1, 13):
        cv2.imwrite(str(calibration / f"{number}.png"), picture(number) // 12)
    refused(tmp_path, calibration, "units: values .* use little of the possible range")


def test_grey_images_warn_that_the_colour_order_cannot_be_told(tmp_path):
    calibration = make_set(tmp_path / "set", images=12)
    for number in range(1, 13):
        cv2.imwrite(str(calibration / f"{number}.png"), picture(number)[:, :, 0])
    assert states(run(tmp_path / "calib", calibration))["preprocessing"] == "warn"


def test_unreadable_image_stops_the_calibration(tmp_path):
    calibration = make_set(tmp_path / "set", images=12)
    (calibration / "7.png").write_bytes((calibration / "7.png").read_bytes()[:500])
    with pytest.raises(UserError, match=r"7\.png is truncated"):
        run(tmp_path / "calib", calibration)
    assert not (tmp_path / "calib").exists()


def test_another_known_keypoint_set_is_welcome_for_its_boxes(tmp_path):
    """COCO's people calibrate a network of MPII's joints: a crop needs a box and nothing more."""
    calibration = make_set(tmp_path / "set", images=12)
    manifests = [run(tmp_path / name, calibration, spec=pose_spec(keypoints=name)) for name in ("mpii16", "coco17")]
    assert manifests[0]["samples"] == manifests[1]["samples"]


@pytest.mark.parametrize("keypoints", ["mpii16", "coco17"])
def test_people_of_mpii_calibrate_networks_of_either_set(tmp_path, keypoints):
    mpii_folder(tmp_path / "mpii", people=16)
    manifest = run(tmp_path / "calib", tmp_path / "mpii", spec=pose_spec(keypoints=keypoints))
    assert manifest["boxes"] == "gt" and manifest["candidates"] == 16 and manifest["count"] >= 8
    assert states(manifest)["preprocessing"] == "ok"


@pytest.mark.parametrize("names", [None, "shuffled"])
def test_unknown_keypoints_stop_the_calibration(tmp_path, names):
    """Five keypoints, or COCO's in another order: nobody knows what they are, so the file may be damaged."""
    calibration = make_set(tmp_path / "set")

    def change(content):
        if names:
            content["categories"][0]["keypoints"].reverse()
            return
        del content["categories"][0]["keypoints"]
        for annotation in content["annotations"]:
            annotation["keypoints"] = annotation["keypoints"][:15]

    change_json(calibration / "person_keypoints.json", change)
    with pytest.raises(UserError, match="another order" if names else "15 keypoint numbers"):
        run(tmp_path / "calib", calibration)
    assert not (tmp_path / "calib").exists()


@pytest.mark.parametrize("task", WHOLE)
def test_whole_photographs_are_what_these_networks_see(tmp_path, task):
    """No boxes are needed, and each image of the set is one sample, made as at run time."""
    calibration, spec = make_set(tmp_path / "set", images=40, annotated=False), spec_of(task)
    manifest = run(tmp_path / "calib", calibration, make_set(tmp_path / "other", images=5, seed=1), spec=spec)
    assert set(states(manifest).values()) == {"ok"}, manifest["lint"]
    assert manifest["boxes"] == "whole_images" and manifest["count"] == manifest["candidates"] == 40
    (finding,) = [one for one in manifest["lint"] if one["check"] == "whole_images"]
    size = f"{spec.input.width}x{spec.input.height}"
    assert f"40 whole photographs, fitted into {size} as at run time: what the network sees" in finding["message"]
    for index, instance in enumerate(whole_images(ImageSet.open(calibration))):
        sample = manifest["samples"][index]
        assert (sample["image"], sample["box"]) == (instance.file, [0, 0, 160, 120])
        expected = task_of(spec).input_of(read_image(calibration / instance.file), instance)
        np.testing.assert_array_equal(np.load(tmp_path / "calib" / sample["file"])[0], expected)


@pytest.mark.parametrize("task", WHOLE)
def test_people_do_not_matter_to_these_networks(tmp_path, task):
    """Several people, weak detections, or keypoints that nobody knows: one sample for each photograph all the same."""
    calibration = make_set(tmp_path / "set", images=12, people=3)
    change_json(calibration / "person_keypoints.json", lambda c: c["categories"][0]["keypoints"].reverse())
    entry = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 90], "score": 0.1}
    (calibration / "person_detections.json").write_text(json.dumps([entry]))
    assert run(tmp_path / "calib", calibration, spec=spec_of(task))["count"] == 12
    assert run(tmp_path / "fewer", calibration, spec=spec_of(task), count=9)["count"] == 9


@pytest.mark.parametrize("task", WHOLE)
def test_whole_photographs_are_linted_too(tmp_path, task):
    spec, evaluation = spec_of(task), make_set(tmp_path / "other", images=4, seed=1, annotated=False)
    calibration = make_set(tmp_path / "set", images=12, annotated=False)
    shutil.copy(calibration / "5.png", evaluation / "holiday.png")
    refused(tmp_path, calibration, "1 calibration images are also in the evaluation", evaluation=evaluation, spec=spec)
    for number in range(6, 13):
        shutil.copy(calibration / "1.png", calibration / f"{number}.png")
    error = refused(tmp_path, calibration, "only 5 different samples", spec=spec)
    assert "duplicates: 7 of 12 samples repeat others" in error.message


def test_the_contact_sheet_of_a_large_square_input(tmp_path):
    spec = spec_of("detection", shape=[1, 3, 512, 512])
    run(tmp_path / "calib", make_set(tmp_path / "set", images=11, annotated=False), spec=spec)
    sheet = cv2.imread(str(tmp_path / "calib" / "contact_sheet.jpg"))
    assert sheet.shape == (2 * 128, 10 * 128, 3)
    # 160x120 photographs leave an eighth of the square above and below to the border.
    assert np.abs(sheet[2:14, 2:1278].astype(int) - 114).max() <= 4
    first = denormalize(np.load(tmp_path / "calib/0000.npy")[0], spec.input)
    small = cv2.resize(first, (128, 128), interpolation=cv2.INTER_AREA)
    assert np.abs(sheet[:128, :128].astype(int) - small).mean() < 6
