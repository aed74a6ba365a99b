"""HigherHRNet: HRNet's features give heatmaps and tags at H/4, and once more, doubled in side, heatmaps at H/2.

Cheng et al., "HigherHRNet: Scale-Aware Representation Learning for Bottom-Up Human Pose Estimation", CVPR 2020.
Parameter names, shapes and order are those of the published files (HigherHRNet lib/models/pose_higher_hrnet.py;
mmpose has the same under `backbone.` and `keypoint_head.`).

    image Nx3xHxW -> HRNet's backbone -> features C x H/4 --+-> final_layers.0 -> 17 heatmaps, 17 tags   H/4
                                                            |        |
                                                            +-- cat -+
                                                                 |
                                         deconv_layers.0: doubled to C x H/2 -> final_layers.1 -> 17 heatmaps   H/2
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.arch.blocks import BasicBlock
from models.arch.hrnet import HRNetBackbone

DECONVOLUTION_BLOCKS = 4  # residual blocks after the transposed convolution (its yaml: NUM_BASIC_BLOCKS)


class HigherHRNet(HRNetBackbone):
    """Nx3xHxW float32 -> [Nx(2 joints)xH/4xW/4, NxjointsxH/2xW/2], no sigmoid; H and W are multiples of 32.

    The first output's channels: `joints` heatmaps, then `joints` tags, one number per joint and pixel that is alike
    for the joints of one person. The second output has heatmaps only.
    """

    output_names = ("heatmaps_and_tags", "finer_heatmaps")

    def __init__(self, width: int, joints: int = 17, **backbone: int | Sequence[int]):
        super().__init__(width, **backbone)
        maps = 2 * joints
        self.final_layers = nn.ModuleList([nn.Conv2d(width, maps, kernel_size=1), nn.Conv2d(width, joints, 1)])
        doubling = nn.ConvTranspose2d(width + maps, width, kernel_size=4, stride=2, padding=1, bias=False)
        blocks = [nn.Sequential(BasicBlock(width, width)) for _ in range(DECONVOLUTION_BLOCKS)]
        self.deconv_layers = nn.ModuleList(
            [nn.Sequential(nn.Sequential(doubling, nn.BatchNorm2d(width), nn.ReLU(inplace=True)), *blocks)]
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        features = self.features(image)
        heatmaps_and_tags = self.final_layers[0](features)
        finer = self.deconv_layers[0](torch.cat([features, heatmaps_and_tags], dim=1))
        return [heatmaps_and_tags, self.final_layers[1](finer)]
