"""HRNet against the published files: names, shapes, counts, and the points a re-implementation gets wrong."""

from pathlib import Path

import pytest
import torch
from torch import nn

from common.basics.errors import UserError
from models.arch import build, build_architecture
from models.arch.blocks import initialize
from models.arch.hrnet import HRNet
from tests.models.published_names import names_of, parameter_count, published_names

# Parameter counts and numbers of state_dict entries of the published networks (HRNet's own model files, run).
PUBLISHED = {
    "hrnet_w32_256x192": ({"width": 32}, 28_536_113, 1754),
    "hrnet_w48_384x288": ({"width": 48}, 63_595_745, 1754),
    "hrnet_w32_mpii_256x256": ({"width": 32, "joints": 16}, 28_536_080, 1754),
}
TINY = {"width": 4, "stem": 8, "planes": 4, "modules": (1, 2, 2), "blocks": 1, "bottlenecks": 1}


@pytest.fixture(scope="module")
def networks():
    with torch.device("meta"):  # shapes only: no memory, no initialisation
        return {name: HRNet(**parameters) for name, (parameters, _, _) in PUBLISHED.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones(networks, name):
    _, parameters, entries = PUBLISHED[name]
    assert parameter_count(networks[name]) == parameters
    assert len(networks[name].state_dict()) == entries


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_shapes_and_order_are_the_published_ones(networks, name):
    assert names_of(networks[name]) == published_names(name)


def test_convolutions_and_biases(networks):
    convolutions = {n: m for n, m in networks["hrnet_w32_256x192"].named_modules() if isinstance(m, nn.Conv2d)}
    assert len(convolutions) == 293
    assert [name for name, layer in convolutions.items() if layer.bias is not None] == ["final_layer"]
    norms = [m for m in networks["hrnet_w32_256x192"].modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}


def test_transitions_nest_new_branches_and_skip_unchanged_ones(networks):
    keys = set(networks["hrnet_w32_256x192"].state_dict())
    assert {"transition1.0.0.weight", "transition1.1.0.0.weight", "transition2.2.0.0.weight"} <= keys
    assert "transition3.3.0.0.weight" in keys
    assert not [key for key in keys if key.startswith(("transition2.0", "transition2.1", "transition3.2"))]


def test_a_new_branch_comes_from_the_lowest_resolution(networks):
    state = networks["hrnet_w32_256x192"].state_dict()
    assert tuple(state["transition1.1.0.0.weight"].shape) == (64, 256, 3, 3)
    assert tuple(state["transition2.2.0.0.weight"].shape) == (128, 64, 3, 3)
    assert tuple(state["transition3.3.0.0.weight"].shape) == (256, 128, 3, 3)


def test_only_the_last_module_of_the_last_stage_fuses_into_one_branch(networks):
    stage = networks["hrnet_w32_256x192"].stage4
    assert [len(module.fuse_layers) for module in stage] == [4, 4, 1]
    assert [len(module.fuse_layers) for module in networks["hrnet_w32_256x192"].stage3] == [3, 3, 3, 3]


def test_fuse_paths_upsample_nearest_and_leave_the_last_step_without_relu(networks):
    module = networks["hrnet_w32_256x192"].stage4[0]
    up = module.fuse_layers[0][3]
    assert up[0].kernel_size == (1, 1)
    assert (up[2].mode, up[2].scale_factor) == ("nearest", 8.0)
    down = module.fuse_layers[3][0]
    assert [type(step[-1]) for step in down] == [nn.ReLU, nn.ReLU, nn.BatchNorm2d]
    assert all(step[0].stride == (2, 2) and step[0].kernel_size == (3, 3) for step in down)
    assert module.fuse_layers[2][2] is None


def test_fusion_is_the_relu_of_the_sum_of_all_branches():
    torch.manual_seed(0)
    module = HRNet(**TINY).stage2[0].eval()
    inputs = [torch.randn(2, 4, 8, 8), torch.randn(2, 8, 4, 4)]
    with torch.no_grad():
        outputs = module([x.clone() for x in inputs])
        high, low = (branch(x.clone()) for branch, x in zip(module.branches, inputs, strict=True))
        convolution, norm, _ = module.fuse_layers[0][1]
        # Nearest upsampling by 2 written out: every value becomes a 2x2 tile.
        raised = norm(convolution(low)).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        assert torch.allclose(outputs[0], torch.relu(high + raised), atol=1e-6)
        lowered = module.fuse_layers[1][0](high)
        assert torch.allclose(outputs[1], torch.relu(low + lowered), atol=1e-6)


@pytest.mark.parametrize(("joints", "height", "width"), [(17, 64, 96), (16, 128, 32), (1, 32, 32)])
def test_heatmaps_are_a_quarter_of_the_input(joints, height, width):
    network = HRNet(joints=joints, **TINY).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 3, height, width)).shape == (2, joints, height // 4, width // 4)


def test_sides_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="HRNet takes sides that are multiples of 32, not 256x200") as caught:
        HRNet(**TINY)(torch.zeros(1, 3, 256, 200))
    assert "256x192" in caught.value.hint


def test_every_parameter_matters():
    torch.manual_seed(0)
    network = HRNet(**TINY).eval()
    network(torch.randn(2, 3, 64, 64)).square().mean().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_initialisation_follows_the_seed():
    first, second, other = (HRNet(**TINY) for _ in range(3))
    for network, seed in ((first, 1), (second, 1), (other, 2)):
        initialize(network, seed)
    assert torch.equal(first.conv1.weight, second.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)
    # He: variance 2 / fan_in, fan_in = 8 * 9 for the stem's second convolution; 576 values are within 20 %.
    assert first.conv2.weight.var().item() == pytest.approx(2 / 72, rel=0.2)


def test_build_by_name_and_alias():
    network = build("hrnet_w32")
    assert parameter_count(network) == 28_536_113
    assert network.final_layer.out_channels == 17


def test_the_tiny_model_is_the_same_architecture_and_fits_in_git():
    network = build("hrnet_tiny")
    assert isinstance(network, HRNet)
    assert sum(value.numel() * value.element_size() for value in network.state_dict().values()) <= 4_000_000
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, 3, 128, 96)).shape == (1, 17, 32, 24)


def test_the_tiny_weights_load_strictly():
    weights = Path("models/hrnet_tiny/weights/hrnet_tiny.pth")
    assert weights.stat().st_size <= 4_000_000
    state = torch.load(weights, map_location="cpu", weights_only=True)
    build("hrnet_tiny").load_state_dict(state, strict=True)
    assert all(torch.isfinite(value).all() for value in state.values() if value.is_floating_point())


def test_an_unknown_name_gets_a_suggestion_and_exit_code_2():
    with pytest.raises(UserError) as caught:
        build("hrnet_w23_256x192")
    assert caught.value.exit_code == 2
    assert "hrnet_w32_256x192" in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("architecture", "word"),
    [
        ({"kind": "resnet"}, "resnet"),
        ({"width": 32}, "kind"),
        ({"kind": "hrnet", "width": 32, "depth": 3}, "depth"),
        ({"kind": "hrnet"}, "width"),
        ({"kind": "hrnet", "width": "wide"}, "hrnet"),
    ],
)
def test_a_wrong_architecture_is_the_users_error(architecture, word):
    with pytest.raises(UserError, match=word):
        build_architecture(architecture, where="model x")
