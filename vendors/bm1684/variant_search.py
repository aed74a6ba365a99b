"""Searches int8 variants of a network: how channels are scaled, which thresholds, how weights are rounded.

What is found stays in the cache folder, where a later rung takes it up: search.json, and for the best variant its float
graph, its table and its rounded weights.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from activation_statistics import METHODS, TensorStatistics, collect
from atomic_files import read_json, replacing, scratch_folder, write_json
from calibration_table import write_table
from channel_classes import channel_classes
from channel_scaling import BALANCES, scaled_graph
from failure import VendorError
from graph_stages import TOP, TopGraph, lower
from variant_judge import Effort, Judge, Variant
from weight_rounding import rounded_weights

UNSCALED, NEAREST, COMPENSATED = "unscaled", "nearest", "compensated"
RECORD = "search.json"


def search(
    judge: Judge, top: TopGraph, cache: Path, batches: Sequence[np.ndarray], roundings: int, work: Effort
) -> tuple[Variant, dict[str, float]]:
    """(the best variant, {"<channel scaling> <threshold method> <rounding>": relative error} of all that were tried).

    First the ways to scale channels, with the largest value as threshold; then the other thresholds on the best one;
    then weights rounded with compensation (weight_rounding), for the best few of these.
    batches: float32 [B, C, H, W] for statistics. roundings: how many batches weights are rounded for.
    Raises VendorError when every variant gives NaN.
    """
    record = cache / RECORD
    if not record.is_file():
        write_json(record, _try_all(judge, top, cache, batches, roundings, work))
    errors = read_json(record, f"remove {cache}")
    return _variant(top, cache, min(errors, key=errors.__getitem__)), errors


def _variant(top: TopGraph, cache: Path, name: str) -> Variant:
    scaling, method, rounding = name.split(" ")
    graph = top if scaling == UNSCALED else TopGraph(cache / scaling, {}, 0.0)
    table = cache / f"{scaling}-{method}.table"
    if rounding == NEAREST:
        return Variant(graph, table)
    layers = {layer.weights: layer.target for layer in channel_classes(graph.folder / TOP).layers}
    with np.load(_rounded_file(cache, scaling, method), allow_pickle=False) as archive:
        return Variant(graph, table, {layers[weights]: (weights, archive[weights]) for weights in archive.files})


def _rounded_file(cache: Path, scaling: str, method: str) -> Path:
    return cache / f"{scaling}-{method}.npz"


def _try_all(
    judge: Judge, top: TopGraph, cache: Path, batches: Sequence[np.ndarray], roundings: int, work: Effort
) -> dict[str, float]:
    errors: dict[str, float] = {}
    found: dict[str, dict[str, TensorStatistics]] = {}

    def measure(scaling: str, method: str, rounding: str = NEAREST) -> None:
        name = f"{scaling} {method} {rounding}"
        error = judge.error(_variant(top, cache, name), {}, name=name)
        if np.isfinite(error):
            errors[name] = error

    def measure_thresholds(scaling: str, method: str) -> None:
        write_table(found[scaling], method, cache / f"{scaling}-{method}.table")
        measure(scaling, method)

    found[UNSCALED] = collect(top.folder / TOP, batches)
    measure_thresholds(UNSCALED, "max")
    for scaling, balance in BALANCES.items():
        graph = scaled_graph(top, found[UNSCALED], balance, cache / scaling)
        found[scaling] = collect(graph.folder / TOP, batches)
        measure_thresholds(scaling, "max")
    if not errors:
        raise VendorError("every int8 variant of the network gives NaN", "use a float precision for this network")
    best = min(errors, key=errors.__getitem__).split(" ")[0]
    for method in METHODS:
        if method != "max":
            measure_thresholds(best, method)
    for name in sorted(errors, key=errors.__getitem__)[: work.compensated]:
        scaling, method, _ = name.split(" ")
        _round(judge, _variant(top, cache, name), batches[:roundings], _rounded_file(cache, scaling, method))
        measure(scaling, method, COMPENSATED)
    return errors


def _round(judge: Judge, variant: Variant, batches: Sequence[np.ndarray], path: Path) -> None:
    log = io.StringIO()
    with scratch_folder(judge.folder) as scratch:
        with contextlib.redirect_stdout(log):
            quantised = lower(variant.graph, judge.chip, "INT8", scratch, variant.table)
        rounded = rounded_weights(variant.graph.folder / TOP, quantised, batches)
    with replacing(path) as temporary:
        np.savez(temporary, **rounded)
