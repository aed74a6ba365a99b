"""What a graph's outputs look like: heatmaps of one person, heatmaps with tags, or a detector's head.

Told by shapes and channels alone, as the decoders tell them; names differ from exporter to exporter. A likeness is no
proof: `make` proves a detector's cut, and the measured accuracy shows whether the rest was right.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from common.basics.errors import UserError
from common.basics.wording import listed, shape_text
from common.declarations.keypoints import KEYPOINT_SETS
from common.graphs.detection_cut import ending_at, head_tensors
from common.graphs.onnx_graph import Runner, graph_inputs, graph_outputs
from common.make_static import make_static

Shape = tuple[int, ...]
SUPPRESSION = ("NonMaxSuppression", "TopK")
STRIDES = (4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Likeness:
    """What a graph looks like. task: as model.yaml names it, None where nothing is recognised; why: in words.

    joints: how many keypoints, where there are any. bins, classes, strides: of a detector's head. class_names: where
    the exporter noted them. cut: the tensors, with their shapes, at which the network ends and its decode begins; empty
    where nothing has to be cut off. obstacle: why it cannot be built as it is, and what to do.
    """

    task: str | None
    why: str
    joints: int | None = None
    bins: int | None = None
    classes: int | None = None
    strides: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    cut: Mapping[str, Shape] = field(default_factory=dict)
    obstacle: tuple[str, str] | None = None


@dataclass
class Shapes:
    """Shapes of a graph that may have come with a free batch. model: static, runnable where it is at all."""

    model: onnx.ModelProto
    image: Shape
    outputs: dict[str, Shape] = field(default_factory=dict)
    batch_set: bool = False


def known_shapes(model: onnx.ModelProto, where: str) -> Shapes:
    """The graph with a batch of 1, and what its outputs are: by running it where the exporter did not note that.

    Raises UserError for several inputs, one that is no image, or a height or width that is free.
    """
    inputs = graph_inputs(model)
    if len(inputs) != 1:
        names = ", ".join(f"{tensor.name} {shape_text(tensor.shape)}" for tensor in inputs) or "none"
        raise UserError(f"{where} has {len(inputs)} inputs ({names}); npumake builds networks of one image")
    shape = inputs[0].shape
    if shape is None or len(shape) != 4:
        raise UserError(f"{where}: input '{inputs[0].name}' is {shape_text(shape)}, not one image of 1xCxHxW")
    sizes = list(shape[1:])
    if not all(isinstance(size, int) for size in sizes):
        raise UserError(
            f"{where}: input '{inputs[0].name}' is {shape_text(shape)}: its height or width is free",
            f"choose them: .venv/common/bin/python -m common.make_static {where} static.onnx 1,3,HEIGHT,WIDTH",
        )
    image = (1, *(int(size) for size in sizes))
    batch_set = isinstance(shape[0], str)
    if batch_set:
        model = make_static(model, list(image))
    given = {tensor.name: tensor.shape for tensor in graph_outputs(model)}
    if all(one is not None and all(isinstance(size, int) for size in one) for one in given.values()):
        outputs = {name: tuple(int(size) for size in one or ()) for name, one in given.items()}
    else:
        outputs = _run(model, image)
    return Shapes(model, image, outputs, batch_set)


def _run(model: onnx.ModelProto, image: Shape) -> dict[str, Shape]:
    tensor = graph_inputs(model)[0]
    outputs = Runner(model).run_once({tensor.name: np.zeros(image, tensor.dtype)})
    return {name: value.shape for name, value in outputs.items()}


def likely_task(shapes: Shapes) -> Likeness:
    """What the graph looks like; never raises for a graph that runs."""
    model, outputs = shapes.model, shapes.outputs
    inside = sorted({node.op_type for node in model.graph.node if node.op_type in SUPPRESSION or "NMS" in node.op_type})
    if inside:
        text = f"it suppresses overlapping boxes itself ({', '.join(inside)}), which no chip does"
        return Likeness("detection", text, obstacle=(text, "export it without: nms=False, end2end=False"))
    maps = {name: shape for name, shape in outputs.items() if len(shape) == 4}
    if len(maps) == len(outputs):
        found = _bottomup(maps, shapes.image) or _topdown(maps, shapes.image)
        if found:
            return found
    return _detection(shapes) or Likeness(None, f"outputs {_told(outputs)}: neither heatmaps nor a YOLOv8's head")


def _stride(shape: Shape, image: Shape) -> int | None:
    """Input pixels per cell, where that is one whole number for both sides."""
    if shape[2] < 2 or shape[3] < 2 or image[2] % shape[2] or image[3] % shape[3]:
        return None
    stride = image[2] // shape[2]
    return stride if image[3] // shape[3] == stride else None


def _bottomup(maps: Mapping[str, Shape], image: Shape) -> Likeness | None:
    counts = {points.count for points in KEYPOINT_SETS.values()}
    ordered = sorted(maps.values(), key=lambda shape: -shape[1])
    joints = ordered[0][1] // 2
    if ordered[0][1] % 2 or _stride(ordered[0], image) != 4:
        return None
    if len(ordered) == 2 and ordered[1][1] == joints and _stride(ordered[1], image) == 2:
        why = f"{2 * joints} maps at a quarter of the input, and {joints} at half: heatmaps and tags, heatmaps"
        return Likeness("bottomup_pose", why, joints=joints)
    if len(ordered) == 1 and joints in counts and ordered[0][1] not in counts:
        why = f"{2 * joints} maps at a quarter of the input: twice {joints}, heatmaps and tags"
        return Likeness("bottomup_pose", why, joints=joints)
    return None


def _topdown(maps: Mapping[str, Shape], image: Shape) -> Likeness | None:
    different = set(maps.values())
    if len(different) != 1:
        return None
    shape = different.pop()
    stride = _stride(shape, image)
    if stride not in (1, 2, 4, 8) or not 2 <= shape[1] <= 150:
        return None
    why = f"{shape[1]} maps of {shape[2]}x{shape[3]}, 1/{stride} of the input: heatmaps of one person's crop"
    obstacle = None
    if len(maps) > 1:
        text = f"it has {len(maps)} outputs of {shape[1]} maps: stages of one network, of which the last counts"
        obstacle = (text, f"export it with its last output alone, {list(maps)[-1]}")
    return Likeness("topdown_pose", why, joints=shape[1], obstacle=obstacle)


def _detection(shapes: Shapes) -> Likeness | None:
    """A head at several strides: 4 x bins channels for the box, one for each class, three for each keypoint."""
    tensors = head_tensors(shapes.model)
    if len(tensors) < 2:
        return None
    found = _run(ending_at(shapes.model, tensors), shapes.image)
    levels: dict[int, list[int]] = {}
    for shape in found.values():
        stride = _stride(shape, shapes.image) if len(shape) == 4 else None
        if stride not in STRIDES:
            return None
        levels.setdefault(stride, []).append(shape[1])
    kinds = {tuple(sorted(counts)) for counts in levels.values()}
    if len(levels) < 2 or len(kinds) != 1:
        return None
    (channels,) = kinds
    strides = tuple(sorted(levels))
    where = f"{len(tensors)} head convolutions at strides {', '.join(map(str, strides))}"
    if len(channels) == 1 and channels[0] % 3 == 0:
        text = f"{where} with 3 anchors and objectness, as YOLOv5's and YOLOv7's; the decoder is that of YOLOv8"
        return Likeness("detection", text, obstacle=(text, "train or take a YOLOv8, or another network of its head"))
    if 64 not in channels or len(channels) not in (2, 3):
        return None
    rest = list(channels)
    rest.remove(64)
    noted = _noted(shapes.model)
    joints = _joints(rest, noted) if len(rest) == 2 else None
    if len(rest) == 2:
        if joints is None:
            return None
        rest.remove(3 * joints)
    names = noted.get("names")
    class_names = tuple(map(str, names.values())) if isinstance(names, dict) and len(names) == rest[0] else ()
    keypoints = f", 3 x {joints} for keypoints" if joints else ""
    why = f"{where}: 4 x 16 channels for a box, {rest[0]} for classes{keypoints}, as YOLOv8's"
    return Likeness("detection", why, joints, 16, rest[0], strides, class_names, found)


def _joints(channels: list[int], noted: Mapping[str, object]) -> int | None:
    """Which of two channel counts is three for each keypoint: as the exporter noted, else by the known sets."""
    shape = noted.get("kpt_shape")
    if isinstance(shape, list) and len(shape) == 2 and shape[1] == 3 and 3 * shape[0] in channels:
        return int(shape[0])
    counts = {points.count for points in KEYPOINT_SETS.values()}
    return next((count // 3 for count in channels if count % 3 == 0 and count // 3 in counts), None)


def _noted(model: onnx.ModelProto) -> dict[str, object]:
    """What an exporter wrote beside the graph, as Ultralytics does: names, kpt_shape and others as Python literals."""
    noted: dict[str, object] = {}
    for entry in model.metadata_props:
        try:
            noted[entry.key] = ast.literal_eval(entry.value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            noted[entry.key] = entry.value
    return noted


def made_by_ultralytics(model: onnx.ModelProto) -> bool:
    """Whether Ultralytics exported it, and so its preprocessing is known: RGB, pixels over 255, letterbox on grey."""
    return str(_noted(model).get("author", "")).lower() == "ultralytics"


def _told(outputs: Mapping[str, Shape]) -> str:
    return listed([f"{name} {shape_text(shape)}" for name, shape in outputs.items()])
