from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper

from common.basics.errors import UserError
from common.basics.files import read_json, write_json
from common.declarations.chip_spec import GraphSpec
from common.fix import TOLERANCE, fix_cell, fix_graph
from common.fixes import Pass, discover
from common.graphs.node_by_node import run_node_by_node
from common.graphs.onnx_graph import Runner, graph_inputs, load_onnx, opset_of, run_onnx
from tests.common.odd_graphs import images, odd_model, odd_outputs, save, spec_content

CHIP = GraphSpec(opset=[11, 11], ir_version=7)
SHARED = Path(__file__).parents[2] / "../shared"


@pytest.fixture(scope="module")
def fixed():
    return fix_graph(odd_model(), CHIP, {"data": images(3)})


def test_the_fixed_graph_is_what_the_chip_wants(fixed):
    model, record = fixed
    assert opset_of(model) == 11 and model.ir_version == 7
    assert [value.name for value in model.graph.input] == ["data"]
    assert {n.op_type for n in model.graph.node} == {"Conv", "Clip", "Resize", "BatchNormalization"}
    names = [node.name for node in model.graph.node]
    assert all(names) and len(set(names)) == len(names)
    assert record["opset"] == [8, 11] and record["ir_version"] == [3, 7]
    onnx.checker.check_model(model, full_check=True)


def test_the_fixed_graph_still_computes_the_same(fixed):
    x = images(3)
    # as_it_came: nothing but the passes themselves may have made it run.
    found = Runner(fixed[0], as_it_came=True).run({"data": x})["maps"]
    assert np.allclose(found, odd_outputs(x), rtol=0, atol=2e-5)


def test_the_record_names_the_yardstick_and_every_pass(fixed):
    record = fixed[1]
    assert record["yardstick"].startswith("onnxruntime, one operator at a time")
    assert [item["name"] for item in record["passes"]] == [item.name for item in discover()]
    changed = {item["name"]: item for item in record["passes"] if item["changed"]}
    assert {
        "weights_as_inputs",
        "batchnorm_spatial",
        "convert_opset",
        "remove_passthrough",
        "simplify",
        "ir_version",
    } <= set(changed)
    assert all(item["changes"] for item in changed.values())
    assert changed["weights_as_inputs"]["max_abs"] == 0.0
    assert record["max_abs"] <= TOLERANCE * record["largest_output"]
    assert record["operators_before"]["BatchNormalization"] == 2
    assert record["operators_after"]["BatchNormalization"] == 1  # the one that stands behind no convolution
    assert record["inputs"] == [{"name": "data", "shape": [1, 3, 32, 24]}]
    assert record["outputs"] == [{"name": "maps", "shape": [1, 17, 16, 12]}]


def test_a_fixed_graph_has_nothing_left_to_fix(fixed):
    again, record = fix_graph(fixed[0], CHIP, {"data": images(1)})
    assert not [item["name"] for item in record["passes"] if item["changed"]]
    assert record["yardstick"] == "onnxruntime, on the graph as it came"
    assert again.SerializeToString(deterministic=True) == fixed[0].SerializeToString(deterministic=True)


def test_the_given_model_is_not_touched():
    model = odd_model()
    before = model.SerializeToString(deterministic=True)
    fix_graph(model, CHIP, {"data": images(1)})
    assert model.SerializeToString(deterministic=True) == before


def test_node_by_node_equals_torch():
    x = images(2)
    assert np.allclose(run_node_by_node(odd_model(), {"data": x})["maps"], odd_outputs(x), rtol=0, atol=2e-5)


def damaging(change):
    """The passes, and after them one that does `change` to the graph."""

    def apply(model, chip):
        change(model)
        return model, ["damaged it"]

    return [*discover(), Pass("damaging", 99, "does damage", apply)]


def scale_weights(model, name_end="", factor=1.002):
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4 and tensor.name.endswith(name_end):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))


def poison(model):
    scale_weights(model, factor=np.nan)


def rename_output(model):
    model.graph.node[-1].output[0] = model.graph.output[0].name = "other"


def break_it(model):
    model.graph.node[0].op_type = "NoSuchOperator"


