"""The options of a rung of int8 (chip.yaml), checked.

calibration: max | kl | mse | percentile9999   one of the vendor's methods, by the vendor's own run_calibration
             search                            thresholds and channel scales chosen by what the outputs lose
float_share: 0..1     at most this share of all layers is computed in the wider type, the most harmful first ...
target_db: decibels   ... until the outputs are this close to float (SQNR on samples that made no statistics)
tail_share: 0..1      this share of the layers, the last ones, is computed in the wider type in any case
wider: {chip: type}   the wider type on each chip
whole: true           the whole network in the wider type: nothing is int8
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from failure import VendorError
from job_file import Job

VENDOR_METHODS = ("max", "kl", "mse", "percentile9999")
SEARCH = "search"
WIDER = {"bm1684": "F32", "bm1684x": "F16"}
WIDER_TYPES = {"bm1684": ("F32",), "bm1684x": ("F16", "BF16", "F32")}
_HINT = "see rung_options.py for the options of a rung; chip.yaml lists the rungs"


@dataclass(frozen=True)
class RungOptions:
    """calibration: a vendor's method or "search". wider: the type of the layers that are not int8 on the job's chip."""

    calibration: str
    float_share: float
    target_db: float
    tail_share: float
    wider: str
    whole: bool


def rung_options(job: Job) -> RungOptions:
    """The options of the job's rung. Without a rung: the largest value as threshold, every layer int8.

    Raises VendorError for an unknown option or a value out of range.
    """
    options = dict(job.rung)
    calibration = _one_of(options, "calibration", (*VENDOR_METHODS, SEARCH), "max")
    shares = {name: _number(options, name, 0.0, 1.0) for name in ("float_share", "tail_share")}
    target = _number(options, "target_db", 0.0, 120.0)
    whole = options.pop("whole", False)
    if type(whole) is not bool:
        raise VendorError(f"rung option whole: {whole!r} is not true or false", _HINT)
    by_chip = options.pop("wider", WIDER)
    wider = by_chip.get(job.chip) if isinstance(by_chip, dict) else None
    if wider not in WIDER_TYPES[job.chip]:
        choices = ", ".join(WIDER_TYPES[job.chip])
        raise VendorError(f"rung option wider: {by_chip!r} names none of {choices} for {job.chip}", _HINT)
    if options:
        raise VendorError(f"rung option {next(iter(options))!r} is unknown", _HINT)
    if shares["float_share"] and calibration != SEARCH:
        raise VendorError("rung option float_share needs calibration: search, which measures the layers", _HINT)
    if bool(shares["float_share"]) != bool(target):
        raise VendorError("rung options float_share and target_db go together", _HINT)
    return RungOptions(calibration, shares["float_share"], target, shares["tail_share"], wider, whole)


def _one_of(options: dict[str, Any], name: str, choices: tuple[str, ...], default: str) -> str:
    value = options.pop(name, default)
    if value not in choices:
        raise VendorError(f"rung option {name}: {value!r} is none of {', '.join(choices)}", _HINT)
    return value


def _number(options: dict[str, Any], name: str, low: float, high: float) -> float:
    value = options.pop(name, 0.0)
    if type(value) not in (int, float) or not low <= value <= high:
        raise VendorError(f"rung option {name}: {value!r} is no number from {low:g} to {high:g}", _HINT)
    return float(value)
