"""KEEP_FLOAT=: names and last:N against a small graph with two heads."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from common.basics.errors import UserError
from common.declarations.keep_float import from_the_end, layers_with_weights, resolve


def two_heads(reverse=False):
    """stem -> relu -> (a1 -> a2 -> "maps") and (b1 -> "tags"); the heads' order in the file can be turned round.

    MatMul of two values that are computed is no layer with weights; Gemm with its constant first is one.
    """
    names = ("stem", "a1", "a2", "b1")
    weights = [numpy_helper.from_array(np.eye(4, dtype=np.float32), f"w_{name}") for name in names]
    first = [
        helper.make_node("MatMul", ["r", "w_a1"], ["a"], "a1"),
        helper.make_node("Gemm", ["w_a2", "a"], ["maps"], "a2"),
    ]
    second = [
        helper.make_node("MatMul", ["r", "w_b1"], ["b"], "b1"),
        helper.make_node("MatMul", ["b", "r"], ["square"], "self"),
        helper.make_node("Sigmoid", ["square"], ["tags"], "last"),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w_stem"], ["s"], "stem"),
        helper.make_node("Relu", ["s"], ["r"], "relu"),
        *(second + first if reverse else first + second),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4]) for name in ("x", "maps", "tags")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


@pytest.fixture
def model():
    return two_heads()


def names(found):
    return [entry["node"] for entry in found]


def test_names_and_tensors_in_the_graphs_order(model):
    assert resolve(" maps , stem,,", model, "cell") == [
        {"node": "stem", "operator": "MatMul", "outputs": ["s"]},
        {"node": "a2", "operator": "Gemm", "outputs": ["maps"]},
    ]
    assert names(resolve("a2,maps", model, "cell")) == ["a2"]  # one node under both its names
    assert resolve("", model, "cell") == resolve(" , ", model, "cell") == []


@pytest.mark.parametrize("reverse", [False, True])
def test_the_last_layers_are_counted_from_the_outputs_and_not_by_the_file(reverse):
    model = two_heads(reverse)
    order = {node.name: index for index, node in enumerate(model.graph.node)}
    assert {model.graph.node[i].name for i in layers_with_weights(model)} == {"stem", "a1", "a2", "b1"}
    assert from_the_end(model) == {order["stem"]: 3, order["a1"]: 2, order["a2"]: 1, order["b1"]: 1}
    # a2 and b1 both stand before an output: whichever the file lists first, a1 is not among the last two.
    two = names(resolve("last:2", model, "cell"))
    assert set(two) == {"a2", "b1", "self", "last"} and two == sorted(two, key=order.__getitem__)
    one = {"a2"} if reverse else {"b1", "self", "last"}
    assert set(names(resolve("last:1", model, "cell"))) == one
    assert set(names(resolve("last:3", model, "cell"))) == {"a1", "a2", "b1", "self", "last"}
    # Behind the first layer lies everything.
    assert len(resolve("last:4", model, "cell")) == len(model.graph.node)
    assert set(names(resolve("last:1,relu", model, "cell"))) == one | {"relu"}


@pytest.mark.parametrize("word", ["last:", "last:0", "last:5", "last:-1", "last:two", "last:1.5"])
def test_a_number_that_is_none_of_its_layers_is_refused(model, word):
    with pytest.raises(UserError, match=f"cell: KEEP_FLOAT={word}: the network has 4 layers") as error:
        resolve(word, model, "cell")
    assert error.value.exit_code == 2 and "1 to 4" in error.value.hint


def test_an_unknown_name_names_the_nearest(model):
    with pytest.raises(UserError, match=r"cell: KEEP_FLOAT=stam: .* no node and no tensor") as error:
        resolve("a1,stam", model, "cell")
    assert error.value.exit_code == 2 and "did you mean stem" in error.value.hint
    with pytest.raises(UserError) as error:
        resolve("0123456789", model, "cell")
    assert "stem" in error.value.hint and "last:N" in error.value.hint
