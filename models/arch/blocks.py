"""What several networks are built from: plain convolutions, the residual block, and how random weights are drawn."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.basics.errors import UserError

HEAD_DEVIATION = 0.001  # of a heatmap head's weights, as HRNet's, HigherHRNet's and mmpose's initialisation have it


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the side (over stride), without bias because BatchNorm follows it everywhere."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: the unit of ResNet-18 and of everything here that keeps heatmaps.

    Where width or side change, the shortcut is a 1x1 convolution and BatchNorm; the stride is that of the first 3x3.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.conv1 = convolution(inputs, outputs, stride=stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = convolution(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            shortcut = convolution(inputs, outputs, kernel=1, stride=stride)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + shortcut)


def check_sides(image: Tensor, multiple: int, network: str) -> None:
    """Raises UserError unless an image's height and width are multiples of `multiple`: elsewise the sums of features
    that were halved and doubled again do not fit, and torch names neither the network nor the reason."""
    height, width = (int(side) for side in image.shape[-2:])
    if height % multiple or width % multiple:
        near = [max(1, round(side / multiple)) * multiple for side in (height, width)]
        raise UserError(
            f"{network} takes sides that are multiples of {multiple}, not {height}x{width} (height x width)",
            f"the nearest that it takes is {near[0]}x{near[1]}: correct input.shape in the model's spec",
        )


def initialize(module: nn.Module, seed: int) -> None:
    """Random weights for training and for WEIGHTS=random, from `seed`: He initialisation before every BatchNorm.

    A convolution with a bias is a head, since no BatchNorm follows it: a normal of HEAD_DEVIATION and no bias, unless
    its part of the network has an `initialize_head(generator)` of its own. Weights that are not trained stay.
    (HRNet pose_hrnet.py uses a normal of 0.001 everywhere, made for starting from ImageNet weights; a network without
    them trains from He's.)
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) or not layer.weight.requires_grad:
            continue
        if layer.bias is None:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        else:
            nn.init.normal_(layer.weight, std=HEAD_DEVIATION, generator=generator)
            nn.init.zeros_(layer.bias)
    for part in module.modules():
        if hasattr(part, "initialize_head"):
            part.initialize_head(generator)
