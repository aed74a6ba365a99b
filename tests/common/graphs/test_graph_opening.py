"""A normalisation that a graph holds itself is found, and what the graph wants to be fed follows from it."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from common.graphs.opening import CHANNELS_LAST, opening_of

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def column(values):
    return np.array(values, np.float32).reshape(1, -1, 1, 1)


def graph(steps, shape=(1, 3, 8, 8), extra_reader=False, **weights):
    """input -> steps [(operator, input names, attributes)] -> Conv."""
    nodes, name = [], "image"
    for number, (operator, others, attributes) in enumerate(steps):
        inputs = [name if other is None else other for other in others]
        name = f"t{number}"
        nodes.append(helper.make_node(operator, inputs, [name], **attributes))
    nodes.append(helper.make_node("Conv", [name, "kernel"], ["maps"]))
    if extra_reader:
        nodes.append(helper.make_node("Relu", ["image"], ["further"]))
    values = {"kernel": np.ones((4, 3, 1, 1), np.float32), **weights}
    return helper.make_model(
        helper.make_graph(
            nodes, "opening", [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("maps", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.asarray(value), key) for key, value in values.items()],
        ),
        opset_imports=[helper.make_opsetid("", 11)],
    )  # fmt: skip


def binary(operator, name):
    return (operator, [None, name], {})


@pytest.mark.parametrize("factor", [1.0, 255.0])
@pytest.mark.parametrize(
    "steps",
    [
        [binary("Sub", "mean"), binary("Div", "std")],
        [binary("Sub", "mean"), binary("Mul", "inverse")],
        [binary("Mul", "inverse"), binary("Add", "shift")],
        [("BatchNormalization", [None, "one", "zero", "flat_mean", "variance"], {"epsilon": 0.0})],
    ],
    ids=["Sub, Div", "Sub, Mul", "Mul, Add", "BatchNormalization"],
)
def test_every_way_of_writing_it_gives_the_same_mean_and_std(steps, factor):
    mean, std = np.array(MEAN) * factor, np.array(STD) * factor
    model = graph(
        steps, mean=column(mean), std=column(std), inverse=column(1 / std), shift=column(-mean / std),
        one=np.ones(3, np.float32), zero=np.zeros(3, np.float32), flat_mean=mean.astype(np.float32),
        variance=(std**2).astype(np.float32),
    )  # fmt: skip
    found = opening_of(model)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-4)
    np.testing.assert_allclose(found.std, std, rtol=1e-4)
    assert found.fed == ("0..255" if factor == 255 else "0..1")
    assert f"so it wants {found.fed}" in found.words


def test_a_division_by_255_means_pixels():
    found = opening_of(graph([binary("Div", "c")], c=np.float32(255)))
    assert (found.fed, found.std.tolist()) == ("0..255", [255] * 3)


def test_a_range_of_minus_one_to_one_is_told_from_both_scales():
    assert opening_of(graph([binary("Mul", "a"), binary("Sub", "b")], a=np.float32(2), b=np.float32(1))).fed == "0..1"
    steps = [binary("Sub", "b"), binary("Div", "b")]
    assert opening_of(graph(steps, b=np.float32(127.5))).fed == "0..255"


def test_statistics_of_images_that_were_normalised_before_are_no_normalisation_of_pixels():
    found = opening_of(
        graph([binary("Sub", "m"), binary("Div", "s")], m=column([0.02, -0.1, 0.0]), s=column([1.1, 1, 0.9]))
    )
    assert found.mean is not None
    assert found.fed is None
    assert "not clear" in found.words


def test_a_graph_that_begins_with_a_layer_holds_none():
    found = opening_of(graph([]))
    assert (found.mean, found.fed, found.operators) == (None, None, [])
    assert "none in the graph" in found.words


def test_channels_last_are_followed_through_the_transpose():
    steps = [
        binary("Div", "c"),
        ("Transpose", [None], {"perm": [0, 3, 1, 2]}),
        binary("Sub", "mean"),
        binary("Div", "std"),
    ]
    found = opening_of(graph(steps, (1, 8, 8, 3), c=np.float32(255), mean=column(MEAN), std=column(STD)))
    assert found.layout == CHANNELS_LAST
    np.testing.assert_allclose(found.mean, np.array(MEAN) * 255, rtol=1e-5)
    assert found.fed == "0..255"


@pytest.mark.parametrize("first", [True, False], ids=["swapped first", "normalised first"])
def test_a_swap_of_colours_leaves_the_mean_in_the_order_that_is_fed(first):
    swap, normalise = [("Gather", [None, "order"], {"axis": 1})], [binary("Sub", "mean"), binary("Div", "std")]
    steps = swap + normalise if first else normalise + swap
    found = opening_of(graph(steps, order=np.array([2, 1, 0]), mean=column(MEAN), std=column(STD)))
    assert found.swaps_colors
    np.testing.assert_allclose(found.mean, MEAN[::-1] if first else MEAN, rtol=1e-5)
    np.testing.assert_allclose(found.std, STD[::-1] if first else STD, rtol=1e-5)
    assert "exchanges the first and the third channel" in found.words


@pytest.mark.parametrize(
    ("steps", "weights"),
    [
        ([binary("Sub", "picture")], {"picture": np.zeros((1, 3, 8, 8), np.float32)}),  # a mean image
        ([("Sub", ["c", None], {}), binary("Mul", "c")], {"c": np.float32(1)}),  # c - x turns the picture's signs
        ([("Div", ["c", None], {})], {"c": np.float32(1)}),
        ([("Add", [None, None], {})], {}),
        ([binary("Div", "c")], {"c": np.float32(0)}),
    ],
    ids=["mean image", "negative", "reciprocal", "with itself", "by zero"],
)
def test_what_is_no_shift_and_scale_is_not_taken_for_one(steps, weights):
    assert opening_of(graph(steps, **weights)).fed is None


def test_an_image_that_is_read_twice_is_not_followed():
    model = graph([binary("Div", "c")], extra_reader=True, c=np.float32(255))
    assert opening_of(model).mean is None
