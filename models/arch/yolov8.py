"""YOLOv8: boxes and classes (and keypoints) at three sides, decoded to input pixels inside the network.

Written from what is publicly known of the architecture (its configuration's widths and depths, the published parameter
counts and the graph of an exported file); the parameter names are this file's own. Published weights come as the ONNX
that Ultralytics exports; this network has the same graph, for WEIGHTS=random and for the tests.

    image Nx3xHxW, values 0..1; n: 16, 32, 64, 128, 256 channels at H/2, H/4, H/8, H/16, H/32

    H/8   stage3 ------------------------+-> merge3 --+---------------------------> head, 80x80 cells of 8 pixels
                                         | doubled    | halved
    H/16  stage4 ------------+-> merge4 -+------------+-> out4 --+----------------> head, 40x40 cells of 16
                             | doubled                           | halved
    H/32  stage5, pyramid ---+-----------------------------------+-> out5 --------> head, 20x20 cells of 32

    head per cell: 4 x 16 logits for the distances left, top, right, bottom, in cells, each a distribution over 0..15;
    a logit per class; 3 numbers per keypoint
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from models.arch.blocks import check_sides

STRIDES = (8, 16, 32)
BINS = 16  # the values that a side's distance is a distribution over: 0..15 cells
CHANNELS = (64, 128, 256, 512, 1024)  # at H/2 ... H/32, before the width multiple
REPEATS = (3, 6, 6, 3)  # bottlenecks at H/4 ... H/32, before the depth multiple; later stages have the last's
# Lin et al. 2017, "Focal Loss for Dense Object Detection", 4.1: a new detector's score for every class everywhere, and
# the normal of its head's weights.
PRIOR, HEAD_DEVIATION = 0.01, 0.01


class Unit(nn.Sequential):
    """Convolution that keeps the side (over stride), BatchNorm, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03),
            nn.SiLU(inplace=True),
        )


class Bottleneck(nn.Module):
    """Two 3x3 units, with a shortcut around both or without."""

    def __init__(self, channels: int, shortcut: bool):
        super().__init__()
        self.units = nn.Sequential(Unit(channels, channels, 3), Unit(channels, channels, 3))
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        return x + self.units(x) if self.shortcut else self.units(x)


class Stage(nn.Module):
    """C2f: half of the channels pass by, the other half goes through a chain of bottlenecks; all results are joined."""

    def __init__(self, inputs: int, outputs: int, repeats: int, shortcut: bool = False):
        super().__init__()
        self.half = half = outputs // 2
        self.enter = Unit(inputs, 2 * half)
        self.leave = Unit((2 + repeats) * half, outputs)
        self.chain = nn.ModuleList(Bottleneck(half, shortcut) for _ in range(repeats))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.enter(x).split(self.half, dim=1))
        for bottleneck in self.chain:
            parts.append(bottleneck(parts[-1]))
        return self.leave(torch.cat(parts, dim=1))


