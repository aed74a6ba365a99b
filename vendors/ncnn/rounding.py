"""From float to int8 as ncnn does it."""

from __future__ import annotations

import numpy as np


def to_int8(rows: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """float32 [rows, size] times one scale a row (float32 [rows] or [1]), rounded, clipped to -127..127: int8.

    Halves round away from zero. As on x86, groups of 4 in a row are rounded by adding a half and cutting, which
    takes the float just below 0.5 to 1; the last size % 4 use round(), which takes it to 0
    (ncnn release 20261020, src/layer/x86/quantize_x86.cpp and x86_usability.h, float2int8).
    """
    values = rows * np.asarray(scales, np.float32)[:, None]
    half = np.copysign(np.float32(0.5), values)
    rounded = np.trunc(values + half)
    whole = rows.shape[1] - rows.shape[1] % 4
    tail = values[:, whole:].astype(np.float64)
    rounded[:, whole:] = np.trunc(tail + np.copysign(0.5, tail))
    return np.clip(rounded, -127, 127).astype(np.int8)
