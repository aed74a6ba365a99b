import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from common import export as module
from common.basics.errors import UserError
from common.basics.files import read_json, write_json
from common.checkpoints.export_torch import compare_with_torch, initialize_random, to_onnx
from common.export import export
from common.graphs.onnx_graph import load_onnx, run_onnx
from models.arch import build_architecture
from tests.common.odd_graphs import images, odd_model, odd_outputs, save, spec_content, weights

# HRNet's own names with as few of them as there can be.
ARCHITECTURE = {
    "kind": "hrnet", "width": 4, "joints": 17, "stem": 8, "planes": 4, "modules": [1, 1, 1],
    "blocks": 1, "bottlenecks": 1,
}  # fmt: skip
SHAPE = [1, 3, 64, 64]
torch.set_num_threads(1)  # tests run side by side, and waiting for each other costs more than a second thread brings


def reference(tmp_path, source, **changed):
    """A float reference's folder whose source.json asks for `source`."""
    folder = tmp_path / "out/odd/float"
    folder.mkdir(parents=True)
    write_json(folder / "source.json", {"model": "odd", "spec": spec_content() | changed, "source": source})
    return folder


def onnx_source(path):
    return {"kind": "onnx", "origin": "onnx", "path": str(path)}


def torch_reference(tmp_path, source):
    return reference(tmp_path, source, architecture=ARCHITECTURE, input=spec_content(shape=SHAPE)["input"])


@pytest.fixture(scope="module")
def network():
    """A narrow HRNet with random weights, in eval mode, and its ONNX graph."""
    network = build_architecture(ARCHITECTURE, "test")
    initialize_random(network, SHAPE)
    return network


@pytest.fixture(scope="module")
def graph(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("graph") / "g.onnx"
    to_onnx(network, SHAPE, path)
    return load_onnx(path)


def test_the_users_graph_stays_as_it_came(tmp_path):
    path = save(odd_model(), tmp_path / "mine.onnx")
    folder = reference(tmp_path, onnx_source(path))
    record = export(folder)
    assert (folder / "model.onnx").read_bytes() == path.read_bytes()
    assert record == read_json(folder / "export.json")
    assert record["opset"] == 8 and record["ir_version"] == 3 and record["weights"] == "onnx"
    assert record["inputs"] == [{"name": "data", "shape": [1, 3, 32, 24], "dtype": "float32"}]
    assert record["outputs"] == [{"name": "maps", "shape": [1, 17, 16, 12]}]


def test_external_weights_come_inside(tmp_path):
    path = tmp_path / "mine.onnx"
    onnx.save_model(odd_model(), path, save_as_external_data=True, location="mine.weights", size_threshold=0)
    folder = reference(tmp_path, onnx_source(path))
    export(folder)
    x = images(1)
    assert np.allclose(run_onnx(folder / "model.onnx", {"data": x})["maps"], odd_outputs(x), rtol=0, atol=2e-5)


def set_dimension(index, value):
    def change(model):
        dimension = model.graph.input[0].type.tensor_type.shape.dim[index]
        if isinstance(value, str):
            dimension.dim_param = value
        else:
            dimension.dim_value = value

    return change


def half_input(model):
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16


def two_inputs(model):
    model.graph.input.append(onnx.helper.make_tensor_value_info("mask", onnx.TensorProto.FLOAT, [1]))


def fewer_joints(model):
    for tensor in model.graph.initializer:
        if tensor.name in ("w3", "b3"):
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights()[tensor.name][:16], tensor.name))
    for value in [*model.graph.input, *model.graph.output]:
        if value.name in ("w3", "b3"):
            value.type.tensor_type.shape.dim[0].dim_value = 16
        elif value.name == "maps":
            value.type.tensor_type.shape.dim[1].dim_value = 16


def channels_last(model):
    for index, size in enumerate([1, 32, 24, 3]):
        model.graph.input[0].type.tensor_type.shape.dim[index].dim_value = size


