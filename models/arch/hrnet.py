"""HRNet: high-resolution features are kept throughout, and lower resolutions run beside them.

Sun et al., "Deep High-Resolution Representation Learning for Human Pose Estimation", CVPR 2019. Parameter names,
shapes and order are those of the published files (HRNet lib/models/pose_hrnet.py; mmpose's backbone has the same under
its `backbone.` prefix), so that a published checkpoint loads strictly.

    image Nx3xHxW -> stem H/4 -> layer1 -> transition1 -> stage2 -> transition2 -> stage3 -> transition3 -> stage4
                                           branch 0: C   x H/4  --------------------------------------------> head
                                           branch 1: 2C  x H/8
                                                                 branch 2: 4C x H/16
                                                                                        branch 3: 8C x H/32
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.arch.blocks import BasicBlock, check_sides, convolution

EXPANSION = 4  # a Bottleneck widens its planes by this (He et al. 2016)
DEEPEST_STRIDE = 32  # of branch 3: the input's sides must be multiples of it for the sums of branches to fit


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut: the unit of layer1. inputs -> EXPANSION * planes channels, same side."""

    def __init__(self, inputs: int, planes: int):
        super().__init__()
        outputs = planes * EXPANSION
        self.conv1 = convolution(inputs, planes, kernel=1)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = convolution(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = convolution(planes, outputs, kernel=1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if inputs != outputs:
            self.downsample = nn.Sequential(convolution(inputs, outputs, kernel=1), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return self.relu(self.bn3(self.conv3(out)) + shortcut)


def fuse_path(source: int, target: int, widths: Sequence[int]) -> nn.Module | None:
    """The way from branch `source` to branch `target`; None where they are the same branch.

    Upwards: 1x1 convolution, BatchNorm, nearest upsampling. Downwards: a chain of 3x3 stride 2, which keeps the
    source's width until its last step and has a ReLU after all but the last.
    """
    if source == target:
        return None
    if source > target:
        return nn.Sequential(
            convolution(widths[source], widths[target], kernel=1),
            nn.BatchNorm2d(widths[target]),
            nn.Upsample(scale_factor=2 ** (source - target), mode="nearest"),
        )
    steps = []
    for step in range(source + 1, target + 1):
        last = step == target
        outputs = widths[target] if last else widths[source]
        layers = [convolution(widths[source], outputs, stride=2), nn.BatchNorm2d(outputs)]
        steps.append(nn.Sequential(*layers, *([] if last else [nn.ReLU(inplace=True)])))
    return nn.Sequential(*steps)


class HighResolutionModule(nn.Module):
    """Parallel branches of BasicBlocks, then every branch gets the sum of all.

    widths: channels of each branch; blocks: BasicBlocks in each; outputs: how many branches are fused and returned
    (all, or 1 in the last module of the last stage, whose lower branches nobody reads).
    """

    def __init__(self, widths: Sequence[int], blocks: int, outputs: int):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, width) for _ in range(blocks))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(fuse_path(source, target, widths) for source in range(len(widths)))
            for target in range(outputs)
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        features = [branch(x) for branch, x in zip(self.branches, inputs, strict=True)]
        fused = []
        for paths in self.fuse_layers:
            terms = [x if path is None else path(x) for path, x in zip(paths, features, strict=True)]
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            fused.append(self.relu(total))
        return fused


def transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """From one stage's branches to the next stage's, which are more by one.

    An unchanged branch is None; a changed width is a 3x3; a new branch is a 3x3 stride 2 from the LAST old branch, and
    lies one Sequential deeper (transition1.1.0.0), which is how the published names have it.
    """
    paths: list[nn.Module | None] = []
    for branch, width in enumerate(after):
        if branch >= len(before):
            layers = [convolution(before[-1], width, stride=2), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            paths.append(nn.Sequential(nn.Sequential(*layers)))
        elif before[branch] != width:
            layers = [convolution(before[branch], width), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            paths.append(nn.Sequential(*layers))
        else:
            paths.append(None)
    return nn.ModuleList(paths)


def move(paths: nn.ModuleList, features: list[Tensor]) -> list[Tensor]:
    """Apply a transition: branch i reads old branch i, a new branch reads the last old one."""
    return [features[i] if path is None else path(features[min(i, len(features) - 1)]) for i, path in enumerate(paths)]


class HRNetBackbone(nn.Module):
    """Stem, layer1 and the three multi-resolution stages: Nx3xHxW float32 -> Nx`width`xH/4xW/4.

    width: channels of the highest-resolution branch; branch i has width * 2**i.
    stem, planes: channels of the stem and inner channels of layer1's Bottlenecks (64 and 64 in every published file).
    modules: HighResolutionModules in stages 2, 3, 4. blocks: BasicBlocks in a branch. bottlenecks: blocks of layer1.
    H and W must be multiples of 32.
    """

    def __init__(
        self,
        width: int,
        stem: int = 64,
        planes: int = 64,
        modules: Sequence[int] = (1, 4, 3),
        blocks: int = 4,
        bottlenecks: int = 4,
    ):
        super().__init__()
        widths = [width * 2**branch for branch in range(4)]
        self.conv1 = convolution(3, stem, stride=2)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = convolution(stem, stem, stride=2)
        self.bn2 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        wide = planes * EXPANSION
        self.layer1 = nn.Sequential(*(Bottleneck(wide if i else stem, planes) for i in range(bottlenecks)))
        self.transition1 = transition([wide], widths[:2])
        self.stage2 = self._stage(widths[:2], modules[0], blocks)
        self.transition2 = transition(widths[:2], widths[:3])
        self.stage3 = self._stage(widths[:3], modules[1], blocks)
        self.transition3 = transition(widths[:3], widths)
        self.stage4 = self._stage(widths, modules[2], blocks, final_outputs=1)

    @staticmethod
    def _stage(widths: list[int], modules: int, blocks: int, final_outputs: int | None = None) -> nn.Sequential:
        outputs = [len(widths)] * modules
        if final_outputs is not None:
            outputs[-1] = final_outputs
        return nn.Sequential(*(HighResolutionModule(widths, blocks, count) for count in outputs))

    def features(self, image: Tensor) -> Tensor:
        """The highest-resolution branch after stage 4: what a head reads. UserError for sides that do not fit."""
        check_sides(image, DEEPEST_STRIDE, type(self).__name__)
        x = self.relu(self.bn1(self.conv1(image)))
        x = self.relu(self.bn2(self.conv2(x)))
        branches = move(self.transition1, [self.layer1(x)])
        branches = move(self.transition2, self.stage2(branches))
        branches = move(self.transition3, self.stage3(branches))
        return self.stage4(branches)[0]


class HRNet(HRNetBackbone):
    """HRNet with the top-down head, one 1x1 convolution: Nx3xHxW float32 -> NxjointsxH/4xW/4 heatmaps, no sigmoid.

    A head on top of the backbone's class, not beside it, because the published names have no `backbone.` prefix.
    """

    def __init__(self, width: int, joints: int = 17, **backbone: int | Sequence[int]):
        super().__init__(width, **backbone)
        self.final_layer = nn.Conv2d(width, joints, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.final_layer(self.features(image))
