"""The head of a YOLOv8: which output is what, told by its channels and its size, never by its name.

    stride 8          stride 16         stride 32          of an input of 640 x 640
    1x64x80x80        1x64x40x40        1x64x20x20         box: 4 sides x 16 bins, logits
    1x80x80x80        1x80x40x40        1x80x20x20         class: logits
    1x51x80x80        1x51x40x40        1x51x20x20         keypoints: 17 x (x, y, visibility); only of a pose network

A network's outputs are these convolutions' raw values, in any order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.basics.errors import UserError
from common.basics.wording import shape_text
from common.declarations.classes import class_names
from common.declarations.keypoints import keypoint_set
from common.declarations.spec import ModelSpec

Shape = Sequence[int]
EXPORT_HINT = "export it anew: yolo export model=yolov8n.pt format=onnx imgsz={size} opset=12 nms=False"


@dataclass(frozen=True)
class Level:
    """One scale of the head. stride: input pixels per cell; box, classes, keypoints: the outputs' names."""

    stride: int
    box: str
    classes: str
    keypoints: str | None


def role_channels(spec: ModelSpec) -> dict[str, int]:
    """How many channels each kind of output has: {"box": 64, "class": 80} and, of a pose network, {"keypoints": 51}.

    Raises UserError when two kinds have the same number, so that nothing tells them apart.
    """
    channels = {"box": 4 * spec.decode.regression_bins, "class": len(class_names(spec.decode.classes))}
    if spec.decode.keypoints:
        channels["keypoints"] = 3 * keypoint_set(spec.decode.keypoints).count
    if len(set(channels.values())) < len(channels):
        counts = ", ".join(f"{role} {count}" for role, count in channels.items())
        raise UserError(
            f"the outputs of {spec.name} cannot be told apart: channels are {counts}",
            "add a class that does not occur, and train the head with it",
        )
    return channels


def head_levels(outputs: Mapping[str, Shape], spec: ModelSpec, where: str) -> list[Level]:
    """Find the role of each output, {name: shape [N, C, h, w]}; the levels in the order of their strides.

    Raises UserError with what was found and what is expected when an output is missing or left over.
    """
    channels = role_channels(spec)
    expected = {
        (count, spec.input.height // stride, spec.input.width // stride): (stride, role)
        for stride in spec.decode.strides
        for role, count in channels.items()
    }
    found: dict[tuple[int, str], str] = {}
    for name, shape in outputs.items():
        place = expected.get(tuple(shape[1:]))
        if place is None or place in found:
            break
        found[place] = name
    if len(found) != len(expected) or len(outputs) != len(expected):
        raise _mismatch(outputs, list(expected), spec, where)
    return [
        Level(stride, found[stride, "box"], found[stride, "class"], found.get((stride, "keypoints")))
        for stride in sorted(spec.decode.strides)
    ]


def _mismatch(outputs: Mapping[str, Shape], expected: list[Shape], spec: ModelSpec, where: str) -> UserError:
    found = ", ".join(shape_text(tuple(shape)) for shape in outputs.values()) or "none"
    wanted = ", ".join(shape_text((1, *shape)) for shape in expected)
    return UserError(
        f"{where} has {len(outputs)} head outputs: {found}; the spec of {spec.name} expects {len(expected)}: {wanted}",
        _difference([tuple(shape) for shape in outputs.values()], spec)
        or EXPORT_HINT.format(size=max(spec.input.height, spec.input.width)),
    )


def _difference(shapes: list[Shape], spec: ModelSpec) -> str | None:
    """What to change, when the outputs have a pattern that is known."""
    channels = role_channels(spec)
    by_size: dict[tuple[int, ...], list[int]] = {}
    for shape in shapes:
        if len(shape) != 4:
            return None
        by_size.setdefault(tuple(shape[2:]), []).append(shape[1])
    levels = {tuple(sorted(counts)) for counts in by_size.values()}
    if len(levels) != 1:
        return None
    (counts,) = levels
    if len(counts) == 1 and counts[0] % 3 == 0 and counts[0] // 3 > 5:
        return (
            f"this looks like a head with 3 anchors and objectness (YOLOv5, YOLOv7: 3 x (5 + {counts[0] // 3 - 5})): "
            "the decoder is that of YOLOv8"
        )
    if 4 in counts and channels["box"] not in counts:
        return "this looks like a head without bins (YOLOX, YOLO26): the decoder is that of YOLOv8"
    sizes = sorted(by_size, reverse=True)
    if sorted(counts) == sorted(channels.values()) and len(sizes) != len(spec.decode.strides):
        strides = [spec.input.height // height for height, _ in sizes]
        return f"the network has heads at {len(sizes)} strides: correct decode.strides in the spec: {strides}"
    rest = sorted(set(counts) - {channels["box"], channels["class"]})
    if "keypoints" not in channels and len(counts) == 3 and len(rest) == 1 and rest[0] % 3 == 0:
        return f"it has a keypoint head ({rest[0]} channels): name the keypoint set under decode.keypoints in the spec"
    if "keypoints" in channels and len(counts) == 2:
        return "it has no keypoint head: take decode.keypoints out of the spec, or export the pose network"
    if len(counts) != len(channels):
        return None
    if channels["box"] not in counts:
        return f"correct decode.regression_bins in the spec: one of {counts} channels is 4 times the bins"
    if "keypoints" in channels and channels["keypoints"] not in counts:
        return f"correct decode.keypoints in the spec, or its classes: the channels are {counts}"
    return f"the network has {rest[0]} classes: list their names under decode.classes in the spec" if rest else None
