"""Int8: which values stand for the largest int8 of each tensor, and which layers stay wider than int8.

A rung of chip.yaml (rung_options.py) says how much is done:

1. The vendor's run_calibration with one of its methods, every layer int8.
2. A search (variant_search.py): our own statistics, the float graph with and without channel scaling
   (channel_scaling.py), several thresholds, weights rounded with compensation (weight_rounding.py); the variant whose
   outputs are closest to float, on samples that made no statistics, is taken.
3. The same, and the layers that harm most (sensitivity.py) in the chip's next wider type, until the outputs are as
   close to float as the rung asks, or a share of the layers is reached; on a later rung the tail as well.
4. The whole network in the wider type.

Nothing here knows what the network computes. Statistics, variants and single layers' errors stay in the cache: a later
rung starts where an earlier one ended.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from atomic_files import read_json, replacing, scratch_folder, write_json
from calibration_table import spread, vendor_samples, vendor_table
from failure import VendorError
from graph_stages import TOP, TopGraph
from job_file import Job, load_calibration
from mlir_names import kept_float_names, operations
from rung_options import SEARCH, RungOptions, rung_options
from sensitivity import fewest_wider, isolated_errors
from variant_judge import Effort, Judge, Variant, batches, decibels, effort, split, write_quantize_table
from variant_search import search

MEASURE = "mean SQNR of the outputs against float, in dB, on calibration samples that made no statistics"


@dataclass(frozen=True)
class Quantised:
    """What is to be compiled: the float graph, how (INT8 or a wider type), the tables, and what compile.json tells."""

    top: TopGraph
    mode: str
    table: Path | None
    qtable: Path | None
    report: dict[str, Any]


def quantise(job: Job, top: TopGraph, cache: Path) -> Quantised:
    """Choose all thresholds and wider layers for the job's rung. cache: of this job, shared by its rungs.

    Raises VendorError for a bad rung, bad calibration tensors, or when TPU-MLIR fails.
    """
    options = rung_options(job)
    samples = load_calibration(job)
    layers = [operation.name for operation in operations(top.folder / TOP)]
    if not layers:
        raise VendorError("the network has no layer to quantise", "use PRECISION=fp32")
    if options.whole:
        words = f"none: the whole network is {options.wider}"
        report = {"calibration": words, "layers": len(layers), "float_layers": layers, "float_type": options.wider}
        return Quantised(top, options.wider, None, None, report)
    kept = dict.fromkeys(kept_float_names(job, set(layers)), options.wider) if job.keep_float else {}
    kept |= dict.fromkeys(layers[len(layers) - round(options.tail_share * len(layers)) :], options.wider)
    if options.calibration == SEARCH:
        return _searched(job, top, cache, options, samples, layers, kept)
    table = cache / f"{options.calibration}.table"
    if not table.is_file():
        vendor_table(top, job.inputs[0].name, samples, job.batch, options.calibration, job.chip, table)
    words = f"run_calibration --cali_method {options.calibration}"
    report = {"samples": {"statistics": len(vendor_samples(samples, job.batch))}}
    return _finished(top, table, cache, kept, options, words, layers, report)


def _searched(
    job: Job,
    top: TopGraph,
    cache: Path,
    options: RungOptions,
    samples: Sequence[np.ndarray],
    layers: list[str],
    kept: dict[str, str],
) -> Quantised:
    work = effort(top.folder / TOP, job.batch)
    for_statistics, judging = split(samples)
    statistics_batches = batches(spread(for_statistics, work.statistics), job.batch)
    judge = Judge(top, job.chip, cache, batches(spread(judging, work.judging), job.batch))
    variant, errors = search(judge, top, cache, statistics_batches, -(-work.rounding // job.batch), work)
    scaling, method, rounding = min(errors, key=errors.__getitem__).split(" ")
    words = f"threshold {method}, channels {scaling}, rounding {rounding}: the best of {len(errors)} variants"
    report: dict[str, Any] = {
        "measure": MEASURE,
        "methods": {name: decibels(error) for name, error in errors.items()},
        "samples": {"statistics": len(statistics_batches) * job.batch, "judging": len(judge.judging) * job.batch},
    }
    if options.float_share:
        alone = _layer_errors(judge, variant, cache, layers, work, job.batch)
        target = 10 ** (-options.target_db / 10)
        limit = max(int(options.float_share * len(layers)) - len(kept), 0)
        mixture = fewest_wider(judge, variant, alone, kept, options.wider, target, limit)
        kept = kept | dict.fromkeys(mixture.layers, options.wider)
        report |= {
            "predicted_db": decibels(mixture.predicted),
            "measured_db": decibels(mixture.error),
            "target_db": options.target_db,
            "layer_db": {name: decibels(alone[name]) for name in sorted(alone, key=lambda name: -alone[name])},
        }
    graph = _graph_to_compile(variant, kept, cache)
    return _finished(graph, variant.table, cache, kept, options, words, layers, report)


def _layer_errors(
    judge: Judge, variant: Variant, cache: Path, layers: list[str], work: Effort, batch: int
) -> dict[str, float]:
    record = cache / "layer_errors.json"
    if not record.is_file():
        write_json(record, isolated_errors(judge, variant, layers, work, -(-work.isolating // batch)))
    return read_json(record, f"remove {cache}")


def _graph_to_compile(variant: Variant, wider: dict[str, str], cache: Path) -> TopGraph:
    """The float graph with the weights of this mixture, in a folder of the cache that the next rung replaces."""
    folder = cache / "compiled"
    with scratch_folder(cache) as scratch:
        graph = variant.with_weights(wider, scratch / folder.name)
        if graph is variant.graph:
            return graph
        shutil.rmtree(folder, ignore_errors=True)
        graph.folder.rename(folder)
    return TopGraph(folder, {}, 0.0)


def _finished(
    top: TopGraph,
    table: Path,
    cache: Path,
    wider: dict[str, str],
    options: RungOptions,
    words: str,
    layers: list[str],
    report: dict[str, Any],
) -> Quantised:
    wider = {name: wider[name] for name in layers if name in wider}
    qtable = None
    if wider:
        qtable = cache / "quantize_table"
        with replacing(qtable) as temporary:
            write_quantize_table(wider, temporary)
    head = {"calibration": words, "layers": len(layers), "float_layers": list(wider)}
    if wider:
        head["float_type"] = options.wider
    return Quantised(top, "INT8", table, qtable, head | report)
