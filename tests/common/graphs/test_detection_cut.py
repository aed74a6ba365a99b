import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from common.basics.errors import UserError
from common.decoding.detection_head import head_levels, role_channels
from common.graphs.detection_cut import cut_detection_head, prove_cut
from common.graphs.onnx_graph import Runner, tensors
from tests.common.detectors import SIZE, detector_onnx, detector_spec, images, pose_detector_spec

NAMES = [f"{role}_{stride}" for stride in (8, 16, 32) for role in ("box", "class")]
POSE_NAMES = [f"{role}_{stride}" for stride in (8, 16, 32) for role in ("box", "class", "keypoints")]


def renamed(model):
    """The same graph with its tensors and nodes named without meaning."""
    numbers = itertools.count()
    names = {"": "", "images": "images", "output0": "output0"}
    for node in model.graph.node:
        node.name = f"n{next(numbers)}"
        for field in (node.input, node.output):
            for index, name in enumerate(field):
                field[index] = names.setdefault(name, f"t{next(numbers)}")
    for tensor in model.graph.initializer:
        tensor.name = names.setdefault(tensor.name, f"t{next(numbers)}")
    del model.graph.value_info[:]
    return model


def shuffled(model):
    """The same graph with its nodes in another order that is still a possible one."""
    random = np.random.default_rng(0)
    known = {"", *(value.name for value in model.graph.input), *(tensor.name for tensor in model.graph.initializer)}
    waiting, ordered = list(model.graph.node), []
    while waiting:
        ready = [node for node in waiting if known.issuperset(node.input)]
        node = ready[random.integers(len(ready))]
        waiting.remove(node)
        ordered.append(node)
        known.update(node.output)
    ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del model.graph.node[:]
    model.graph.node.extend(ordered)
    return model


def ending_at(model, *values):
    """The graph with other outputs: (name, shape) each."""
    del model.graph.output[:]
    for name, shape in values:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return model


def cut_and_prove(model, spec):
    cut, _ = cut_detection_head(model, spec, "test.onnx")
    return cut, prove_cut(model, cut, images(), spec, "test.onnx")


def simplified(model):
    import onnxsim

    small, checked = onnxsim.simplify(model)
    assert checked
    return small


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("change", [lambda model: model, renamed, shuffled, simplified])
def test_it_is_cut_at_its_six_convolutions(opset, change):
    model = change(detector_onnx(opset=opset))
    before = model.SerializeToString()
    cut, proof = cut_and_prove(model, detector_spec())
    assert [value.name for value in cut.graph.output] == NAMES
    assert model.SerializeToString() == before, "the graph that came in is not touched"
    operators = {node.op_type for node in cut.graph.node}
    assert not operators & {"Softmax", "Transpose", "Reshape", "Sub", "Div"} and len(cut.graph.node) < len(
        model.graph.node
    )
    used = {name for node in cut.graph.node for name in node.input}
    assert used >= {tensor.name for tensor in cut.graph.initializer}
    assert proof["max_abs"] <= proof["tolerance"] and max(proof["relative"].values()) < 1e-5
    assert proof["samples"] == 2 and not proof["not_compared"] and set(proof["relative"]) == {"box", "class"}


@pytest.mark.parametrize("opset", [11, 17])
def test_a_pose_network_has_nine(opset):
    cut, proof = cut_and_prove(detector_onnx(1, 17, opset), pose_detector_spec())
    assert [value.name for value in cut.graph.output] == POSE_NAMES
    shapes = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in cut.graph.output]
    assert shapes[:3] == [[1, 64, 8, 8], [1, 1, 8, 8], [1, 51, 8, 8]] and shapes[-1] == [1, 51, 2, 2]
    assert set(proof["relative"]) == {"box", "class", "keypoints"} and max(proof["relative"].values()) < 1e-5


def test_a_graph_that_is_cut_already_comes_back_as_it_is():
    cut, _ = cut_detection_head(detector_onnx(), detector_spec(), "test.onnx")
    again, description = cut_detection_head(cut, detector_spec(), "test.onnx")
    assert again is cut and "already" in description


