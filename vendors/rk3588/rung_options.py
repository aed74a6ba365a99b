"""The options of a rung: how int8 is made, and how much of the network stays float16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from failure import VendorError
from job_file import Job

RANGES = ("largest", "least_squares")
# What PRECISION=hybrid means when no rung is asked for.
PLAIN_MIXED = {"ranges": "least_squares", "float_share": 0.2, "error": 0.001}


@dataclass(frozen=True)
class Options:
    """ranges: which values int8 covers: the toolkit's own, from the smallest to the largest seen, or the range of least
    squared error. float_share: at most this share of the layers is float16, those that lose the most, until the error
    of the outputs is predicted to be below `error` (squared error over squares). float_tail: this share of the layers,
    the last ones, is float16 as well. all_float16: nothing is int8."""

    ranges: str = "largest"
    float_share: float = 0.0
    error: float = 0.001
    float_tail: float = 0.0
    all_float16: bool = False


def read_options(job: Job) -> Options:
    """The job's own options, else the plain way of its precision. Raises VendorError that names a wrong one."""
    given: dict[str, Any] = job.rung
    if job.precision == "fp16":
        given = {"all_float16": True}
    elif job.precision == "hybrid" and not given:
        given = PLAIN_MIXED
    known = set(Options.__dataclass_fields__)
    hint = "rungs in chip.yaml; rung_options.py says what the options mean"
    if unknown := sorted(set(given) - known):
        raise VendorError(f"the rung has an option {unknown[0]}, known are {', '.join(sorted(known))}", hint)
    options = Options(**given)
    if options.ranges not in RANGES:
        raise VendorError(f"the rung's ranges are {options.ranges!r}, not {' or '.join(RANGES)}", hint)
    for name in ("float_share", "error", "float_tail"):
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise VendorError(f"the rung's {name} is {value!r}, no number of 0 to 1", hint)
    if not isinstance(options.all_float16, bool):
        raise VendorError(f"the rung's all_float16 is {options.all_float16!r}, not true or false", hint)
    return options
