import json

import cv2
import numpy as np
import pytest

from common.basics.errors import UserError
from common.datasets.imageset import ImageSet, Instance
from common.decoding.predictions import Predictions
from common.preprocessing.preprocess import read_image
from common.tasks import instance_of, task_of
from common.tasks.detection import Detection, box_similarity
from tests.common.detectors import SIZE, detector_spec, pose_detector_spec, put_object, quiet_head
from tests.common.image_sets import make_set, picture


def predictions(rows, joints=0):
    """(instance, score, class, x, y, w, h) each; keypoints at the box's corner and its opposite, in turn."""
    rows = np.array(rows, np.float64).reshape(-1, 7)
    boxes = rows[:, 3:]
    points = np.zeros((len(rows), joints, 3), np.float32)
    points[:, ::2, :2] = boxes[:, None, :2]
    points[:, 1::2, :2] = boxes[:, None, :2] + boxes[:, None, 2:]
    points[..., 2] = 0.9
    return Predictions(
        rows[:, 0].astype(np.int64), rows[:, 1], points, boxes.astype(np.float32), rows[:, 2].astype(np.int64)
    )


def whole(count=1, width=160, height=120):
    return [Instance(n + 1, f"{n + 1}.png", (0.0, 0.0, width, height), 1.0) for n in range(count)]


@pytest.fixture
def animals(tmp_path):
    """Three pictures of 160x120; a cat and a dog in the first, a dog in the second, nothing in the third."""
    folder = make_set(tmp_path / "animals", images=3, annotated=False)
    objects = [(1, 1, 9, [10, 20, 60, 40]), (2, 1, 5, [90, 30, 50, 60]), (3, 2, 5, [30, 10, 100, 90])]
    content = {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in (1, 2, 3)],
        "categories": [{"id": 5, "name": "dog"}, {"id": 9, "name": "cat"}],
        "annotations": [
            {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3]}
            for number, image, category, box in objects
        ],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    return ImageSet.open(folder)


FOUND = [(0, 0.9, 0, 10, 20, 60, 40), (0, 0.8, 1, 90, 30, 50, 60), (1, 0.7, 1, 30, 10, 100, 90)]


def test_the_model_yaml_gets_this_task():
    task = task_of(detector_spec("coco80"))
    assert isinstance(task, Detection) and task.similarity == "IoU" and len(task.labels()) == 80
    assert task.labels()[0] == "person" and task.labels()[79] == "toothbrush"
    assert task_of(pose_detector_spec()).similarity == "OKS" and task.shown_score == 0.25


def test_each_image_is_one_input(animals):
    task = task_of(detector_spec())
    instances = task.instances(animals)
    assert [i.file for i in instances] == ["1.png", "2.png", "3.png"] and instances[0].box == (0, 0, 160, 120)
    assert instance_of(task.describe(instances[1])) == instances[1]
    with pytest.raises(UserError, match="whole images"):
        task.instances(animals, "detections")


