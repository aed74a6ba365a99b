"""The options of a rung: how AMCT quantises, and how much of the network stays float16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from failure import VendorError
from job_file import Job

# AMCT (ONNX), simplified PTQ configuration: how the range of an activation is chosen. ifmr searches around the largest
# value (AMCT's default), hfmg on a histogram.
ALGORITHMS = ("ifmr", "hfmg")


@dataclass(frozen=True)
class Options:
    """algorithm: of ALGORITHMS. activation_offset: whether activations have a zero point. float_share: at most this
    share of the layers stays float16, those that lose the most, until the error of the outputs is predicted to be below
    `error` (squared error over squares). float_tail: this share of the layers, the last ones, stays float16 as well."""

    algorithm: str = "ifmr"
    activation_offset: bool = True
    float_share: float = 0.0
    error: float = 0.001
    float_tail: float = 0.0


def read_rung(job: Job) -> Options:
    """The job's rung, else AMCT's own defaults. Raises VendorError that names a wrong option."""
    given: dict[str, Any] = job.rung
    known = set(Options.__dataclass_fields__)
    hint = "rungs in chip.yaml; rung_options.py says what the options mean"
    if unknown := sorted(set(given) - known):
        raise VendorError(f"the rung has an option {unknown[0]}, known are {', '.join(sorted(known))}", hint)
    options = Options(**given)
    if options.algorithm not in ALGORITHMS:
        raise VendorError(f"the rung's algorithm is {options.algorithm!r}, not {' or '.join(ALGORITHMS)}", hint)
    if not isinstance(options.activation_offset, bool):
        raise VendorError(f"the rung's activation_offset is {options.activation_offset!r}, not true or false", hint)
    for name in ("float_share", "error", "float_tail"):
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise VendorError(f"the rung's {name} is {value!r}, no number of 0 to 1", hint)
    return options
