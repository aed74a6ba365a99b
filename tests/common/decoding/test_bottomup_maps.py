import numpy as np
import pytest
import torch

from common.basics.errors import UserError
from common.declarations.keypoints import COCO17
from common.decoding.bottomup_maps import check_maps, find_stages, maps_of_input, merge_stages, resize_maps

FLIP = COCO17.flip_order
TWO = {"b": (1, 17, 64, 96), "a": (1, 34, 32, 48)}


def stages(height=8, width=12, seed=0):
    random = np.random.default_rng(seed)
    first = random.normal(0, 1, (34, height, width)).astype(np.float32)
    return first, random.normal(0, 1, (17, 2 * height, 2 * width)).astype(np.float32)


def torch_resized(maps, size):
    tensor = torch.from_numpy(np.ascontiguousarray(maps))[None]
    return torch.nn.functional.interpolate(tensor, size=size[::-1], mode="bilinear", align_corners=False)[0].numpy()


def test_stages_are_told_apart_by_shape_whatever_their_names_and_order():
    assert find_stages(TWO, 17, "x") == ("a", "b")
    assert find_stages(dict(reversed(TWO.items())), 17, "x") == ("a", "b")
    assert find_stages({"only": (1, 34, 32, 48)}, 17, "x") == ("only", None)


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"heatmaps": (1, 17, 64, 48)},
        {"a": (1, 34, 32, 48), "b": (1, 17, 32, 48)},
        {"a": (1, 34, 32, 48), "b": (1, 17, 64, 95)},
        {"a": (1, 34, 32, 48), "b": (1, 34, 64, 96)},
        {"a": (1, 28, 32, 48), "b": (1, 14, 64, 96)},
        {"a": (1, 34, 32, 48), "b": (1, 17, 64, 96), "c": (1, 17, 64, 96)},
        {"a": (1, 34, 32, 48), "b": (1, 1000)},
        {"a": (1, 32, 48, 34), "b": (1, 64, 96, 17)},
    ],
)
def test_other_outputs_are_named_beside_what_is_expected(shapes):
    with pytest.raises(UserError) as raised:
        find_stages(shapes, 17, "net.onnx")
    message = str(raised.value)
    assert "net.onnx" in message and "1x34xHxW" in message and "1x17x2Hx2W" in message
    assert all(name in message for name in shapes)


def test_values_that_are_not_finite_are_named():
    first, second = (stage[None].copy() for stage in stages())
    second[0, 3, 2, 1] = np.nan
    with pytest.raises(UserError, match=r"output b is not finite .* channel 3"):
        check_maps({"a": first, "b": second}, 17, "net")
    assert check_maps({"a": first}, 17, "net")[1] is None


@pytest.mark.parametrize("size", [(24, 16), (48, 32), (30, 20), (7, 5), (1, 1)])
def test_resizing_is_pytorchs_up_to_rounding(size):
    maps, _ = stages()
    resized = resize_maps(maps, size)
    np.testing.assert_allclose(resized, torch_resized(maps, size), atol=1e-5)
    assert resized.shape == (34, size[1], size[0]) and resized.dtype == np.float32


def test_doubling_weighs_three_to_one_and_repeats_the_border():
    maps = np.array([[[0, 4, 8]]], np.float32)
    np.testing.assert_array_equal(resize_maps(maps, (6, 2))[0], [[0, 1, 3, 5, 7, 8]] * 2)


def test_heatmaps_are_the_mean_of_both_stages_and_tags_those_of_the_first():
    first, second = np.full((34, 4, 6), 3, np.float32), np.full((17, 8, 12), 1, np.float32)
    first[17:] = 7
    heatmaps, tags = merge_stages(first, second)
    assert heatmaps.shape == tags.shape == (17, 8, 12)
    assert (heatmaps == 2).all() and (tags == 7).all()
    heatmaps, tags = merge_stages(first, None)
    assert heatmaps.shape == (17, 4, 6) and (heatmaps == 3).all() and (tags == 7).all()


def test_maps_of_an_input_without_flip_have_one_tag_component():
    first, second = stages()
    heatmaps, tags = maps_of_input((first, second), None, FLIP, (48, 32))
    expected = torch_resized((torch_resized(first[:17], (24, 16)) + second) / 2, (48, 32))
    np.testing.assert_allclose(heatmaps, expected, atol=2e-6)
    np.testing.assert_allclose(tags[0], torch_resized(torch_resized(first[17:], (24, 16)), (48, 32)), atol=2e-6)
    assert tags.shape == (1, 17, 32, 48) and tags.dtype == heatmaps.dtype == np.float32


def test_what_a_perfectly_symmetric_network_says_of_the_mirror_image_changes_nothing():
    """Left and right exchanged, mirrored: no shift of a pixel, other than in the top-down flip test."""
    first, second = stages()
    both = np.concatenate([FLIP, 17 + FLIP])
    mirrored = first[both, :, ::-1].copy(), second[FLIP, :, ::-1].copy()
    plain_heatmaps, plain_tags = maps_of_input((first, second), None, FLIP, (48, 32))
    heatmaps, tags = maps_of_input((first, second), mirrored, FLIP, (48, 32))
    np.testing.assert_allclose(heatmaps, plain_heatmaps, atol=2e-6)
    assert tags.shape == (2, 17, 32, 48)
    for component in tags:
        np.testing.assert_allclose(component, plain_tags[0], atol=2e-6)


def test_the_mirrored_passes_tags_are_the_second_component():
    first, second = stages()
    other = first.copy()
    other[17:] = 5
    _, tags = maps_of_input((first, second), (other, second), FLIP, (24, 16))
    assert (tags[1] == 5).all() and not (tags[0] == 5).any()
