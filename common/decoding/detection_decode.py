"""From the head outputs of a YOLOv8 to boxes and keypoints in the photograph, as Ultralytics does it.

    one cell (column i, row j) of stride s                             anchor = ((i + 0.5) s, (j + 0.5) s)
      box        4 x 16 logits   softmax, then the mean bin: l t r b   x1 = anchor x - l s, x2 = anchor x + r s, ...
      class      80 logits       sigmoid                               each class above the threshold is a candidate
      keypoints  17 x (x y v)    ((i + 2 x) s, (j + 2 y) s), sigmoid(v)

             y                      All in pixels of the network's input; the letterbox leads back to the photograph.
      +------|-----------+          Candidates of one class that overlap a better one by more than 0.7 (IoU) go
      |<-l s-+----r s--->|          (validation's setting), then the 300 best of all classes stay.
      +------|-----------+

Source: Ultralytics' description of its head (nn/modules/head.py, utils/tal.py, utils/nms.py), written anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from common.declarations.keypoints import keypoint_set
from common.declarations.spec import ModelSpec
from common.decoding.detection_head import Level, head_levels
from common.decoding.predictions import Predictions, check_finite, concatenate
from common.preprocessing.letterbox import Letterbox

Outputs = Mapping[str, np.ndarray]
MOST_CANDIDATES = 30000  # Ultralytics max_nms: only so many go into the suppression, the best ones


@dataclass(frozen=True)
class Candidates:
    """M boxes before suppression, in input pixels: boxes [M, 4] as x1, y1, x2, y2, scores [M], classes int [M],
    keypoints [M, K, 3]."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    keypoints: np.ndarray


def decode_images(
    outputs: Outputs, spec: ModelSpec, boxes: list[Letterbox], where: str, threshold: float | None = None
) -> Predictions:
    """What a network found in N photographs.

    outputs: float32 [N, C, h, w] each. boxes: the letterbox of each photograph. threshold: the least score, instead of
    the spec's. Returns Predictions, best first within each photograph; classes count the spec's classes.
    Raises UserError when the outputs are not those of the spec's head, or not finite.
    """
    levels = head_levels({name: value.shape for name, value in outputs.items()}, spec, where)
    for name, value in outputs.items():
        check_finite(value, f"{where}, output {name}")
    limit = spec.decode.score_threshold if threshold is None else threshold
    parts = []
    for index, letterbox in enumerate(boxes):
        found = candidates({name: value[index] for name, value in outputs.items()}, levels, spec, limit)
        kept = suppress(
            found.boxes, found.scores, found.classes, spec.decode.overlap_threshold, spec.decode.maximum_detections
        )
        parts.append(_in_photograph(found, kept, letterbox, index))
    return concatenate(parts, _joints(spec))