def swap_channels(model):
    tensor = next(t for t in model.graph.initializer if t.name == "w3")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[::-1].copy(), "w3"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (scale_weights, "changes the outputs"),
        (poison, "changes the outputs"),
        (swap_channels, "changes the outputs"),
        (rename_output, "the outputs were"),
        (break_it, "NoSuchOperator"),
    ],
)
def test_a_pass_that_changes_outputs_is_caught_and_named(change, said):
    with pytest.raises(UserError, match=f"'damaging'.*{said}"):
        fix_graph(odd_model(), CHIP, {"data": images(2)}, passes=damaging(change))


def test_a_forgotten_epsilon_is_caught():
    # The classic slip of a hand-written fusion: BatchNormalization's default epsilon instead of the node's own.
    def forget(model, chip):
        for node in model.graph.node:
            for attribute in [a for a in node.attribute if a.name == "epsilon"]:
                node.attribute.remove(attribute)
        return model, ["forgot epsilon"]

    with pytest.raises(UserError, match="'forgetful' changes the outputs"):
        fix_graph(odd_model(), CHIP, {"data": images(2)}, passes=[Pass("forgetful", 1, "", forget)])


def test_batch_statistics_per_activation_are_not_simplified_away():
    model = odd_model(statistics_shape=(8, 16, 12))
    # The definition covers both forms, so the yardstick exists even for the form that no pass may touch.
    x = images(1)
    assert np.allclose(run_node_by_node(model, {"data": x})["maps"], odd_outputs(x), rtol=0, atol=2e-5)
    with pytest.raises(UserError, match=r"batchnorm_spatial.*'bn'.*\[8, 16, 12\]"):
        fix_graph(model, CHIP, {"data": x})


def test_an_opset_above_the_range_comes_down(fixed):
    newer = onnx.version_converter.convert_version(fixed[0], 13)
    newer.ir_version = 8
    model, record = fix_graph(newer, CHIP, {"data": images(1)})
    assert opset_of(model) == 11 and model.ir_version == 7
    assert record["passes"][-1]["name"] == "ir_version"


def test_an_open_output_gets_its_size():
    model = odd_model()
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    fixed, record = fix_graph(model, CHIP, {"data": images(1)})
    assert [dim.dim_value for dim in fixed.graph.output[0].type.tensor_type.shape.dim] == [1, 17, 16, 12]
    assert record["outputs"][0]["shape"] == [1, 17, 16, 12]


def test_passes_are_found_by_folder_and_described():
    passes = discover()
    assert len({item.order for item in passes}) == len(passes)
    assert all(item.description.endswith(".") or item.description.endswith(")") for item in passes)


def make_cell(tmp_path, monkeypatch, model, operators):
    """A float reference and a cell for it, on a chip that takes `operators`."""
    monkeypatch.chdir(tmp_path)
    chip = {
        "chips": ["testchip"], "title": "t", "artifact": "x", "precisions": ["fp32"], "calibrated": [],
        "engines": ["local"],
        "sdk": {"name": "Tool", "version": "1", "licence": "none", "get": "nowhere"},
        "simulator": "none", "proven": "no", "graph": {"opset": [11, 11], "ir_version": 7}, "operators": operators,
    }  # fmt: skip
    (tmp_path / "vendors/testchip").mkdir(parents=True)
    (tmp_path / "vendors/testchip/chip.yaml").write_text(yaml.safe_dump(chip))
    cell = tmp_path / "out/odd/testchip/fp32"
    float_folder = tmp_path / "out/odd/float"
    float_folder.mkdir(parents=True)
    write_json(cell / "request.json", {"model": "odd", "chip": "testchip", "variant": "fp32", "precision": "fp32"})
    source = {"kind": "onnx", "origin": "onnx", "path": "odd.onnx"}
    write_json(float_folder / "source.json", {"model": "odd", "spec": spec_content(), "source": source})
    save(model, float_folder / "model.onnx")
    np.savez(float_folder / "samples.npz", data=images(5))
    return cell


