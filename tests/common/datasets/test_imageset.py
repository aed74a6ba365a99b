import json

import cv2
import pytest

from common.basics.errors import UserError
from common.datasets.imageset import ImageSet
from common.declarations.keypoints import COCO17, MPII16
from tests.common.image_sets import change_json, make_set, person, picture


def refused(folder, match):
    """Opening must fail with one UserError that has a hint; returns it."""
    with pytest.raises(UserError, match=match) as caught:
        ImageSet.open(folder)
    assert caught.value.hint
    return caught.value


def test_annotated_set(tmp_path):
    image_set = ImageSet.open(make_set(tmp_path / "set", images=3, people=2))
    assert [image["file"] for image in image_set.images] == ["1.png", "2.png", "3.png"]
    assert image_set.has_keypoints and image_set.box_source == "gt"
    assert image_set.coco_file == tmp_path / "set" / "person_keypoints.json"
    instances = image_set.instances()
    assert [(i.image_id, i.annotation_id) for i in instances] == [(1, 10), (1, 11), (2, 20), (2, 21), (3, 30), (3, 31)]
    assert instances[0].box == (10, 12, 39, 79) and instances[0].score == 1 and instances[0].area == 40 * 80 * 0.6
    assert image_set.instances(ground_truth_boxes="annotated")[0].box == (10, 12, 40, 80)


def test_plain_folder_takes_all_suffixes_and_numbers_images(tmp_path):
    for name in ("b.JPG", "a.jpeg", "c.PNG", "d.bmp", "e.webp"):
        cv2.imwrite(str(tmp_path / name), picture(1))
    (tmp_path / "notes.txt").write_text("not an image")
    image_set = ImageSet.open(tmp_path)
    assert [(i["id"], i["file"]) for i in image_set.images] == [
        (1, "a.jpeg"), (2, "b.JPG"), (3, "c.PNG"), (4, "d.bmp"), (5, "e.webp")]  # fmt: skip
    assert image_set.images[0]["width"] == 160 and image_set.images[0]["height"] == 120
    assert not image_set.has_keypoints and image_set.box_source is None and image_set.instances() == []


def detections_file(folder, entries):
    (folder / "person_detections.json").write_text(json.dumps(entries))


def test_detections_find_their_images_by_the_number_in_the_name(tmp_path):
    for name in ("000000000785.jpg", "000000040083.jpg"):
        cv2.imwrite(str(tmp_path / name), picture(1))
    box = [-5.5, 2, 30, 400]
    detections_file(tmp_path, [
        {"image_id": 40083, "category_id": 1, "bbox": box, "score": 0.4},
        {"image_id": 785, "category_id": 1, "bbox": [1, 2, 0, 0], "score": 0.9},
        {"image_id": 785, "category_id": 18, "bbox": [1, 2, 3, 4], "score": 0.9},
        {"image_id": 785, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.2},
    ])  # fmt: skip
    image_set = ImageSet.open(tmp_path)
    assert image_set.box_source == "detections"
    found = image_set.instances()
    # Boxes as they are (not clipped), nothing without a size, people only, in the images' order.
    assert [(i.file, i.box, i.score) for i in found] == [
        ("000000000785.jpg", (1, 2, 3, 4), 0.2), ("000000040083.jpg", tuple(box), 0.4)]  # fmt: skip
    assert len(image_set.instances(minimum_score=0.3)) == 1


def test_ground_truth_counts_as_in_top_down_evaluation(tmp_path):
    folder = make_set(tmp_path / "set", images=1)
    whole = [10.0, 12.0, 40.0, 80.0]

    def change(content):
        content["annotations"] = [
            person(1, 1, whole),
            person(2, 1, whole, iscrowd=1),
            person(3, 1, whole, keypoints=[0] * 51, num_keypoints=0),
            person(4, 1, [10.0, 12.0, 0.0, 80.0]),
            person(5, 1, [10.0, 12.0, 40.0, 80.0], area=0),
            person(6, 1, [500.0, 12.0, 40.0, 80.0]),
            person(7, 1, whole, category_id=3),
        ]

    change_json(folder / "person_keypoints.json", change)
    assert [instance.annotation_id for instance in ImageSet.open(folder).instances("gt")] == [1]


