"""Hourglass-52 against the published file, and a small one against what its drawing says."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from common.basics.errors import UserError
from common.checkpoints.export_torch import to_onnx
from models.arch.hourglass import Hourglass, HourglassModule
from tests.models.published_names import names_of, parameter_count, published_names

SMALL = {"channels": (4, 6, 8), "blocks": (1, 2, 1)}  # sides: multiples of 16


@pytest.fixture(scope="module")
def network():
    with torch.device("meta"):  # shapes only: no memory, no initialisation
        return Hourglass()


def test_counts_are_the_published_ones(network):
    assert parameter_count(network) == 94_847_889
    assert len(network.state_dict()) == 494


def test_names_shapes_and_order_are_the_published_ones(network):
    assert names_of(network) == published_names("hourglass52_256x256")


def test_the_width_changes_in_the_first_block_downwards_and_in_the_last_upwards(network):
    level = network.backbone.hourglass_modules[0].low2  # 256 channels here, 384 below
    assert [(block.conv1.in_channels, block.conv2.out_channels) for block in level.low1] == [(256, 384), (384, 384)]
    assert [block.conv1.stride for block in level.low1] == [(2, 2), (1, 1)]
    assert [(block.conv1.in_channels, block.conv2.out_channels) for block in level.low3] == [(384, 384), (384, 256)]
    assert [block.downsample is None for block in level.low3] == [True, False]


def test_the_innermost_level_is_four_blocks_of_512(network):
    level = network.backbone.hourglass_modules[0]
    for _ in range(4):
        level = level.low2
    assert isinstance(level, HourglassModule)
    assert [block.conv1.in_channels for block in level.low2] == [512] * 4


def make_transparent(module: nn.Module) -> None:
    """Leave only the shortcuts of all blocks, as plain copies: what remains is the hourglass's own way of adding."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.fill_(1 - layer.eps)  # so that it divides by exactly 1
        elif isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.weight)
            if layer.kernel_size == (1, 1):
                nn.init.dirac_(layer.weight)


def doubled(values: np.ndarray) -> np.ndarray:
    return values.repeat(2, axis=-1).repeat(2, axis=-2)


def test_each_side_is_added_to_what_comes_from_below():
    module = HourglassModule((2, 2, 2), (1, 1, 1)).eval()
    make_transparent(module)
    x = np.random.default_rng(0).uniform(1, 2, (1, 2, 8, 12)).astype(np.float32)
    below = x[..., ::2, ::2]  # a 1x1 convolution of stride 2 takes every other pixel
    expected = x + doubled(below + doubled(below[..., ::2, ::2]))
    with torch.no_grad():
        assert np.allclose(module(torch.from_numpy(x)).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("joints", "height", "width"), [(17, 64, 48), (16, 16, 32)])
def test_heatmaps_are_a_quarter_of_the_input(joints, height, width):
    network = Hourglass(joints=joints, **SMALL).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 3, height, width)).shape == (2, joints, height // 4, width // 4)


@pytest.mark.parametrize(("height", "width"), [(320, 256), (256, 288), (64, 64)])
def test_sides_that_do_not_fit_are_refused(network, height, width):
    with pytest.raises(UserError, match=f"multiples of 128, not {height}x{width}"):
        network(torch.zeros(1, 3, height, width, device="meta"))


def test_channels_and_blocks_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ValueError, match="same length"):
        Hourglass(channels=(4, 6), blocks=(1,))


def test_every_parameter_matters_but_those_between_stacks():
    torch.manual_seed(0)
    network = Hourglass(**SMALL).eval()
    network(torch.randn(2, 3, 64, 64)).square().mean().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    inters = [name for name, _ in network.named_parameters() if name.startswith("backbone.inters.0.")]
    assert without == inters and len(inters) == 6


def test_an_export_has_no_weights_that_are_never_run(tmp_path):
    torch.manual_seed(0)
    network = Hourglass(**SMALL).eval()
    to_onnx(network, [1, 3, 32, 32], tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert not [tensor.name for tensor in graph.initializer if "inters" in tensor.name]
    # Nothing is computed from shapes either: the check of sides must leave no trace.
    run = [n for n, m in network.named_modules() if isinstance(m, nn.Conv2d) and "inters" not in n]
    assert sum(node.op_type == "Conv" for node in graph.node) == len(run)
    assert {node.op_type for node in graph.node} <= {"Conv", "Relu", "Add", "Resize", "Identity", "Constant"}
