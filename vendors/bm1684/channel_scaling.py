"""Channel scaling: factors for the channels between layers, so that one int8 step suits all channels of a tensor.

BM1684 has one step for all weights of a layer (and only powers of two between layers), BM1684X one for each output
channel; both have one step for all channels of an activation. A channel whose values are a tenth of its neighbours'
loses three of its eight bits. Multiplying it up, and dividing the weights that read it, gives them back, and leaves the
network's outputs as they are. Source of the idea: M. Nagel et al., "Data-Free Quantization Through Weight Equalization
and Bias Correction", ICCV 2019, section 4.1; here with activations, through Add, and for a whole graph at once.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from activation_statistics import SMALLEST, TensorStatistics
from atomic_files import scratch_folder
from channel_classes import ChannelClasses, WeightedLayer, channel_classes
from graph_runner import weight_file
from graph_stages import REFERENCE, SAMPLE, TOP, TopGraph

ROUNDS = 30
PACE = 0.7  # of the way to each round's balance: whole steps swing when two layers pull at one channel
LARGEST_FACTOR = 64.0
# A bias is an int16 on BM1684, in steps of the input's step times the weights'. It fits while bias / 32767 is at most
# (largest input / 127) * (largest weight / 127): beyond, a channel of large bias and small weights is cut off.
BIAS_SHARE = 127 * 127 / 32767
NEGLIGIBLE = 1e-4  # of the tensor's largest value: a channel below is dead, and pulls at nothing


@dataclass(frozen=True)
class Balance:
    """How much each range pulls at a channel's factor: of its values, of the weights that make it, that read it."""

    values: float
    makers: float
    readers: float


# weights: for one step a layer; balanced: for one step an output channel, where values matter as much as weights.
BALANCES = {"weights": Balance(0.0, 1.0, 1.0), "balanced": Balance(1.0, 1.0, 1.0)}


def scale_factors(
    classes: ChannelClasses, weights: dict[str, np.ndarray], statistics: dict[str, TensorStatistics], balance: Balance
) -> np.ndarray:
    """The factor of each class, float64 [classes]; 1 where the class is not free.

    Each round moves every factor towards the weighted mean of what the ranges around it ask for, in logarithms.
    A channel that reaches the limit of its Relu6 keeps the factor 1, and one below is never lifted above the limit:
    the clipping, which does not scale along, then clips what no calibration sample held.
    """
    factors = np.ones(len(classes.free))
    # [groups, outputs, inputs]: the taps never part, so their largest is all that is needed.
    largest = {layer.weights: np.abs(layer.grouped(weights[layer.weights])).max(axis=3) for layer in classes.layers}
    tensors = {name: found.channels for name, found in statistics.items()
               if name in classes.of and len(found.channels) == len(classes.of[name])}  # fmt: skip
    reached = np.zeros(len(factors))
    for name, channels in tensors.items():
        np.maximum.at(reached, classes.of[name], channels)
    headroom = np.where(reached > 0, classes.limit / np.where(reached > 0, reached, 1.0), 1.0)
    for _ in range(ROUNDS):
        pull, weight = np.zeros(len(factors)), np.zeros(len(factors))

        def add(indices: np.ndarray, ranges: np.ndarray, strength: float) -> None:
            if not strength:
                return
            alive = ranges > NEGLIGIBLE * ranges.max(initial=0.0)
            if not alive.any():
                return
            logs = np.log(np.where(alive, ranges, 1.0))
            np.add.at(pull, indices, strength * np.where(alive, logs - logs[alive].mean(), 0.0))  # noqa: B023
            np.add.at(weight, indices, abs(strength))  # noqa: B023

        for name, channels in tensors.items():
            add(classes.of[name], channels * factors[classes.of[name]], -balance.values)
        for layer in classes.layers:
            scaled = _scaled(layer, largest[layer.weights], classes, factors)
            made = scaled.max(axis=2).ravel()
            if layer.bias and layer.source in tensors:
                source = tensors[layer.source] * factors[classes.of[layer.source]]
                bias = np.abs(weights[layer.bias]).reshape(-1) * factors[classes.of[layer.target]]
                made = np.maximum(made, BIAS_SHARE * bias / max(source.max(), SMALLEST))
            add(classes.of[layer.target], made, -balance.makers)
            add(classes.of[layer.source], scaled.max(axis=1).ravel(), balance.readers)
        step = np.where(weight > 0, pull / np.where(weight > 0, weight, 1.0), 0.0)
        factors = np.clip(factors * np.exp(PACE * step), 1 / LARGEST_FACTOR, LARGEST_FACTOR)
        limited = np.isfinite(classes.limit)
        factors = np.where(limited, np.where(headroom <= 1.001, 1.0, np.minimum(factors, headroom)), factors)
        factors = np.where(classes.free, factors, 1.0)
    return factors


def _scaled(layer: WeightedLayer, values: np.ndarray, classes: ChannelClasses, factors: np.ndarray) -> np.ndarray:
    """Grouped weights [groups, outputs, inputs, ...] under these factors."""
    groups, outputs, inputs = values.shape[:3]
    rest = (1,) * (values.ndim - 3)
    made = factors[classes.of[layer.target]].reshape(groups, outputs, 1, *rest)
    read = factors[classes.of[layer.source]].reshape(groups, 1, inputs, *rest)
    return values * made / read


def scaled_graph(top: TopGraph, statistics: dict[str, TensorStatistics], balance: Balance, folder: Path) -> TopGraph:
    """Write a copy of the top graph with scaled channels to `folder`, or find it there.

    Every tensor keeps its name; inputs and outputs keep their values (to rounding, and to what Relu6 clips): the
    reference outputs stay those of the graph as it came.
    """
    if not folder.is_dir():
        with scratch_folder(folder.parent) as scratch:
            made = scratch / folder.name
            made.mkdir()
            _write(top, statistics, balance, made)
            made.rename(folder)
    return TopGraph(folder, {}, 0.0)


def _write(top: TopGraph, statistics: dict[str, TensorStatistics], balance: Balance, folder: Path) -> None:
    classes = channel_classes(top.folder / TOP)
    source = weight_file(top.folder / TOP)
    with np.load(source, allow_pickle=False) as archive:
        weights = {name: archive[name] for name in archive.files}
    factors = scale_factors(classes, weights, statistics, balance)
    for layer in classes.layers:
        scaled = _scaled(layer, layer.grouped(weights[layer.weights]).astype(np.float64), classes, factors)
        weights[layer.weights] = layer.ungrouped(scaled, weights[layer.weights])
        if layer.bias:
            bias = weights[layer.bias]
            made = factors[classes.of[layer.target]]
            weights[layer.bias] = (bias.reshape(-1) * made).astype(bias.dtype).reshape(bias.shape)
    np.savez(folder / source.name, **weights)
    for name in (TOP, SAMPLE, REFERENCE):
        shutil.copyfile(top.folder / name, folder / name)
