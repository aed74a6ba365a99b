"""Calibrate: from a float ncnn model and sample inputs to a table of scales that keeps the output closest to float.

1. Statistics: on most samples, a histogram of every layer's input; from it one scale a method (clipping.METHODS).
2. The best single method: the int8 network with each, measured on samples that the statistics have not seen.
3. Scales layer by layer (scale_search).
4. Layers that hurt stay float while that brings the measured error down, within limits of size and number.
5. Bias correction: the int8 layers' mean outputs are moved back to the float ones; kept when it measures better.

Nothing here knows what the network computes: "closest" is the squared error of its outputs relative to their square.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from activation_statistics import bias_corrections, collect, correct_biases, weight_scales
from clipping import LEVELS, METHODS
from failure import VendorError
from matrix_layers import QUANTIZED_WITHOUT_TABLE
from network_runner import Runner
from param_file import Network
from quantize import quantizable_layers
from scale_search import FLOAT_SHARE, GOOD_ENOUGH, SIZE_LIMIT, Choice, Judge, choose_scales
from scale_table import ScaleTable, parse_table, table_text

HOLD_OUT = 4  # every fourth sample chooses, the others make statistics
STATISTICS_SAMPLES = 128
MEASURE_SAMPLES = 16  # of the whole int8 network
BIAS_SAMPLES = 32
ARTIFACT_LIMIT = 0.35  # of the float files
FLOAT_TRIES = 40  # layers that are tried as float: each costs MEASURE_SAMPLES inferences, minutes on a large network


@dataclass
class Calibration:
    """table and float_layers: what quantize_network() needs; report: what compile.json tells."""

    table: ScaleTable
    float_layers: frozenset[str]
    report: dict[str, Any]


def _spread(items: Sequence, count: int) -> list:
    """At most `count` items, evenly over the sequence."""
    if len(items) <= count:
        return list(items)
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, count).round()]


def _search_samples(multiply_accumulates: int) -> int:
    """How many samples judge one layer: fewer for a large network, counted by its work, not by the clock."""
    return 8 if multiply_accumulates < 1.0e9 else 4 if multiply_accumulates < 4.0e9 else 3


def split(samples: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(samples for statistics, samples that choose); with fewer than eight, all serve both."""
    if len(samples) < 2 * HOLD_OUT:
        return list(samples), list(samples)
    choosing = [sample for index, sample in enumerate(samples) if index % HOLD_OUT == HOLD_OUT - 1]
    return [sample for index, sample in enumerate(samples) if index % HOLD_OUT != HOLD_OUT - 1], choosing


def calibrate(
    network: Network, param: Path, weights: Path, samples: Sequence[np.ndarray], outputs: Sequence[str], folder: Path
) -> Calibration:
    """Choose all scales. May correct biases in `network` and in the float file `weights` (said in the report).

    network: what param and weights hold. samples: float32 [1, C, H, W] each. outputs: the output blobs, "out0" first.
    folder: for scratch files. Raises VendorError when nothing can be int8 or a blob is not finite.
    """
    layers = quantizable_layers(network)
    if not layers:
        raise VendorError(
            "the network has no convolution or inner product with constant weights: nothing to quantise",
            "use PRECISION=fp32",
        )
    for_statistics, choosing = split(samples)
    runner = Runner(param, weights)
    statistics = collect(network, runner, _spread(for_statistics, STATISTICS_SAMPLES))
    channel_scales = weight_scales(network)
    candidates = {
        method: {name: np.float32(LEVELS / find(histogram)) for name, histogram in statistics.histograms.items()}
        for method, find in METHODS.items()
    }
    measured = _spread(choosing, MEASURE_SAMPLES)
    searched = _spread(choosing, _search_samples(sum(statistics.multiply_accumulates.values())))
    references = [runner.run({"in0": sample}, outputs) for sample in measured]
    search_references = [runner.run({"in0": sample}, outputs) for sample in searched]

    judge = Judge(network, outputs, folder)
    methods = {
        method: judge.error(ScaleTable(channel_scales, scales), measured, references)
        for method, scales in candidates.items()
    }
    start = min(methods, key=methods.__getitem__)
    table = ScaleTable(channel_scales, candidates[start])
    print(f"calibration: relative error of the output by method: {_percent(methods)}; best: {start}")
    matrix_layers = _float_matrix_layers(judge, table, measured, references, methods[start])
    judge.float_layers = matrix_layers

    choices = choose_scales(judge, table, candidates, start, searched, search_references)
    table = ScaleTable(channel_scales, {name: choice.scale for name, choice in choices.items()})
    # The table that is written has six decimals; go on with exactly what a reader of it will see.
    table = parse_table(table_text(table), "table")
    chosen_error = judge.error(table, measured, references)
    if chosen_error > methods[start]:
        table = parse_table(table_text(ScaleTable(channel_scales, candidates[start])), "table")
        choices = {name: Choice(start, table.activations[name], choices[name].error) for name in choices}
        chosen_error = judge.error(table, measured, references)
    print(f"calibration: scales chosen layer by layer: {chosen_error:.3%}")
    float_size = param.stat().st_size + weights.stat().st_size
    table, kept, error = _keep_float(judge, table, choices, measured, references, chosen_error, float_size)
    corrected, error_after = _correct(judge, runner, table, for_statistics, measured, references, error, weights)
    print(f"calibration: {len(kept)} layers stay float: {error:.3%}; biases corrected: {error_after:.3%}")
    report = {
        "layers": _layer_report(network, choices, table, kept),
        "float_without_table": sorted(matrix_layers),
        "samples": {"statistics": len(for_statistics), "choosing": len(measured), "search": len(searched)},
        "measure": "squared error of the outputs over their square, geometric mean of the choosing samples",
        "methods": methods,
        "error_before": methods[start],
        "error_layer_by_layer": chosen_error,
        "error_with_float_layers": error,
        "error_after": error_after,
        "bias_corrected": corrected,
        "limits": {"artifact_bytes": int(ARTIFACT_LIMIT * float_size), "float_layers": _float_limit(len(layers))},
    }
    return Calibration(table, matrix_layers, report)


