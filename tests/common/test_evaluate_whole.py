"""The stages from samples to metrics for networks that see whole photographs, run on very small ones; the chip is
onnxruntime.
"""

import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from common.basics.errors import UserError
from common.basics.files import read_json, write_json
from common.compare import compare_cell
from common.datasets.imageset import ImageSet
from common.decoding.predictions import read_predictions
from common.engines import engine
from common.evaluate import evaluate_cell
from common.evaluation import inference
from common.graphs.onnx_graph import run_onnx
from common.job import Cell, FloatReference
from common.reference import make_reference as run_reference
from common.samples import load_arrays, make_samples, network_inputs
from common.tasks import task_of
from tests.common.cell_networks import spec_of
from tests.common.image_sets import make_set
from tests.common.tiny_network import make_cell

HEADS = {  # output: (channels, stride)
    "detection": {f"{role}{stride}": (channels, stride) for stride in (8, 16, 32)
                  for role, channels in (("box", 64), ("class", 3))},
    "bottomup_pose": {"first": (34, 4), "second": (17, 2)},
}  # fmt: skip
WHOLE = tuple(HEADS)


def network(path, task):
    """Input [1, 3, 64, 64]; each output is a 1x1 convolution of the picture shrunk by its stride."""
    random, nodes, weights, outputs = np.random.default_rng(1), [], [], []
    for name, (channels, stride) in HEADS[task].items():
        kernel = random.normal(0, 1, (channels, 3, 1, 1)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"{name}_w"))
        pool = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes += [helper.make_node("AveragePool", ["image"], [f"{name}_small"], **pool),
                  helper.make_node("Conv", [f"{name}_small", f"{name}_w"], [name])]  # fmt: skip
        shape = [1, channels, 64 // stride, 64 // stride]
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 64])
    graph = helper.make_graph(nodes, "tiny", [image], outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7), path)


@pytest.fixture(params=WHOLE)
def built(request, tmp_path):
    """(task, float folder, cell folder) of a finished float reference on 7 photographs, two of them without people."""
    evaluation = make_set(tmp_path / "set", images=7)
    truth = json.loads((evaluation / "person_keypoints.json").read_text())
    truth["annotations"] = truth["annotations"][:5]
    (evaluation / "person_keypoints.json").write_text(json.dumps(truth))
    reference = tmp_path / "out/float"
    spec = spec_of(request.param, shape=[1, 3, 64, 64])
    source = {"kind": "random", "origin": "random", "path": None}
    write_json(reference / "source.json",
               {"version": 1, "model": "tester", "spec": spec.model_dump(mode="json"), "source": source})  # fmt: skip
    write_json(reference / "evaluation_set.json", {"folder": str(evaluation), "fingerprint": "0"})
    network(reference / "model.onnx", request.param)
    return task_of(spec), reference, make_cell(tmp_path / "out")


def run_float(reference, cell):
    make_samples(FloatReference(reference))
    run_reference(FloatReference(reference))
    shutil.copy(reference / "samples.npz", cell / "samples.npz")
    np.savez(cell / "outputs.npz", **run_onnx(str(reference / "model.onnx"), load_arrays(cell / "samples.npz")))


def test_every_photograph_is_a_sample_with_people_or_without(built):
    task, reference, cell = built
    run_float(reference, cell)
    description = read_json(reference / "samples.json")
    assert [one["box"] for one in description["instances"]] == [[0, 0, 160, 120]] * 7
    assert description["ground_truth"] and description["evaluation_instances"] == 7
    image_set = ImageSet.open(description["set"])
    inputs = network_inputs(image_set, task.instances(image_set), task)
    np.testing.assert_array_equal(load_arrays(reference / "samples.npz")["image"], inputs)


def test_a_lossless_chip_agrees_and_loses_nothing(built):
    task, reference, cell = built
    run_float(reference, cell)
    compare_cell(Cell(cell))
    evaluate_cell(Cell(cell))
    compared, measured = read_json(cell / "compare.json"), read_json(cell / "metrics.json")
    assert compared["similarity"] == task.similarity and compared["agreement"] == 1
    assert compared[task.similarity.lower()] == 1 and compared["agreement_instances"] == [1] * 7
    assert compared["found"][0] == compared["found"][1] > 0
    assert measured["metric"] == "AP" and measured["float"] == measured["chip"]
    assert measured["drop"] == {"AP": 0, "interval": [0, 0]} and measured["images"] == 7
    assert read_json(cell / "predictions.json") == read_json(reference / "predictions.json")
    json.dumps([compared, measured], allow_nan=False)


def test_photographs_beyond_the_samples_are_run_in_chunks(built, monkeypatch):
    """3 proof samples and chunks of 2: the same people and objects as in one go, with the same scores."""
    _, reference, cell = built
    run_float(reference, cell)
    whole = (reference / "predictions.json").read_text()
    monkeypatch.setattr("common.samples.MAXIMUM_SAMPLES", 3)
    monkeypatch.setattr(inference, "CHUNK_BYTES", 2 * 4 * 3 * 64 * 64)
    run_float(reference, cell)
    assert (reference / "predictions.json").read_text() == whole
    sizes = []

    def infer(folder, samples, outputs, **_):
        inputs = load_arrays(samples)
        sizes.append(len(inputs["image"]))
        np.savez(outputs, **run_onnx(str(reference / "model.onnx"), inputs))
        return {}

    monkeypatch.setattr(engine, "infer", infer)
    evaluate_cell(Cell(cell))
    assert sizes == [2, 2]
    assert (cell / "predictions.json").read_text() == whole


def test_a_chip_that_finds_nothing_agrees_in_nothing(built):
    task, reference, cell = built
    run_float(reference, cell)
    outputs = load_arrays(cell / "outputs.npz")
    np.savez(cell / "outputs.npz", **{name: np.full_like(value, -20) for name, value in outputs.items()})
    compare_cell(Cell(cell))
    evaluate_cell(Cell(cell))
    compared = read_json(cell / "compare.json")
    assert compared["agreement"] == 0 and compared["found"][1] == 0
    assert read_json(cell / "metrics.json")["chip"]["AP"] == 0
    image_set = ImageSet.open(read_json(reference / "samples.json")["set"])
    assert len(read_predictions(cell / "predictions.json", task.instances(image_set))) == 0


def test_plain_photographs_have_agreement_but_no_accuracy(built):
    """No annotations at all: a folder of photographs is enough to compare the chip with float."""
    _, reference, cell = built
    evaluation = read_json(reference / "evaluation_set.json")["folder"]
    (ImageSet.open(evaluation).folder / "person_keypoints.json").unlink()
    run_float(reference, cell)
    compare_cell(Cell(cell))
    evaluate_cell(Cell(cell))
    measured = read_json(cell / "metrics.json")
    assert measured["float"]["AP"] is None and measured["drop"] == {"AP": None, "interval": None}
    assert "person_keypoints.json" in measured["reason"] and measured["protocol"].startswith("no metric (")
    assert read_json(cell / "compare.json")["agreement"] == 1


@pytest.mark.parametrize("change", [lambda x: x[:-1], lambda x: x[:, :-1], lambda x: np.full_like(x, np.nan)])
def test_outputs_that_do_not_fit_are_refused(built, change):
    _, reference, cell = built
    run_float(reference, cell)
    outputs = load_arrays(cell / "outputs.npz")
    name = next(iter(outputs))
    np.savez(cell / "outputs.npz", **outputs | {name: change(outputs[name])})
    with pytest.raises(UserError, match=f"output {name}"):
        compare_cell(Cell(cell))
    assert not (cell / "compare.json").exists()
