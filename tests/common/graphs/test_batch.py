"""BATCH=: graphs of batch 1 that become graphs of batch n, and those that cannot."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from common.basics.errors import UserError
from common.basics.files import read_json, write_json
from common.checkpoints.export_torch import initialize_random, to_onnx
from common.fix import batch_graph, fix_cell, fix_graph
from common.graphs.batch import set_batch
from common.graphs.detection_cut import cut_detection_head
from common.graphs.onnx_graph import Runner, graph_inputs, graph_outputs, load_onnx
from models.arch import build_architecture
from tests.common.detectors import detector_onnx, detector_spec, pose_detector_spec
from tests.common.odd_graphs import images, odd_model, odd_outputs
from tests.common.test_fix import CHIP, SHARED, make_cell

ARCHITECTURES = {
    "hrnet": {"width": 4, "joints": 17, "stem": 8, "planes": 4, "modules": [1, 1, 1], "blocks": 1, "bottlenecks": 1},
    "higherhrnet": {
        "width": 4,
        "joints": 17,
        "stem": 8,
        "planes": 4,
        "modules": [1, 1, 1],
        "blocks": 1,
        "bottlenecks": 1,
    },
    "hourglass": {"joints": 17, "channels": [8, 8, 8], "blocks": [2, 2, 2]},
}


def proven(model, batch, x, name):
    """The batched graph has the right shapes, is valid ONNX, and computes each sample as the given one does."""
    result, record = batch_graph(model, batch, {name: x})
    onnx.checker.check_model(result, full_check=True)
    assert [tensor.shape[0] for tensor in [*graph_inputs(result), *graph_outputs(result)]] == [batch] * (
        1 + len(model.graph.output)
    )
    assert [t.shape[1:] for t in graph_outputs(result)] == [t.shape[1:] for t in graph_outputs(model)]
    assert record["size"] == batch and record["samples"] >= batch and record["samples"] % batch == 0
    assert record["max_abs"] <= 1e-4 * max(np.abs(v).max() for v in Runner(model).run({name: x}).values())
    # Once more with a sample of its own in each place: nothing of it shows up in the others.
    runner, first = Runner(result), np.random.default_rng(1).standard_normal((batch, *x.shape[1:])).astype(np.float32)
    second = first.copy()
    second[-1] *= 3
    before, after = runner.run_once({name: first}), runner.run_once({name: second})
    for output in before:
        assert np.array_equal(before[output][:-1], after[output][:-1])
    assert any(not np.array_equal(before[output][-1], after[output][-1]) for output in before)
    return result


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_architecture(tmp_path, kind):
    shape = [1, 3, 128, 128]
    module = build_architecture({"kind": kind, **ARCHITECTURES[kind]}, "test")
    initialize_random(module, shape)
    to_onnx(module, shape, tmp_path / "model.onnx")
    x = np.random.default_rng(0).standard_normal((3, *shape[1:])).astype(np.float32)
    fixed, _ = fix_graph(load_onnx(tmp_path / "model.onnx"), CHIP, {"image": x[:1]})
    proven(fixed, 4, x, "image")


@pytest.mark.parametrize(
    ("spec", "classes", "keypoints"),
    [(detector_spec(), 2, 0), (pose_detector_spec(), 1, 17)],
    ids=["boxes", "pose"],
)
def test_a_detector_cut_and_whole(spec, classes, keypoints):
    """Whole, its decode reshapes and transposes: constants that repeat the batch."""
    model = detector_onnx(classes, keypoints)
    x = np.random.default_rng(0).uniform(0, 1, (2, *spec.input.shape[1:])).astype(np.float32)
    for graph in (cut_detection_head(model, spec, "it")[0], model):
        fixed, _ = fix_graph(graph, CHIP, {"images": x[:1]})
        proven(fixed, 3, x, "images")


def test_the_fixed_odd_graph_equals_torch():
    fixed, _ = fix_graph(odd_model(), CHIP, {"data": images(1)})
    result = proven(fixed, 2, images(3), "data")
    x = images(2)
    assert np.allclose(Runner(result).run_once({"data": x})["maps"], odd_outputs(x), rtol=0, atol=2e-5)


@pytest.mark.skipif(not (SHARED / "real").exists(), reason="needs the real network in ../shared")
def test_the_real_network():
    model = load_onnx(SHARED / "real/simplepose_256x192.onnx")
    x = np.random.default_rng(1).standard_normal((4, 3, 256, 192)).astype(np.float32)
    fixed, _ = fix_graph(model, CHIP, {"data": x[:1]})
    proven(fixed, 4, x, "data")


def graph_of(nodes, output, constants=None, opset=16, shape=(1, 4, 6)):
    """x [1, 4, 6] -> nodes -> "y" of shape `output`."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), ("y", output))]
    for index, node in enumerate(nodes):
        node.name = node.name or f"n{index}"
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    onnx.checker.check_model(model, full_check=True)
    return model


