"""Simulated integers of Kneron's kind: symmetric, by percentage or least squared error, 8 and 16 bits mixed."""

from __future__ import annotations

import numpy as np
import onnx
from fake_quantisation import Format, Range, fake_quantised, observe

from ktc.graph_rules import input_shapes

SHARES = {"mix light": 0.25, "mix balance": 0.6}  # of the tensors, those that lose most, that get 16 bits
BITS = {"int4": 4, "int8": 8, "int16": 16, "mix light": 12, "mix balance": 16}  # of weights; mixed: about so many


def bounds_of(seen: Range, options: dict, bits: int) -> tuple[float, float]:
    if options["datapath_range_method"] == "percentage":
        if options["percentage"] >= 1.0:
            return seen.low, seen.high
        low, high = seen.percentile(options["percentage"])
        return min(low, 0.0), max(high, 1e-6)
    widest = max(-seen.low, seen.high, 1e-6)
    values = np.concatenate([seen.values, [seen.low, seen.high]])
    best = min((0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), key=lambda share: error(values, share * widest, bits))
    widest *= min(1.0, best * options["outlier_factor"])
    return max(seen.low, -widest), min(seen.high, widest)


def error(values: np.ndarray, widest: float, bits: int) -> float:
    """Mean squared error of rounding to a symmetric integer whose largest value is `widest`."""
    highest = 2 ** (bits - 1) - 1
    step = max(widest, 1e-12) / highest
    return float(np.mean((np.clip(np.rint(values / step), -highest - 1, highest) * step - values) ** 2))


def quantised(model: onnx.ModelProto, feeds: list[dict], options: dict) -> tuple[onnx.ModelProto, dict]:
    """The network with rounded weights and activations; and {input name: the largest value that its integers hold}."""
    seen = observe(model, feeds)
    mode = options["datapath_bitwidth_mode"]
    bits = dict.fromkeys(seen, 16 if mode == "int16" else 8)
    if mode in SHARES:
        losses = {}
        for name, one in seen.items():
            low, high = bounds_of(one, options, 8)
            losses[name] = error(one.values, max(-low, high), 8) / (float(np.mean(one.values**2)) or 1.0)
        worst = sorted(losses, key=losses.__getitem__, reverse=True)[: round(SHARES[mode] * len(losses))]
        bits |= dict.fromkeys(worst, 16)
    bits |= dict.fromkeys(input_shapes(model), BITS[options["model_in_bitwidth_mode"]])
    bits |= dict.fromkeys([value.name for value in model.graph.output], BITS[options["model_out_bitwidth_mode"]])
    bounds = {name: bounds_of(one, options, bits[name]) for name, one in seen.items()}
    formats = {name: Format(bits=count) for name, count in bits.items()}
    activations = Format(bits=8)
    weights = Format(bits=BITS[options["weight_bitwidth_mode"]], per_channel=True)
    made = fake_quantised(model, bounds, activations, weights, formats)
    largest = {name: max(-bounds[name][0], bounds[name][1], 1e-6) for name in input_shapes(model)}
    return made, largest
