"""Choose each layer's scale by what it does to the network's output.

Int8 errors of different layers add up nearly independently, so a layer is judged alone: it is int8, everything else is
float, and the real int8 layer works on real samples. That is a far clearer signal than changing one layer among fifty
that are all int8.

The amount of work is counted, never timed: a slower machine takes longer and makes the same bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from failure import quiet
from graph_text import graph_text
from layer_probe import LayerProbe
from network_runner import Runner
from param_file import Layer, Network
from quantize import layer_bytes, quantizable_layers, quantize_network
from scale_table import ScaleTable
from tqdm import tqdm

REFINED_SHARE = 0.95  # layers that make up this share of the error are judged with every method
REFINED_LAYERS = 32


def relative_error(found: Sequence[Sequence[np.ndarray]], reference: Sequence[Sequence[np.ndarray]]) -> float:
    """How far int8 outputs are from the float ones: found[sample][output] against reference[sample][output].

    Squared error over squared reference of each output of each sample, then their geometric mean (0: equal). In
    decibels that is the mean SQNR. The geometric mean, because a plain one is decided by the single worst sample,
    which on a few samples is a matter of chance.
    """
    ratios = []
    for outputs, exact in zip(found, reference, strict=True):
        for a, b in zip(outputs, exact, strict=True):
            power = max(float((b.astype(np.float64) ** 2).sum()), 1e-30)
            ratios.append(float(((a.astype(np.float64) - b) ** 2).sum()) / power)
    return float(np.exp(np.log(np.maximum(ratios, 1e-12)).mean()))


def with_biases(network: Network, biases: Mapping[str, np.ndarray], table: ScaleTable) -> Network:
    """The network with other biases (float32 [outputs] each) for those of its layers that `table` makes int8."""

    def changed(layer: Layer) -> Layer:
        if layer.name not in biases or layer.name not in table.activations:
            return layer
        weights = {**layer.weights, "bias": biases[layer.name]}
        return Layer(layer.type, layer.name, layer.bottoms, layer.tops, layer.parameters, weights, layer.offsets)

    return Network([changed(layer) for layer in network.layers])


@dataclass
class Judge:
    """Runs int8 variants of one network and compares their outputs with the float ones.

    network: float, weights loaded. outputs: the output blobs. folder: for scratch files. samples: float32
    [1, C, H, W] each, and for each the float outputs as its reference. float_layers: layers that would be int8
    without a table and shall stay float.
    """

    network: Network
    outputs: Sequence[str]
    folder: Path
    samples: Sequence[np.ndarray]
    references: Sequence[list[np.ndarray]]
    float_layers: frozenset[str] = frozenset()
    _float_bytes: dict[str, bytes] = field(default_factory=dict)

    def files(self, table: ScaleTable, biases: Mapping[str, np.ndarray]) -> tuple[Path, Path]:
        """Write the variant's files; layers that are float in it are encoded once."""
        variant = quantize_network(with_biases(self.network, biases, table), table, self.float_layers)
        param, weights = self.folder / "variant.param", self.folder / "variant.bin"
        param.write_text(graph_text(variant, keep_unwritten=True), encoding="utf-8")
        with weights.open("wb") as file:
            for layer in variant.layers:
                if any(array.dtype == np.int8 for array in layer.weights.values()):
                    file.write(layer_bytes(layer))
                    continue
                if layer.name not in self._float_bytes:
                    self._float_bytes[layer.name] = layer_bytes(layer)
                file.write(self._float_bytes[layer.name])
        return param, weights

    def size(self, table: ScaleTable) -> int:
        """Bytes of the variant's files."""
        return sum(path.stat().st_size for path in self.files(table, {}))

    def error(self, table: ScaleTable, biases: Mapping[str, np.ndarray]) -> float:
        """The variant's relative error on the samples; infinity when it gives NaN."""
        runner = Runner(*self.files(table, biases))
        found = [runner.run({"in0": sample}, self.outputs) for sample in self.samples]
        error = relative_error(found, self.references)
        return error if np.isfinite(error) else float("inf")


@dataclass
class Choice:
    """What was found for one layer: method of its scale, and its own relative error when it alone is int8."""

    method: str
    error: float


def choose_scales(
    probe: LayerProbe,
    weights: Mapping[str, np.ndarray],
    candidates: Mapping[str, Mapping[str, np.float32]],
    start: str,
    samples: Sequence[np.ndarray],
) -> dict[str, Choice]:
    """For each layer that has weight scales, the best of the candidates {method: {layer: scale}}.

    start: the method that is best when all layers use it. All layers are judged with it; those that make most of the
    error, with the others as well. samples: float32 [1, C, H, W] each.
    """
    layers = [layer for layer in quantizable_layers(probe.network) if layer.name in weights]
    first = _errors(probe, weights, candidates, {layer.name: [start] for layer in layers}, samples)
    chosen = {name: Choice(start, errors[start]) for name, errors in first.items()}
    others = {name: _distinct(candidates, start, name) for name in _worth_refining(chosen)}
    for name, errors in _errors(probe, weights, candidates, others, samples).items():
        for method, error in errors.items():
            if error < chosen[name].error:
                chosen[name] = Choice(method, error)
    return chosen


def _distinct(candidates: Mapping[str, Mapping[str, np.float32]], start: str, name: str) -> list[str]:
    """The methods whose scale for a layer is more than about one per cent away from those before them."""
    seen = {round(float(np.log(candidates[start][name])), 2)}
    found = []
    for method, scales in candidates.items():
        key = round(float(np.log(scales[name])), 2)
        if key not in seen:
            seen.add(key)
            found.append(method)
    return found


def _worth_refining(chosen: dict[str, Choice]) -> list[str]:
    names: list[str] = []
    covered, total = 0.0, sum(choice.error for choice in chosen.values())
    for name in sorted(chosen, key=lambda name: -chosen[name].error):
        if covered >= REFINED_SHARE * total or len(names) >= REFINED_LAYERS:
            break
        names.append(name)
        covered += chosen[name].error
    return names


def _errors(
    probe: LayerProbe,
    weights: Mapping[str, np.ndarray],
    candidates: Mapping[str, Mapping[str, np.float32]],
    methods: Mapping[str, Sequence[str]],
    samples: Sequence[np.ndarray],
) -> dict[str, dict[str, float]]:
    """{layer: {method: relative error of the outputs when the layer alone is int8}} for methods = {layer: [method]}."""
    layers = {layer.name: layer for layer in quantizable_layers(probe.network)}
    logarithms = {name: dict.fromkeys(tried, 0.0) for name, tried in methods.items()}
    work = [(name, method) for name, tried in methods.items() for method in tried]
    with tqdm(desc="scales", total=len(samples) * len(work), disable=quiet(), file=sys.stderr) as progress:
        for sample in samples if work else ():
            probe.look_at(sample)
            for name, method in work:
                value = probe.int8_output(layers[name], weights[name], candidates[method][name])
                outputs = probe.outputs_with(layers[name], value)
                logarithms[name][method] += float(np.log(relative_error([outputs], [probe.reference])))
                progress.update()
    return {
        name: {method: float(np.exp(total / len(samples))) for method, total in tried.items()}
        for name, tried in logarithms.items()
    }
