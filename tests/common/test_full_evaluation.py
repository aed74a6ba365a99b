"""`make eval`: pieces, stop and resume, shards, and what is asked; on a very small network."""

import json
import os
import shutil

import numpy as np
import pytest

from common import full_evaluation
from common.basics.errors import UserError
from common.datasets.imageset import ImageSet
from common.evaluation.evaluated_network import FloatNetwork
from common.full_evaluation import Asked, evaluate
from common.graphs.onnx_graph import run_onnx
from common.job import FloatReference
from common.samples import load_arrays, network_inputs
from common.tasks import task_of
from tests.common.image_sets import change_json, make_set, pose_spec
from tests.common.tiny_network import make_reference, tiny_network

ONE_INPUT = 4 * 3 * 64 * 48


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Three people in a piece, two of them in a batch."""
    monkeypatch.setattr(full_evaluation, "CHUNK_BYTES", 3 * ONE_INPUT)
    monkeypatch.setattr(full_evaluation, "BATCH_BYTES", 2 * ONE_INPUT)


@pytest.fixture()
def folder(tmp_path):
    """10 images of 2 people each."""
    return make_set(tmp_path / "set", images=10, people=2)


@pytest.fixture()
def network(tmp_path, folder):
    return FloatNetwork(FloatReference(make_reference(tmp_path / "out", folder)))


def finished(network, asked, capsys=None):
    """The texts of metrics.json and results.json of a run that must end, and their folder."""
    place = evaluate(network, asked)
    assert place is not None
    return (place / "metrics.json").read_text(), (place / "results.json").read_text(), place


def forget(place):
    shutil.rmtree(place)


def test_one_run_is_the_same_as_doing_it_in_one_go(network, folder, capsys):
    metrics, results, place = finished(network, Asked(folder))
    assert place == network.folder / "eval" / "set-gt"
    assert len(list(place.glob("chunk-*.npz"))) == 7  # 20 people, 3 each
    task, image_set = task_of(pose_spec()), ImageSet.open(folder)
    instances = task.instances(image_set)
    outputs = run_onnx(network.folder / "model.onnx", {"image": network_inputs(image_set, instances, task)})
    found = task.decode(outputs, instances)
    assert json.loads(results) == task.results(image_set, instances, found)
    content = json.loads(metrics)
    assert content["numbers"] == task.measure(image_set, instances, found).numbers
    assert content["metric"] == "AP" and content["instances"] == 20 and content["images"] == 10
    assert content["interval"][0] <= content["numbers"]["AP"] <= content["interval"][1]
    said = capsys.readouterr().out
    assert "no flip test" in said and "20 people in " in said and "AP50" in said and str(place) in said


def test_stopped_and_resumed(network, folder, monkeypatch, capsys):
    metrics, results, place = finished(network, Asked(folder))
    forget(place)
    original, calls = FloatNetwork.run, []

    def interrupted(self, inputs):
        calls.append(len(inputs))
        if len(calls) == 8:
            raise KeyboardInterrupt
        return original(self, inputs)

    monkeypatch.setattr(FloatNetwork, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(network, Asked(folder))
    kept = sorted(path.name for path in place.glob("chunk-*"))
    assert 0 < len(kept) < 7 and not list(place.glob("*partial*")) and not (place / "metrics.json").exists()
    assert f"{len(kept)} of 7 pieces are kept" in capsys.readouterr().err
    times = {name: (place / name).stat().st_mtime_ns for name in kept}
    calls.clear()
    calls += [0] * 8
    assert finished(network, Asked(folder))[:2] == (metrics, results)
    assert sum(calls) == 20 - 3 * len(kept)  # nothing is computed twice
    assert times == {name: (place / name).stat().st_mtime_ns for name in kept}
    calls.clear()
    calls += [0] * 8
    assert finished(network, Asked(folder))[:2] == (metrics, results) and sum(calls) == 0
    assert "all of it was done before" in capsys.readouterr().out


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1)])
def test_shards_in_any_order_merge_into_the_numbers_of_one_run(network, folder, order, capsys):
    metrics, results, place = finished(network, Asked(folder))
    forget(place)
    assert evaluate(network, Asked(folder, shard=(order[0], 3))) is None
    assert "are other shards'" in capsys.readouterr().out
    assert evaluate(network, Asked(folder, shard=(order[1], 3))) is None
    assert not (place / "metrics.json").exists()
    assert finished(network, Asked(folder, shard=(order[2], 3)))[:2] == (metrics, results)


def test_shards_on_another_machine_fit_though_its_copies_have_other_times(network, folder, tmp_path):
    copy = tmp_path / "elsewhere" / folder.name
    shutil.copytree(folder, copy)
    for path in copy.iterdir():
        os.utime(path, (1, 1))
    assert evaluate(network, Asked(folder, shard=(1, 2))) is None
    place = evaluate(network, Asked(copy, shard=(2, 2)))
    metrics = (place / "metrics.json").read_text()
    forget(place)
    assert finished(network, Asked(folder))[0] == metrics


def test_a_run_without_a_shard_does_what_is_missing(network, folder, monkeypatch):
    metrics, results, place = finished(network, Asked(folder))
    forget(place)
    evaluate(network, Asked(folder, shard=(2, 2)))  # pieces 1, 3, 5
    evaluate(network, Asked(folder, shard=(2, 2)))  # again: nothing to do
    seen = []
    original = FloatNetwork.run
    monkeypatch.setattr(FloatNetwork, "run", lambda self, inputs: seen.append(len(inputs)) or original(self, inputs))
    assert finished(network, Asked(folder))[:2] == (metrics, results)
    assert sum(seen) == 20 - 9


def test_more_shards_than_pieces(network, folder):
    for number in range(1, 17):
        place = evaluate(network, Asked(folder, shard=(number, 16)))
        assert (place is None) == (number < 7)


def test_another_content_of_the_set_begins_anew(network, folder, capsys):
    _, _, place = finished(network, Asked(folder))
    capsys.readouterr()
    change_json(folder / "person_keypoints.json", lambda content: content["annotations"].pop())
    metrics, _, again = finished(network, Asked(folder))
    assert again == place and json.loads(metrics)["instances"] == 19
    assert "set changed since the last run: beginning anew" in capsys.readouterr().out


def test_another_network_begins_anew(network, folder, capsys):
    _, results, _ = finished(network, Asked(folder))
    tiny_network(network.folder / "model.onnx", seed=7)
    assert finished(FloatNetwork(FloatReference(network.folder)), Asked(folder))[1] != results
    assert "network changed since the last run" in capsys.readouterr().out


def test_a_piece_of_another_request_is_refused(network, folder):
    _, _, place = finished(network, Asked(folder))
    arrays = load_arrays(place / "chunk-000002.npz")
    np.savez(place / "chunk-000002.npz", **(arrays | {"request": np.array("of a run before")}))
    with pytest.raises(UserError, match=r"chunk-000002\.npz belongs to another request"):
        evaluate(network, Asked(folder))


def test_a_damaged_piece_is_named(network, folder):
    _, _, place = finished(network, Asked(folder))
    (place / "chunk-000003.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(UserError, match=r"chunk-000003\.npz is damaged") as caught:
        evaluate(network, Asked(folder))
    assert "remove it" in caught.value.hint


def test_a_damaged_request_begins_anew(network, folder):
    metrics, _, place = finished(network, Asked(folder))
    (place / "request.json").write_text("{")
    assert finished(network, Asked(folder))[0] == metrics


def test_limit_takes_the_first_images_and_measures_on_them_only(network, folder, tmp_path):
    metrics, results, place = finished(network, Asked(folder, limit=4))
    assert place.name == "set-gt-first4"
    content = json.loads(metrics)
    assert content["images"] == 4 and content["instances"] == 8
    # A folder of just these four images gives the same numbers.
    small = tmp_path / "small"
    shutil.copytree(folder, small)
    for number in range(5, 11):
        (small / f"{number}.png").unlink()

    def change(content):
        content["images"] = content["images"][:4]
        content["annotations"] = content["annotations"][:8]

    change_json(small / "person_keypoints.json", change)
    other, its_results, _ = finished(network, Asked(small))
    assert json.loads(other)["numbers"] == content["numbers"] and its_results == results


def test_flip_is_another_request(network, folder):
    _, results, _ = finished(network, Asked(folder))
    metrics, flipped, place = finished(network, Asked(folder, flip=True))
    assert place.name == "set-gt-flip" and flipped != results
    assert ", flip test" in json.loads(metrics)["protocol"]
    assert len(list(place.glob("chunk-*"))) == 20  # two inputs for each person, so one person in a piece


def add_detections(folder, name="person_detections.json", images=range(1, 11), **changes):
    """Two boxes in each image, one of them weak, and one that is no person."""
    entries = []
    for image in images:
        entries += [
            {"image_id": image, "category_id": 1, "bbox": [10, 12, 40, 80], "score": 0.9},
            {"image_id": image, "category_id": 1, "bbox": [100, 12, 30, 70], "score": 0.01},
            {"image_id": image, "category_id": 18, "bbox": [100, 12, 30, 70], "score": 0.8},
        ]
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps([entry | changes for entry in entries]))


def test_detections_are_all_used_rescored_and_measured_on_all_images(network, folder):
    add_detections(folder, images=range(1, 6))
    metrics, results, place = finished(network, Asked(folder, boxes="detections"))
    content = json.loads(metrics)
    assert place.name == "set-detections" and content["instances"] == 10 and content["images"] == 10
    assert "10 detected boxes, rescored" in content["protocol"]
    # Half of the people are in images without a detection, so no more than half can be found.
    assert content["numbers"]["AR"] <= 0.5
    scores = {entry["score"] for entry in json.loads(results)}
    assert min(scores) < 0.02 * max(scores)


def coco_folder(tmp_path, images="val2017"):
    """A set as COCO publishes it: val2017/*.png, annotations/person_keypoints_val2017.json."""
    root = tmp_path / "coco"
    made = make_set(root / images, images=6, people=2)
    (root / "annotations").mkdir()
    (made / "person_keypoints.json").rename(root / "annotations" / "person_keypoints_val2017.json")
    return root


@pytest.mark.parametrize("images", ["val2017", "images/val2017"])
def test_coco_as_published_and_hrnets_detections(network, tmp_path, images):
    root = coco_folder(tmp_path, images)
    _, _, place = finished(network, Asked(root))
    assert place.name == "val2017-gt"
    add_detections(root, "person_detection_results/COCO_val2017_detections_AP_H_56_person.json", range(1, 7))
    add_detections(root, "person_detection_results/COCO_test-dev2017_detections_AP_H_609_person.json", [99])
    metrics, _, place = finished(network, Asked(root, boxes="detections", limit=5))
    assert place.name == "val2017-detections-first5" and json.loads(metrics)["instances"] == 10


def test_opening_does_not_read_the_images(network, folder, monkeypatch):
    """A damaged image is found when it is its turn, by name, and what was done before is kept."""
    data = (folder / "9.png").read_bytes()
    (folder / "9.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"9\.png is truncated"):
        evaluate(network, Asked(folder))
    assert len(list((network.folder / "eval" / "set-gt").glob("chunk-*"))) >= 3


def test_an_image_of_another_size_than_annotated_is_refused(network, folder):
    change_json(folder / "person_keypoints.json", lambda content: content["images"][3].update(width=161))
    with pytest.raises(UserError, match=r"4\.png has 160x120 pixels, but .* says 161x120"):
        evaluate(network, Asked(folder))


def test_without_ground_truth_there_are_results_and_a_reason(network, tmp_path):
    folder = make_set(tmp_path / "plain", images=3, annotated=False)
    add_detections(folder, images=range(1, 4))
    metrics, results, _ = finished(network, Asked(folder))
    content = json.loads(metrics)
    assert content["metric"] is None and "person_keypoints.json" in content["reason"]
    assert len(json.loads(results)) == 6
    assert "box" not in content["numbers"]
