"""layers.py and device.py on a compiled job, and which layer belongs to which node."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

_spec = importlib.util.spec_from_file_location("ncnn_conftest", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
run_script, network, SHAPE = _conftest.run_script, _conftest.network, _conftest.SHAPE

from failure import VendorError  # noqa: E402
from job_file import KeptFloat  # noqa: E402
from node_layers import layers_of_nodes, tensors_of_layers  # noqa: E402
from onnx_reader import Graph, Node, read_onnx  # noqa: E402
from param_file import Layer, Network  # noqa: E402


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A compiled int8 job in which convolutions hand int8 to each other. Look, do not touch."""
    job = _conftest.job_maker(tmp_path_factory.mktemp("built"))("int8", samples=8)
    content = json.loads((job / "job.json").read_text())
    content["rung"] = {"number": 1, "name": "method", "options": {"scales": "method"}}
    content["keep_float"] = [{"node": "last", "operator": "Conv", "outputs": ["last"]}]
    (job / "job.json").write_text(json.dumps(content))
    done = run_script("compile.py", job)
    assert done.returncode == 0, done.stderr
    return job


def test_each_layer_is_compared(built):
    done = run_script("layers.py", built)
    assert done.returncode == 0, done.stderr
    report = json.loads((built / "layers.json").read_text())
    assert report["version"] == 1 and report["samples"] == 4 and "ncnn" in report["source"]
    rows = report["layers"]
    names = [line.split()[1] for line in (built / "small.ncnn.param").read_text().splitlines()[2:]]
    assert [row["name"] for row in rows] == [name for name in names if name in {row["name"] for row in rows}]
    assert {row["operator"] for row in rows} == {"Convolution", "BinaryOp", "Interp"}
    precisions = [row["precision"] for row in rows if row["operator"] == "Convolution"]
    assert precisions == ["int8"] * 4 + ["float"]
    # One of the blobs is int8: without its scale it would not resemble float at all.
    assert "8=102" in (built / "small.ncnn.param").read_text()
    for row in rows:
        assert row["cosine"] > 0.995 and 20 < row["sqnr_db"] < 60, row
    tensors = [row["outputs"] for row in rows if row["operator"] == "Convolution"]
    assert tensors == [["stem.r"], ["one.r"], ["two.r"], ["hurt.r"], ["last"]]

    # The last row is the output: the same figure as from the outputs of infer.py and onnxruntime.
    assert run_script("infer.py", built).returncode == 0
    session = onnxruntime.InferenceSession(str(built / "model.onnx"), providers=["CPUExecutionProvider"])
    chosen = [int(i) for i in np.linspace(0, 4, 4).round()]
    samples = np.load(built / "samples.npz")["image"][chosen]
    exact = np.concatenate([session.run(None, {"image": sample[None]})[0] for sample in samples]).astype(np.float64)
    found = np.load(built / "outputs.npz")["last"][chosen]
    expected = 10 * np.log10((exact**2).sum() / ((found - exact) ** 2).sum())
    assert rows[-1]["sqnr_db"] == pytest.approx(expected, abs=0.05)


def test_the_device_script_gives_the_same_outputs(built):
    for script in ("infer.py", "device.py"):
        (built / "outputs.npz").unlink(missing_ok=True)
        done = run_script(script, built)
        assert done.returncode == 0, done.stderr
        outputs = np.load(built / "outputs.npz")["last"]
        if script == "infer.py":
            simulated = outputs
    np.testing.assert_array_equal(outputs, simulated)
    result = json.loads((built / "device.json").read_text())
    assert result["samples"] == 5 and result["simulated"] is False and result["latency_ms"] > 0
    assert result["device"].startswith("ncnn 1.0.")


def test_layers_needs_an_int8_artifact(make_job):
    folder = make_job("fp32")
    done = run_script("layers.py", folder)
    assert done.returncode == 1 and "compile first" in done.stderr and "Traceback" not in done.stderr
    assert run_script("compile.py", folder).returncode == 0
    done = run_script("layers.py", folder)
    assert done.returncode == 1 and "nothing is quantised" in done.stderr and "HINT: " in done.stderr
    assert not (folder / "layers.json").exists()


