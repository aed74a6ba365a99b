"""The integers behind the doubles of closed SDKs: what they round, and what they leave alone."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.doubles.fake_quantisation import Format, fake_quantised, observe, run_onnx

RANDOM = np.random.default_rng(3)
IMAGES = [RANDOM.standard_normal((1, 3, 8, 8)).astype(np.float32) for _ in range(5)]


@pytest.fixture
def model():
    """Two convolutions and a sum; the second convolution's channels differ in size a hundredfold."""
    first = RANDOM.standard_normal((4, 3, 3, 3)).astype(np.float32)
    second = RANDOM.standard_normal((4, 4, 1, 1)).astype(np.float32) * np.array([1, 1, 100, 100]).reshape(4, 1, 1, 1)
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], "one", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w2"], ["b"], "two"),
        helper.make_node("Add", ["a", "b"], ["sum"], "three"),
    ]
    shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 8, 8])
             for name, channels in (("image", 3), ("sum", 4))]  # fmt: skip
    weights = [
        numpy_helper.from_array(value.astype(np.float32), name) for name, value in (("w1", first), ("w2", second))
    ]
    graph = helper.make_graph(nodes, "g", shape[:1], shape[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)


def bounds(model):
    return {name: (found.low, found.high) for name, found in observe(model, [{"image": one} for one in IMAGES]).items()}


def test_every_tensor_is_observed_and_percentiles_cut_both_ends(model):
    seen = observe(model, ({"image": one} for one in IMAGES))
    assert set(seen) == {"image", "a", "b", "sum"}
    assert seen["image"].low == min(one.min() for one in IMAGES)
    assert seen["image"].high == max(one.max() for one in IMAGES)
    low, high = seen["image"].percentile(0.9)
    assert seen["image"].low < low < -1 < 1 < high < seen["image"].high
    with pytest.raises(ValueError, match="no feed"):
        observe(model, [])


@pytest.mark.parametrize("form", [Format(4), Format(4, symmetric=False), Format(4, power_of_two=True)])
def test_outputs_lie_on_the_grid_of_their_format(model, form):
    ranges = bounds(model)
    scale, _, lowest, highest = form.grid(*(np.array(bound) for bound in ranges["sum"]))
    assert not form.power_of_two or np.log2(scale) % 1 == 0
    made = fake_quantised(model, ranges, form, Format(8, per_channel=True))
    onnx.checker.check_model(made)
    steps = run_onnx(made, {"image": IMAGES[0]})["sum"] / scale
    assert np.abs(steps - np.rint(steps)).max() < 1e-3
    assert len(np.unique(np.rint(steps))) <= highest - lowest + 1


def test_more_bits_are_closer_and_one_scale_a_channel_is_better_where_channels_differ(model):
    exact = run_onnx(model, {"image": IMAGES[1]})["sum"]

    def error(activations, weights):
        found = run_onnx(fake_quantised(model, bounds(model), activations, weights), {"image": IMAGES[1]})["sum"]
        return float(np.square(found - exact)[:, :2].mean())  # the small channels

    wide = Format(16)
    assert 0 < error(wide, Format(16)) < error(wide, Format(8)) < error(wide, Format(4))
    assert error(wide, Format(8, per_channel=True)) < error(wide, Format(8)) / 10
    assert error(Format(8), Format(16)) > error(wide, Format(16))


def test_what_is_skipped_or_has_no_range_stays_float(model):
    untouched = fake_quantised(model, {}, Format(2), Format(2), skip=["one", "two"])
    for image in IMAGES:
        assert np.array_equal(run_onnx(untouched, {"image": image})["sum"], run_onnx(model, {"image": image})["sum"])
    coarse = fake_quantised(model, bounds(model), Format(16), Format(16, per_channel=True), {"a": Format(2)})
    found = run_onnx(coarse, {"image": IMAGES[0]})["sum"]
    assert np.abs(found - run_onnx(model, {"image": IMAGES[0]})["sum"]).max() > 0.1