def test_the_stage_writes_graph_and_record(tmp_path, monkeypatch):
    cell = make_cell(tmp_path, monkeypatch, odd_model(), {})
    record = fix_cell(cell)
    assert read_json(cell / "fix.json") == record
    assert record["samples"] == {"random": 2, "real": 3}
    x = images(2)
    assert np.allclose(run_onnx(cell / "model.onnx", {"data": x})["maps"], odd_outputs(x), rtol=0, atol=2e-5)


def test_a_failing_stage_writes_nothing(tmp_path, monkeypatch):
    cell = make_cell(tmp_path, monkeypatch, odd_model(statistics_shape=(8, 16, 12)), {})
    with pytest.raises(UserError):
        fix_cell(cell)
    assert sorted(path.name for path in cell.iterdir()) == ["request.json"]


def test_samples_of_another_graph_are_refused(tmp_path, monkeypatch):
    cell = make_cell(tmp_path, monkeypatch, odd_model(), {})
    np.savez(tmp_path / "out/odd/float/samples.npz", image=images(2))
    with pytest.raises(UserError, match="does not fit the graph's input 'data'"):
        fix_cell(cell)


@pytest.mark.skipif(not (SHARED / "real").exists(), reason="needs the real network in ../shared")
def test_the_real_odd_network():
    model = load_onnx(SHARED / "real/simplepose_256x192.onnx")
    x = np.random.default_rng(1).standard_normal((1, 3, 256, 192)).astype(np.float32)
    fixed, record = fix_graph(model, CHIP, {"data": x})
    assert record["max_abs"] < 1e-5
    assert opset_of(fixed) == 11 and fixed.ir_version == 7 and len(fixed.graph.input) == len(graph_inputs(fixed)) == 1
    after = Runner(fixed, as_it_came=True).run({"data": x})["hybridsequential0_conv7_fwd"]
    # The original, cleaned of what is semantically void, in the same runtime: equal to the last bit.
    assert np.array_equal(after, run_onnx(model, {"data": x})["hybridsequential0_conv7_fwd"])


@pytest.mark.parametrize("opset", [9, 10])
def test_sampling_of_an_old_resize_survives_the_conversion(opset):
    # Before opset 11 a linear x2 meant positions 0, 0.5, 1, 1.5: [a, b] -> [a, (a + b) / 2, b, b]. onnx's converter
    # forgets that, and Resize-11's default would give [a, 0.75a + 0.25b, 0.25a + 0.75b, b].
    scales = onnx.numpy_helper.from_array(np.float32([1, 1, 1, 2]), "scales")
    node = onnx.helper.make_node("Upsample" if opset == 9 else "Resize", ["x", "scales"], ["y"], "up", mode="linear")
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, 1, 2])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, 1, 4])],
        [scales],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=4)
    x = np.float32([2, 6]).reshape(1, 1, 1, 2)
    fixed, record = fix_graph(model, CHIP, {"x": x})
    assert record["opset"] == [opset, 11]
    assert run_onnx(fixed, {"x": x})["y"].ravel().tolist() == [2, 4, 6, 6]


def test_identity_before_an_output_goes_and_the_output_keeps_its_name():
    # y is Identity of r, and r is read elsewhere too: that reader has to follow the new name.
    nodes = [
        onnx.helper.make_node("Relu", ["x"], ["r"]),
        onnx.helper.make_node("Identity", ["r"], ["y"]),
        onnx.helper.make_node("Neg", ["r"], ["z"]),
        onnx.helper.make_node("Identity", ["x"], ["same_as_x"]),
    ]
    values = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 3]) for n in ("x", "y", "z", "same_as_x")
    ]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 11)], ir_version=7)
    x = np.float32([[-1, 2, 3]])
    passes = [item for item in discover() if item.name == "remove_passthrough"]
    fixed, record = fix_graph(model, CHIP, {"x": x}, passes)
    # The last Identity joins an input with an output: nothing else could give that output its name.
    assert [node.op_type for node in fixed.graph.node] == ["Relu", "Neg", "Identity"]
    assert record["passes"][0]["changes"] == ["1 Identity removed"]
    found = run_onnx(fixed, {"x": x})
    assert found["y"].tolist() == [[0, 2, 3]] and found["z"].tolist() == [[0, -2, -3]]
    assert found["same_as_x"].tolist() == [[-1, 2, 3]]