def test_keypoint_set_is_checked(tmp_path):
    image_set = ImageSet.open(make_set(tmp_path / "set", images=2))
    image_set.check_keypoints(COCO17)
    with pytest.raises(UserError, match="51 keypoint numbers, but mpii16 has 16"):
        image_set.check_keypoints(MPII16)
    path = tmp_path / "set" / "person_keypoints.json"
    change_json(path, lambda content: content["categories"][0]["keypoints"].reverse())
    with pytest.raises(UserError, match="another order"):
        ImageSet.open(tmp_path / "set").check_keypoints(COCO17)


def test_no_folder_no_images(tmp_path):
    refused(tmp_path / "none", "does not exist")
    refused(tmp_path, "has no images")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "is not a folder")


@pytest.mark.parametrize("annotated", [True, False])
def test_unreadable_image_among_good_ones_is_named(tmp_path, annotated):
    folder = make_set(tmp_path / "set", images=4, annotated=annotated)
    data = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(data[: len(data) // 2])
    assert "3.png is truncated" in refused(folder, "3.png").message


def test_unreadable_image_is_named_even_when_it_is_not_annotated(tmp_path):
    folder = make_set(tmp_path / "set", images=2)
    (folder / "extra.jpg").write_bytes(b"not a picture")
    refused(folder, r"extra\.jpg")


def test_images_that_are_not_annotated_are_left_out_with_a_warning(tmp_path, capsys):
    folder = make_set(tmp_path / "set", images=2)
    cv2.imwrite(str(folder / "extra.jpg"), picture(7))
    assert len(ImageSet.open(folder).images) == 2
    assert "extra.jpg" in capsys.readouterr().err


def test_annotations_that_name_missing_images(tmp_path):
    folder = make_set(tmp_path / "set", images=6)
    for number in (2, 3, 4, 5):
        (folder / f"{number}.png").unlink()
    error = refused(folder, r"names 4 images that are not in .*: 2\.png, 3\.png, 4\.png and 1 more")
    assert "copy" in error.hint


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c["annotations"][0].update(image_id=99), "does not list: image_id 99"),
        (lambda c: c["annotations"][0].pop("bbox"), r"annotations\[0\] has no 'bbox'"),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, "3", 4]), r"annotations\[1\] has no 'bbox'"),
        (lambda c: c["annotations"][0].update(keypoints=[1, 2]), "no 'keypoints'"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, float("nan"), 4]), "bbox"),
        (lambda c: c["annotations"][0].update(id=c["annotations"][1]["id"]), "annotation id 20 twice"),
        (lambda c: c["images"][0].update(file_name="2.png"), r"file_name 2\.png twice"),
        (lambda c: c["images"][0].update(file_name="../1.png"), "leaves the folder"),
        (lambda c: c["images"][0].update(file_name="/etc/1.png"), "leaves the folder"),
        (lambda c: c["images"][0].update(width=161), "has 160x120 pixels, but .* says 161x120"),
        (lambda c: c["images"][0].pop("id"), r"images\[0\]"),
        (lambda c: c.pop("images"), "lacks the lists"),
        (lambda c: c.update(annotations=[1]), "lacks the lists"),
    ],
)
def test_damaged_annotations(tmp_path, change, match):
    folder = make_set(tmp_path / "set", images=2)
    change_json(folder / "person_keypoints.json", change)
    refused(folder, match)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\x00\x01", "null"])
