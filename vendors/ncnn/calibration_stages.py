"""The stages of calibration, each the start of the next, and each kept in the job's cache for the rungs after it.

Nothing here knows what the network computes: "error" is the squared error of its outputs relative to their square.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import float_layers
import numpy as np
from activation_statistics import bias_corrections, collect, weight_scales
from clipping import LEVELS, METHODS
from failure import VendorError
from layer_probe import LayerProbe
from matrix_layers import QUANTIZED_WITHOUT_TABLE
from network_runner import Runner
from param_file import Network
from quantize import quantizable_layers
from scale_search import Judge, choose_scales
from scale_table import ScaleTable, parse_table, table_text
from stages import Stages

HOLD_OUT = 4  # every fourth sample chooses, the others make statistics
STATISTICS_SAMPLES = 128
MATRIX_GAIN = 0.8  # layers without a table stay float when the error falls below this part of itself


@dataclass(frozen=True)
class Effort:
    """Numbers of samples: fewer for a large network, counted by its work, not by the clock."""

    measure: int  # of the whole int8 network
    search: int  # of one layer
    bias: int

    @classmethod
    def of(cls, multiply_accumulates: int) -> Effort:
        if multiply_accumulates < 1.0e9:
            return cls(16, 8, 32)
        return cls(16, 4, 32) if multiply_accumulates < 4.0e9 else cls(8, 3, 16)


def spread(items: Sequence, count: int) -> list:
    """At most `count` items, evenly over the sequence."""
    if len(items) <= count:
        return list(items)
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, count).round()]


def split(samples: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(samples for statistics, samples that choose); with fewer than eight, all serve both."""
    if len(samples) < 2 * HOLD_OUT:
        return list(samples), list(samples)
    choosing = [sample for index, sample in enumerate(samples) if index % HOLD_OUT == HOLD_OUT - 1]
    return [sample for index, sample in enumerate(samples) if index % HOLD_OUT != HOLD_OUT - 1], choosing


