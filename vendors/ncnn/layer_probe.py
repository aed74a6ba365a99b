"""One layer as int8 in a network that is float otherwise: what comes out of it, and what that does to the outputs.

The float network runs once a sample and all its blobs stay in memory. A layer's own int8 form, a network of one layer,
then reads the float blob that the layer reads, and only the layers that depend on it are computed again. This costs
a part of an inference for each layer and needs no model to be written and loaded for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ncnn
import numpy as np
from graph_text import graph_text
from network_runner import Runner
from param_file import Layer, Network
from quantize import layer_bytes, quantize_network
from scale_table import ScaleTable


def descendants(network: Network, first: Layer) -> list[Layer]:
    """The layers that compute with what `first` makes, in file order, without `first`."""
    reached, found = set(first.tops), []
    for layer in network.layers:
        if layer is not first and reached.intersection(layer.bottoms):
            reached.update(layer.tops)
            found.append(layer)
    return found


class LayerProbe:
    """The float network with the blobs of one sample.

    network: what the runner has loaded. outputs: its output blobs. folder: for scratch files.
    """

    def __init__(self, network: Network, runner: Runner, outputs: Sequence[str], folder: Path):
        self.network, self.runner, self.outputs, self.folder = network, runner, outputs, folder
        self._blobs: dict[str, ncnn.Mat] = {}
        self.reference: list[np.ndarray] = []

    def look_at(self, sample: np.ndarray) -> None:
        """Compute all float blobs of a sample (float32 [1, C, H, W])."""
        extractor = self.runner.extractor({"in0": sample}, keep_blobs=True)
        self._blobs = {
            name: self.runner.extract(extractor, name) for layer in self.network.layers for name in layer.tops
        }
        self.reference = [np.array(self._blobs[name]) for name in self.outputs]

    def int8_output(self, layer: Layer, weight_scales: np.ndarray, scale: np.float32) -> ncnn.Mat:
        """What the layer alone gives in int8 for the float blob that it reads.

        weight_scales: float32 [channels or groups]; scale: of its input.
        """
        source = Layer("Input", "input", [], [layer.bottoms[0]])
        table = ScaleTable({layer.name: weight_scales}, {layer.name: scale})
        alone = quantize_network(Network([source, layer]), table)
        param, weights = self.folder / "layer.param", self.folder / "layer.bin"
        param.write_text(graph_text(alone, keep_unwritten=True), encoding="utf-8")
        weights.write_bytes(b"".join(layer_bytes(one) for one in alone.layers))
        runner = Runner(param, weights)
        extractor = runner.net.create_extractor()
        extractor.input(layer.bottoms[0], self._blobs[layer.bottoms[0]])
        return runner.extract(extractor, layer.tops[0]).clone()

    def outputs_with(self, layer: Layer, value: ncnn.Mat) -> list[np.ndarray]:
        """The network's outputs when the layer gives `value` instead of its float blob."""
        after = descendants(self.network, layer)
        changed = {*layer.tops, *(name for one in after for name in one.tops)}
        read = {name for one in after for name in one.bottoms if name not in changed}
        extractor = self.runner.net.create_extractor()
        for name in read:
            extractor.input(name, self._blobs[name])
        extractor.input(layer.tops[0], value)
        return [
            np.array(self.runner.extract(extractor, name)) if name in changed else reference
            for name, reference in zip(self.outputs, self.reference, strict=True)
        ]