@pytest.mark.parametrize("name", ["person_keypoints.json", "person_detections.json"])
def test_files_that_are_not_what_they_should_be(tmp_path, name, text):
    folder = make_set(tmp_path / "set", images=2)
    (folder / name).write_text(text)
    refused(folder, name)


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ({"image_id": 9, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}, "not in the set: image_id 9"),
        ({"image_id": 1, "category_id": 1, "bbox": [1, 2, 3], "score": 1}, "entry 0 has no 'bbox'"),
        ({"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}, "no number 'score'"),
        ({"category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}, "image_id"),
    ],
)
def test_damaged_detections(tmp_path, entry, match):
    folder = make_set(tmp_path / "set", images=2)
    detections_file(folder, [entry])
    refused(folder, match)


def test_a_box_without_width_is_kept_where_hrnet_keeps_it(tmp_path):
    """HRNet makes boxes one pixel smaller and drops none of size 0: the crop grows to the aspect ratio anyway."""
    folder = make_set(tmp_path / "set", images=1)
    boxes = [[10.0, 12.0, 1.0, 80.0], [10.0, 12.0, 40.0, 1.0], [10.0, 12.0, 1.0, 1.0], [10.0, 12.0, 0.0, 0.0]]
    change_json(
        folder / "person_keypoints.json",
        lambda content: content.update(annotations=[person(n, 1, box, area=9) for n, box in enumerate(boxes)]),
    )
    image_set = ImageSet.open(folder)
    assert [instance.box for instance in image_set.instances("gt")] == [(10, 12, 0, 79), (10, 12, 39, 0)]
    # mmpose's data code wants x2 > x1 and y2 > y1.
    annotated = image_set.instances("gt", ground_truth_boxes="annotated")
    assert [instance.box[2:] for instance in annotated] == [(1, 80), (40, 1), (1, 1)]


def test_people_without_a_list_of_keypoints_are_known_but_not_counted(tmp_path):
    folder = make_set(tmp_path / "set", images=2, people=2)
    change_json(folder / "person_keypoints.json", lambda content: content["annotations"][0].pop("keypoints"))
    image_set = ImageSet.open(folder)
    assert [instance.annotation_id for instance in image_set.instances("gt")] == [11, 20, 21]
    image_set.check_keypoints(COCO17)
    listed = image_set.annotations.as_coco()["annotations"]
    assert listed[0]["keypoints"] == [0] * 51 and listed[0]["num_keypoints"] == 0


def test_nobody_with_keypoints(tmp_path):
    folder = make_set(tmp_path / "set", images=2)

    def change(content):
        for annotation in content["annotations"]:
            annotation.pop("keypoints"), annotation.pop("num_keypoints")

    change_json(folder / "person_keypoints.json", change)
    image_set = ImageSet.open(folder)
    assert not image_set.has_keypoints and image_set.instances("auto") == []
    assert image_set.annotations.keypoint_set() == "coco17"  # by the names in the category


@pytest.mark.parametrize(("joints", "named", "expected"), [
    (17, True, "coco17"), (17, False, "coco17"), (16, False, "mpii16"), (14, False, None), (0, False, None),
])  # fmt: skip
def test_which_keypoint_set_it_is(tmp_path, joints, named, expected):
    folder = make_set(tmp_path / "set", images=2)

    def change(content):
        content["annotations"][1]["keypoints"] = []
        content["annotations"][0]["keypoints"] = content["annotations"][0]["keypoints"][: 3 * joints]
        if not named:
            content.pop("categories")

    change_json(folder / "person_keypoints.json", change)
    assert ImageSet.open(folder).annotations.keypoint_set() == expected


def test_names_in_another_order_are_another_set(tmp_path):
    folder = make_set(tmp_path / "set", images=1)
    change_json(folder / "person_keypoints.json", lambda content: content["categories"][0]["keypoints"].reverse())
    assert ImageSet.open(folder).annotations.keypoint_set() is None


def test_the_first_images_only(tmp_path):
    folder = make_set(tmp_path / "set", images=5, people=2)
    detections_file(folder, [{"image_id": n, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5} for n in (1, 2, 5)])
    few = ImageSet.open(folder).first(2)
    assert [image["id"] for image in few.images] == [1, 2] and few.limited
    assert [instance.annotation_id for instance in few.instances("gt")] == [10, 11, 20, 21]
    assert len(few.annotations.images) == 2 and len(few.instances("detections")) == 2
    assert len(ImageSet.open(folder).first(99).images) == 5


def test_missing_numbers_are_filled_in(tmp_path):
    folder = make_set(tmp_path / "set", images=2)

    def change(content):
        for annotation in content["annotations"]:
            for key in ("num_keypoints", "area", "iscrowd", "category_id"):
                annotation.pop(key)
        content.pop("categories")

    change_json(folder / "person_keypoints.json", change)
    instance = ImageSet.open(folder).instances("gt")[0]
    assert instance.area == 40 * 80


def test_outlines_are_not_kept(tmp_path):
    folder = make_set(tmp_path / "set", images=2)

    def change(content):
        for annotation in content["annotations"]:
            annotation |= {"segmentation": [[1, 2, 3, 4, 5, 6]], "area": 5.5}

    change_json(folder / "person_keypoints.json", change)
    people = ImageSet.open(folder).annotations.annotations
    assert {person["area"] for person in people} == {5.5} and not any("segmentation" in person for person in people)
