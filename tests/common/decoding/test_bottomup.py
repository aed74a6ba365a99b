import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.basics.errors import UserError
from common.declarations.keypoints import COCO17
from common.declarations.spec import model_from_dict
from common.decoding.bottomup import Placement, PublishedProtocol, find_people

FLIP = COCO17.flip_order


def spec_of(height=128, width=128, **decode):
    return model_from_dict(
        {
            "name": "bottomup_test",
            "task": "bottomup_pose",
            "input": {
                "shape": [1, 3, height, width],
                "color": "rgb",
                "scale": 255,
                "mean": [0.485, 0.456, 0.406],
                "std": [0.229, 0.224, 0.225],
            },
            "decode": {"kind": "associative_embedding", "keypoints": "coco17", **decode},
        },
        "test",
    )


def network(tensor, joints, tag=1.0):
    """The outputs of a network that sees joints, [17, 2] in input pixels, or -1 where there is none."""
    height, width = tensor.shape[2:]
    first = np.full((1, 34, height // 4, width // 4), 0, np.float32)
    second = np.zeros((1, 17, height // 2, width // 2), np.float32)
    first[:, 17:] = tag
    for maps, stride in ((first, 4), (second, 2)):
        y, x = np.mgrid[: maps.shape[2], : maps.shape[3]]
        for joint, (joint_x, joint_y) in enumerate(joints):
            square = (x + 0.5 - joint_x / stride) ** 2 + (y + 0.5 - joint_y / stride) ** 2
            maps[0, joint] = np.exp(-square / 8)
    return {"second": second, "first": first}


@pytest.mark.parametrize(
    ("image", "sizes"),
    [
        ((640, 480), [(704, 512)]),  # 512 / 480 * 640 = 682.7
        ((480, 640), [(512, 704)]),
        ((500, 500), [(512, 512)]),
        ((512, 513), [(512, 576)]),
        ((1, 1), [(512, 512)]),
        ((640, 427), [(768, 512)]),  # 767.4
    ],
)
def test_published_sizes(image, sizes):
    protocol = PublishedProtocol(spec_of(512, 512), flip=False)
    assert [placement.size for placement in protocol.placements(*image)] == sizes


def test_sizes_of_several_scales_are_multiples_of_the_smallest():
    protocol = PublishedProtocol(spec_of(512, 512), scales=(0.5, 1, 2))
    # 256 / 480 * 640 = 341.3, so 384 at the smallest.
    assert [placement.size for placement in protocol.placements(640, 480)] == [(1536, 1024), (768, 512), (384, 256)]


def test_the_short_side_fills_its_side_and_the_long_one_is_padded():
    placement = Placement.published(641, 480, 512, 1.0, 1.0)
    zoom = 512 / 480
    np.testing.assert_allclose(placement.to_image(np.array(placement.size) / 2), [321, 240])  # 320.5 rounds up
    np.testing.assert_allclose(placement.to_image(np.array([0.0, 0.0])), [321 - 704 / 2 / zoom, 0])


def test_the_fixed_frame_is_the_published_one_where_the_size_is_that():
    for image in ((640, 480), (333, 777), (500, 500)):
        published = Placement.published(*image, 512, 1.0, 1.0)
        fixed = Placement.fit(*image, published.size)
        np.testing.assert_allclose(fixed.scale, published.scale)
        np.testing.assert_array_equal(fixed.center, published.center)


@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    frame=st.sampled_from([(512, 512), (640, 512), (512, 1024), (96, 160)]),
    seed=st.integers(0, 999),
)
def test_the_fixed_frame_holds_the_whole_photograph_and_the_way_back_is_exact(width, height, frame, seed):
    placement = Placement.fit(width, height, frame)
    zoom = min(frame[0] / width, frame[1] / height)
    corners = (np.array([[0, 0], [width, height]]) - placement.center) * zoom + np.array(frame) / 2
    # The middle of an odd side is rounded up, so half an image pixel may be outside.
    assert (corners >= -0.5 * zoom - 1e-6).all() and (corners <= np.array(frame) + 1e-6).all()
    points = np.random.default_rng(seed).uniform(0, 1, (5, 2)) * [width, height]
    in_input = (points - placement.center) * zoom + np.array(frame) / 2
    np.testing.assert_allclose(placement.to_image(in_input), points, atol=1e-6 * max(width, height))


@pytest.mark.parametrize("size", [(1, 1), (3000, 2), (2, 3000), (37, 51)])
def test_extreme_photographs_in_a_fixed_frame(size):
    """A single pixel is as large as the frame, and faded out as bilinear interpolation does."""
    seen = Placement.fit(*size, (128, 96)).apply(np.full((size[1], size[0], 3), 255, np.uint8))
    assert seen.shape == (96, 128, 3) and seen.max() > 50
    assert not seen[0, -1].any() and (size == (1, 1) or not seen[0, 0].any())


def test_the_border_has_the_declared_value_and_nothing_is_stretched():
    image = np.full((50, 100, 3), 200, np.uint8)
    seen = Placement.fit(100, 50, (200, 200)).apply(image, border=7)
    assert (seen[:48] == 7).all() and (seen[-48:] == 7).all()
    assert (seen[54:146, 4:-4] == 200).all()


def test_a_strip_is_refused_by_the_published_protocol():
    with pytest.raises(UserError, match="1x5000"):
        PublishedProtocol(spec_of(512, 512)).placements(1, 5000)


def test_inputs_come_from_the_largest_scale_down_each_with_its_mirror_image():
    image = np.random.default_rng(0).integers(0, 256, (90, 131, 3), np.uint8)
    tensors = PublishedProtocol(spec_of(), scales=(0.5, 1)).inputs(image)
    assert [tensor.shape for tensor in tensors] == [(1, 3, 128, 256)] * 2 + [(1, 3, 64, 128)] * 2
    np.testing.assert_array_equal(tensors[1], tensors[0][..., ::-1])
    assert all(tensor.dtype == np.float32 and tensor.flags.c_contiguous for tensor in tensors)
    assert len(PublishedProtocol(spec_of(), flip=False).inputs(image)) == 1


@pytest.mark.parametrize("scales", [(), (0,), (1, 1), (-1, 1), (float("inf"),), (0.5, 2), (float("nan"), 1)])
def test_unusable_scales(scales):
    with pytest.raises(UserError) as raised:
        PublishedProtocol(spec_of(), scales=scales)
    assert raised.value.exit_code == 2


def test_the_protocol_in_words():
    assert PublishedProtocol(spec_of()).text.endswith("one scale, flip test")
    assert "scales 0.5, 1, 2, no flip test" in PublishedProtocol(spec_of(), False, (2, 0.5, 1)).text
    assert "scale 2," in PublishedProtocol(spec_of(), scales=(2,)).text


@settings(max_examples=15, deadline=None)
@given(
    width=st.integers(90, 260), height=st.integers(90, 260), flip=st.booleans(),
    scales=st.sampled_from([(1.0,), (0.5, 1.0), (0.5, 1.0, 2.0), (2.0,)]), seed=st.integers(0, 999),
)  # fmt: skip
def test_a_person_comes_back_where_it_is_in_the_photograph(width, height, flip, scales, seed):
    """Also at odd sizes, with the mirrored pass and at several scales: within half of the coarsest heatmap pixel."""
    protocol = PublishedProtocol(spec_of(), flip, scales)
    joints = np.random.default_rng(seed).uniform(0.1, 0.9, (17, 2)) * [width, height]
    outputs = []
    for placement in protocol.placements(width, height):
        zoom = placement.size[0] / (placement.scale[0] * 200)
        points = (joints - placement.center) * zoom + np.array(placement.size) / 2
        tensor = np.zeros((1, 3, *placement.size[::-1]), np.float32)
        outputs.append(network(tensor, points))
        if flip:
            points = points[FLIP] * [-1, 1] + [placement.size[0], 0]
            outputs.append(network(tensor, points))
    found = protocol.decode((width, height), outputs)
    best = found.keypoints[found.scores.argmax()]
    coarsest = 2 / (128 / min(width, height)) / min(*scales, 1)
    assert np.abs(best[:, :2] - joints).max() < coarsest
    assert found.boxes[found.scores.argmax()][2] == pytest.approx(np.ptp(best[:, 0]), abs=1e-3)


def test_decode_checks_the_number_of_outputs():
    with pytest.raises(UserError, match="1 outputs for 2 inputs"):
        PublishedProtocol(spec_of()).decode((100, 100), [{}])


def test_nobody():
    maps = np.zeros((17, 64, 64), np.float32)
    found = find_people(maps, maps[None], Placement.fit(100, 80, (64, 64)), spec_of())
    assert len(found) == 0 and found.keypoints.shape == (0, 17, 3)


def test_the_box_is_the_extent_of_the_joints_that_were_found():
    heatmaps = np.zeros((17, 64, 64), np.float32)
    heatmaps[0, 20, 10], heatmaps[5, 40, 30] = 0.9, 0.8
    tags = np.full((1, 17, 64, 64), 1, np.float32)
    found = find_people(heatmaps, tags, Placement.fit(128, 128, (64, 64)), spec_of())
    np.testing.assert_allclose(found.boxes, [[20.5, 40.5, 40, 40]])
    np.testing.assert_allclose(found.scores, [(0.9 + 0.8) / 17])
    assert found.keypoints[0, 0].tolist() == pytest.approx([20.5, 40.5, 0.9])