@pytest.mark.parametrize(
    ("change", "said", "hint"),
    [
        (set_dimension(0, "batch"), r"dimension 0 \('batch'\) is dynamic", "mine.onnx static.onnx 1,3,32,24"),
        (set_dimension(3, "width"), r"dimension 3 \('width'\) is dynamic", "make_static"),
        (set_dimension(2, 64), r"1x3x64x24.*1x3x32x24", "input.shape"),
        (channels_last, r"1x32x24x3.*1x3x32x24", "NCHW"),
        (half_input, "float16", "half precision"),
        (two_inputs, r"2 inputs \(data 1x3x32x24, mask 1\)", None),
        (fewer_joints, r"maps 1x16x16x12; .*1x17xHxW", "decode"),
    ],
)
def test_a_graph_that_does_not_fit_the_spec(tmp_path, monkeypatch, change, said, hint):
    model = odd_model()
    change(model)
    # onnx's own rules would refuse some of these graphs first; here the question is what the spec says of them.
    monkeypatch.setattr(module, "load_onnx", lambda path: model)
    folder = reference(tmp_path, onnx_source(save(model, tmp_path / "mine.onnx")))
    with pytest.raises(UserError, match=said) as caught:
        export(folder)
    assert hint is None or hint in caught.value.hint
    assert [path.name for path in folder.iterdir()] == ["source.json"], "nothing half-written"


def test_nan_weights_and_a_truncated_file(tmp_path):
    bad = weights()["w1"].copy()
    bad[0] = np.nan
    path = save(odd_model(w1=bad), tmp_path / "mine.onnx")
    folder = reference(tmp_path, onnx_source(path))
    with pytest.raises(UserError, match="w1"):
        export(folder)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="truncated"):
        export(folder)
    assert [path.name for path in folder.iterdir()] == ["source.json"]


def test_random_weights_are_repeatable_and_alive(network):
    again = build_architecture(ARCHITECTURE, "test")
    initialize_random(again, SHAPE)
    state = network.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())
    features = []
    hook = network.final_layer.register_forward_pre_hook(lambda layer, inputs: features.append(inputs[0]))
    with torch.no_grad():
        network(torch.randn(SHAPE, generator=torch.Generator().manual_seed(5)))
    hook.remove()
    assert 0.1 < features[0].std() < 10


def test_the_torch_export_stage(tmp_path, network):
    torch.save({"state_dict": network.state_dict()}, tmp_path / "w.pth")
    source = {"kind": "weights", "origin": "path", "path": str(tmp_path / "w.pth")}
    folder = torch_reference(tmp_path, source)
    samples = np.random.default_rng(9).standard_normal((5, *SHAPE[1:])).astype(np.float32)
    np.savez(folder / "samples.npz", image=samples)
    record = export(folder)
    model = load_onnx(folder / "model.onnx")
    assert record["opset"] == 11 and record["ir_version"] == 7 == model.ir_version
    assert record["inputs"] == [{"name": "image", "shape": SHAPE, "dtype": "float32"}]
    assert record["outputs"] == [{"name": "heatmaps", "shape": [1, 17, 16, 16]}]
    assert record["weights"] == "path" and len(record["source"]["sha256"]) == 64
    assert record["proof"]["samples"] == {"random": 3, "real": 3}
    assert record["proof"]["max_abs"] <= record["proof"]["tolerance"]
    assert json.loads((folder / "export.json").read_text()) == record
    with torch.no_grad():
        expected = network(torch.from_numpy(samples[4:5])).numpy()
    found = run_onnx(folder / "model.onnx", {"image": samples[4:5]})["heatmaps"]
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_an_export_that_computes_something_else_is_caught(network, graph):
    x = np.random.default_rng(0).standard_normal((2, *SHAPE[1:])).astype(np.float32)
    _, proof = compare_with_torch(network, graph, x)
    assert proof["same_peaks"] > 0.99
    damaged = onnx.ModelProto()
    damaged.CopyFrom(graph)
    tensor = next(t for t in damaged.graph.initializer if len(t.dims) == 4)
    values = onnx.numpy_helper.to_array(tensor) * np.float32(1.01)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    with pytest.raises(UserError, match="differs from torch by"):
        compare_with_torch(network, damaged, x)


def test_missing_weights_name_the_way_to_get_them(tmp_path):
    source = {"kind": "weights", "origin": "published", "path": "models/odd/weights/w.pth"}
    with pytest.raises(UserError, match=r"weights of odd are missing: models/odd/weights/w\.pth") as caught:
        export(torch_reference(tmp_path, source))
    assert "make weights MODEL=odd" in caught.value.hint and "WEIGHTS=random" in caught.value.hint


@pytest.mark.skipif(not (Path(__file__).parents[2] / "../shared/real").exists(), reason="needs ../shared")
def test_the_real_odd_network(tmp_path):
    path = Path(__file__).parents[2] / "../shared/real/simplepose_256x192.onnx"
    folder = reference(tmp_path, onnx_source(path), input=spec_content(shape=[1, 3, 256, 192])["input"])
    assert export(folder)["outputs"] == [{"name": "hybridsequential0_conv7_fwd", "shape": [1, 17, 64, 48]}]
    assert (folder / "model.onnx").read_bytes() == path.read_bytes()
