"""Where a top-down network looks: a detector's people, a file's, or the whole picture; and what DETECTOR= may say."""

import pytest

from common.basics.files import write_json
from common.draw_photo import draw_pictures
from common.drawing.networks import Frame
from common.drawing.person_boxes import Detected, FileBoxes, find_finder
from tests.common.dot_networks import DotDetector, DotNetwork, dotted, refused, save_dotted, sides_of


def coco(tmp_path, **changes):
    image = {"id": 7, "file_name": "street.png", "width": 400, "height": 300} | changes
    person = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [60, 60, 80, 90]}
    crowd = {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 400, 300], "iscrowd": 1}
    write_json(tmp_path / "truth.json", {"images": [image], "annotations": [person, crowd]})
    return tmp_path / "truth.json"


def test_only_people_count_and_a_network_without_them_is_no_detector():
    detector = DotDetector()
    finder = Detected(detector)
    finder.person = 0  # dogs: it finds none
    assert finder.boxes([Frame("a", dotted(128, 128, (64, 64)))]) == [[]]
    detector.task.names = ["dog", "cat"]
    detector.task.labels = lambda: ["dog", "cat"]
    assert "finds no person; its classes: dog, cat" in refused(Detected, detector, code=2)


def test_boxes_of_a_file(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = save_dotted(tmp_path / "street.png", 400, 300, (90, 100), (310, 200))
    truth = FileBoxes(coco(tmp_path), ["street.png"])
    (person,) = truth.boxes([Frame("street.png", dotted(400, 300))])[0]
    assert person.box == (60, 60, 79, 89) and person.area == 7200  # as HRNet takes them, and as the proof does
    (person,) = FileBoxes(coco(tmp_path), ["street.png"], "annotated").boxes([Frame("street.png", dotted(400, 300))])[0]
    assert person.box == (60, 60, 80, 90)
    draw_pictures(sides_of(), truth, [path])
    assert "OKS 1.0000 with float, 1 person\npeople of truth.json" in capsys.readouterr().out
    wrong = FileBoxes(coco(tmp_path, width=800), ["street.png"])
    assert "street.png has 400x300 pixels, but truth.json says 800x300" in refused(
        draw_pictures, sides_of(), wrong, [path]
    )
    assert "has no person in other.png" in refused(FileBoxes, coco(tmp_path), ["other.png"])


@pytest.mark.parametrize(("number", "name"), [(785, "000000000785.jpg"), (1, "street.jpg")])
def test_boxes_of_a_results_list_go_by_number(tmp_path, number, name):
    entries = [{"image_id": number, "category_id": 1, "bbox": [1, 2, 30, 40], "score": score} for score in (0.9, 0.1)]
    entries.append({"image_id": number, "category_id": 3, "bbox": [9, 9, 9, 9], "score": 0.9})
    write_json(tmp_path / "found.json", entries)
    finder = FileBoxes(tmp_path / "found.json", [name])
    (people,) = finder.boxes([Frame(name, dotted(64, 64))])
    assert [(one.box, one.score) for one in people] == [((1.0, 2.0, 30.0, 40.0), 0.9)]
    assert "no person in 000000000786.jpg" in refused(FileBoxes, tmp_path / "found.json", ["000000000786.jpg"])


def test_a_detector_s_name(tmp_path, monkeypatch, test_chip):
    topdown, whole = DotNetwork().task.spec, DotDetector().task.spec
    assert "says nothing" in refused(find_finder, whole, "x", ["a.jpg"], code=2)
    assert find_finder(whole, "", ["a.jpg"]).words == "" and "one person" in find_finder(topdown, "", None).words
    assert "DETECTOR=a/b/c/d is no network" in refused(find_finder, topdown, "a/b/c/d", None, code=2)
    assert "DETECTOR=nothing: unknown MODEL 'nothing'" in refused(find_finder, topdown, "nothing", None, code=2)
    assert "not of a clip's frames" in refused(find_finder, topdown, "boxes.json", None, code=2)
    assert "boxes.json is missing" in refused(find_finder, topdown, "boxes.json", ["a.jpg"])
    asked = []
    monkeypatch.setattr("common.drawing.person_boxes.find_built", lambda *names: asked.append(names) or DotDetector())
    monkeypatch.setattr("common.drawing.person_boxes.has_random_weights", lambda network: len(asked) > 1)
    assert find_finder(topdown, "finder", None).words == "people found by finder float"
    untrained = find_finder(topdown, "finder/testchip/int8", None)
    assert untrained.words == "people found by finder float, whose weights are random"
    assert asked == [("finder", "", "", "float", ""), ("finder", "", "", "testchip", "int8")]
    monkeypatch.setattr("common.drawing.person_boxes.find_built", lambda *names: DotNetwork())
    assert "it finds nobody" in refused(find_finder, topdown, "dots", None, code=2)
