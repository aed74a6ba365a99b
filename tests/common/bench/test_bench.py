"""`make bench` with very small settings: what it measures is the same both ways, and what it says is all there."""

import json

import cv2
import numpy as np
import pytest

from common.basics.errors import UserError
from common.bench import straightforward_topdown as straightforward
from common.bench.__main__ import bench, machine
from common.bench.figure import draw
from common.bench.grouping import drawn_outputs, measure_grouping
from common.bench.growth import fit, repeated_set
from common.bench.pipeline import measure_parts, median_milliseconds
from common.bench.report import table
from common.datasets.imageset import ImageSet
from common.declarations.keypoints import COCO17
from common.graphs.onnx_graph import Runner
from common.preprocessing.preprocess import box_to_center_scale, crop_person, normalize, read_image
from common.samples import network_inputs
from common.tasks import task_of
from tests.common.image_sets import make_set, pose_spec
from tests.common.tiny_network import make_reference


@pytest.fixture()
def folder(tmp_path):
    return make_set(tmp_path / "set", images=4, people=2, suffix=".jpg")


@pytest.fixture()
def reference(tmp_path, folder):
    return make_reference(tmp_path / "out", folder)


def test_the_straightforward_loop_computes_the_same(folder, reference):
    spec, image_set = pose_spec(ground_truth_boxes="hrnet"), ImageSet.open(folder)
    task = task_of(spec)
    instances = task.instances(image_set)
    outputs = Runner(reference / "model.onnx").run({"image": network_inputs(image_set, instances, task)})
    found = task.decode(outputs, instances)
    people = []
    for index, instance in enumerate(instances):
        image = straightforward.read_photograph(image_set.path(instance.file))
        np.testing.assert_array_equal(image, read_image(image_set.path(instance.file)))
        place = box_to_center_scale(instance.box, 48 / 64, 1.25)
        crop = straightforward.crop(image, instance, spec)
        # The map from three float32 points differs in its last digits, the bilinear weights by a step of 1/32.
        assert np.abs(crop.astype(int) - crop_person(image, *place, (48, 64))).mean() < 0.5
        np.testing.assert_allclose(straightforward.normalize(crop, spec), normalize(crop, spec.input), atol=2e-6)
        people.append(straightforward.decode(outputs["heatmaps"][index], instance, spec))
        np.testing.assert_allclose(people[-1], found.keypoints[index], atol=2e-3)
    kept = straightforward.rescore_and_suppress(people, instances, spec, COCO17)
    expected = [instances[index].image_id for index in kept]
    assert [entry["image_id"] for entry in task.results(image_set, instances, found)] == expected


def test_the_parts(folder, reference):
    image_set, task = ImageSet.open(folder), task_of(pose_spec())
    measured = measure_parts(task, image_set, task.instances(image_set), Runner(reference / "model.onnx"), 2)
    assert measured["people"] == 8 and measured["images"] == 4
    assert [part.name for part in measured["parts"]] == [
        "read and decode the JPEG", "crop", "normalise", "decode heatmaps", "rescore, OKS-NMS", "COCOeval"]  # fmt: skip
    assert all(part.ours > 0 and (part.plain is None or part.plain > 0) for part in measured["parts"])
    assert measured["inference"] > 0 and measured["overlapped"] > 0


def test_the_median_of_the_repeats_by_person(monkeypatch):
    times = iter([0.0, 1.0, 10.0, 14.0, 20.0, 22.0])  # 1, 4 and 2 seconds
    monkeypatch.setattr("common.bench.pipeline.time.perf_counter", lambda: next(times))
    assert median_milliseconds(lambda: None, 3, 4) == 500


def test_the_drawn_maps_hold_the_people(tmp_path):
    first, second = drawn_outputs(10, 512)
    assert first.shape == (34, 128, 128) and second.shape == (17, 256, 256)
    measured = measure_grouping(3, 1, 128)
    assert measured["found"] == measured["people"] == 3 and measured["width"] == 128
    assert min(measured[name] for name in ("merge", "ours", "plain")) > 0


def test_everything_together(folder, reference, tmp_path, capsys):
    content = bench(reference, reference, folder, people=5, repeats=1, growth=[1, 3, 9])
    json.dumps(content, allow_nan=False)
    pipeline, growth = content["pipeline"], content["growth"]
    assert pipeline["people"] == 5 and content["network"] == "tester" and content["machine"]["cores"] >= 1
    assert pipeline["around"] == pytest.approx(sum(part["ours"] for part in pipeline["parts"]))
    assert pipeline["share"] == pytest.approx(pipeline["around"] / pipeline["inference"])
    assert [(row["images"], row["people"]) for row in growth["runs"]] == [(1, 2), (3, 6), (9, 18)]
    assert all(row["inference_seconds"] > 0 and row["seconds"] > 0 for row in growth["runs"])
    assert all(30_000_000 < row["peak_bytes"] < 600_000_000 for row in growth["runs"])
    assert growth["network"] == "tester" and growth["fit"]["seconds_per_image"] < 5
    assert not (reference.parent / "growth").exists() and not list(reference.glob("growth*"))
    text = table(content)
    for word in ("decode heatmaps", "share of inference", "10 people in 512x512", "images/s", machine()["processor"]):
        assert word in text
    assert " an image, no run is more than " in text and " kB of memory an image" in text
    draw(content, tmp_path / "bench.png")
    assert cv2.imread(str(tmp_path / "bench.png")).shape[1] > 1000


def test_more_images_than_there_are(folder, tmp_path):
    made = repeated_set(folder, tmp_path / "more", 10)
    image_set = ImageSet.open(made)
    instances = task_of(pose_spec()).instances(image_set)
    assert len(image_set.images) == 10 and len(instances) == 20
    again = [instance for instance in instances if instance.image_id == 9]  # the first of the four, for the third time
    assert [instance.box for instance in again] == [instance.box for instance in instances if instance.image_id == 1]
    with pytest.raises(UserError, match=r"no person_keypoints\.json"):
        repeated_set(tmp_path, tmp_path / "none", 3)


def test_the_line_through_the_runs():
    def run(images, seconds, peak):
        return {"images": images, "seconds": seconds, "peak_bytes": peak}

    line = fit([run(10, 3.0, 50_000), run(100, 12.0, 100_000), run(1000, 102.0, 190_000)])
    assert (line["start_seconds"], line["seconds_per_image"]) == (pytest.approx(2), pytest.approx(0.1))
    assert line["bytes_per_image"] == pytest.approx(100) and line["largest_deviation"] < 1e-6
    bent = fit([run(10, 3.0, 1), run(100, 12.0, 1), run(1000, 1000.0, 1)])
    assert bent["largest_deviation"] > 0.3
    assert fit([run(10, 3.0, 1)]) is None