def heads_of(model, spec):
    """The names that the head convolutions have in the graph before it is cut: in the order of their strides."""
    cut, _ = cut_detection_head(model, spec, "test.onnx")
    weights = {node.output[0]: node.input[1] for node in cut.graph.node if node.op_type == "Conv"}
    original = {node.input[1]: node.output[0] for node in model.graph.node if node.op_type == "Conv"}
    return {value.name: original[weights[value.name]] for value in cut.graph.output}


def test_a_head_that_gives_scores_for_each_stride_is_cut_before_them():
    """As some vendors' model zoos export it: box logits, and class scores after the sigmoid."""
    model, spec = detector_onnx(), detector_spec()
    heads = heads_of(model, spec)
    outputs = []
    for stride in (8, 16, 32):
        cells = SIZE // stride
        model.graph.node.append(helper.make_node("Sigmoid", [heads[f"class_{stride}"]], [f"scores{stride}"]))
        outputs += [(heads[f"box_{stride}"], [1, 64, cells, cells]), (f"scores{stride}", [1, 2, cells, cells])]
    cut, proof = cut_and_prove(ending_at(model, *outputs), spec)
    assert [value.name for value in cut.graph.output] == NAMES and max(proof["relative"].values()) < 1e-5


def test_boxes_and_scores_as_two_outputs_and_transposed():
    model, spec = detector_onnx(), detector_spec()
    model.graph.node.append(helper.make_node("Transpose", ["output0"], ["turned"], perm=[0, 2, 1]))
    model.graph.node.append(helper.make_node("Split", ["turned"], ["boxes", "scores"], axis=2, split=[4, 2]))
    _, proof = cut_and_prove(ending_at(model, ("boxes", [1, 84, 4]), ("scores", [1, 84, 2])), spec)
    assert set(proof["relative"]) == {"box", "class"} and not proof["not_compared"]


def test_a_bias_that_is_added_after_the_convolution_stays():
    """Without it the logits would be others, and a graph that is cut already has no decode to notice it by."""
    model, spec = detector_onnx(), detector_spec()
    expected = Runner(cut_detection_head(model, spec, "a")[0]).run(images())
    last = set(heads_of(model, spec).values())
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors(model)}
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type == "Identity" and node.input[0] in values:  # equal weights are stored once
            values[node.output[0]] = values[node.input[0]]
        if node.output[0] in last:
            bias, output = node.input.pop(), node.output[0]
            node.output[0] = f"{output}_plain"
            added = numpy_helper.from_array(values[bias].reshape(1, -1, 1, 1).copy(), f"{output}_bias")
            model.graph.initializer.append(added)
            nodes.append(helper.make_node("Add", [node.output[0], added.name], [output]))
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    found = Runner(cut_and_prove(model, spec)[0]).run(images())
    for name in NAMES:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4)


def test_names_that_are_taken_are_left_to_their_owners():
    model = detector_onnx()
    first = model.graph.node[0].output[0]
    for node in model.graph.node:
        for field in (node.input, node.output):
            for index, name in enumerate(field):
                field[index] = "box_8" if name == first else name
    cut, _ = cut_and_prove(model, detector_spec())
    assert [value.name for value in cut.graph.output] == ["box_8_", *NAMES[1:]]


def refusal(model, spec):
    with pytest.raises(UserError) as caught:
        cut_detection_head(model, spec, "test.onnx")
    assert caught.value.message.startswith("test.onnx") and caught.value.hint
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize("operator", ["NonMaxSuppression", "TopK", "EfficientNMS_TRT"])
def test_suppression_inside_is_refused(operator):
    model = detector_onnx()
    model.graph.node.append(helper.make_node(operator, ["output0"], ["kept"]))
    message, hint = refusal(ending_at(model, ("kept", [1, 300, 6])), detector_spec())
    assert operator in message and "1x300x6" in message and "nms=False" in hint


def test_other_classes_are_refused_with_their_number():
    message, hint = refusal(detector_onnx(3), detector_spec())
    assert "1x3x8x8" in message and "expects 6" in message and "1x2x8x8" in message
    assert "3 classes" in hint and "decode.classes" in hint


