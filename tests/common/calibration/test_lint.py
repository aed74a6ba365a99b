"""The lint judges what lies on disk: each test spoils good tensors in one way and expects red."""

import numpy as np
import pytest

from common.calibrate import calibrate
from common.calibration.lint import (
    Subject,
    check_evaluation_overlap,
    check_preprocessing,
    check_shape,
    check_units,
    lint,
)
from common.datasets.imageset import ImageSet
from tests.common.cell_networks import spec_of
from tests.common.image_sets import MEAN, STD, make_set, pose_spec

MEAN_, STD_ = np.array(MEAN)[:, None, None], np.array(STD)[:, None, None]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A linted calibration of 12 samples; tests copy its tensors before they spoil them."""
    folder = tmp_path_factory.mktemp("lint")
    image_set = ImageSet.open(make_set(folder / "set", images=12))
    return folder / "calib", image_set, calibrate(folder / "calib", image_set, None, pose_spec(), 99, False, "cell")


def subject(made, tmp_path, spoil=None, spec=None):
    folder, image_set, manifest = made
    for sample in manifest["samples"]:
        tensor = np.load(folder / sample["file"])
        if spoil:
            tensor = spoil(tensor)
        np.save(tmp_path / sample["file"], tensor)
    return Subject(tmp_path, manifest["samples"], "gt", spec or pose_spec(), image_set, None)


def test_untouched_tensors_pass(made, tmp_path):
    findings = lint(subject(made, tmp_path))
    assert {finding.check: finding.state for finding in findings if finding.state != "ok"} == {"count": "warn"}


@pytest.mark.parametrize(
    ("words", "spoil"),
    [
        ("red and blue are swapped", lambda x: ((x * STD_ + MEAN_)[:, ::-1] - MEAN_) / STD_),
        ("the mean was not subtracted", lambda x: (x * STD_ + MEAN_) / STD_),
        ("not divided by std", lambda x: x * STD_),
        ("neither mean nor std", lambda x: x * STD_ + MEAN_),
        ("raw, 0..255", lambda x: (x * STD_ + MEAN_) * 255),
        ("not divided by the scale", lambda x: ((x * STD_ + MEAN_) * 255 - MEAN_) / STD_),
        ("reverse channel order", lambda x: (x * STD_ + MEAN_ - MEAN_[::-1]) / STD_[::-1]),
        ("no slip that is known", lambda x: x[:, :, ::-1]),
        ("no slip that is known", lambda x: x + 0.1),
        ("no slip that is known", lambda x: np.roll(x, 1, axis=3)),
    ],
)
def test_each_slip_is_red_and_named(made, tmp_path, words, spoil):
    finding = check_preprocessing(subject(made, tmp_path, lambda x: spoil(x).astype(np.float32)))
    assert finding.state == "fail" and words in finding.message


def test_one_spoiled_tensor_among_good_ones_is_found(made, tmp_path):
    whole = subject(made, tmp_path)
    np.save(tmp_path / "0007.npy", np.load(tmp_path / "0007.npy")[:, ::-1])
    finding = check_preprocessing(whole)
    assert finding.state == "fail" and "0007.npy" in finding.message


def test_raw_pixels_leave_the_range(made, tmp_path):
    finding = check_units(subject(made, tmp_path, lambda x: ((x * STD_ + MEAN_) * 255).astype(np.float32)))
    assert finding.state == "fail" and "leave the possible range" in finding.message


def test_mean_in_the_wrong_unit_is_red(made, tmp_path):
    """Mean -1.4 passes the spec's own check of magnitudes, but no pixel lies there."""
    spec = pose_spec(mean=[-1.4, -1.4, -1.4])
    shifted = subject(made, tmp_path, lambda x: ((x * STD_ + MEAN_ + 1.4) / STD_).astype(np.float32), spec)
    finding = check_units(shifted)
    assert finding.state == "fail" and "outside the pixels' own range" in finding.message


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda x: x.astype(np.float64), "float64"),
        (lambda x: x[0], "[3, 64, 48]"),
        (lambda x: x.transpose(0, 2, 3, 1), "[1, 64, 48, 3]"),
        (lambda x: np.where(x > 1, np.nan, x).astype(np.float32), "not finite"),
    ],
)
def test_wrong_arrays_are_red_and_stop_the_checks_that_read_them(made, tmp_path, spoil, words):
    whole = subject(made, tmp_path, spoil)
    finding = check_shape(whole)
    assert finding.state == "fail" and words in finding.message
    assert "preprocessing" not in {finding.check for finding in lint(whole)}