def candidates(outputs: Outputs, levels: list[Level], spec: ModelSpec, threshold: float) -> Candidates:
    """The boxes of one photograph with a class score above the threshold, one for each such class; no order.

    outputs: [C, h, w] each. Only the cells that pass are decoded.
    """
    with np.errstate(divide="ignore"):  # 0 and 1 are minus and plus infinity: everything passes, or nothing
        least = np.float32(np.log(threshold) - np.log1p(-threshold))
    parts = []
    for level in levels:
        logits = outputs[level.classes].reshape(len(outputs[level.classes]), -1)
        labels, cells = np.nonzero(logits > least)
        used, place = np.unique(cells, return_inverse=True)
        anchors = _anchors(used, outputs[level.box].shape[2])
        boxes = decode_boxes(_columns(outputs[level.box], used), anchors, level.stride)
        keypoints = np.zeros((len(used), 0, 3), np.float32)
        if level.keypoints:
            keypoints = decode_keypoints(_columns(outputs[level.keypoints], used), anchors, level.stride)
        parts.append((boxes[place], _sigmoid(logits[labels, cells]), labels, keypoints[place]))
    return Candidates(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def decode_boxes(logits: np.ndarray, anchors: np.ndarray, stride: int) -> np.ndarray:
    """Boxes of n cells: logits [4 * bins, n] -> float32 [n, 4] as x1, y1, x2, y2 in input pixels.

    anchors: [n, 2], the cells' centres in cells. Each side's distance, in cells, is the expectation of a distribution
    over 0, 1, ... bins - 1 (Li et al. 2020, "Generalized Focal Loss", equation 5).
    """
    weights = logits.reshape(4, len(logits) // 4, logits.shape[1])
    weights = np.exp(weights - weights.max(axis=1, keepdims=True))
    bins = np.arange(weights.shape[1], dtype=np.float32)
    sides = np.einsum("sbn,b->ns", weights, bins) / weights.sum(axis=1).T
    return np.concatenate([anchors - sides[:, :2], anchors + sides[:, 2:]], axis=1) * np.float32(stride)


def decode_keypoints(raw: np.ndarray, anchors: np.ndarray, stride: int) -> np.ndarray:
    """Keypoints of n cells: raw [3 * K, n] -> float32 [n, K, 3], x, y in input pixels and the visibility 0..1.

    An offset of 1 is two cells from the cell's corner, which is half a cell before its centre.
    """
    offsets = raw.reshape(len(raw) // 3, 3, raw.shape[1]).transpose(2, 0, 1)
    points = (2 * offsets[..., :2] + (anchors - np.float32(0.5))[:, None]) * np.float32(stride)
    return np.concatenate([points, _sigmoid(offsets[..., 2:])], axis=-1)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    from scipy.special import expit  # here: it takes a moment to import, and other tasks need none

    return expit(logits)


def suppress(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, overlap: float, most: int) -> np.ndarray:
    """Class-wise greedy non-maximum suppression: the indices that stay, int64, best first.

    boxes: [M, 4] as x1, y1, x2, y2. A box goes when its IoU with a better one of its class that stays is above
    `overlap`; equal scores go by their order. It stops at `most`, which changes nothing: the rest is worse.
    """
    order = np.argsort(-scores, kind="stable")[:MOST_CANDIDATES]
    labels = classes[order]
    # Each class by itself, coordinates in rows and best first, so that a look at all that is worse is a slice.
    place = np.zeros(len(order), np.int64)
    groups = {}
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[members] = np.arange(len(members))
        x1, y1, x2, y2 = np.ascontiguousarray(boxes[order[members]].T, np.float64)
        groups[int(label)] = (x1, y1, x2, y2, (x2 - x1) * (y2 - y1), np.ones(len(members), bool))
    kept: list[int] = []
    for index, (label, best) in enumerate(zip(labels.tolist(), place.tolist(), strict=True)):
        x1, y1, x2, y2, areas, alive = groups[label]
        if not alive[best]:
            continue
        kept.append(index)
        if len(kept) == most:
            break
        worse = slice(best + 1, None)
        width = np.minimum(x2[worse], x2[best]) - np.maximum(x1[worse], x1[best])
        height = np.minimum(y2[worse], y2[best]) - np.maximum(y1[worse], y1[best])
        common = np.maximum(width, 0) * np.maximum(height, 0)
        alive[worse] &= common <= overlap * (areas[worse] + areas[best] - common)
    return order[kept]


def decode_everything(outputs: Outputs, spec: ModelSpec, where: str) -> np.ndarray:
    """All cells of N images in the layout of Ultralytics' own output, to be compared with it.

    Returns float32 [N, 4 + classes + 3 K, cells]: centre x, y, width, height in input pixels, class scores, keypoints
    as x, y, visibility; cells row by row, the smallest stride first.
    """
    levels = head_levels({name: value.shape for name, value in outputs.items()}, spec, where)
    rows = []
    for index in range(len(next(iter(outputs.values())))):
        parts = []
        for level in levels:
            height, width = outputs[level.box].shape[2:]
            anchors = _anchors(np.arange(height * width), width)
            flat = {name: value[index].reshape(value.shape[1], -1) for name, value in outputs.items()}
            boxes = decode_boxes(flat[level.box], anchors, level.stride)
            columns = [(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2], _sigmoid(flat[level.classes]).T]
            if level.keypoints:
                columns.append(decode_keypoints(flat[level.keypoints], anchors, level.stride).reshape(len(boxes), -1))
            parts.append(np.concatenate(columns, axis=1).T)
        rows.append(np.concatenate(parts, axis=1))
    return np.stack(rows)


def _anchors(cells: np.ndarray, width: int) -> np.ndarray:
    """The centres of cells, numbered row by row: float32 [n, 2], in cells."""
    return np.stack([cells % width, cells // width], axis=1).astype(np.float32) + np.float32(0.5)


def _columns(output: np.ndarray, cells: np.ndarray) -> np.ndarray:
    return output.reshape(len(output), -1)[:, cells]


def _in_photograph(found: Candidates, kept: np.ndarray, letterbox: Letterbox, index: int) -> Predictions:
    corners = letterbox.to_image(found.boxes[kept].reshape(-1, 2, 2))
    keypoints = found.keypoints[kept].astype(np.float32)
    keypoints[..., :2] = letterbox.to_image(keypoints[..., :2])
    return Predictions(
        instance=np.full(len(kept), index, np.int64),
        scores=found.scores[kept].astype(np.float64),
        keypoints=keypoints,
        boxes=np.concatenate([corners[:, 0], corners[:, 1] - corners[:, 0]], axis=1).astype(np.float32),
        classes=found.classes[kept].astype(np.int64),
    )


def _joints(spec: ModelSpec) -> int:
    return keypoint_set(spec.decode.keypoints).count if spec.decode.keypoints else 0
