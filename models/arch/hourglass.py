"""Hourglass-52: features are halved in side five times and doubled back, with a shortcut at every side.

Newell et al., "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016, in the form that mmpose trained (one
stack, residual blocks of two 3x3, strided ones instead of pooling). Parameter names, shapes and order are mmpose's, so
that its published checkpoints load strictly.

    image Nx3xHxW -> stem 256 x H/4 -> hourglass -> out_convs -> keypoint_head: joints x H/4

    hourglass at a side s:   x --+-- up1 (side s) ---------------------------------------------------- + -->
                                 |                                                                     |
                                 +-- low1 (stride 2) -- low2: hourglass at s/2 -- low3 -- up2 (doubled) -+
    channels at H/4, H/8, ... H/128: 256, 256, 384, 384, 384, 512; the innermost low2 is blocks alone
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from models.arch.blocks import BasicBlock, check_sides

STEM_CHANNELS = 128
STEM_STRIDE = 4


def blocks_changing_first(inputs: int, outputs: int, count: int, stride: int = 1) -> nn.Sequential:
    """`count` residual blocks, the first of which changes width and side."""
    return nn.Sequential(BasicBlock(inputs, outputs, stride), *(BasicBlock(outputs, outputs) for _ in range(count - 1)))


def blocks_changing_last(inputs: int, outputs: int, count: int) -> nn.Sequential:
    """`count` residual blocks, the last of which changes the width."""
    return nn.Sequential(*(BasicBlock(inputs, inputs) for _ in range(count - 1)), BasicBlock(inputs, outputs))


def convolution_unit(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm and ReLU, under the names `conv` and `bn` that mmcv's ConvModule gives them."""
    layers: list[tuple[str, nn.Module]] = [
        ("conv", nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)),
        ("bn", nn.BatchNorm2d(outputs)),
        ("activate", nn.ReLU(inplace=True)),
    ]
    return nn.Sequential(OrderedDict(layers))


class HourglassModule(nn.Module):
    """One side of the hourglass and all smaller ones inside it; channels and side of the input stay.

    channels, blocks: of this side and of every smaller one, at least two each.
    """

    def __init__(self, channels: Sequence[int], blocks: Sequence[int]):
        super().__init__()
        here, below = channels[0], channels[1]
        self.up1 = blocks_changing_first(here, here, blocks[0])
        self.low1 = blocks_changing_first(here, below, blocks[0], stride=2)
        if len(channels) > 2:
            self.low2 = HourglassModule(channels[1:], blocks[1:])
        else:
            self.low2 = blocks_changing_first(below, below, blocks[1])
        self.low3 = blocks_changing_last(below, here, blocks[0])
        self.up2 = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Tensor) -> Tensor:
        return self.up1(x) + self.up2(self.low3(self.low2(self.low1(x))))


class HourglassBackbone(nn.Module):
    """Nx3xHxW -> Nxchannels[0]xH/4xW/4: the stem, one hourglass, one 3x3 convolution."""

    def __init__(self, channels: Sequence[int], blocks: Sequence[int]):
        super().__init__()
        width = channels[0]
        self.stem = nn.Sequential(
            convolution_unit(3, STEM_CHANNELS, kernel=7, stride=2),
            blocks_changing_first(STEM_CHANNELS, width, 1, stride=2),
        )
        self.hourglass_modules = nn.ModuleList([HourglassModule(channels, blocks)])
        # Would lie between two stacks. With one stack mmpose makes it all the same and never runs it: its weights are
        # in the published files, so they are here, but not in an export.
        self.inters = blocks_changing_first(width, width, 1)
        self.out_convs = nn.ModuleList([convolution_unit(width, width, kernel=3)])

    def forward(self, image: Tensor) -> Tensor:
        return self.out_convs[0](self.hourglass_modules[0](self.stem(image)))


class HourglassHead(nn.Module):
    """One 1x1 convolution: features to heatmaps."""

    def __init__(self, width: int, joints: int):
        super().__init__()
        self.multi_final_layers = nn.ModuleList([nn.Conv2d(width, joints, kernel_size=1)])

    def forward(self, features: Tensor) -> Tensor:
        return self.multi_final_layers[0](features)


class Hourglass(nn.Module):
    """Nx3xHxW float32 -> NxjointsxH/4xW/4 heatmaps, no sigmoid.

    channels, blocks: at H/4, H/8 and so on; Hourglass-52's are the defaults. H and W are multiples of 128 with these:
    the stem quarters the side, and each further entry halves it.
    """

    def __init__(
        self,
        joints: int = 17,
        channels: Sequence[int] = (256, 256, 384, 384, 384, 512),
        blocks: Sequence[int] = (2, 2, 2, 2, 2, 4),
    ):
        super().__init__()
        if len(channels) != len(blocks) or len(channels) < 2:
            raise ValueError(f"channels {list(channels)} and blocks {list(blocks)} need the same length, 2 at least")
        self.side_multiple = STEM_STRIDE * 2 ** (len(channels) - 1)
        self.backbone = HourglassBackbone(channels, blocks)
        self.keypoint_head = HourglassHead(channels[0], joints)

    def forward(self, image: Tensor) -> Tensor:
        check_sides(image, self.side_multiple, type(self).__name__)
        return self.keypoint_head(self.backbone(image))
