"""The stages from samples to metrics, run on a very small network; the chip is onnxruntime with something added."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from common.basics.errors import UserError
from common.basics.files import read_json
from common.compare import compare_cell
from common.datasets.imageset import ImageSet
from common.decoding.predictions import read_predictions
from common.engines import engine
from common.evaluate import evaluate_cell, metrics
from common.evaluation import inference
from common.graphs.onnx_graph import run_onnx
from common.job import Cell, FloatReference
from common.reference import make_reference as run_reference
from common.samples import load_arrays, make_samples, network_inputs, sample_count
from common.tasks import task_of
from tests.common.image_sets import make_set, pose_spec
from tests.common.tiny_network import make_cell, make_reference

REAL = Path(__file__).parents[2] / ".." / "shared" / "real"


@pytest.fixture()
def built(tmp_path):
    """A finished float reference on 6 images of 2 people, and a cell with the samples beside it."""
    evaluation = make_set(tmp_path / "set", images=6, people=2)
    reference = make_reference(tmp_path / "out", evaluation)
    make_samples(FloatReference(reference))
    run_reference(FloatReference(reference))
    cell = make_cell(tmp_path / "out")
    shutil.copy(reference / "samples.npz", cell / "samples.npz")
    return reference, cell


def simulate(cell, change=lambda outputs: outputs):
    """What the vendor's infer.py would have left: outputs.npz, with `change` done to the float outputs."""
    outputs = change(run_onnx(str(cell.parents[1] / "float" / "model.onnx"), load_arrays(cell / "samples.npz")))
    np.savez(cell / "outputs.npz", **outputs)


def test_samples_are_the_first_instances_as_the_network_sees_them(built):
    reference, _ = built
    description = read_json(reference / "samples.json")
    image_set = ImageSet.open(description["set"])
    samples = load_arrays(reference / "samples.npz")
    assert list(samples) == ["image"] and samples["image"].dtype == np.float32
    task = task_of(pose_spec())
    instances = task.instances(image_set)
    np.testing.assert_array_equal(samples["image"], network_inputs(image_set, instances, task))
    assert description["boxes"] == "gt" and len(description["instances"]) == 12
    first = description["instances"][0]
    assert first["file"] == "1.png" and first["annotation_id"] == 10 and first["box"] == [10, 12, 40, 80]
    assert first["center"] == [30, 52] and first["scale"] == pytest.approx([60 * 1.25 / 200, 80 * 1.25 / 200])


def test_sample_count_is_bounded_by_number_and_bytes():
    assert sample_count(5000, pose_spec()) == 256
    assert sample_count(7, pose_spec()) == 7
    assert sample_count(5000, pose_spec(shape=[1, 3, 384, 288])) == 150_000_000 // (4 * 3 * 384 * 288)


def test_evaluation_set_without_people_is_refused(tmp_path):
    reference = make_reference(tmp_path / "out", make_set(tmp_path / "set", annotated=False))
    with pytest.raises(UserError, match="no person boxes") as caught:
        make_samples(FloatReference(reference))
    assert "person_keypoints.json" in caught.value.hint and not (reference / "samples.npz").exists()


def test_lossless_chip(built):
    reference, folder = built
    simulate(folder)
    cell = Cell(folder)
    compare_cell(cell)
    evaluate_cell(cell)
    assert read_json(folder / "compare.json")["agreement"] == 1
    result = read_json(folder / "metrics.json")
    assert result["drop"] == {"AP": 0, "interval": [0, 0]} and result["float"] == result["chip"]
    assert result["instances"] == 12 and result["images"] == 6
    assert "12 people with keypoints in 6 images of set, ground-truth boxes, no flip test" in result["protocol"]
    assert read_json(folder / "predictions.json") == read_json(reference / "predictions.json")


def test_ruined_chip(built):
    _, folder = built
    simulate(folder, lambda outputs: {name: -value for name, value in outputs.items()})
    compare_cell(Cell(folder))
    assert read_json(folder / "compare.json")["agreement"] < 0.6


def test_ap_falls_when_the_chip_is_worse(built, monkeypatch):
    """Float keypoints are put on the truth, the chip's half a box away: AP 1 against 0."""
    reference, folder = built
    simulate(folder)
    entries = read_json(reference / "predictions.json")
    truth = {
        a["id"]: a for a in json.loads((reference.parents[1] / "set/person_keypoints.json").read_text())["annotations"]
    }
    for entry in entries["found"]:
        entry["keypoints"] = truth[entry["annotation_id"]]["keypoints"]
    (reference / "predictions.json").write_text(json.dumps(entries))
    evaluate_cell(Cell(folder))
    result = read_json(folder / "metrics.json")
    assert result["float"]["AP"] == pytest.approx(1) and result["float"]["interval"] == pytest.approx([1, 1])
    assert result["chip"]["AP"] < 0.1
    assert result["drop"]["AP"] == pytest.approx(1 - result["chip"]["AP"])
    assert result["drop"]["interval"][0] > 0.5


