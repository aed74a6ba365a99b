"""Calibrate: from a float ncnn model and sample inputs to a table of scales that keeps the output close to float.

A rung (rung.py) says how far to go; each step begins where the one before it ended (calibration_stages.py):

1. Statistics: on most samples, a histogram of every layer's input; from it one scale a method (clipping.METHODS). The
   best single method: the int8 network with each, measured on samples that the statistics have not seen.
2. Scales layer by layer (scale_search); then bias correction: the int8 layers' mean outputs are moved back to the float
   ones. Each is kept when it measures better.
3. Layers that hurt stay float while that brings the measured error down (float_layers).
4. The last layers stay float as well.
5. Nothing is int8: float16 weights.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import float_layers
import numpy as np
from calibration_stages import Calibrator
from matrix_layers import QUANTIZED_WITHOUT_TABLE
from param_file import Network
from quantize import quantizable_layers
from rung import METHOD, NONE, TAIL, Rung
from scale_table import ScaleTable

ARTIFACT_LIMIT = 0.35  # of the float files
TAIL_ARTIFACT_LIMIT = 0.45  # where the whole tail is float


@dataclass
class Calibration:
    """table, float_layers: what quantize_network() needs; biases: {layer: float32 [outputs]} that replace the float
    ones first; artifact_limit: bytes, where one holds; report: what compile.json tells.
    """

    table: ScaleTable
    float_layers: frozenset[str]
    report: dict[str, Any]
    biases: dict[str, np.ndarray] = field(default_factory=dict)
    artifact_limit: int | None = None


def float16(network: Network) -> Calibration:
    """Nothing is int8: the same writer stores float16 weights, half the size of the float files."""
    matrix = [layer.name for layer in network.layers if layer.type in QUANTIZED_WITHOUT_TABLE]
    names = [layer.name for layer in quantizable_layers(network)]
    report = {
        "calibration": "none: no layer is int8, all weights are float16",
        "layers": len(names) + len(matrix),
        "float_layers": names + matrix,
    }
    return Calibration(ScaleTable(), frozenset(matrix), report)


def calibrate(
    rung: Rung,
    network: Network,
    param: Path,
    weights: Path,
    samples: Sequence[np.ndarray],
    outputs: Sequence[str],
    scratch: Path,
    cache: Path,
    asked: Collection[str] = (),
) -> Calibration:
    """Choose all scales of an int8 network.

    network: what param and weights hold. samples: float32 [1, C, H, W] each. outputs: the output blobs, "out0" first.
    scratch: a folder for scratch files. cache: a folder for what later rungs of this network and these samples take
    over. asked: layers that the user keeps float.
    Raises VendorError when nothing can be int8 or a blob is not finite.
    """
    stages = Calibrator(network, param, weights, samples, outputs, scratch, cache, asked)
    start = stages.methods
    report: dict[str, Any] = {"methods": start["errors"], "error_before": start["error"]}
    if rung.scales == METHOD:
        methods, kept, error, correct = dict.fromkeys(stages.names, start["best"]), {}, start["error"], False
        words = [f"{start['best']} for all layers"]
    else:
        chosen = stages.corrected if rung.float == NONE else stages.tail if rung.float == TAIL else stages.sensitive
        methods, kept = stages.layerwise["methods"], chosen.get("kept", {})
        error, correct = chosen["error"], chosen["correct"]
        report["error_layer_by_layer"] = stages.layerwise["error"]
        words = ["scales layer by layer"] + ["biases corrected"] * correct
        if rung.float != NONE:
            words.append(f"{len(kept)} layers float" + (" (the tail among them)" if rung.float == TAIL else ""))
    table = stages.table(methods, kept)
    biases = {name: bias for name, bias in stages.biases.items() if name in table.activations} if correct else {}
    matrix = frozenset(start["matrix"])
    limit = int((TAIL_ARTIFACT_LIMIT if rung.float == TAIL else ARTIFACT_LIMIT) * stages.float_size)
    share = float_layers.TAIL_SHARE if rung.float == TAIL else float_layers.SENSITIVE_SHARE
    alone = stages.layerwise["alone"] if rung.scales != METHOD else {}
    report |= {
        "calibration": ", ".join(words),
        "layers": sum(layer.type in QUANTIZED_WITHOUT_TABLE for layer in network.layers)
        + len(quantizable_layers(network)),
        "float_layers": [layer.name for layer in network.layers if layer.name in {*kept, *matrix, *stages.asked}],
        "asked_float": sorted(stages.asked),
        "error_after": error,
        "measure": "squared error of the outputs over their square, geometric mean of the choosing samples",
        "samples": {
            "statistics": len(stages.for_statistics),
            "choosing": len(stages.judge.samples),
            "search": min(stages.effort.search, len(stages.choosing)),
        },
        "bias_corrected": sorted(biases),
        "limits": {
            "artifact_bytes": limit,
            "float_layers": 0 if rung.float == NONE else float_layers.limit(len(stages.names), share),
        },
        "per_layer": _per_layer(network, methods, table, alone, kept, stages.asked),
    }
    # What the user keeps float is the user's decision, however large it is.
    return Calibration(table, matrix, report, biases, None if stages.asked else limit)


def _per_layer(
    network: Network,
    methods: dict[str, str],
    table: ScaleTable,
    alone: dict[str, float],
    kept: dict[str, dict[str, float]],
    asked: Collection[str],
) -> dict[str, dict[str, Any]]:
    """{layer: type, method of its scale, scale, relative error when it alone is int8 (None: not measured)}"""
    found: dict[str, dict[str, Any]] = {}
    for layer in quantizable_layers(network):
        one: dict[str, Any] = {"type": layer.type, "method": "float"}
        if layer.name in table.activations:
            scale = float(table.activations[layer.name])
            one |= {"method": methods[layer.name], "scale": scale, "alone": alone.get(layer.name)}
        else:
            one["why"] = "KEEP_FLOAT" if layer.name in asked else kept[layer.name]
        found[layer.name] = one
    return found