def test_a_keypoint_head_that_is_not_declared_and_one_that_is_missing():
    assert "decode.keypoints" in refusal(detector_onnx(1, 17), detector_spec(["person"]))[1]
    message, hint = refusal(detector_onnx(1), pose_detector_spec())
    assert "6 head outputs" in message and "expects 9" in message and "no keypoint head" in hint


def test_other_strides_and_bins():
    assert "decode.strides in the spec: [8, 16, 32]" in refusal(detector_onnx(), detector_spec(strides=[8, 16]))[1]
    assert "regression_bins" in refusal(detector_onnx(), detector_spec(regression_bins=8))[1]


def head_graph(*channels):
    """Convolutions with these numbers of channels at each of three strides, concatenated like a decode does it."""
    nodes, weights, flat = [], [], []
    for stride, (place, count) in itertools.product((8, 16, 32), enumerate(channels)):
        name = f"{place}_{stride}"
        kernel = np.zeros((count, 3, stride, stride), np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{name}"))
        nodes.append(helper.make_node("Conv", ["images", f"w{name}"], [f"c{name}"], strides=[stride, stride]))
        nodes.append(helper.make_node("Flatten", [f"c{name}"], [f"f{name}"]))
        flat.append(f"f{name}")
    nodes.append(helper.make_node("Concat", flat, ["all"], axis=1))
    graph = helper.make_graph(
        nodes, "head", [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("all", TensorProto.FLOAT, None)], weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)


@pytest.mark.parametrize(
    ("channels", "said"),
    [((3 * 7,), "3 anchors and objectness (YOLOv5, YOLOv7: 3 x (5 + 2))"), ((4, 1, 2), "YOLOX"), ((4, 2), "YOLO26")],
)
def test_heads_of_other_families_are_named(channels, said):
    message, hint = refusal(head_graph(*channels), detector_spec())
    assert f"{3 * len(channels)} head outputs" in message and said in hint


def test_a_network_without_any_such_head():
    assert "yolo export" in refusal(head_graph(17), detector_spec())[1]
    message, _ = refusal(ending_at(detector_onnx(), ("images", [1, 3, SIZE, SIZE])), detector_spec())
    assert "no convolution" in message


def test_another_decode_behind_the_same_head_is_refused():
    """As if the network put its anchors elsewhere: the graph's own boxes are not those that the host would find."""
    model, spec = detector_onnx(), detector_spec()
    model.graph.initializer.append(numpy_helper.from_array(np.array([[[1.0]]], np.float32), "moved"))
    model.graph.node.append(helper.make_node("Add", ["output0", "moved"], ["elsewhere"]))
    ending_at(model, ("elsewhere", [1, 6, 84]))
    cut, _ = cut_detection_head(model, spec, "test.onnx")
    with pytest.raises(UserError, match="differ by 1"):
        prove_cut(model, cut, images(), spec, "test.onnx")


def test_outputs_that_say_nothing_comparable_are_refused():
    model, spec = detector_onnx(), detector_spec()
    model.graph.node.append(helper.make_node("ReduceMax", ["output0"], ["best"], axes=[1]))
    ending_at(model, ("best", [1, 1, 84]))
    cut, _ = cut_detection_head(model, spec, "test.onnx")
    with pytest.raises(UserError, match="nothing there tells"):
        prove_cut(model, cut, images(), spec, "test.onnx")


def test_kinds_with_the_same_number_of_channels_cannot_be_told_apart():
    with pytest.raises(UserError, match="cannot be told apart: channels are box 8, class 8"):
        role_channels(detector_spec([str(index) for index in range(8)], regression_bins=2))


def test_levels_come_in_the_order_of_their_strides():
    shapes = {"a": (5, 2, 2, 2), "b": (5, 64, 8, 8), "c": (5, 64, 2, 2), "d": (5, 2, 8, 8), "e": (5, 2, 4, 4),
              "f": (5, 64, 4, 4)}  # fmt: skip
    levels = head_levels(shapes, detector_spec(), "test")
    assert [(level.stride, level.box, level.classes) for level in levels] == [
        (8, "b", "d"),
        (16, "f", "e"),
        (32, "c", "a"),
    ]
    assert levels[0].keypoints is None
    with pytest.raises(UserError, match="5 head outputs"):
        head_levels({name: shape for name, shape in shapes.items() if name != "e"}, detector_spec(), "test")