def _percent(errors: dict[str, float]) -> str:
    return ", ".join(f"{name} {error:.3%}" for name, error in errors.items())


def _float_matrix_layers(
    judge: Judge, table: ScaleTable, samples: Sequence, references: Sequence, error: float
) -> frozenset[str]:
    """Layers that ncnn2int8 would quantise without a table, if the output is clearly closer with them float."""
    names = frozenset(layer.name for layer in judge.network.layers if layer.type in QUANTIZED_WITHOUT_TABLE)
    if not names:
        return names
    judge.float_layers = names
    return names if judge.error(table, samples, references) < 0.8 * error else frozenset()


def _float_limit(count: int) -> int:
    return int(np.ceil(FLOAT_SHARE * count))


def _keep_float(
    judge: Judge,
    table: ScaleTable,
    choices: dict[str, Choice],
    samples: Sequence,
    references: Sequence,
    error: float,
    float_size: int,
) -> tuple[ScaleTable, dict[str, dict[str, float]], float]:
    """Leave the most harmful layers out of the table, one after the other, while the measured error falls.

    Returns (table, {layer: errors before and after}, error). A step that does not help is taken back and the next
    layer is tried; it ends when the output is good enough or a limit is reached.
    """
    kept: dict[str, dict[str, float]] = {}
    tried = 0
    limit = _float_limit(len(choices))
    for name in sorted(choices, key=lambda name: -choices[name].error):
        if (
            error <= GOOD_ENOUGH
            or len(kept) >= limit
            or tried >= min(2 * limit, FLOAT_TRIES)
            or len(kept) + 1 >= len(choices)
        ):
            break
        tried += 1
        attempt = table.without(name)
        if sum(path.stat().st_size for path in judge.files(attempt)) > SIZE_LIMIT * float_size:
            continue
        found = judge.error(attempt, samples, references)
        if found < 0.99 * error:
            kept[name] = {"alone": choices[name].error, "before": error, "after": found}
            table, error = attempt, found
    return table, kept, error


def _correct(
    judge: Judge,
    runner: Runner,
    table: ScaleTable,
    for_statistics: Sequence[np.ndarray],
    samples: Sequence,
    references: Sequence,
    error: float,
    weights: Path,
) -> tuple[list[str], float]:
    """Correct the biases, unless the measured error rises by it; returns (corrected layers, error)."""
    corrections = bias_corrections(judge.network, runner, _spread(for_statistics, BIAS_SAMPLES), table)
    original = weights.read_bytes()
    biases = {layer.name: layer.weights["bias"] for layer in judge.network.layers if layer.name in corrections}
    correct_biases(judge.network, corrections, weights)
    judge.forget()
    after = judge.error(table, samples, references)
    if after < error:
        return sorted(corrections), after
    weights.write_bytes(original)
    for layer in judge.network.layers:
        if layer.name in biases:
            layer.weights["bias"] = biases[layer.name]
    judge.forget()
    return [], error


def _layer_report(
    network: Network, choices: dict[str, Choice], table: ScaleTable, kept: dict[str, dict[str, float]]
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for layer in quantizable_layers(network):
        choice = choices[layer.name]
        if layer.name in table.activations:
            scale = float(table.activations[layer.name])
            found[layer.name] = {"type": layer.type, "method": choice.method, "scale": scale, "alone": choice.error}
        else:
            found[layer.name] = {"type": layer.type, "method": "float", "why": kept[layer.name]}
    return found
