"""Choose each layer's scale, and the layers that stay float, by what they do to the network's output.

Int8 errors of different layers add up nearly independently, so a layer (or a run of neighbouring layers) is judged
alone: it is int8, everything else is float, and the real int8 model runs on real samples. That is a far clearer
signal than changing one layer among fifty that are all int8.

The amount of work is counted, never timed: a slower machine takes longer and makes the same bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from failure import quiet
from graph_text import graph_text
from network_runner import Runner
from param_file import Network
from quantize import layer_bytes, quantizable_layers, quantize_network
from scale_table import ScaleTable
from tqdm import tqdm

GROUPS = 32  # runs of neighbouring layers that are judged as one
REFINED_SHARE = 0.9  # groups that make up this share of the error are judged layer by layer
REFINED_LAYERS = 24
FLOAT_SHARE = 0.2  # at most this share of the layers stays float
GOOD_ENOUGH = 0.001  # relative squared error of the output (30 dB): no layer is kept float beyond it
SIZE_LIMIT = 0.33  # of the float files: what the int8 files may reach when layers stay float


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


@dataclass
class Judge:
    """Runs int8 variants of one network and compares their outputs with the float ones.

    network: float, weights loaded. outputs: the output blobs. folder: for scratch files. float_layers: layers that
    would be int8 without a table and shall stay float.
    """

    network: Network
    outputs: Sequence[str]
    folder: Path
    float_layers: frozenset[str] = frozenset()
    _float_bytes: dict[str, bytes] = field(default_factory=dict)

    def files(self, table: ScaleTable) -> tuple[Path, Path]:
        """Write the variant's files; layers that are float in it are encoded once."""
        variant = quantize_network(self.network, table, self.float_layers)
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

    def forget(self) -> None:
        """The network's weights have changed: encode them again."""
        self._float_bytes.clear()

    def error(self, table: ScaleTable, samples: Sequence[np.ndarray], references: Sequence[list[np.ndarray]]) -> float:
        """The variant's relative error on these samples; infinity when it gives NaN.

        samples: float32 [1, C, H, W]. references: for each sample the float outputs.
        """
        runner = Runner(*self.files(table))
        found = [runner.run({"in0": sample}, self.outputs) for sample in samples]
        error = relative_error(found, references)
        return error if np.isfinite(error) else float("inf")


def isolated(table: ScaleTable, names: Collection[str], scales: dict[str, np.float32]) -> ScaleTable:
    """A table in which only `names` are int8, with the given activation scales."""
    return ScaleTable({name: table.weights[name] for name in names}, {name: scales[name] for name in names})


@dataclass
class Choice:
    """What was found for one layer: method of its scale, and its own relative error when it alone is int8."""

    method: str
    scale: np.float32
    error: float


def choose_scales(
    judge: Judge,
    table: ScaleTable,
    candidates: dict[str, dict[str, np.float32]],
    start: str,
    samples: Sequence[np.ndarray],
    references: Sequence[list[np.ndarray]],
) -> dict[str, Choice]:
    """For each layer the best of the candidates {method: {layer: scale}}, judged in groups, then one by one.

    start: the method that is best when all layers use it; it stays where others do not gain.
    """
    names = [layer.name for layer in quantizable_layers(judge.network)]
    size = max(1, -(-len(names) // GROUPS))
    groups = [names[i : i + size] for i in range(0, len(names), size)]
    progress = tqdm(desc="scales", total=len(groups), disable=quiet(), file=sys.stderr)

    def best(members: list[str]) -> tuple[float, str]:
        progress.update()
        found: dict[tuple, tuple[float, str]] = {}
        for method in (start, *(name for name in candidates if name != start)):
            key = tuple(round(float(np.log(candidates[method][name])), 2) for name in members)
            if key in found:  # within one per cent of a method that was tried
                continue
            variant = isolated(table, members, candidates[method])
            found[key] = (judge.error(variant, samples, references), method)
        return min(found.values(), key=lambda pair: pair[0])

    group_results = [best(group) for group in groups]
    chosen = {
        name: Choice(method, candidates[method][name], error / len(group))
        for group, (error, method) in zip(groups, group_results, strict=True)
        for name in group
    }
    if size > 1:
        for name in _worth_refining(groups, [error for error, _ in group_results]):
            progress.total += 1
            error, method = best([name])
            chosen[name] = Choice(method, candidates[method][name], error)
    progress.close()
    return chosen


def _worth_refining(groups: list[list[str]], errors: list[float]) -> list[str]:
    names: list[str] = []
    covered, total = 0.0, sum(errors)
    for index in sorted(range(len(groups)), key=lambda i: -errors[i]):
        if covered >= REFINED_SHARE * total or len(names) + len(groups[index]) > REFINED_LAYERS:
            break
        names += groups[index]
        covered += errors[index]
    return names
