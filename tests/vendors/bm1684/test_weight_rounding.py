"""Weights rounded so that their errors cancel (weight_rounding.py), on numbers made for it."""

from .conftest import in_environment


def test_errors_of_rounded_weights_cancel_on_inputs_that_go_together(toolchain, tmp_path):
    code = """
import json
import numpy as np
from weight_rounding import _round
random = np.random.default_rng(0)
inputs = random.normal(0, 1, (500, 4)) @ random.normal(0, 1, (4, 36)) + random.normal(0, 0.1, (500, 36))
values = random.normal(0, 1, (1, 8, 4, 9))
steps = np.abs(values).max(axis=(2, 3), keepdims=True) / 127 * 8  # coarse, so that rounding matters
whole = np.rint(values / steps)
made = _round(values, whole, (inputs.T @ inputs)[None])
def lost(weights):
    return float(((inputs @ (weights - values).reshape(8, 36).T) ** 2).sum())
flat, before, step = made.reshape(8, 36), values.reshape(8, 36), steps.reshape(8, 1)
largest = np.abs(before).argmax(axis=1)
others = np.ones_like(flat, bool)
others[np.arange(8), largest] = False
multiples = (flat / step)[others]
print(json.dumps({"nearest": lost(whole * steps), "made": lost(made),
    "largest": bool((flat[np.arange(8), largest] == before[np.arange(8), largest]).all()),
    "off": float(np.abs(multiples - np.rint(multiples)).max())}))
"""
    found = in_environment(toolchain, code, tmp_path)
    assert found["made"] < 0.5 * found["nearest"]
    assert found["largest"]  # the lowering finds the same step again
    assert found["off"] < 0.2  # of a step; these coarse steps are themselves only fitted
