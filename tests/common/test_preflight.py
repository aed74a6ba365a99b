import subprocess
import sys
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from common.basics.errors import UserError
from common.basics.files import read_json
from common.declarations.spec import ChipSpec
from common.fix import fix_cell, fix_graph
from common.preflight import check_problems, find_problems, preflight
from tests.common.odd_graphs import images, odd_model
from tests.common.test_fix import CHIP, make_cell

OPERATORS = {
    "Conv": {},
    "Clip": None,
    "BatchNormalization": {},
    "Resize": {"mode": ["nearest", "linear"], "note": "cubic is not there"},
}


def chip(operators=None, unsupported=None, **graph):
    return ChipSpec(
        chips=["c"], title="t", artifact="x", precisions=["fp32"], calibrated=[], engines=["local"],
        sdk={"name": "Tool", "version": "1", "licence": "none", "get": "nowhere"},
        simulator="none",
        proven="no", graph={"opset": [11, 11], "ir_version": 7} | graph, folder=Path("vendors/c"),
        operators=OPERATORS if operators is None else operators, unsupported=unsupported or {},
    )  # fmt: skip


@pytest.fixture
def fixed():
    return fix_graph(odd_model(), CHIP, {"data": images(1)})[0]


def one_node_model(node, opset=11):
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)


def test_a_graph_that_the_chip_takes(fixed):
    assert find_problems(fixed, chip()) == []
    check_problems([], "it")


def test_an_operator_that_the_chip_lacks_is_named_with_node_and_way_out(fixed):
    operators = {name: rules for name, rules in OPERATORS.items() if name != "Resize"}
    problems = find_problems(fixed, chip(operators, {"Resize": "upsample by a transposed convolution"}))
    assert [(item["node"], item["operator"]) for item in problems] == [("up", "Resize")]
    with pytest.raises(UserError) as caught:
        check_problems(problems, "odd/c/fp32")
    assert "'up' (Resize)" in caught.value.message and "odd/c/fp32" in caught.value.message
    assert "transposed convolution" in caught.value.message and caught.value.hint


def test_without_a_way_out_the_nearest_operator_is_named():
    problems = find_problems(one_node_model(helper.make_node("PRelu", ["x", "x"], ["y"])), chip({"Relu": {}}))
    assert "nearest that is supported: Relu" in problems[0]["way_out"]


def test_an_attribute_out_of_range_is_named_with_what_is_allowed(fixed):
    node = next(n for n in fixed.graph.node if n.op_type == "Resize")
    for attribute in node.attribute:
        if attribute.name == "mode":
            attribute.s = b"cubic"
    (problem,) = find_problems(fixed, chip())
    assert (problem["node"], problem["attribute"]) == ("up", "mode")
    assert "mode=cubic" in problem["problem"]
    assert "nearest or linear" in problem["way_out"] and "cubic is not there" in problem["way_out"]


def test_the_default_counts_where_the_attribute_is_absent():
    model = one_node_model(helper.make_node("Softmax", ["x"], ["y"]))  # axis is 1 at opset 11, -1 from 13 on
    assert find_problems(model, chip({"Softmax": {"axis": [1]}})) == []
    assert find_problems(model, chip({"Softmax": {"axis": [-1]}}))[0]["attribute"] == "axis"


def test_a_choice_holds_for_every_entry_of_a_list():
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    rules = {"MaxPool": {"strides": [1, 2], "kernel_shape": [[3, 3]]}}
    assert find_problems(one_node_model(node), chip(rules)) == []
    next(attribute for attribute in node.attribute if attribute.name == "strides").ints[1] = 3
    assert [p["attribute"] for p in find_problems(one_node_model(node), chip(rules))] == ["strides"]


def test_opset_ir_and_inputs(fixed):
    problems = find_problems(odd_model(), chip({}, opset=[11, 11]))
    said = " ".join(item["problem"] for item in problems)
    assert "opset 8 is outside 11 to 11" in said and "weights are listed among the inputs" in said
    fixed.ir_version = 9
    assert ["IR 9" in item["problem"] for item in find_problems(fixed, chip())] == [True]


def test_an_open_shape_is_named(fixed):
    fixed.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "n"
    (problem,) = find_problems(fixed, chip())
    assert "output 'maps' has no fixed shape: nx17x16x12" in problem["problem"]
    assert find_problems(fixed, chip(static=False)) == []


def test_an_own_operator_set_is_refused(fixed):
    fixed.graph.node[0].domain = "com.example"
    (problem,) = find_problems(fixed, chip())
    assert "'com.example'" in problem["problem"]


def test_all_problems_are_told_at_once(fixed):
    fixed.ir_version = 9
    problems = find_problems(fixed, chip({"Clip": {}}))
    with pytest.raises(UserError) as caught:
        check_problems(problems, "it")
    assert "IR 9" in caught.value.message
    for node in fixed.graph.node:
        assert (f"'{node.name}'" in caught.value.message) == (node.op_type != "Clip")


def test_the_stage_passes_and_refuses(tmp_path, monkeypatch):
    cell = make_cell(tmp_path, monkeypatch, odd_model(), OPERATORS)
    fix_cell(cell)
    assert preflight(cell)["ok"] and read_json(cell / "preflight.json")["problems"] == []
    path = tmp_path / "vendors/testchip/chip.yaml"
    path.write_text(path.read_text().replace("Resize:", "Other:"))
    with pytest.raises(UserError, match=r"odd/testchip/fp32.*refuse 1 thing"):
        preflight(cell)
    # A refused graph must not leave the file that make takes for a pass.
    assert not (cell / "preflight.json").exists()
    assert read_json(cell / "preflight.failed.json")["problems"][0]["operator"] == "Resize"


def test_it_starts_without_any_large_library():
    code = "import sys, common.preflight; print({'torch', 'onnxruntime', 'onnxsim', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
