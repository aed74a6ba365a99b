"""What the layers' inputs look like on calibration samples: magnitudes, and mean values of the channels."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from failure import VendorError, quiet
from graph_text import effective_parameters
from histogram import MagnitudeHistogram
from network_runner import Runner
from param_file import Layer, Network
from quantize import quantizable_layers, scale_count
from scale_table import ScaleTable
from tqdm import tqdm

INPUT_BLOB = "in0"


@dataclass
class Statistics:
    """For each layer that can be int8: the histogram of its input, and its multiply-accumulates for one sample."""

    histograms: dict[str, MagnitudeHistogram] = field(default_factory=dict)
    multiply_accumulates: dict[str, int] = field(default_factory=dict)


def _input_blobs(network: Network, layers: Sequence[Layer]) -> dict[str, str]:
    """{layer: blob that it reads}; what a Split hands out under several names is one blob."""
    copied = {top: layer.bottoms[0] for layer in network.layers if layer.type == "Split" for top in layer.tops}
    found = {}
    for layer in layers:
        blob = layer.bottoms[0]
        while blob in copied:
            blob = copied[blob]
        found[layer.name] = blob
    return found


def collect(network: Network, runner: Runner, samples: Sequence[np.ndarray]) -> Statistics:
    """Run the float network on all samples; memory does not grow with their number.

    samples: float32 [1, C, H, W]. Raises VendorError when a blob is NaN or infinite.
    """
    layers = quantizable_layers(network)
    read = _input_blobs(network, layers)
    blobs = list(dict.fromkeys(read.values()))
    by_blob = {name: MagnitudeHistogram() for name in blobs}
    statistics = Statistics()
    for index, sample in enumerate(tqdm(samples, desc="statistics", disable=quiet(), file=sys.stderr)):
        values = runner.run({INPUT_BLOB: sample}, blobs, keep_blobs=True)
        for name, value in zip(blobs, values, strict=True):
            try:
                by_blob[name].add(value)
            except ValueError as error:
                raise VendorError(
                    f"blob {name} holds {error} on calibration sample {index}",
                    "look at that sample, and at the network",
                ) from None
        if not index:
            shapes = {name: value.shape for name, value in zip(blobs, values, strict=True)}
            statistics.multiply_accumulates = {
                layer.name: _multiply_accumulates(layer, shapes[read[layer.name]]) for layer in layers
            }
    statistics.histograms = {layer.name: by_blob[read[layer.name]] for layer in layers}
    return statistics


def _multiply_accumulates(layer: Layer, shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of one inference, borders counted as if padded to keep the size."""
    weights = layer.weights["weight"].size
    if layer.type == "InnerProduct" or len(shape) != 3:
        return weights
    value = effective_parameters(layer)
    return weights * -(-shape[1] // int(value[13])) * -(-shape[2] // int(value[3]))


def weight_scales(network: Network) -> dict[str, np.ndarray]:
    """127 / largest magnitude of each output channel (each group of a depthwise convolution): float32 [channels].

    A channel of zeros gets 1. Scales that minimise the squared error instead were tried and gained nothing.
    """
    found = {}
    for layer in quantizable_layers(network):
        largest = np.abs(layer.weights["weight"].reshape(scale_count(layer), -1)).max(axis=1)
        found[layer.name] = np.where(largest > 0, 127.0 / np.where(largest > 0, largest, 1.0), 1.0).astype(np.float32)
    return found


def bias_corrections(
    network: Network, runner: Runner, samples: Sequence[np.ndarray], table: ScaleTable
) -> dict[str, np.ndarray]:
    """How much to add to each int8 layer's bias so that its mean output is the float layer's: {name: float32 [out]}.

    With W, x float and Wq, xq rounded, the mean output moves by Wq E[xq] - W E[x] per output channel; E over samples
    and positions, borders neglected. Layers without a bias are left out. Source of the idea: M. Nagel et al.,
    "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2.
    """
    layers = [
        layer for layer in quantizable_layers(network) if layer.name in table.activations and "bias" in layer.weights
    ]
    read = _input_blobs(network, layers)
    blobs = list(dict.fromkeys(read.values()))
    sums: dict[str, list] = {layer.name: [0.0, 0.0] for layer in layers}
    for sample in tqdm(samples, desc="bias correction", disable=quiet(), file=sys.stderr):
        values = dict(zip(blobs, runner.run({INPUT_BLOB: sample}, blobs, keep_blobs=True), strict=True))
        for layer in layers:
            value, scale = values[read[layer.name]], table.activations[layer.name]
            rounded = np.clip(np.rint(value * scale), -127, 127) / scale
            sums[layer.name][0] += _channel_means(layer, value)
            sums[layer.name][1] += _channel_means(layer, rounded)
    return {layer.name: _shift(layer, table.weights[layer.name], *sums[layer.name], len(samples)) for layer in layers}


def _channel_means(layer: Layer, value: np.ndarray) -> np.ndarray:
    if layer.type == "InnerProduct":
        return value.reshape(-1).astype(np.float64)
    return value.reshape(value.shape[0], -1).mean(axis=1, dtype=np.float64)


def _shift(layer: Layer, scales: np.ndarray, exact: np.ndarray, rounded: np.ndarray, count: int) -> np.ndarray:
    outputs = len(layer.weights["bias"])
    weights = layer.weights["weight"].reshape(len(scales), -1).astype(np.float64)
    int8 = np.clip(np.rint(weights * scales[:, None]), -127, 127) / scales[:, None].astype(np.float64)
    groups = len(scales) if layer.type == "ConvolutionDepthWise" else 1
    taps = layer.weights["weight"].size * groups // (outputs * len(exact))
    means = np.stack([exact, rounded]).reshape(2, groups, 1, -1) / count
    summed = np.stack([weights, int8]).reshape(2, groups, outputs // groups, -1, taps).sum(axis=-1)
    mean_outputs = (summed * means).sum(axis=-1).reshape(2, outputs)
    return (mean_outputs[0] - mean_outputs[1]).astype(np.float32)


def store_biases(network: Network, biases: dict[str, np.ndarray], weights: Path) -> None:
    """Put other biases (float32 [outputs] each) into the float .bin that `network` was read from."""
    data = bytearray(weights.read_bytes())
    for layer in network.layers:
        if layer.name in biases:
            bias = biases[layer.name].astype("<f4")
            start = layer.offsets["bias"]
            data[start : start + bias.nbytes] = bias.tobytes()
    weights.write_bytes(data)
