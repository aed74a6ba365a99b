"""The options of a rung: how many bits, and which values they cover."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from failure import RungUnavailableError, VendorError
from job_file import Job

RANGES = ("percentage", "mmse")
WIDTHS = ("int8", "int16")
DATAPATHS = (*WIDTHS, "mix light", "mix balance")
WEIGHTS = (*DATAPATHS, "int4")
TILINGS = ("default", "deep_search")
HINT = "rungs in chip.yaml; rung_options.py says what the options mean"
# Kneron document center, manual_4_bie.md: what a chip lacks.
NO_16_BITS = ("kl520",)
NO_4_BITS = ("kl720",)


@dataclass(frozen=True)
class Options:
    """What `analysis` is told (Kneron document center, manual_4_bie.md).

    ranges: "percentage" covers this share of the values seen (1: all), "mmse" the range of the best signal-to-noise
    ratio, the wider the larger outlier_factor is. datapath, weights: bits of activations and weights; "mix light"
    takes 16 bits where 8 lose the most, "mix balance" more often. inputs, outputs, cpu_nodes, constants: bits of the
    network's inputs and outputs, of nodes on the CPU, of constant inputs. samples: at most so many calibration
    tensors, evenly chosen. bias_adjustment: 0 to 4 (`optimize`), the larger the better and slower. tiling: how the
    compiler cuts the tensors. quantize_mode: "post_sigmoid" for heads that end in a sigmoid.
    """

    ranges: str = "percentage"
    percentage: float = 1.0
    percentage_16b: float = 1.0
    percentile: float = 0.001
    outlier_factor: float = 1.0
    datapath: str = "int8"
    weights: str = "int8"
    inputs: str = "int8"
    outputs: str = "int8"
    cpu_nodes: str = "int8"
    constants: str = "int8"
    samples: int = 200
    bias_adjustment: int = 0
    tiling: str = "default"
    quantize_mode: str = "default"

    @property
    def widths(self) -> dict[str, str]:
        """The bit widths, as `evaluate` and `analysis` name them. All are given always: the defaults are not printed
        in any manual."""
        return {
            "datapath_bitwidth_mode": self.datapath,
            "weight_bitwidth_mode": self.weights,
            "model_in_bitwidth_mode": self.inputs,
            "model_out_bitwidth_mode": self.outputs,
            "cpu_node_bitwidth_mode": self.cpu_nodes,
        }

    @property
    def wide(self) -> bool:
        """Whether activations may be of 16 bits: simulating them takes several times the memory."""
        return self.datapath != "int8"

    @property
    def analysis(self) -> dict[str, Any]:
        """The arguments of `analysis`, all of them but the tensors, the folder and the threads."""
        if self.ranges == "mmse":
            ranges = {"percentile": self.percentile, "outlier_factor": self.outlier_factor}
        else:
            ranges = {"percentage": self.percentage, "percentage_16b": self.percentage_16b}
        return {
            "quantize_mode": self.quantize_mode,
            "datapath_range_method": self.ranges,
            **ranges,
            **self.widths,
            "const_in_bitwidth_mode": self.constants,
            "compiler_tiling": self.tiling,
            "mode": 1,  # quantise, nothing more. The manual's default is 1, another page of it says 2
            "optimize": self.bias_adjustment,
        }

    @property
    def words(self) -> str:
        """In words, for compile.json."""
        share = "all" if self.percentage == 1 else f"{self.percentage:.6g} of the"
        which = "ranges of the best signal-to-noise ratio" if self.ranges == "mmse" else f"ranges hold {share} values"
        return f"{which}; activations {self.datapath}, weights {self.weights}, in {self.inputs}, out {self.outputs}"


CHOICES = {
    "ranges": RANGES, "datapath": DATAPATHS, "weights": WEIGHTS, "inputs": WIDTHS, "outputs": WIDTHS,
    "cpu_nodes": WIDTHS, "constants": WIDTHS, "tiling": TILINGS, "quantize_mode": ("default", "post_sigmoid"),
}  # fmt: skip
# (lowest, highest)
NUMBERS = {
    "percentage": (0.999, 1.0), "percentage_16b": (0.999, 1.0), "percentile": (1e-6, 1.0),
    "outlier_factor": (0.1, 100.0), "samples": (1, 100000), "bias_adjustment": (0, 4),
}  # fmt: skip
WHOLE_NUMBERS = ("samples", "bias_adjustment")
WIDE = {"datapath": "int16", "weights": "int16", "inputs": "int16", "outputs": "int16", "cpu_nodes": "int16",
        "constants": "int16", "samples": 100}  # fmt: skip


def read_options(job: Job) -> Options:
    """The job's own options, else the plain way of its precision.

    Raises VendorError that names a wrong one, RungUnavailableError for bits that the chip does not have.
    """
    given: dict[str, Any] = job.rung
    if not given and job.precision == "int16":
        given = WIDE
    known = sorted(Options.__dataclass_fields__)
    if unknown := sorted(set(given) - set(known)):
        raise VendorError(f"the rung has an option {unknown[0]}, known are {', '.join(known)}", HINT)
    for name, value in given.items():
        if name in CHOICES and value not in CHOICES[name]:
            raise VendorError(f"the rung's {name} is {value!r}, not {' or '.join(CHOICES[name])}", HINT)
        if name in NUMBERS:
            _check_number(name, value)
    options = Options(**given)
    if options.percentage > options.percentage_16b:
        raise VendorError(
            f"the rung's percentage {options.percentage} is above its percentage_16b {options.percentage_16b}", HINT
        )
    _check_chip(job.chip, options)
    if job.precision == "int16" and (options.datapath, options.weights) != ("int16", "int16"):
        raise VendorError(f"a rung of int16 has activations {options.datapath}, weights {options.weights}", HINT)
    return options


def _check_number(name: str, value: Any) -> None:
    lowest, highest = NUMBERS[name]
    kinds = (int,) if name in WHOLE_NUMBERS else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not lowest <= value <= highest:
        raise VendorError(f"the rung's {name} is {value!r}, no number of {lowest} to {highest}", HINT)


def _check_chip(chip: str, options: Options) -> None:
    used = {*options.widths.values(), options.constants}
    if chip in NO_16_BITS and used != {"int8"}:
        raise RungUnavailableError(f"{chip} computes in 8 bits only, and this rung asks for more", "take an int8 rung")
    if chip in NO_4_BITS and "int4" in used:
        raise RungUnavailableError(f"{chip} has no weights of 4 bits", "take an int8 rung")
