"""The text of a new model.yaml: what the graph tells, and FILL_IN with a comment for what only its owner knows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from common.declarations.keypoints import KEYPOINT_SETS
from common.declarations.open_places import OPEN
from common.declarations.spec import DECODED_BY, DEFAULT_GATES
from common.graphs.likely_task import Likeness, Shapes, likely_task, made_by_ultralytics
from common.graphs.onnx_graph import graph_inputs
from common.graphs.opening import Opening, opening_of

WIDTH = 112  # of a comment's line
COLOR = (
    "The order of the channels that it was trained with: rgb (torchvision, PIL) or bgr (cv2, Caffe). A wrong one costs "
    "accuracy silently."
)
BORDER = "The pixel value 0..255 around an image that does not fill the input: 114 for YOLO, 0 for most others."
SCALE = (
    "x = (pixel / scale - mean) / std. scale: 255 where training divided pixels to 0..1 (torchvision's ToTensor), 1 "
    "where mean and std are in units of 0..255."
)


def declaration(name: str, source: Path, shapes: Shapes, weights: bool) -> str:
    """YAML that the loader takes once nothing is open any more. weights: the graph lies in models/NAME/weights/."""
    likeness, opening = likely_task(shapes), opening_of(shapes.model)
    known = made_by_ultralytics(shapes.model) and likeness.task == "detection"
    lines = [
        *_comment(f"{name}, read from {source.name} by `make new-model`. {OPEN} stands where no graph tells: put the "
                  "right value there. Until then make refuses this file, and names the line."),
        f"name: {name}",
        *_task(likeness),
        "input:",
        *_input(shapes, opening, likeness, known),
        *_decode(likeness),
    ]  # fmt: skip
    if weights:
        lines += ["weights:", f"  file: {name}.onnx  # in weights/ beside this file, which git does not keep",
                  *_comment("Under what terms the weights may be used; the sidecar of each artifact repeats it.", 2),
                  f"  licence: {OPEN}"]  # fmt: skip
    lines += _gate()
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: int = 0) -> list[str]:
    """A comment, broken into lines."""
    start = " " * indent + "#"
    lines, current = [], start
    for word in text.split():
        if len(current) + 1 + len(word) > WIDTH:
            lines.append(current)
            current = start
        current += f" {word}"
    return [*lines, current]


def _task(likeness: Likeness) -> list[str]:
    if likeness.task:
        return [*_comment(f"As the outputs look: {likeness.why}."), f"task: {likeness.task}"]
    told = f"Not recognised: {likeness.why}. One of {', '.join(DECODED_BY)}; then `decode` below as docs say."
    return [*_comment(told), f"task: {OPEN}"]


def _input(shapes: Shapes, opening: Opening, likeness: Likeness, known: bool) -> list[str]:
    image, tensor = shapes.image, graph_inputs(shapes.model)[0]
    lines = [*_comment(f"Batch, channels, height, width, as the graph's input '{tensor.name}' has it.", 2),
             f"  shape: [{', '.join(map(str, image))}]"]  # fmt: skip
    if image[1] == 1:
        lines.append("  color: gray")
    elif known:
        lines += [
            *_comment("Ultralytics exported this: RGB, pixels over 255, letterboxed on grey of 114.", 2),
            "  color: rgb",
        ]
    else:
        lines += _comment(COLOR, 2)
        lines.append(f"  color: {OPEN}")
    lines += _normalisation(opening, image[1], known)
    if likeness.task != "topdown_pose":
        lines += [] if known else _comment(BORDER, 2)
        lines.append(f"  border: {114 if known else OPEN}")
    return lines


def _normalisation(opening: Opening, channels: int, known: bool) -> list[str]:
    zeros, ones = (f"[{', '.join([value] * channels)}]" for value in ("0", "1"))
    if opening.fed:
        scale = {"0..255": 1, "0..1": 255}[opening.fed]
        text = f"The graph normalises by itself, {opening.arithmetic}: it is fed {opening.fed}, without mean and std."
        return [*_comment(text, 2), f"  scale: {scale}", f"  mean: {zeros}", f"  std: {ones}"]
    if known:
        return ["  scale: 255", f"  mean: {zeros}", f"  std: {ones}"]
    lines = []
    if opening.arithmetic:
        lines = _comment(f"The graph begins with {opening.arithmetic}: what stands here is done before that.", 2)
    lines += [*_comment(SCALE, 2), f"  scale: {OPEN}"]
    example = "ImageNet's, for scale 255 and rgb: [0.485, 0.456, 0.406] and [0.229, 0.224, 0.225]."
    if channels == 1:
        example = "To a range of -1 to 1, with scale 255: [0.5] and [0.5]."
    text = f"One number a channel, in the order of `color`. {example} None: {zeros} and {ones}."
    lines += _comment(text, 2)
    return [*lines, f"  mean: {OPEN}", f"  std: {OPEN}"]


def _decode(likeness: Likeness) -> list[str]:
    writers = {"topdown_pose": _heatmap, "bottomup_pose": _embedding, "detection": _yolov8}
    if likeness.task in writers:
        return ["decode:", f"  kind: {DECODED_BY[likeness.task]}", *writers[likeness.task](likeness)]
    return [*_comment("How outputs become people or objects: docs/adding_a_model.md has each kind."), f"decode: {OPEN}"]


def _keypoints(joints: int) -> list[str]:
    fitting = [name for name, points in KEYPOINT_SETS.items() if points.count == joints]
    if fitting:
        text = f"{' and '.join(fitting)} has as many, {joints}: is the order the same, channel by channel?"
    else:
        text = f"no known set has {joints}: add one to common/declarations/keypoints.py"
    return [
        *_comment(f"Which keypoints, in which order: a set in common/declarations/keypoints.py. {text}", 2),
        f"  keypoints: {OPEN}",
    ]


def _heatmap(likeness: Likeness) -> list[str]:
    return [
        *_keypoints(likeness.joints or 0),
        *_comment("How a peak becomes a position: quarter (a shift of a quarter pixel, as most), dark, or none.", 2),
        "  refine: quarter",
        *_comment("The crop's size over that of the person's box in training: 1.25 in HRNet's and mmpose's COCO "
                  "configurations.", 2),
        f"  padding: {OPEN}",
    ]  # fmt: skip


def _embedding(likeness: Likeness) -> list[str]:
    return _keypoints(likeness.joints or 0)


def _yolov8(likeness: Likeness) -> list[str]:
    lines = []
    if likeness.classes is None:
        lines += [*_comment("The classes: coco80, or a list of names.", 2), f"  classes: {OPEN}"]
    elif likeness.class_names:
        lines += ["  classes:  # as the exporter noted them", *_name_list(likeness.class_names)]
    else:
        own = "coco80 has as many; else " if likeness.classes == 80 else ""
        lines += [*_comment(f"The names of its {likeness.classes} classes, in the order of the channels: {own}a list, "
                            "[person, dog].", 2), f"  classes: {OPEN}"]  # fmt: skip
    if likeness.joints:
        lines += _keypoints(likeness.joints)
    if likeness.bins and likeness.bins != 16:
        lines.append(f"  regression_bins: {likeness.bins}")
    if likeness.strides and likeness.strides != (8, 16, 32):
        lines.append(f"  strides: [{', '.join(map(str, likeness.strides))}]")
    return lines


def _name_list(names: Sequence[str]) -> list[str]:
    """A YAML list over several lines; JSON's quotes are YAML's, too."""
    lines, current = [], "    ["
    for number, name in enumerate(names, 1):
        word = json.dumps(name, ensure_ascii=False) + ("]" if number == len(names) else ",")
        if len(current) + 1 + len(word) > WIDTH:
            lines.append(current)
            current = "    "
        current += word if current.endswith("[") else f" {word}"
    return [*lines, current]


def _gate() -> list[str]:
    gate = DEFAULT_GATES["int8"]
    text = (f"When a build turns red: the least agreement with float, and the most AP that may be lost. Without these "
            f"lines int8 has oks {gate.oks:g} and ap_drop {gate.ap_drop:g}.")  # fmt: skip
    return [*_comment(text), "# gate:", f"#   int8: {{oks: {gate.oks:g}, ap_drop: {gate.ap_drop:g}}}"]