def test_the_input_is_the_letterboxed_photograph():
    """160x120 in 64x64: 64x48 with 8 rows of 114 above and below; red first, values 0..1."""
    image = picture(1)
    value = task_of(detector_spec()).input_of(image, whole()[0])
    assert value.shape == (3, SIZE, SIZE) and value.dtype == np.float32
    np.testing.assert_allclose(value[:, :8], 114 / 255, rtol=1e-6)
    resized = cv2.resize(image, (64, 48), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(value[0, 8:56], resized[..., 2] / 255, atol=1e-6)
    np.testing.assert_allclose(value[2, 8:56], resized[..., 0] / 255, atol=1e-6)


def test_outputs_become_boxes_in_the_photograph():
    """Cell (4, 3) of stride 8 in the letterbox of 160x120 (gain 0.4, top 8): centre (36, 28) is (90, 50) there."""
    task = task_of(detector_spec())
    outputs = quiet_head(task.spec, 2)
    put_object(outputs, 8, (4, 3), (1, 0.5, 1, 0.5), label=1, image=1)
    found = task.decode(outputs, whole(2))
    assert found.instance.tolist() == [1] and found.classes.tolist() == [1]
    np.testing.assert_allclose(found.boxes, [[70, 40, 40, 20]], atol=1e-3)
    task.check_outputs({name: (1, *value.shape[1:]) for name, value in outputs.items()}, "test")
    with pytest.raises(UserError, match="expects 6"):
        task.check_outputs({"heatmaps": (1, 17, 64, 48)}, "test")
    with pytest.raises(UserError, match="2] outputs for 3 samples"):
        task.decode(outputs, whole(3))
    with pytest.raises(UserError, match="no flip test"):
        task.decode(outputs, whole(2), outputs)


def test_box_similarity_is_iou_within_a_class():
    a = predictions([(0, 1, 0, 0, 0, 2, 1), (0, 1, 1, 0, 0, 2, 1), (0, 1, 0, 5, 5, 0, 0)])
    b = predictions([(0, 1, 0, 1, 0, 2, 1), (0, 1, 0, 0, 0, 2, 1)])
    np.testing.assert_allclose(box_similarity(a, b), [[1 / 3, 1], [0, 0], [0, 0]])


def test_agreement_counts_what_the_other_side_lacks():
    task = task_of(detector_spec())
    reference = predictions(FOUND)
    same = task.agreement(reference, reference, whole(3))
    assert same.overall == pytest.approx(1) and same.per_instance.tolist() == [1, 1, 1] and "IoU" in same.explanation
    without = task.agreement(reference, reference.select([0, 1]), whole(3))
    assert without.per_instance.tolist() == pytest.approx([1, 0, 1]) and without.overall == pytest.approx(4 / 5)
    relabelled = predictions([FOUND[0], (0, 0.8, 0, 90, 30, 50, 60), FOUND[2]])
    assert task.agreement(reference, relabelled, whole(3)).per_instance[0] == pytest.approx(0.5)
    weak = predictions([*FOUND, (2, 0.1, 0, 5, 5, 9, 9)])
    assert task.agreement(reference, weak, whole(3)).overall == pytest.approx(1), "below the score that is shown"


def test_agreement_of_people_is_oks():
    task = task_of(pose_detector_spec())
    reference = predictions([(0, 0.9, 0, 10, 10, 60, 80)], 17)
    assert task.agreement(reference, reference, whole()).overall == pytest.approx(1)
    moved = Predictions(*reference.arrays().values())
    moved.keypoints[0, :, 0] += 12
    one = task.agreement(predictions([(0, 0.9, 0, 10, 10, 60, 80)], 17), moved, whole())
    assert 0.1 < one.overall < 0.95 and "OKS" in one.explanation


def test_the_objects_themselves_have_ap_1(animals):
    task = task_of(detector_spec())
    instances = task.instances(animals)
    assert task.ground_truth_missing(animals) is None
    accuracy = task.measure(animals, instances, predictions(FOUND))
    assert accuracy.metric == "AP" and accuracy.numbers["AP"] == pytest.approx(1)
    half = task.measure(animals, instances, predictions(FOUND[:1]))
    assert half.numbers["AP"] == pytest.approx(0.5), "cats all, dogs none"
    said = task.protocol(animals, instances)
    assert "2 classes of the network's 2; 3 annotated in 3 of 3 images of animals" in said and "fixed letterbox" in said


def test_classes_are_matched_by_their_names(animals):
    """The network's order and its further classes do not matter; what the set does not know is not counted."""
    task = task_of(detector_spec(["bird", "dog", "cat"]))
    swapped = [(i, s, {0: 2, 1: 1}[c], *box) for i, s, c, *box in FOUND] + [(2, 0.9, 0, 1, 1, 9, 9)]
    found = predictions(sorted(swapped))
    assert task.measure(animals, task.instances(animals), found).numbers["AP"] == pytest.approx(1)
    assert [entry["category_id"] for entry in task.results(animals, whole(3), found)] == [5, 9, 5]
    only_ships = task_of(detector_spec(["ship"]))
    assert "none of the network's classes" in only_ships.ground_truth_missing(animals)


def test_a_part_of_the_images_is_measured_on_that_part(animals):
    task = task_of(detector_spec())
    accuracy = task.measure(animals, task.instances(animals)[:1], predictions(FOUND[:2]))
    assert accuracy.numbers["AP"] == pytest.approx(1) and accuracy.statistic.images == 1


def test_without_ground_truth_there_is_a_reason_and_cocos_numbers(tmp_path):
    bare = ImageSet.open(make_set(tmp_path / "bare", images=2, annotated=False))
    task = task_of(detector_spec("coco80"))
    assert "neither instances.json nor" in task.ground_truth_missing(bare)
    assert task.protocol(bare, task.instances(bare)).startswith("no metric")
    found = predictions([(0, 0.9, 0, 1, 2, 3, 4), (1, 0.5, 79, 1, 2, 3, 4)])
    assert task.results(bare, task.instances(bare), found) == [
        {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.9},
        {"image_id": 2, "category_id": 90, "bbox": [1, 2, 3, 4], "score": 0.5},
    ]
    assert "no person_keypoints.json" in task_of(pose_detector_spec()).ground_truth_missing(bare)


def test_an_80_class_detector_is_measured_on_people_where_only_people_are_annotated(tmp_path):
    people = ImageSet.open(make_set(tmp_path / "people", images=2))
    task = task_of(detector_spec("coco80"))
    found = predictions([(0, 0.9, 0, 10, 12, 40, 80), (0, 0.9, 5, 0, 0, 9, 9), (1, 0.8, 0, 10, 12, 40, 80)])
    assert task.measure(people, task.instances(people), found).numbers["AP"] == pytest.approx(1)
    assert "person of the network's 80" in task.protocol(people, task.instances(people))


def test_a_pose_network_has_keypoint_ap_and_box_ap(tmp_path):
    people = ImageSet.open(make_set(tmp_path / "people", images=3, people=2))
    task = task_of(pose_detector_spec())
    instances = task.instances(people)
    truth = people.annotations.people()
    order = {image["id"]: index for index, image in enumerate(people.images)}
    boxes = np.array([[order[p["image_id"]], 0.9, 0, *p["bbox"]] for p in truth])
    found = predictions(boxes, 17)
    found.keypoints[:] = np.array([p["keypoints"] for p in truth]).reshape(-1, 17, 3)
    accuracy = task.measure(people, instances, found)
    assert accuracy.metric == "AP" and accuracy.numbers["AP"] == pytest.approx(1)
    assert accuracy.numbers["box_AP"] == pytest.approx(1)
    assert accuracy.statistic.value(np.ones(3, int)) == pytest.approx(1)
    found.keypoints[..., :2] += 30
    worse = task.measure(people, instances, found).numbers
    assert worse["AP"] < 0.1 and worse["box_AP"] == pytest.approx(1)
    assert "box_AP" in task.protocol(people, instances)
    assert len(task.results(people, instances, found)[0]["keypoints"]) == 51


def test_the_words_for_the_sidecar_name_the_outputs():
    task = task_of(pose_detector_spec())
    outputs = [{"name": name, "shape": [1, *value.shape[1:]]} for name, value in quiet_head(task.spec).items()]
    steps = " ".join(task.decoding_steps(outputs))
    assert "stride 16: box_16, class_16, keypoints_16" in steps and "16 logits" in steps and "0.7" in steps
    assert "114" in " ".join(task.preprocessing_steps()) and "64x64" in " ".join(task.preprocessing_steps())


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 200), (300, 2)])
def test_tiny_photographs(tmp_path, width, height):
    """One pixel, a line: an input comes out, and a box in it comes back inside the photograph."""
    path = tmp_path / "tiny.png"
    cv2.imwrite(str(path), np.full((height, width, 3), 200, np.uint8))
    task = task_of(detector_spec())
    instance = Instance(1, "tiny.png", (0.0, 0.0, float(width), float(height)), 1.0)
    assert np.isfinite(task.input_of(read_image(path), instance)).all()
    outputs = quiet_head(task.spec)
    put_object(outputs, 32, (1, 1), (9, 9, 9, 9))
    found = task.decode(outputs, [instance])
    np.testing.assert_allclose(found.boxes, [[0, 0, width, height]], atol=1e-4)
