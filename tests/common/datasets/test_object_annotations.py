import json

import pytest

from common.basics.errors import UserError
from common.datasets.imageset import ImageSet
from common.datasets.object_annotations import objects_of
from tests.common.image_sets import change_json, make_set


def entry(number, image_id, category_id, box, **changes):
    return {"id": number, "image_id": image_id, "category_id": category_id, "bbox": box, **changes}


def content(names=("1.png", "2.png")):
    """Two images under ids of their own, a cat, a dog, a crowd of dogs and a box without area."""
    return {
        "images": [{"id": 70 + index, "file_name": name} for index, name in enumerate(names)],
        "categories": [{"id": 5, "name": "dog"}, {"id": 9, "name": "cat"}, {"id": 2, "name": "ship"}],
        "annotations": [
            entry(1, 70, 9, [10, 10, 40, 30], area=800.5, segmentation=[[1, 2, 3]]),
            entry(2, 71, 5, [20, 10, 40, 50]),
            entry(3, 71, 5, [0, 0, 90, 50], iscrowd=1),
            entry(4, 71, 2, [5, 5, 0, 0]),
        ],
    }


@pytest.fixture
def folder(tmp_path):
    folder = make_set(tmp_path / "set", images=2, annotated=False)
    (folder / "instances.json").write_text(json.dumps(content()))
    return folder


def test_images_are_matched_by_file_and_classes_by_name(folder):
    objects = objects_of(ImageSet.open(folder))
    assert objects.categories == {"dog": 5, "cat": 9, "ship": 2} and objects.images == {1, 2}
    truth = objects.truth(["cat", "dog", "bird"], [1, 2, 3])
    assert truth["categories"] == [{"id": 9, "name": "cat"}, {"id": 5, "name": "dog"}]
    assert [(a["id"], a["image_id"], a["area"], a["iscrowd"]) for a in truth["annotations"]] == [
        (1, 1, 800.5, 0), (2, 2, 2000.0, 0), (3, 2, 4500.0, 1),
    ]  # fmt: skip
    assert truth["images"] == [{"id": 1}, {"id": 2}]
    only = objects.truth(["dog"], [1])
    assert only["annotations"] == [] and only["images"] == [{"id": 1}]


def test_the_published_layout(tmp_path):
    parts = tmp_path / "coco"
    make_set(parts / "val2017", images=2)
    (parts / "annotations").mkdir()
    (parts / "val2017" / "person_keypoints.json").rename(parts / "annotations" / "person_keypoints_val2017.json")
    assert objects_of(ImageSet.open(parts)).categories == {"person": 1}
    (parts / "annotations" / "instances_val2017.json").write_text(json.dumps(content()))
    assert "cat" in objects_of(ImageSet.open(parts)).categories


def test_the_published_layout_with_objects_only(tmp_path):
    parts = tmp_path / "coco"
    make_set(parts / "images" / "val2017", images=2, annotated=False)
    (parts / "annotations").mkdir()
    (parts / "annotations" / "instances_val2017.json").write_text(json.dumps(content()))
    objects = objects_of(ImageSet.open(parts))
    assert objects.images == {1, 2} and len(objects.annotations) == 4


def test_people_are_the_one_class_without_such_a_file(tmp_path):
    objects = objects_of(ImageSet.open(make_set(tmp_path / "set", images=2)))
    truth = objects.truth(["person", "cat"], [1, 2])
    assert objects.categories == {"person": 1} and len(truth["annotations"]) == 2
    assert "keypoints" not in truth["annotations"][0]
    assert objects_of(ImageSet.open(make_set(tmp_path / "bare", images=1, annotated=False))) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("categories"), "lacks the lists"),
        (
            lambda c: c["images"].append({"id": 99, "file_name": "lost.png"}),
            "1 images that are not in the set: lost.png",
        ),
        (lambda c: c["images"][0].pop("file_name"), r"images\[0\] lacks"),
        (lambda c: c["images"].append({"id": 70, "file_name": "3.png"}), "image id 70 twice"),
        (lambda c: c["categories"].append({"id": 77, "name": "cat"}), "category name cat twice"),
        (lambda c: c["categories"][0].pop("name"), r"categories\[0\] lacks"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), r"annotations\[0\] has no 'bbox'"),
        (lambda c: c["annotations"][1].update(image_id=12345), r"annotations\[1\] is of the image 12345"),
        (lambda c: c["annotations"][1].update(category_id=44), r"annotations\[1\] has the category 44"),
        (lambda c: c["annotations"][1].update(id=1), "annotation id 1 twice"),
        (lambda c: c["annotations"][2].pop("image_id"), r"annotations\[2\] lacks a number 'image_id'"),
        (lambda c: c["annotations"][2].update(area="big"), r"annotations\[2\] has an 'area'"),
    ],
)
def test_damage_is_named(folder, change, said):
    change_json(folder / "instances.json", change)
    image_set = ImageSet.open(folder)
    with pytest.raises(UserError, match=said) as caught:
        objects_of(image_set)
    assert "instances.json" in caught.value.message and caught.value.hint


def test_a_file_that_is_no_json(folder):
    (folder / "instances.json").write_text("{")
    with pytest.raises(UserError, match=r"instances\.json"):
        objects_of(ImageSet.open(folder))
