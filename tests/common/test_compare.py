import json

import numpy as np
import pytest

from common.basics.errors import UserError
from common.compare import SQNR_LIMIT_DB, compare, compare_tensors, cosine_similarity, sqnr_db
from common.declarations.keypoints import COCO17
from common.metrics.agreement import BOX_TO_AREA
from tests.common.image_sets import pose_spec

# The box with its padding of 1.25 is 48 x 64 image pixels; the maps here are 12 wide, so one heatmap pixel is 4 image
# pixels.
BOX = [80.8, 74.4, 38.4, 51.2]
INSTANCE = {"image_id": 1, "file": "1.png", "annotation_id": 5, "score": 1.0, "box": BOX, "area": 1000.0}


def peaks(samples=2, x=6, y=8):
    maps = np.zeros((samples, 17, 16, 12), np.float32)
    maps[:, :, y, x] = 1
    return maps


def compared(reference, value, instances=None, **names):
    instances = instances or [INSTANCE] * len(reference)
    return compare({"heatmaps": reference}, {"heatmaps": value}, instances, pose_spec(refine="none"), "cell")


def test_equal_outputs_are_perfect_and_valid_json():
    result = compared(peaks(), peaks())
    assert result["agreement"] == result["oks"] == 1
    assert result["samples"] == 2 and result["agreement_instances"] == [1, 1] and result["found"] == [2, 2]
    assert result["similarity"] == "OKS" and "all keypoints count" in result["agreement_of"]
    output = result["outputs"]["heatmaps"]
    assert output["cosine"] == pytest.approx(1) and output["sqnr_db"] == SQNR_LIMIT_DB and output["max_abs"] == 0
    assert [channel["name"] for channel in output["channels"]] == list(COCO17.names)
    json.dumps(result, allow_nan=False)


def test_oks_of_one_moved_joint_in_closed_form():
    value = peaks()
    value[1, 9] = 0
    value[1, 9, 8, 7] = 1  # the left wrist of the second person is one heatmap pixel off: 4 image pixels
    result = compared(peaks(), value)
    term = np.exp(-(4.0**2) / (2 * 1000 * (2 * 0.062) ** 2))
    assert result["agreement_instances"] == pytest.approx([1, (16 + term) / 17])
    assert result["agreement"] == pytest.approx((1 + (16 + term) / 17) / 2)
    assert result["joints"]["left_wrist"] == pytest.approx((1 + term) / 2)
    assert result["joints"]["right_wrist"] == 1
    assert result["worst_instance"] == 1 and result["agreement_minimum"] == result["agreement_instances"][1]
    channels = {channel["name"]: channel for channel in result["outputs"]["heatmaps"]["channels"]}
    # Two peaks against one of them and one elsewhere: cosine 1/2; signal 2, noise 2: 0 dB.
    assert channels["left_wrist"]["cosine"] == pytest.approx(0.5)
    assert channels["left_wrist"]["sqnr_db"] == pytest.approx(0)
    assert channels["nose"]["sqnr_db"] == SQNR_LIMIT_DB


def test_without_a_segment_area_part_of_the_box_counts():
    value = peaks()
    value[:, 9] = 0
    value[:, 9, 8, 7] = 1
    instance = INSTANCE | {"area": None}
    term = np.exp(-(4.0**2) / (2 * BOX_TO_AREA * 38.4 * 51.2 * (2 * 0.062) ** 2))
    assert compared(peaks(), value, [instance] * 2)["agreement"] == pytest.approx((16 + term) / 17)


def test_median_and_worst_instance():
    value = peaks(samples=3)
    value[0, :5] = 0  # five joints of the first person are lost, one of the second
    value[1, :1] = 0
    result = compared(peaks(samples=3), value)
    assert result["worst_instance"] == 0 and result["median_instance"] == 1


def test_cosine_and_sqnr_by_hand():
    reference, value = np.array([3.0, 4.0]), np.array([3.0, 0.0])
    assert cosine_similarity(reference, value) == pytest.approx(9 / 15)
    assert sqnr_db(reference, value) == pytest.approx(10 * np.log10(25 / 16))
    assert compare_tensors(reference, value)["max_abs"] == 4
    assert cosine_similarity(reference, -reference) == pytest.approx(-1)


def test_zero_tensors():
    zero, one = np.zeros(4), np.ones(4)
    assert cosine_similarity(zero, zero) == 1 and sqnr_db(zero, zero) == SQNR_LIMIT_DB
    assert cosine_similarity(zero, one) == 0 and sqnr_db(zero, one) == -SQNR_LIMIT_DB
    assert cosine_similarity(one, zero) == 0 and sqnr_db(one, zero) == 0


def test_quantising_to_8_bits_gives_the_textbook_sqnr():
    """A uniform signal over the full range of b bits has 6.02 b dB."""
    reference = np.random.default_rng(0).uniform(-1, 1, 200_000).astype(np.float32)
    step = 2 / 256
    value = (np.floor(reference / step) + 0.5) * step
    assert sqnr_db(reference, value) == pytest.approx(6.02 * 8, abs=0.1)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ({"other": peaks()}, r"are \['other'\], the float network's are \['heatmaps'\]"),
        ({}, r"are \[\]"),
        ({"heatmaps": peaks(), "extra": peaks()}, "extra"),
        ({"heatmaps": peaks().transpose(0, 2, 3, 1)}, r"shape \[2, 16, 12, 17\], expected \[2, 17, 16, 12\]"),
        ({"heatmaps": peaks(samples=1)}, "shape"),
        ({"heatmaps": np.where(peaks() > 0, np.nan, 0)}, "not finite .* sample 0, channel 0"),
        ({"heatmaps": np.where(peaks() > 0, np.inf, 0)}, "not finite"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(value, match):
    with pytest.raises(UserError, match=match) as caught:
        compare({"heatmaps": peaks()}, value, [INSTANCE] * 2, pose_spec(), "cell")
    assert caught.value.hint


def test_other_number_of_samples_than_instances():
    with pytest.raises(UserError, match="2 outputs for 3 samples"):
        compared(peaks(), peaks(), [INSTANCE] * 3)


def test_wrong_number_of_channels():
    maps = peaks()[:, :16]
    with pytest.raises(UserError, match=r"17 channels \(coco17\): heatmaps \[2, 16, 16, 12\]"):
        compared(maps, maps)


def test_more_noise_is_worse_in_every_measure():
    random = np.random.default_rng(1)
    maps = random.random((4, 17, 16, 12)).astype(np.float32)
    results = [compared(maps, maps + random.normal(0, level, maps.shape)) for level in (0.001, 0.05, 0.5)]
    for key in (lambda r: r["agreement"], lambda r: r["outputs"]["heatmaps"]["cosine"],
                lambda r: r["outputs"]["heatmaps"]["sqnr_db"]):  # fmt: skip
        values = [key(result) for result in results]
        assert values == sorted(values, reverse=True) and len(set(values)) == 3