class PoolingPyramid(nn.Module):
    """SPPF: the features beside their largest values around 5, 9 and 13 pixels."""

    def __init__(self, channels: int):
        super().__init__()
        self.enter = Unit(channels, channels // 2)
        self.leave = Unit(channels * 2, channels)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.leave(torch.cat(parts, dim=1))


class Distances(nn.Module):
    """The mean of each side's distribution: Nx(4*16)xC logits of C cells -> Nx4xC distances in cells ("DFL")."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Conv2d(BINS, 1, kernel_size=1, bias=False)
        self.mean.weight = nn.Parameter(torch.arange(float(BINS)).reshape(1, BINS, 1, 1), requires_grad=False)

    def forward(self, logits: Tensor) -> Tensor:
        batch, _, count = logits.shape
        shares = logits.reshape(batch, 4, BINS, count).transpose(2, 1).softmax(1)
        return self.mean(shares).reshape(batch, 4, count)


class Head(nn.Module):
    """Three branches of convolutions at each side (boxes, scores, keypoints), and their decoding to input pixels.

    channels: of the features at each side. keypoints: 0 for a plain detector.
    """

    def __init__(self, channels: Sequence[int], classes: int, keypoints: int):
        super().__init__()
        smallest, values = channels[0], 3 * keypoints
        self.classes, self.keypoints = classes, keypoints
        self.boxes = self._branches(channels, max(smallest // 4, 4 * BINS), 4 * BINS)
        self.scores = self._branches(channels, max(smallest, min(classes, 100)), classes)
        self.distances = Distances()
        self.joints = self._branches(channels, max(smallest // 4, values), values) if keypoints else None

    @staticmethod
    def _branches(channels: Sequence[int], width: int, outputs: int) -> nn.ModuleList:
        return nn.ModuleList(
            nn.Sequential(Unit(inputs, width, 3), Unit(width, width, 3), nn.Conv2d(width, outputs, 1))
            for inputs in channels
        )

    def initialize_head(self, generator: torch.Generator) -> None:
        """Scores around PRIOR, so that few cells call something found."""
        for branches in (self.boxes, self.scores, self.joints or []):
            for branch in branches:
                nn.init.normal_(branch[-1].weight, std=HEAD_DEVIATION, generator=generator)
        for branch in self.scores:
            nn.init.constant_(branch[-1].bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        batch = features[0].shape[0]
        levels = [torch.cat([self.boxes[i](x), self.scores[i](x)], dim=1) for i, x in enumerate(features)]
        joined = torch.cat([level.reshape(batch, 4 * BINS + self.classes, -1) for level in levels], dim=2)
        logits, scores = joined.split([4 * BINS, self.classes], dim=1)
        centers, strides = cells([(int(x.shape[2]), int(x.shape[3])) for x in features], logits.device)
        parts = [box_pixels(self.distances(logits), centers, strides), scores.sigmoid()]
        if self.joints is not None:
            levels = [self.joints[i](x).reshape(batch, 3 * self.keypoints, -1) for i, x in enumerate(features)]
            values = torch.cat(levels, dim=2).reshape(batch, self.keypoints, 3, -1)
            parts.append(keypoint_pixels(values, centers, strides))
        return torch.cat(parts, dim=1)


def cells(sides: Sequence[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Every cell of all levels, row by row: float32 [1, 2, C] centres (x, y) in cells, and [1, 1, C] strides in pixels.

    Made by numpy, so that an export holds them as constants.
    """
    centers, strides = [], []
    for (height, width), stride in zip(sides, STRIDES, strict=True):
        y, x = np.mgrid[:height, :width].reshape(2, -1) + 0.5
        centers.append(np.stack([x, y]))
        strides.append(np.full((1, height * width), stride))
    joined = (np.concatenate(part, axis=1, dtype=np.float32)[None] for part in (centers, strides))
    places, steps = (torch.from_numpy(values).to(device) for values in joined)
    return places, steps


def box_pixels(distances: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """Nx4xC distances left, top, right, bottom in cells -> Nx4xC centre x, centre y, width, height in pixels."""
    start, end = centers - distances[:, :2], centers + distances[:, 2:]
    return torch.cat([(start + end) / 2, end - start], dim=1) * strides


def keypoint_pixels(values: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """NxKx3xC values -> Nx(3K)xC x, y in pixels, visibility 0..1.

    A keypoint's first two values are half its way from the cell's upper left corner, in cells; the third is a logit.
    """
    places = (values[:, :, :2] * 2 + (centers - 0.5)) * strides
    batch, keypoints, three, _ = values.shape
    return torch.cat([places, values[:, :, 2:].sigmoid()], dim=2).reshape(batch, keypoints * three, -1)


class YOLOv8(nn.Module):
    """Nx3xHxW float32 in 0..1 -> Nx(4 + classes + 3 keypoints)xC for the C cells of all three sides.

    Rows: box centre x, y, width, height in input pixels; a score 0..1 per class; per keypoint x, y in input pixels and
    visibility 0..1. C = 8400 for 640x640. H and W are multiples of 32.
    width, depth, maximum: of the published sizes n .25 .33 1024, s .5 .33 1024, m .75 .67 768, l 1 1 512, x 1.25 1 512
    """

    output_names = ("detections",)

    def __init__(
        self, classes: int = 80, keypoints: int = 0, width: float = 0.25, depth: float = 0.33, maximum: int = 1024
    ):
        super().__init__()
        c1, c2, c3, c4, c5 = (math.ceil(min(channels, maximum) * width / 8) * 8 for channels in CHANNELS)
        r2, r3, r4, r5 = (max(round(repeats * depth), 1) for repeats in REPEATS)
        self.stage1 = Unit(3, c1, 3, stride=2)
        self.stage2 = nn.Sequential(Unit(c1, c2, 3, stride=2), Stage(c2, c2, r2, shortcut=True))
        self.stage3 = nn.Sequential(Unit(c2, c3, 3, stride=2), Stage(c3, c3, r3, shortcut=True))
        self.stage4 = nn.Sequential(Unit(c3, c4, 3, stride=2), Stage(c4, c4, r4, shortcut=True))
        self.stage5 = nn.Sequential(Unit(c4, c5, 3, stride=2), Stage(c5, c5, r5, shortcut=True), PoolingPyramid(c5))
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.merge4 = Stage(c5 + c4, c4, r5)
        self.merge3 = Stage(c4 + c3, c3, r5)
        self.halve3 = Unit(c3, c3, 3, stride=2)
        self.out4 = Stage(c3 + c4, c4, r5)
        self.halve4 = Unit(c4, c4, 3, stride=2)
        self.out5 = Stage(c4 + c5, c5, r5)
        self.head = Head((c3, c4, c5), classes, keypoints)

    def forward(self, image: Tensor) -> Tensor:
        check_sides(image, STRIDES[-1], type(self).__name__)
        at8 = self.stage3(self.stage2(self.stage1(image)))
        at16 = self.stage4(at8)
        at32 = self.stage5(at16)
        down16 = self.merge4(torch.cat([self.upsample(at32), at16], dim=1))
        out8 = self.merge3(torch.cat([self.upsample(down16), at8], dim=1))
        out16 = self.out4(torch.cat([self.halve3(out8), down16], dim=1))
        out32 = self.out5(torch.cat([self.halve4(out16), at32], dim=1))
        return self.head([out8, out16, out32])