def test_the_onnx_reader_reads_what_onnx_wrote(tmp_path):
    model = network()
    constant = helper.make_tensor("v", TensorProto.FLOAT, [2, 2], [1.0, 2.0, 3.0, 4.0])  # float_data, not raw
    model.graph.node.append(helper.make_node("Constant", [], ["constant"], "c", value=constant))
    model.graph.initializer.append(helper.make_tensor("plain", TensorProto.FLOAT, [3], [1.5, -2.5, 0.0]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2]), "integers"))
    path = tmp_path / "a.onnx"
    onnx.save(model, path)
    found = read_onnx(path)
    assert found.nodes == [Node(n.name, n.op_type, tuple(n.input), tuple(n.output)) for n in model.graph.node]
    expected = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
    expected["constant"] = np.array([[1, 2], [3, 4]], np.float32)
    assert found.weights.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found.weights[name], array)
        assert found.weights[name].shape == array.shape

    data = path.read_bytes()
    for damaged in (b"", data[: len(data) // 2], data[:-3], b"\xff" * 200, b"no onnx file"):
        path.write_bytes(damaged)
        with pytest.raises(VendorError, match=r"a\.onnx"):
            read_onnx(path)
    with pytest.raises(VendorError, match="missing"):
        read_onnx(tmp_path / "b.onnx")


def convolution(name: str, weight: np.ndarray, activation: int = 0) -> Layer:
    return Layer("Convolution", name, ["x"], [name], {9: activation}, {"weight": weight.reshape(-1)})


def asked(*names: str) -> list[KeptFloat]:
    return [KeptFloat(name, "Conv", (name,)) for name in names]


def test_layers_are_found_by_their_weights():
    generator = np.random.default_rng(0)
    arrays = {name: generator.standard_normal((4, 3, 3, 3)).astype(np.float32) for name in "abcd"}
    scaled = arrays["c"] * np.array([2, -0.5, 3, 1], np.float32)[:, None, None, None]
    nodes = [Node(name, "Conv", ("x", f"{name}.w"), (name,)) for name in "abcd"]
    nodes.append(Node("twin", "Conv", ("x", "a.w"), ("twin",)))
    nodes.append(Node("relu", "Relu", ("b",), ("b.r",)))
    graph = Graph(nodes, {f"{name}.w": array for name, array in arrays.items()})
    made = Network(
        [
            convolution("conv_0", arrays["b"], activation=1),
            convolution("conv_1", scaled),
            convolution("conv_2", arrays["a"]),
            convolution("conv_3", arrays["a"]),
            Layer("Deconvolution", "deconv_0", ["x"], ["y"], {}, {"weight": arrays["b"].reshape(-1)}),
        ]
    )
    assert layers_of_nodes(asked("b"), graph, made) == {"conv_0"}  # the transposed convolution is float anyway
    assert layers_of_nodes(asked("c"), graph, made) == {"conv_1"}  # a normalisation was folded in
    assert layers_of_nodes(asked("a"), graph, made) == {"conv_2", "conv_3"}  # equal weights
    assert layers_of_nodes([KeptFloat("relu", "Relu", ("b.r",))], graph, made) == set()
    with pytest.raises(VendorError, match=r"d \(Conv\)"):
        layers_of_nodes(asked("b", "d"), graph, made)
    with pytest.raises(VendorError, match="nobody"):
        layers_of_nodes(asked("b", "nobody"), graph, made)
    tensors = tensors_of_layers(graph, made)
    assert tensors["conv_0"] == ["b.r"] and tensors["conv_1"] == ["c"]
    assert "conv_2" not in tensors  # it may be either of two nodes


def test_a_transposed_matrix_is_found():
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    graph = Graph([Node("m", "MatMul", ("x", "w"), ("y",))], {"w": matrix})
    layer = Layer("InnerProduct", "fc", ["x"], ["y"], {}, {"weight": matrix.T.reshape(-1)})
    assert layers_of_nodes([KeptFloat("m", "MatMul", ("y",))], graph, Network([layer])) == {"fc"}
    changed = Layer("InnerProduct", "fc", ["x"], ["y"], {}, {"weight": matrix.T.reshape(-1) + 1})
    with pytest.raises(VendorError, match=r"m \(MatMul\)"):
        layers_of_nodes([KeptFloat("m", "MatMul", ("y",))], graph, Network([changed]))