class Calibrator:
    """The stages, each computed when it is first asked for and not in the cache.

    network: what param and weights hold. samples: float32 [1, C, H, W] each. outputs: the output blobs, "out0" first.
    scratch: a folder for scratch files. cache: of this network and these samples. asked: layers that the user keeps
    float. Raises VendorError when nothing can be int8 or a blob is not finite.
    """

    def __init__(
        self,
        network: Network,
        param: Path,
        weights: Path,
        samples: Sequence[np.ndarray],
        outputs: Sequence[str],
        scratch: Path,
        cache: Path,
        asked: Collection[str],
    ):
        self.network, self.outputs, self.scratch, self.asked = network, outputs, scratch, frozenset(asked)
        self.names = [layer.name for layer in quantizable_layers(network) if layer.name not in self.asked]
        if not self.names:
            raise VendorError(
                "the network has no convolution or inner product with constant weights: nothing to quantise"
                if not asked
                else "every layer that could be int8 is kept float: nothing to quantise",
                "use PRECISION=fp32",
            )
        self.for_statistics, self.choosing = split(samples)
        self.float_size = param.stat().st_size + weights.stat().st_size
        self.runner = Runner(param, weights)
        self._stages = Stages(cache, self.asked)
        self._weight_scales = {name: scale for name, scale in weight_scales(network).items() if name in set(self.names)}

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """{"scales": {method: {layer: scale}}, "multiply_accumulates": of one inference}"""

        def compute() -> dict[str, Any]:
            found = collect(self.network, self.runner, spread(self.for_statistics, STATISTICS_SAMPLES))
            scales = {
                method: {name: float(np.float32(LEVELS / find(one))) for name, one in found.histograms.items()}
                for method, find in METHODS.items()
            }
            return {"scales": scales, "multiply_accumulates": sum(found.multiply_accumulates.values())}

        return self._stages.remember("statistics", compute, of_network=True)

    @cached_property
    def effort(self) -> Effort:
        return Effort.of(self.statistics["multiply_accumulates"])

    @cached_property
    def judge(self) -> Judge:
        samples = spread(self.choosing, self.effort.measure)
        references = [self.runner.run({"in0": sample}, self.outputs) for sample in samples]
        return Judge(self.network, self.outputs, self.scratch, samples, references)

    def table(self, methods: Mapping[str, str], kept: Collection[str] = ()) -> ScaleTable:
        """methods: {layer: method}. The table as a reader of its text will see it: six decimals."""
        names = [name for name in self.names if name not in kept]
        scales = {name: np.float32(self.statistics["scales"][methods[name]][name]) for name in names}
        return parse_table(table_text(ScaleTable({name: self._weight_scales[name] for name in names}, scales)), "table")

    @cached_property
    def methods(self) -> dict[str, Any]:
        """The best single method: {"errors": {method: relative error}, "best", "error", "matrix": float layers}"""

        def compute() -> dict[str, Any]:
            matrix = [layer.name for layer in self.network.layers if layer.type in QUANTIZED_WITHOUT_TABLE]
            asked = frozenset(matrix) & self.asked
            self.judge.float_layers = asked
            tables = {method: self.table(dict.fromkeys(self.names, method)) for method in METHODS}
            errors = {method: self.judge.error(table, {}) for method, table in tables.items()}
            best = min(errors, key=errors.__getitem__)
            print(f"calibration: relative error of the output by method: {percent(errors)}; best: {best}")
            error, stay = errors[best], asked
            if set(matrix) - asked:
                # Layers that ncnn2int8 would quantise without a table, when the output is clearly closer without.
                self.judge.float_layers = frozenset(matrix)
                measured = self.judge.error(tables[best], {})
                if measured < MATRIX_GAIN * error:
                    error, stay = measured, frozenset(matrix)
            return {"errors": errors, "best": best, "error": error, "matrix": sorted(stay)}

        found = self._stages.remember("methods", compute)
        self.judge.float_layers = frozenset(found["matrix"])
        return found

    @cached_property
    def layerwise(self) -> dict[str, Any]:
        """Scales layer by layer: {"methods": {layer: method}, "alone": {layer: relative error}, "error"}"""

        def compute() -> dict[str, Any]:
            start = self.methods["best"]
            candidates = {
                method: {name: np.float32(scale) for name, scale in scales.items()}
                for method, scales in self.statistics["scales"].items()
            }
            probe = LayerProbe(self.network, self.runner, self.outputs, self.scratch)
            samples = spread(self.choosing, self.effort.search)
            choices = choose_scales(probe, self._weight_scales, candidates, start, samples)
            chosen = {name: choice.method for name, choice in choices.items()}
            error = self.judge.error(self.table(chosen), {})
            if error > self.methods["error"]:
                chosen, error = dict.fromkeys(self.names, start), self.methods["error"]
            print(f"calibration: scales chosen layer by layer: {error:.3%}")
            return {"methods": chosen, "alone": {name: c.error for name, c in choices.items()}, "error": error}

        return self._stages.remember("layerwise", compute)

    @cached_property
    def biases(self) -> dict[str, np.ndarray]:
        """The corrected biases of the layers with the scales of `layerwise`: {layer: float32 [outputs]}."""

        def compute() -> dict[str, Any]:
            table = self.table(self.layerwise["methods"])
            samples = spread(self.for_statistics, self.effort.bias)
            shifts = bias_corrections(self.network, self.runner, samples, table)
            layers = [layer for layer in self.network.layers if layer.name in shifts]
            return {layer.name: (layer.weights["bias"] + shifts[layer.name]).tolist() for layer in layers}

        found = self._stages.remember("biases", compute)
        return {name: np.array(values, np.float32) for name, values in found.items()}

    @cached_property
    def corrected(self) -> dict[str, Any]:
        """Whether the corrected biases are better when no layer is kept float: {"correct": bool, "error"}"""

        def compute() -> dict[str, Any]:
            error = self.judge.error(self.table(self.layerwise["methods"]), self.biases)
            better = error < self.layerwise["error"]
            print(f"calibration: biases corrected: {error:.3%}{'' if better else ' (not kept)'}")
            return {"correct": better, "error": min(error, self.layerwise["error"])}

        return self._stages.remember("corrected", compute)

    @cached_property
    def sensitive(self) -> dict[str, Any]:
        """The most sensitive layers float: {"kept": {layer: errors}, "correct": bool, "error"}"""

        def compute() -> dict[str, Any]:
            table, biases = self.table(self.layerwise["methods"]), self._biases(self.corrected)
            allowed = float_layers.limit(len(self.names), float_layers.SENSITIVE_SHARE)
            found = float_layers.sensitive_layers(
                self.judge, table, biases, self.layerwise["alone"], self.corrected["error"], self.float_size, allowed
            )
            print(f"calibration: {len(found.kept)} sensitive layers stay float: {found.error:.3%}")
            return self._with_best_biases(found.kept, found.error, self.corrected["correct"])

        return self._stages.remember("sensitive", compute)

    @cached_property
    def tail(self) -> dict[str, Any]:
        """These and the last layers float: {"kept": {layer: errors}, "correct": bool, "error"}"""

        def compute() -> dict[str, Any]:
            kept, before = self.sensitive["kept"], self.sensitive["error"]
            allowed = float_layers.limit(len(self.names), float_layers.TAIL_SHARE)

            def fits(names: list[str]) -> bool:
                table = self.table(self.layerwise["methods"], {*kept, *names})
                return self.judge.size(table) <= float_layers.TAIL_SIZE_LIMIT * self.float_size

            names = float_layers.tail_layers(self.names, list(kept), allowed, fits)
            error = self.judge.error(
                self.table(self.layerwise["methods"], {*kept, *names}), self._biases(self.sensitive)
            )
            print(f"calibration: the last {len(names)} layers stay float as well: {error:.3%}")
            alone = self.layerwise["alone"]
            added = {name: {"alone": alone[name], "before": before, "after": error} for name in names}
            return self._with_best_biases({**kept, **added}, error, self.sensitive["correct"])

        return self._stages.remember("tail", compute)

    def _biases(self, stage: dict[str, Any]) -> dict[str, np.ndarray]:
        return self.biases if stage["correct"] else {}

    def _with_best_biases(self, kept: dict[str, Any], error: float, correct: bool) -> dict[str, Any]:
        """The other biases instead of those that `error` was measured with, when they are better."""
        table = self.table(self.layerwise["methods"], kept)
        other = self.judge.error(table, {} if correct else self.biases)
        return {"kept": kept, "correct": correct != (other < error), "error": min(error, other)}


def percent(errors: dict[str, float]) -> str:
    """The errors in words."""
    return ", ".join(f"{name} {error:.3%}" for name, error in errors.items())