def test_a_set_that_is_its_own_evaluation_set_is_red(made, tmp_path):
    whole = subject(made, tmp_path)
    same = Subject(whole.folder, whole.samples, "gt", whole.spec, whole.calibration, whole.calibration)
    finding = check_evaluation_overlap(same)
    assert finding.state == "fail" and finding.message.startswith("12 calibration images")


@pytest.fixture(params=["bottomup_pose", "detection"])
def whole(request, tmp_path):
    """(spec, linted calibration of 12 whole photographs, a function that spoils its tensors and looks again)."""
    spec = spec_of(request.param)
    image_set = ImageSet.open(make_set(tmp_path / "set", images=12, annotated=False))
    manifest = calibrate(tmp_path / "calib", image_set, None, spec, 99, False, "cell")

    def look(spoil):
        for sample in manifest["samples"]:
            path = tmp_path / "calib" / sample["file"]
            np.save(path, np.ascontiguousarray(spoil(np.load(path)), np.float32))
        return check_preprocessing(
            Subject(tmp_path / "calib", manifest["samples"], "whole_images", spec, image_set, None)
        )

    return spec, look


def test_whole_photographs_are_recomputed(whole):
    _, look = whole
    assert look(lambda x: x).state == "ok"


@pytest.mark.parametrize(
    ("words", "spoil"),
    [
        ("red and blue are swapped", lambda x, mean, std: ((x * std + mean)[:, ::-1] - mean) / std),
        ("not divided by the scale", lambda x, mean, std: ((x * std + mean) * 255 - mean) / std),
        ("no slip that is known", lambda x, mean, std: x[..., ::-1]),
        ("no slip that is known", lambda x, mean, std: np.roll(x, 1, axis=2)),
    ],
)
def test_slips_of_whole_photographs_are_named(whole, words, spoil):
    spec, look = whole
    mean, std = (np.array(values)[:, None, None] for values in (spec.input.mean, spec.input.std))
    finding = look(lambda x: spoil(x, mean, std))
    assert finding.state == "fail" and words in finding.message


@pytest.mark.parametrize(("border", "name"), [(114, "grey 114, a letterbox"), (0, "black"), (128, "grey 128")])
def test_another_border_is_named(whole, border, name):
    """The photographs are 160x120: in a frame of another shape, the rest must have the declared value."""
    spec, look = whole
    mean, std = (np.array(values)[:, None, None] for values in (spec.input.mean, spec.input.std))
    declared = (spec.input.border / 255 - mean) / std
    changed = (border / 255 - mean) / std
    finding = look(lambda x: np.where(np.abs(x - declared).max(axis=1, keepdims=True) < 1e-4, changed, x))
    if border == spec.input.border:
        assert finding.state == "ok"
    else:
        assert finding.state == "fail" and f"the border is {name}, declared is {spec.input.border}" in finding.message


def test_a_grey_network_of_whole_photographs(tmp_path):
    spec = spec_of("detection", color="gray", shape=[1, 1, 96, 128], mean=[0.4], std=[0.2])
    image_set = ImageSet.open(make_set(tmp_path / "set", images=12, annotated=False))
    manifest = calibrate(tmp_path / "calib", image_set, None, spec, 99, False, "cell")
    whole = Subject(tmp_path / "calib", manifest["samples"], "whole_images", spec, image_set, None)
    assert check_preprocessing(whole).state == "ok"
    np.save(tmp_path / "calib/0003.npy", np.load(tmp_path / "calib/0003.npy") + 2)
    assert "the mean was not subtracted" in check_preprocessing(whole).message