def node(kind, inputs, output="y", **attributes):
    return helper.make_node(kind, inputs, [output], **attributes)


F = np.float32


def sizes(*values):
    return np.array(values, np.int64)


GRID = np.random.default_rng(2).uniform(-1, 1, (1, 3, 5, 2)).astype(F)
KEEPS = {
    "reshape to one": graph_of([node("Reshape", ["x", "s"])], [1, 24], {"s": sizes(1, 24)}),
    "reshape to the rest": graph_of([node("Reshape", ["x", "s"])], [1, 24], {"s": sizes(1, -1)}),
    "reshape from the rest": graph_of([node("Reshape", ["x", "s"])], [1, 3, 8], {"s": sizes(-1, 3, 8)}),
    "reshape with a copy": graph_of([node("Reshape", ["x", "s"])], [1, 24], {"s": sizes(0, -1)}),
    "a shared shape": graph_of(
        [node("Reshape", ["x", "s"], "a"), node("Reshape", ["c", "s"], "b"), node("Add", ["a", "b"])],
        [1, 24], {"s": sizes(1, 24), "c": np.arange(24, dtype=F)},
    ),
    "expand": graph_of([node("Expand", ["x", "s"])], [1, 4, 6], {"s": sizes(1, 4, 1)}),
    "expand the rest": graph_of([node("Expand", ["x", "s"])], [1, 4, 6], {"s": sizes(1, 6)}),
    "resize by sizes": graph_of(
        [node("Resize", ["x", "", "", "s"], mode="nearest")], [1, 4, 12], {"s": sizes(1, 4, 12)}),
    "resize by scales": graph_of([node("Resize", ["x", "", "s"], mode="nearest")], [1, 4, 12], {"s": F([1, 1, 2])}),
    "resize of one axis": graph_of(
        [node("Resize", ["x", "", "", "s"], mode="nearest", axes=[2])], [1, 4, 12], {"s": sizes(12)}, opset=18),
    "resize of all axes from the end": graph_of(
        [node("Resize", ["x", "", "", "s"], mode="nearest", axes=[2, -3])], [1, 4, 12], {"s": sizes(12, 1)},
        opset=18),
    "a constant in a concat": graph_of(
        [node("Concat", ["c", "x"], axis=1)], [1, 6, 6], {"c": np.arange(12, dtype=F).reshape(1, 2, 6)}),
    "a constant that broadcasts": graph_of(
        [node("Mul", ["x", "c"])], [1, 4, 6], {"c": np.arange(4, dtype=F).reshape(1, 4, 1)}),
    "a constant node": graph_of(
        [helper.make_node("Constant", [], ["s"], value=numpy_helper.from_array(sizes(1, 24))),
         node("Reshape", ["x", "s"])], [1, 24]),
    "flatten and gemm": graph_of(
        [node("Flatten", ["x"], "f"), node("Gemm", ["f", "w", "b"])], [1, 2],
        {"w": np.linspace(-1, 1, 48, dtype=F).reshape(24, 2), "b": F([1, 2])}),
    "one grid for all": graph_of(
        [node("GridSample", ["x", "g"])], [1, 4, 3, 5], {"g": GRID}, shape=(1, 4, 6, 6)),
    "softmax over channels": graph_of([node("Softmax", ["x"], axis=1)], [1, 4, 6]),
    "transpose of the rest": graph_of([node("Transpose", ["x"], perm=[0, 2, 1])], [1, 6, 4]),
}  # fmt: skip


@pytest.mark.parametrize("name", KEEPS)
def test_what_keeps_the_batch(name):
    model = KEEPS[name]
    before = model.SerializeToString(deterministic=True)
    shape = graph_inputs(model)[0].shape
    result = proven(model, 3, np.random.default_rng(0).standard_normal((2, *shape[1:])).astype(F), "x")
    assert model.SerializeToString(deterministic=True) == before
    used = {name for node in result.graph.node for name in node.input}
    assert {tensor.name for tensor in result.graph.initializer} <= used