def test_instances_beyond_the_samples_are_run_in_chunks(tmp_path, monkeypatch):
    """5 proof samples and chunks of 3: the same keypoints as in one go."""
    reference = make_reference(tmp_path / "out", make_set(tmp_path / "set", images=6, people=2))
    monkeypatch.setattr("common.samples.MAXIMUM_SAMPLES", 256)
    make_samples(FloatReference(reference))
    run_reference(FloatReference(reference))
    whole = (reference / "predictions.json").read_text()

    monkeypatch.setattr("common.samples.MAXIMUM_SAMPLES", 5)
    monkeypatch.setattr(inference, "CHUNK_BYTES", 3 * 4 * 3 * 64 * 48)
    make_samples(FloatReference(reference))
    run_reference(FloatReference(reference))
    assert len(load_arrays(reference / "outputs.npz")["heatmaps"]) == 5
    assert (reference / "predictions.json").read_text() == whole

    folder = make_cell(tmp_path / "out")
    shutil.copy(reference / "samples.npz", folder / "samples.npz")
    simulate(folder)
    sizes = []

    def infer(cell_folder, samples, outputs):
        inputs = load_arrays(samples)
        sizes.append(len(inputs["image"]))
        np.savez(outputs, **run_onnx(str(reference / "model.onnx"), inputs))
        return {}

    monkeypatch.setattr(engine, "infer", infer)
    evaluate_cell(Cell(folder))
    assert sizes == [3, 3, 1]
    assert (folder / "predictions.json").read_text() == whole
    assert not list(folder.glob(".partial*"))


def test_without_ground_truth_ap_is_null_with_a_reason(tmp_path):
    evaluation = make_set(tmp_path / "set", images=3, annotated=False)
    boxes = [{"image_id": n, "category_id": 1, "bbox": [10, 10, 40, 90], "score": 0.8} for n in (1, 2, 3)]
    (evaluation / "person_detections.json").write_text(json.dumps(boxes))
    reference = make_reference(tmp_path / "out", evaluation)
    make_samples(FloatReference(reference))
    run_reference(FloatReference(reference))
    folder = make_cell(tmp_path / "out")
    shutil.copy(reference / "samples.npz", folder / "samples.npz")
    simulate(folder)
    compare_cell(Cell(folder))
    evaluate_cell(Cell(folder))
    result = read_json(folder / "metrics.json")
    assert result["float"]["AP"] is None and result["drop"]["AP"] is None and result["float"]["interval"] is None
    assert "person_keypoints.json" in result["reason"] and "no metric" in result["protocol"]
    assert read_json(folder / "compare.json")["agreement"] == 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"not an archive"])
def test_damaged_outputs_are_refused(built, content):
    _, folder = built
    (folder / "outputs.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"outputs\.npz"):
        compare_cell(Cell(folder))
    assert not (folder / "compare.json").exists()


def test_truncated_outputs_are_refused(built):
    _, folder = built
    simulate(folder)
    data = (folder / "outputs.npz").read_bytes()
    (folder / "outputs.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="damaged"):
        evaluate_cell(Cell(folder))
    assert not (folder / "metrics.json").exists()


def test_pickled_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", heatmaps=np.array([{"code": 1}], dtype=object))
    with pytest.raises(UserError, match="damaged"):
        load_arrays(tmp_path / "a.npz")


def test_predictions_of_another_set_are_refused(built):
    reference, _ = built
    image_set = ImageSet.open(read_json(reference / "samples.json")["set"])
    instances = task_of(pose_spec()).instances(image_set)
    assert read_predictions(reference / "predictions.json", instances).keypoints.shape == (12, 17, 3)
    with pytest.raises(UserError, match="another evaluation set"):
        read_predictions(reference / "predictions.json", instances[1:])


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real network and photographs beside the project")
@pytest.mark.parametrize(("boxes", "expected"), [("annotated", 0.594), ("hrnet", 0.648)])
def test_known_accuracy_of_a_real_network(boxes, expected):
    """12 people of COCO val2017. 0.594 is what other code measured for this network, on the boxes as annotated."""
    spec = pose_spec(shape=[1, 3, 256, 192], ground_truth_boxes=boxes)
    image_set = ImageSet.open(REAL / "coco_val_4")
    task = task_of(spec)
    instances = task.instances(image_set)
    outputs = run_onnx(str(REAL / "simplepose_256x192.onnx"), {"data": network_inputs(image_set, instances, task)})
    people = inference.predict(task, image_set, instances, outputs, None, "float")
    found = metrics(task, image_set, instances, people, people)
    assert (
        found["instances"] == 12
        and found["metric"] == "AP"
        and found["float"]["AP"] == pytest.approx(expected, abs=0.0006)
    )
