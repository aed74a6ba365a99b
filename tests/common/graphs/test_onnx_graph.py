import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from common.basics.errors import UserError
from common.graphs.onnx_graph import (
    Runner,
    check_static,
    graph_inputs,
    graph_outputs,
    load_onnx,
    operator_counts,
    run_onnx,
    runnable,
)
from tests.common.odd_graphs import INPUT_SHAPE, images, odd_model, odd_outputs, save, weights


def test_inputs_are_told_from_weights(tmp_path):
    model = load_onnx(save(odd_model(), tmp_path / "odd.onnx"))
    assert [(t.name, t.shape, t.dtype) for t in graph_inputs(model)] == [("data", (1, 3, 32, 24), "float32")]
    assert [(t.name, t.shape) for t in graph_outputs(model)] == [("maps", (1, 17, 16, 12))]
    assert operator_counts(model)["Conv"] == 3


def test_the_odd_graph_runs_and_equals_torch(tmp_path):
    x = images(3)
    path = save(odd_model(), tmp_path / "odd.onnx")
    assert np.allclose(run_onnx(path, {"data": x})["maps"], odd_outputs(x), rtol=0, atol=2e-5)


def test_as_it_came_the_odd_graph_is_refused():
    # The premise of runnable(): if onnxruntime takes spatial=0 one day, this says so.
    model = odd_model()
    with pytest.raises(UserError, match="same_name"):
        Runner(model, as_it_came=True)
    for node in model.graph.node:
        node.ClearField("name")
    with pytest.raises(UserError, match="BatchNormalization"):
        Runner(model, as_it_came=True).run({"data": images(1)})


def test_runnable_leaves_the_given_model_alone():
    model = odd_model()
    before = model.SerializeToString(deterministic=True)
    runnable(model)
    assert model.SerializeToString(deterministic=True) == before


def test_many_samples_equal_one_at_a_time():
    x = images(3)
    runner = Runner(odd_model())
    together = runner.run({"data": x})["maps"]
    apart = [runner.run({"data": x[i : i + 1]})["maps"] for i in range(3)]
    assert together.shape == (3, 17, 16, 12)
    assert np.array_equal(together, np.concatenate(apart))


def test_samples_of_another_name_or_shape_are_refused():
    runner = Runner(odd_model())
    with pytest.raises(UserError, match=r"image.*data"):
        runner.run({"image": images(1)})
    with pytest.raises(UserError, match=r"1x3x32x20.*1x3x32x24"):
        runner.run({"data": images(1)[..., :20]})
    with pytest.raises(UserError, match="no samples"):
        runner.run({"data": images(0)})


def test_a_missing_or_empty_file(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_onnx(tmp_path / "none.onnx")
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(UserError, match="is empty"):
        load_onnx(tmp_path / "empty.onnx")


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.99, 0.999])
def test_a_truncated_file(tmp_path, share):
    content = odd_model().SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"truncated|no graph") as caught:
        load_onnx(path)
    assert str(path) in caught.value.message and caught.value.hint


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html>404</html>", "HTML"),
        (b"\n  <html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        (b"PK\x03\x04archive/data.pkl", "zip"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b"7767517\n3 3\n", "compiled already"),
        (b"\x20\x00\x00\x00TFL3", "TensorFlow Lite"),
        (b"just some text, nothing else", "not ONNX|no graph"),
        (bytes(range(256)) * 8, "not ONNX|no graph"),
    ],
)
def test_other_files_are_recognised(tmp_path, content, said):
    path = tmp_path / "given.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        load_onnx(path)


def test_nan_and_infinite_weights_are_named(tmp_path):
    bad = weights()["w3"].copy()
    bad[0, 0] = np.nan
    with pytest.raises(UserError, match=r"1 tensors: w3"):
        load_onnx(save(odd_model(w3=bad), tmp_path / "nan.onnx"))
    bad[0, 0] = np.inf
    with pytest.raises(UserError, match=r"w3"):
        load_onnx(save(odd_model(w3=bad), tmp_path / "inf.onnx"))


def test_nan_in_a_constant_node_is_named(tmp_path):
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.float32([1, np.nan])))
    graph = helper.make_graph(
        [constant, helper.make_node("Add", ["x", "k"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    with pytest.raises(UserError, match=r"NaN.*k"):
        load_onnx(save(model, tmp_path / "nan.onnx"))


def test_one_infinite_bound_is_legitimate(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Clip", ["x", "low", "high"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(np.float32(0), "low"), numpy_helper.from_array(np.float32(np.inf), "high")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    assert load_onnx(save(model, tmp_path / "clip.onnx")).graph.node[0].op_type == "Clip"


def test_damaged_weights_are_named(tmp_path):
    model = odd_model()
    tensor = next(t for t in model.graph.initializer if t.name == "w2")
    tensor.raw_data = tensor.raw_data[:-8]
    with pytest.raises(UserError, match="'w2' are damaged"):
        load_onnx(save(model, tmp_path / "bad.onnx"))


def test_external_weights_are_read_and_their_absence_named(tmp_path):
    path = tmp_path / "external.onnx"
    model = odd_model()
    onnx.save_model(odd_model(), path, save_as_external_data=True, location="external.weights", size_threshold=0)
    assert np.array_equal(run_onnx(path, {"data": images(1)})["maps"], run_onnx(model, {"data": images(1)})["maps"])
    (tmp_path / "external.weights").unlink()
    with pytest.raises(UserError, match=r"external\.weights"):
        load_onnx(path)


def test_a_graph_against_the_rules(tmp_path):
    model = odd_model()
    model.graph.node[-1].input[0] = "from_nowhere"
    with pytest.raises(UserError, match="breaks the rules of ONNX"):
        load_onnx(save(model, tmp_path / "bad.onnx"))


def test_an_empty_graph(tmp_path):
    model = odd_model()
    del model.graph.node[:]
    with pytest.raises(UserError, match="no graph with nodes"):
        load_onnx(save(model, tmp_path / "bad.onnx"))


@pytest.mark.parametrize("index", [0, 2, 3])
def test_a_dynamic_dimension_is_named(index):
    model = odd_model()
    model.graph.input[0].type.tensor_type.shape.dim[index].dim_param = "any"
    with pytest.raises(UserError, match=rf"'data'.*dimension {index} \('any'\)") as caught:
        check_static(model, "mine.onnx")
    assert "make_static" in caught.value.hint


def test_a_static_shape_passes():
    check_static(odd_model(), "mine.onnx")
    assert list(graph_inputs(odd_model())[0].shape) == INPUT_SHAPE


def test_an_operator_that_onnxruntime_lacks(tmp_path):
    model = odd_model()
    node = next(n for n in model.graph.node if n.op_type == "Identity")
    node.op_type, node.domain = "Wobble", "my.own"
    model.opset_import.append(helper.make_opsetid("my.own", 1))
    with pytest.raises(UserError, match="Wobble"):
        run_onnx(model, {"data": images(1)})


def test_an_ir_newer_than_the_runtime_still_runs():
    model = runnable(odd_model())
    model.ir_version = 13
    assert run_onnx(model, {"data": images(1)})["maps"].shape == (1, 17, 16, 12)