REFUSED = {
    "transpose of the batch": (
        graph_of([node("Transpose", ["x"], perm=[1, 0, 2])], [4, 1, 6]), r"'n0' \(Transpose\): its output is 4x1x6"),
    "transpose with another axis of 1": (
        graph_of([node("Transpose", ["x"], perm=[1, 0, 2])], [1, 1, 6], shape=(1, 1, 6)),
        r"'n0' \(Transpose\) does not keep the batch: its output was 1x1x6, and becomes 1x3x6"),
    "reshape without it": (
        graph_of([node("Reshape", ["x", "s"])], [4, 6], {"s": sizes(4, 6)}), r"'n0' \(Reshape\).*4x6"),
    "reshape by a computed shape": (
        graph_of([node("Shape", ["x"], "s"), node("Reshape", ["x", "s"])], [1, 4, 6]),
        r"'n0' \(Shape\): its output is 3"),
    "squeeze": (graph_of([node("Squeeze", ["x"])], [4, 6]), r"'n0' \(Squeeze\).*4x6"),
    "an axis before it": (
        graph_of([node("Unsqueeze", ["x", "a"])], [1, 1, 4, 6], {"a": sizes(0)}),
        r"'n0' \(Unsqueeze\) does not keep the batch"),
    "its sum": (
        graph_of([node("ReduceSum", ["x", "a"])], [1, 4, 6], {"a": sizes(0)}), r"\(ReduceSum\) does not keep"),
    "its first sample": (
        graph_of([node("Slice", ["x", "s", "e", "a"])], [1, 4, 6], {"s": sizes(0), "e": sizes(1), "a": sizes(0)}),
        r"\(Slice\) does not keep the batch"),
    "flatten with it": (graph_of([node("Flatten", ["x"], axis=0)], [1, 24]), r"\(Flatten\) does not keep"),
    "concat along it": (graph_of([node("Concat", ["x", "x"], axis=0)], [2, 4, 6]), r"\(Concat\).*2x4x6"),
    "softmax across it": (graph_of([node("Softmax", ["x"], axis=0)], [1, 4, 6]), "influence each other"),
    "sums across it": (
        graph_of([node("CumSum", ["x", "a"])], [1, 4, 6], {"a": np.int64(0)}), "influence each other"),
    "a constant output": (
        graph_of([node("Relu", ["c"])], [1, 4, 6], {"c": np.ones((1, 4, 6), F)}), "'y' does not come from the input"),
    "a grown input": (graph_of([node("Relu", ["x"])], [2, 4, 6], shape=(2, 4, 6)), "input 'x' is 2x4x6"),
    "a computed constant in a concat": (
        graph_of([node("Relu", ["c"], "d"), node("Concat", ["d", "x"], axis=1)], [1, 5, 6],
                 {"c": np.ones((1, 1, 6), F)}),
        "do not fit together"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_keep_the_batch_is_refused(name):
    model, said = REFUSED[name]
    shape = graph_inputs(model)[0].shape
    with pytest.raises(UserError, match=f"BATCH=3: .*{said}") as error:
        batch_graph(model, 3, {"x": np.random.default_rng(0).standard_normal((2, *shape[1:])).astype(F)})
    assert "BATCH=1" in error.value.hint


def test_a_graph_inside_a_node_is_refused():
    inner = helper.make_graph(
        [node("Relu", ["x"], "i")], "inner", [], [helper.make_tensor_value_info("i", TensorProto.FLOAT, [1, 4, 6])]
    )
    choose = node("If", ["c"], then_branch=inner, else_branch=inner)
    model = graph_of([node("ReduceSum", ["x"], "r", keepdims=1), node("Cast", ["r"], "c", to=TensorProto.BOOL), choose],
                     [1, 4, 6])  # fmt: skip
    with pytest.raises(UserError, match=r"\(If\) holds a graph of its own"):
        set_batch(model, 2)


def test_the_stage_writes_the_batch(tmp_path, monkeypatch):
    cell = make_cell(tmp_path, monkeypatch, odd_model(), {})
    request = read_json(cell / "request.json")
    write_json(cell / "request.json", request | {"variant": "fp32-b4", "batch": 4})
    record = fix_cell(cell)
    assert read_json(cell / "fix.json") == record
    assert record["inputs"] == [{"name": "data", "shape": [4, 3, 32, 24]}]
    assert record["outputs"] == [{"name": "maps", "shape": [4, 17, 16, 12]}]
    assert record["batch"]["size"] == 4 and record["batch"]["samples"] == 8  # 2 random, 3 real, 3 to fill up
    x = images(4)
    found = Runner(load_onnx(Path(cell) / "model.onnx")).run_once({"data": x})["maps"]
    assert np.allclose(found, odd_outputs(x), rtol=0, atol=2e-5)
