"""What the networks share: the residual block's shortcut, the check of sides, and random weights."""

import pytest
import torch
from torch import nn

from common.basics.errors import UserError
from models.arch.blocks import BasicBlock, check_sides, initialize


def test_a_block_without_weights_passes_its_input():
    block = BasicBlock(2, 2).eval()
    nn.init.zeros_(block.conv2.weight)
    x = torch.tensor([1.0, -2.0]).reshape(1, 2, 1, 1).expand(1, 2, 4, 4)
    with torch.no_grad():
        assert torch.equal(block(x), torch.relu(x))


@pytest.mark.parametrize(("outputs", "stride"), [(2, 1), (3, 1), (2, 2), (3, 2)])
def test_the_shortcut_changes_what_the_block_changes(outputs, stride):
    block = BasicBlock(2, outputs, stride).eval()
    assert (block.downsample is None) == (outputs == 2 and stride == 1)
    with torch.no_grad():
        assert block(torch.zeros(1, 2, 8, 6)).shape == (1, outputs, 8 // stride, 6 // stride)


def test_sides_that_fit_pass_and_others_get_the_nearest():
    check_sides(torch.zeros(1, 3, 64, 96), 32, "Network")
    with pytest.raises(UserError, match="Network takes sides that are multiples of 128, not 320x288") as caught:
        check_sides(torch.zeros(1, 3, 320, 288), 128, "Network")
    assert "256x256" in caught.value.hint


class Parts(nn.Module):
    """One layer of every sort that initialize() tells apart."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(64, 64, 3, bias=False)
        self.doubling = nn.ConvTranspose2d(64, 64, 4, stride=2, bias=False)
        self.fixed = nn.Conv2d(4, 1, 1, bias=False).requires_grad_(False)
        self.head = nn.Conv2d(64, 64, 1)


def test_initialisation_tells_layers_apart():
    parts, before = Parts(), Parts().fixed.weight.clone()
    parts.fixed.weight.data.copy_(before)
    initialize(parts, seed=3)
    # He: variance 2 / fan_in; 36,864 and 65,536 values are within 5 %.
    assert parts.inner.weight.var().item() == pytest.approx(2 / (64 * 9), rel=0.05)
    assert parts.doubling.weight.var().item() == pytest.approx(2 / (64 * 16), rel=0.05)
    assert parts.head.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert parts.head.bias.count_nonzero() == 0
    assert torch.equal(parts.fixed.weight, before)
