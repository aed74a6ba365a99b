"""Which way each int8 weight is rounded: such that the errors of a layer's weights cancel on real inputs.

Rounding every weight to its nearest step makes each error small and lets them add up. Here the weights of an output
channel are rounded one after the other, and what one loses the others make up for, as far as the inputs that they are
multiplied with go together. The steps stay those that TPU-MLIR chooses: it is handed float weights that are already
whole steps. Source: E. Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", ICLR 2023, section 3, for convolutions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from channel_classes import WeightedLayer, channel_classes
from graph_runner import GraphRunner, weight_file

DAMPING = 0.01  # of the mean square of an input: the paper's value
POSITIONS = 1024  # of a layer's output on one sample that are looked at, evenly over the map
MEMORY = 400_000_000  # bytes of second moments that are held at once; more layers take another run over the samples


def rounded_weights(top: Path, quantised: Path, batches: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """{weights' name in the top graph: float32, whole steps} for every convolution that is int8 in the quantised graph.

    top, quantised: .mlir files of one network, the second with every layer int8. batches: float32 [B, C, H, W] each.
    """
    from tpu_mlir.python.utils.mlir_parser import MlirParser  # starts in half a second: only where it is needed

    with np.load(weight_file(top), allow_pickle=False) as archive:
        weights = {name: archive[name] for name in archive.files}
    with np.load(weight_file(quantised), allow_pickle=False) as archive:
        integers = {name: archive[name] for name in archive.files}
    of_layer = {operation.name: operation.opds for operation in MlirParser(str(quantised)).ops}
    windows = {operation.name: _window(operation.attrs) for operation in MlirParser(str(top)).ops}
    jobs = []
    for layer in channel_classes(top).layers:
        whole = [integers[name] for name in of_layer.get(layer.target, ())[1:2] if name in integers]
        shape = weights[layer.weights].shape
        if layer.operator == "top.Conv" and whole and whole[0].dtype == np.int8 and whole[0].size == np.prod(shape):
            jobs.append((layer, whole[0].reshape(shape)))
    found = {}
    for part in _parts(jobs):
        moments = _second_moments(top, [layer for layer, _ in part], windows, batches)
        for layer, whole in part:
            values = layer.grouped(weights[layer.weights]).astype(np.float64)
            rounded = _round(values, layer.grouped(whole).astype(np.float64), moments.pop(layer.target))
            found[layer.weights] = layer.ungrouped(rounded, weights[layer.weights])
    return found


def _window(attributes: dict[str, str]) -> dict[str, list[int]]:
    """kernel_shape, strides, pads and dilations of a convolution, as lists."""
    names = ("kernel_shape", "strides", "pads", "dilations")
    return {name: [int(number) for number in re.findall(r"-?\d+", attributes[name].partition(":")[0])]
            for name in names if name in attributes}  # fmt: skip


def _parts(jobs: list[tuple[WeightedLayer, np.ndarray]]) -> Iterator[list[tuple[WeightedLayer, np.ndarray]]]:
    part, size = [], 0
    for layer, whole in jobs:
        groups, _, inputs, taps = layer.grouped(whole).shape
        needed = 4 * groups * (inputs * taps) ** 2
        if part and size + needed > MEMORY:
            yield part
            part, size = [], 0
        part.append((layer, whole))
        size += needed
    if part:
        yield part


def _second_moments(
    top: Path, layers: Sequence[WeightedLayer], windows: dict[str, dict], batches: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """{target of a layer: float32 [groups, n, n]}: sum of x x^T over the windows x that its weights meet."""
    runner = GraphRunner(top, keep_all=True)
    found: dict[str, np.ndarray] = {}
    for batch in batches:
        runner.run({runner.inputs[0]: batch})
        tensors = runner.tensors()
        for layer in layers:
            seen = _patches(tensors[layer.source], windows[layer.target], layer.groups)
            product = np.matmul(seen.transpose(0, 2, 1), seen)
            found[layer.target] = found[layer.target] + product if layer.target in found else product
    return found


def _patches(value: np.ndarray, window: dict[str, list[int]], groups: int) -> np.ndarray:
    """Windows of a convolution's input [B, C, H, W]: float32 [groups, at most POSITIONS, C / groups * taps]."""
    top, left, bottom, right = window["pads"]
    height, width = window["kernel_shape"]
    (down, across), (tall, wide) = window["strides"], window.get("dilations", [1, 1])
    padded = np.pad(value.astype(np.float32), ((0, 0), (0, 0), (top, bottom), (left, right)))
    rows = (padded.shape[2] - (height - 1) * tall - 1) // down + 1
    columns = (padded.shape[3] - (width - 1) * wide - 1) // across + 1
    every = np.arange(len(value) * rows * columns)
    chosen = every[np.linspace(0, len(every) - 1, min(POSITIONS, len(every))).round().astype(np.int64)]
    sample, place = np.divmod(chosen, rows * columns)
    row, column = np.divmod(place, columns)
    y = (row * down)[:, None, None] + (np.arange(height) * tall)[None, :, None]
    x = (column * across)[:, None, None] + (np.arange(width) * wide)[None, None, :]
    seen = padded[sample[:, None, None], :, y, x]  # [positions, height, width, C]
    seen = seen.transpose(0, 3, 1, 2).reshape(len(chosen), groups, -1)
    return np.ascontiguousarray(seen.transpose(1, 0, 2))


def _round(values: np.ndarray, whole: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Whole steps for weights [groups, outputs, inputs, taps], given TPU-MLIR's own integers for them.

    The weight that decides the step, the largest of its channel, is left alone, and no other becomes larger: the
    lowering then finds the same step again.
    """
    shape = values.shape
    values, whole = (array.reshape(*shape[:2], -1).copy() for array in (values, whole))
    square = (whole**2).sum(axis=2, keepdims=True)
    steps = np.where(square > 0, (values * whole).sum(axis=2, keepdims=True) / np.where(square > 0, square, 1), 0.0)
    largest = np.abs(whole).max(axis=2)
    result = np.empty_like(values)
    for group, moment in enumerate(moments.astype(np.float64)):
        size = len(moment)
        mean = np.trace(moment) / size
        if not mean > 0:
            result[group] = values[group]
            continue
        inverse = np.linalg.inv(moment + DAMPING * mean * np.eye(size))
        upper = np.linalg.cholesky(inverse).T
        left, step, limit = values[group].copy(), steps[group, :, 0], largest[group]
        safe = np.where(step > 0, step, 1.0)
        for index in range(size):
            chosen = np.clip(np.rint(left[:, index] / safe), -limit, limit) * safe
            chosen = np.where(step > 0, chosen, left[:, index])
            result[group, :, index] = chosen
            lost = (left[:, index] - chosen) / upper[index, index]
            left[:, index + 1 :] -= lost[:, None] * upper[index, index + 1 :]
        rows = np.arange(len(left))
        decisive = np.abs(values[group]).argmax(axis=1)
        result[group, rows, decisive] = values[group, rows, decisive]
    return result.reshape(shape)
