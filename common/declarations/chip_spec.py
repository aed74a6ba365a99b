"""What a chip.yaml says: the chips of a vendor folder, their precisions, and the rungs that a precision climbs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from common.declarations.decode_spec import PositiveInt, Strict

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
RESERVED_NAMES = {
    "all",
    "bench",
    "drawn",
    "float",
    "images",
    "jobs",
    "report",
    "sets",
    "toolbox",
    "train",
}  # folders that out/ uses itself


def _check_name(name: str) -> str:
    if not NAME_PATTERN.fullmatch(name):
        raise ValueError("a name is letters, digits, '_', '-' and '.', and is used as a folder")
    if name in RESERVED_NAMES:
        raise ValueError(f"'{name}' is a folder that npumake uses itself")
    return name


Name = Annotated[str, AfterValidator(_check_name)]


class GraphSpec(Strict):
    """What a chip's compiler reads: opset range, and the IR version to write."""

    opset: Annotated[list[int], Field(min_length=2, max_length=2)]
    ir_version: int
    static: bool = True


class RungSpec(Strict):
    """One way to build a precision. options: the vendor scripts' own business; they get them in job.json."""

    name: Name
    title: str
    options: dict[str, Any] = {}


class MemorySpec(Strict):
    """The memory that a compilation is expected to take, where none was measured: a constant, and so many megabytes a
    megabyte of model.onnx."""

    megabytes: Annotated[float, Field(ge=0)]
    per_model_megabyte: Annotated[float, Field(ge=0)]


class SdkSpec(Strict):
    """The vendor's tools: their name, the version that the scripts were written for, and how a newcomer gets them.

    files: by precision, what the user has to lay into the folder by hand, as a pattern: {"int8": "sdk/*.whl"}.
    """

    name: str
    version: str
    licence: str
    get: str
    files: dict[str, str] = {}


class OptionSpec(Strict):
    """A variable of make that only this vendor folder has. values: what it may be; file: it is the path of a file,
    which is copied into the job folder. Neither: any text."""

    title: str
    values: list[str] = []
    file: bool = False


class ChipSpec(BaseModel):
    """One vendor folder, as chip.yaml declares it. Further keys are the vendor scripts' own business."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    chips: list[Name]
    title: str
    runs_on: str = ""
    artifact: str
    precisions: list[str]
    calibrated: list[str]
    lacks: list[str] = []  # "chip:precision": what one chip of the family does not have
    unsimulated: list[str] = []  # precisions whose artifact nothing can run but the chip
    batches: Annotated[list[PositiveInt], Field(min_length=1)] = [1]
    rungs: dict[str, list[RungSpec]] = {}  # by precision, cheapest first: the build climbs until the gate is passed
    float_layers: bool = False  # whether single layers can stay float (KEEP_FLOAT=)
    memory: MemorySpec = MemorySpec(megabytes=500, per_model_megabyte=20)
    engines: list[Literal["docker", "podman", "local"]]
    platform: Literal["", "linux/amd64", "linux/arm64"] = ""  # where the SDK exists for one kind of processor only
    cpu: list[str] = []  # what the processor must have, as /proc/cpuinfo calls it: avx, avx2
    options: list[str] = []  # variables of make that are this folder's own
    variant_options: list[str] = []  # those of them that make another artifact, in a folder of its own
    option_rules: dict[str, OptionSpec] = {}
    simulator: str
    host_runtime: bool = False  # the chip's runtime runs on this machine, so the latency that infer.py tells is real
    proven: str
    sdk: SdkSpec
    demo: bool = False
    python_packages: list[str] = []  # what the vendor scripts import beyond the standard library
    flags: dict[str, str] = {}  # the runtime's own preprocessing flags; see common/explain.py for what fills the braces
    graph: GraphSpec
    operators: dict[str, dict[str, Any] | None]
    unsupported: dict[str, str] = {}  # operator: the way out
    unsupported_on: dict[str, dict[str, str]] = {}  # the same for single chips of the family
    folder: Path

    @model_validator(mode="after")
    def _consistent(self) -> ChipSpec:
        named = (("calibrated", self.calibrated), ("rungs", list(self.rungs)), ("unsimulated", self.unsimulated))
        named += (("sdk.files", list(self.sdk.files)),)
        for key, names in named:
            if extra := sorted(set(names) - set(self.precisions)):
                raise ValueError(f"{key} names {', '.join(extra)}, which is no precision of the chip")
        for pair in self.lacks:
            chip, _, precision = pair.partition(":")
            if chip not in self.chips or precision not in self.precisions:
                raise ValueError(f"lacks: '{pair}' is no chip:precision of this file")
        if extra := sorted(set(self.unsupported_on) - set(self.chips)):
            raise ValueError(f"unsupported_on names {', '.join(extra)}, which is no chip of this file")
        if set(self.option_rules) != set(self.options):
            raise ValueError("options and option_rules do not name the same")
        if extra := sorted(set(self.variant_options) - set(self.options)):
            raise ValueError(f"variant_options names {', '.join(extra)}, which is no option")
        if loose := [name for name in self.variant_options if not self.option_rules[name].values]:
            raise ValueError(f"{', '.join(loose)}: an option that names a folder needs its values listed")
        for precision, rungs in self.rungs.items():
            names = [rung.name for rung in rungs]
            if not names or len(set(names)) != len(names):
                raise ValueError(f"rungs of {precision} are empty, or two have one name")
        return self

    def of(self, chip: str) -> ChipSpec:
        """The same for one chip of the family: without the precisions and operators that it lacks."""
        missing = self.unsupported_on.get(chip, {})
        kept = [name for name in self.precisions if f"{chip}:{name}" not in self.lacks]
        return self.model_copy(
            update={
                "precisions": kept,
                "calibrated": [name for name in self.calibrated if name in kept],
                "rungs": {name: rungs for name, rungs in self.rungs.items() if name in kept},
                "operators": {name: rules for name, rules in self.operators.items() if name not in missing},
                "unsupported": self.unsupported | missing,
            }
        )

    @property
    def local(self) -> bool:
        """Whether the vendor's tools are packages that make installs itself."""
        return "local" in self.engines

    @property
    def float_precision(self) -> str | None:
        """The chip's own float mode, the first precision that needs no calibration; None where it has none."""
        return next((name for name in self.precisions if name not in self.calibrated), None)
