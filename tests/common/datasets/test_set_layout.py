"""The layouts that people have, and that a set is read to its last byte only once."""

import json

import pytest

from common.basics.errors import UserError
from common.datasets import image_file, imageset, set_layout
from common.datasets.imageset import ImageSet
from tests.common.image_sets import change_json, make_set


def refused(folder, match):
    """Opening must fail with one UserError that has a hint."""
    with pytest.raises(UserError, match=match) as caught:
        ImageSet.open(folder)
    assert caught.value.hint


def count_reads(monkeypatch):
    read = []
    original = image_file.image_size
    monkeypatch.setattr(
        imageset, "image_size", lambda path, whole=True: read.append((path.name, whole)) or original(path, whole)
    )
    return read


def test_a_set_is_checked_once_until_a_file_changes(tmp_path, monkeypatch):
    read = count_reads(monkeypatch)
    folder = make_set(tmp_path / "set", images=4)
    first = ImageSet.open(folder)
    assert read == [(f"{number}.png", True) for number in (1, 2, 3, 4)]
    assert ImageSet.open(folder).images == first.images and len(read) == 4
    data = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(data[:-20])
    refused(folder, r"3\.png is truncated")
    refused(folder, r"3\.png is truncated")  # a bad verdict is not remembered
    (folder / "3.png").write_bytes(data)
    assert ImageSet.open(folder).images == first.images


def test_the_memory_of_checked_sets_may_be_read_only_or_old(tmp_path, monkeypatch):
    folder = make_set(tmp_path / "set", images=2)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(set_layout, "VERDICTS", tmp_path / "file" / "sets")  # no such folder can be made
    assert len(ImageSet.open(folder).images) == 2
    monkeypatch.setattr(set_layout, "VERDICTS", tmp_path / "sets")
    ImageSet.open(folder)
    (verdict,) = (tmp_path / "sets").iterdir()
    change_json(verdict, lambda content: content.update(version=0, sizes={}))
    read = count_reads(monkeypatch)
    ImageSet.open(folder)
    assert len(read) == 2


def test_an_evaluation_reads_no_image_up_front(tmp_path, monkeypatch):
    read = count_reads(monkeypatch)
    annotated = make_set(tmp_path / "a", images=3)
    assert ImageSet.open(annotated, whole=False).images[0]["width"] == 160 and read == []
    plain = make_set(tmp_path / "b", images=3, annotated=False)
    data = (plain / "2.png").read_bytes()
    (plain / "2.png").write_bytes(data[:-20])
    image_set = ImageSet.open(plain, whole=False)
    assert read == [(f"{number}.png", False) for number in (1, 2, 3)]  # headers: the sizes are nowhere else
    with pytest.raises(UserError, match=r"2\.png is truncated"):
        image_set.read(imageset.Instance(2, "2.png", (0, 0, 160, 120), 1.0))


def test_several_detection_files(tmp_path):
    folder = make_set(tmp_path / "val2017", images=1)
    results = folder / "person_detection_results"
    results.mkdir()
    box = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]
    (results / "detections_of_val2017.json").write_text(json.dumps(box))
    assert len(ImageSet.open(folder).instances("detections")) == 1
    (results / "detections_of_test2017.json").write_text("[]")
    assert len(ImageSet.open(folder).instances("detections")) == 1  # the one that names the images' folder
    (results / "val2017_again.json").write_text(json.dumps(box))
    refused(folder, "several detection files")


def test_objects_as_published_without_people(tmp_path):
    make_set(tmp_path / "val2017", images=2, annotated=False)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text("{}")
    image_set = ImageSet.open(tmp_path)
    assert len(image_set.images) == 2 and image_set.image_folder == tmp_path / "val2017" and not image_set.annotations


def test_coco_as_published(tmp_path):
    make_set(tmp_path / "val2017", images=2)
    (tmp_path / "annotations").mkdir()
    source = tmp_path / "val2017" / "person_keypoints.json"
    source.rename(tmp_path / "annotations" / "person_keypoints_val2017.json")
    image_set = ImageSet.open(tmp_path)
    assert len(image_set.instances("gt")) == 2 and image_set.path("1.png") == tmp_path / "val2017" / "1.png"
