"""A checkpoint of another network: which tensors differ, and which of our models would take it."""

import pytest
import torch

from common.basics.errors import UserError
from common.checkpoints import likely_model
from common.checkpoints.checkpoint import load_checkpoint
from models.arch import build, build_architecture
from tests.common.checkpoint_files import mmpose, networks_once, prefixed, save


@pytest.fixture(autouse=True)
def networks_are_built_once(monkeypatch):
    monkeypatch.setattr(likely_model, "_networks", networks_once)


def weightless(name, convert=dict):
    """The state_dict of one of our models as a file may hold it, in no space: one value stands for a tensor's all."""
    with torch.device("meta"):
        state = build(name).state_dict()
    return convert({key: torch.zeros((), dtype=t.dtype).expand(t.shape) for key, t in state.items()})


def refused(name, state, tmp_path):
    """The error for a file with this state, given for one of our models."""
    with torch.device("meta"):
        module = build(name)
    with pytest.raises(UserError) as caught:
        load_checkpoint(module, save(state, tmp_path))
    return caught.value


@pytest.mark.parametrize(
    ("asked", "given", "convert", "fitting"),
    [
        ("hrnet_w32", "hrnet_w48", dict, "hrnet_w48_256x192, hrnet_w48_384x288: say MODEL=hrnet_w48_256x192"),
        ("hrnet_w48", "hrnet_w32_mpii", mmpose, "hrnet_w32_mpii_256x256: say MODEL=hrnet_w32_mpii_256x256"),
        ("higherhrnet_w32", "hrnet_w32", mmpose, "hrnet_w32_256x192, hrnet_w32_384x288: say"),
        ("hrnet_w32", "higherhrnet_w32", mmpose, "higherhrnet_w32_512, higherhrnet_w32_640: say"),
        ("hrnet_w32", "hourglass52", dict, "hourglass52_256x256, hourglass52_384x384: say"),
        ("hourglass52", "higherhrnet_w48", lambda s: prefixed("1.", s), "higherhrnet_w48_640: say"),
    ],
)
def test_a_file_of_another_network_of_ours_names_that_network(asked, given, convert, fitting, tmp_path):
    error = refused(asked, weightless(given, convert), tmp_path)
    assert f"it fits {fitting}" in error.hint
    assert "does not fit the network" in error.message


def test_another_width_names_the_tensors_that_differ(tmp_path):
    message = refused("hrnet_w32", weightless("hrnet_w48"), tmp_path).message
    assert "of another shape: transition1.0.0.weight is 48x256x3x3, should be 32x256x3x3" in message


def test_a_network_that_is_not_ours_gets_the_nearest(tmp_path):
    with torch.device("meta"):
        narrow = build_architecture({"kind": "hrnet", "width": 18}, "test").state_dict()
    hint = refused("hrnet_w32", {key: torch.zeros(()).expand(t.shape) for key, t in narrow.items()}, tmp_path).hint
    assert "none of our networks fits; nearest is hrnet_w32_256x192: of its 1754 tensors the file has 1754" in hint


def test_tensors_that_no_network_has_are_no_fit(tmp_path):
    state = weightless("hrnet_w48") | {"classifier.weight": torch.zeros(1)}
    hint = refused("hrnet_w32", state, tmp_path).hint
    assert "nearest is hrnet_w48_256x192: " in hint and "1754 of them in its shape, and 1 others" in hint


def test_a_network_with_other_names_altogether(tmp_path):
    hint = refused("hrnet_w32", {"features.0.weight": torch.zeros(3)}, tmp_path).hint
    assert "no network of ours has such names" in hint
