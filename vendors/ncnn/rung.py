"""How far a job goes for its accuracy: the options of a rung in chip.yaml, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from failure import VendorError

METHOD, LAYERWISE = "method", "layerwise"
NONE, SENSITIVE, TAIL = "none", "sensitive", "tail"
INT8, FLOAT16 = "int8", "float16"
CHOICES = {"scales": (METHOD, LAYERWISE), "float": (NONE, SENSITIVE, TAIL), "weights": (INT8, FLOAT16)}


@dataclass(frozen=True)
class Rung:
    """scales: "method": one for all layers, or "layerwise". float: which layers stay float: "none", the "sensitive"
    ones, or those and the whole "tail". weights: "int8", or "float16": nothing is int8.
    """

    scales: str
    float: str
    weights: str

    @property
    def is_int8(self) -> bool:
        return self.weights == INT8


PLAIN = Rung(LAYERWISE, SENSITIVE, INT8)  # a job that names no rung


def rung_of(options: dict[str, Any]) -> Rung:
    """Check the options of job.json; {} is PLAIN. Raises VendorError that names what is wrong."""
    if not options:
        return PLAIN
    hint = f"the rungs that this folder knows stand in its chip.yaml; the options are {', '.join(CHOICES)}"
    for name, value in options.items():
        if value not in CHOICES.get(name, ()):
            raise VendorError(f"job.json: a rung with the option {name}: {value!r} is not known", hint)
    rung = Rung(options.get("scales", METHOD), options.get("float", NONE), options.get("weights", INT8))
    if not rung.is_int8 and len(options) > 1:
        raise VendorError("job.json: a rung of float16 weights has no other option", hint)
    if rung.float != NONE and rung.scales != LAYERWISE:
        raise VendorError(f"job.json: a rung with float: {rung.float} needs scales: {LAYERWISE}", hint)
    return rung
