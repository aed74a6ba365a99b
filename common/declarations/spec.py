"""What a model.yaml and a chip.yaml say, checked once, where they enter (chip.yaml's keys: chip_spec.py).

`model.yaml` (or the user's SPEC=) is the one declaration of preprocessing: calibration tensors, evaluation inputs,
vendor flags and the sidecar are all derived from it, so that nobody types a mean twice.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AliasChoices, BaseModel, Field, ValidationError, model_validator

from common.basics.errors import USAGE_EXIT, UserError
from common.declarations.chip_spec import ChipSpec, Name
from common.declarations.decode_spec import DECODED_BY, DecodeSpec, PositiveInt, Strict
from common.declarations.open_places import refuse_open_places

MODELS_FOLDER = Path("models")
VENDORS_FOLDER = Path("vendors")


class InputSpec(Strict):
    """What the graph eats: x = (pixel / scale - mean) / std, per channel in `color` order, NCHW float32.

    shape: [1, channels, height, width]; scale: what a pixel of 0..255 is divided by (255, or 1 where mean and std
    are in 0..255 units already). border: the pixel value 0..255 around an image that does not fill the input.
    sizes: the [height, width] that the network can also be built for (SIZE=heightxwidth).
    """

    shape: Annotated[list[PositiveInt], Field(min_length=4, max_length=4)]
    sizes: list[Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]] = []
    border: Annotated[int, Field(ge=0, le=255)] = 0
    color: Literal["rgb", "bgr", "gray"]
    scale: Annotated[float, Field(gt=0)]
    mean: list[float]
    std: list[Annotated[float, Field(gt=0)]]

    @model_validator(mode="after")
    def _consistent(self) -> InputSpec:
        channels = 1 if self.color == "gray" else 3
        if self.shape[0] != 1 or self.shape[1] != channels:
            raise ValueError(f"shape {self.shape} should be [1, {channels}, height, width] for color {self.color}")
        if len(self.mean) != channels or len(self.std) != channels:
            raise ValueError(f"mean and std need {channels} values each, for color {self.color}")
        # The classic slip, seen in published vendor samples: means of 0..255 after a division by 255, or the reverse.
        largest = max(abs(value) for value in self.mean)
        if self.scale >= 100 and largest > 1.5:
            raise ValueError(f"mean {self.mean} is in units of 0..255, but scale {self.scale:g} makes pixels 0..1")
        if self.scale == 1 and 0 < largest <= 1:
            raise ValueError(f"mean {self.mean} is in units of 0..1, but scale 1 leaves pixels at 0..255")
        return self

    @property
    def height(self) -> int:
        return self.shape[2]

    @property
    def width(self) -> int:
        return self.shape[3]


class WeightsSpec(Strict):
    """Where the published weights come from. sha256: the whole hash, or its published prefix (8 digits or more).

    export: the tool that makes `file` from its own published `checkpoint`, in an environment of its own.
    """

    file: str
    export: Literal["ultralytics"] | None = None
    checkpoint: str | None = None
    url: str | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")] | None = None
    licence: str
    source: str | None = None


class PublishedSpec(Strict):
    """The accuracy that the weights' authors state, with their protocol in words (it is rarely ours)."""

    AP: float | None = None
    PCKh: float | None = None
    protocol: str

    @model_validator(mode="after")
    def _some_number(self) -> PublishedSpec:
        if self.AP is None and self.PCKh is None:
            raise ValueError("AP or PCKh is needed")
        return self


class GateSpec(Strict):
    """When a cell turns red. oks: least agreement with the float network (a detector may write iou, which it is
    there); ap_drop: most AP, or PCKh, that may be lost."""

    oks: Annotated[float, Field(ge=0, le=1, validation_alias=AliasChoices("oks", "iou"))]
    ap_drop: Annotated[float, Field(ge=0, le=1)]


DEFAULT_GATES = {
    "fp32": GateSpec(
        oks=0.999, ap_drop=0.002
    ),  # float on the chip must be float: anything else is a layout or resize error
    "fp16": GateSpec(oks=0.995, ap_drop=0.005),
    "bf16": GateSpec(oks=0.99, ap_drop=0.01),  # 8 bits of mantissa to fp16's 11
    "int8": GateSpec(oks=0.98, ap_drop=0.03),
}


class ModelSpec(Strict):
    """One network, as model.yaml or SPEC= declares it."""

    name: Name
    aliases: list[Name] = []
    title: str | None = None
    demo: bool = False
    task: Literal["topdown_pose", "bottomup_pose", "detection"]
    architecture: dict[str, Any] | None = None
    input: InputSpec
    decode: DecodeSpec
    weights: WeightsSpec | None = None
    published: PublishedSpec | None = None
    gate: dict[str, GateSpec] = {}

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpec:
        if self.decode.kind != DECODED_BY[self.task]:
            raise ValueError(f"task {self.task} is decoded by {DECODED_BY[self.task]}, not by {self.decode.kind}")
        return self

    @property
    def keypoints(self) -> str | None:
        """The keypoint set's name; None for a plain detector."""
        return self.decode.keypoints

    def gate_for(self, precision: str) -> GateSpec:
        """The model's own gate for this precision, else the default one (int8's for a precision without a default)."""
        return self.gate.get(precision) or DEFAULT_GATES.get(precision) or DEFAULT_GATES["int8"]


def model_names() -> dict[str, Path]:
    """Every name that MODEL= takes, aliases too, with the model.yaml that it stands for."""
    names: dict[str, Path] = {}
    for path in sorted(MODELS_FOLDER.glob("*/model.yaml")):
        content = read_yaml(path)
        for name in [path.parent.name, *(content.get("aliases") or [])]:
            names[str(name)] = path
    return names


def chip_names() -> dict[str, Path]:
    """Every chip name, with the chip.yaml of the vendor folder that serves it."""
    return {
        str(chip): path
        for path in sorted(VENDORS_FOLDER.glob("*/chip.yaml"))
        for chip in read_yaml(path).get("chips") or []
    }


def load_model(name_or_path: str | Path) -> ModelSpec:
    """Read a model by its name (or alias), or from a path that ends in .yaml or .yml.

    Raises UserError (exit 2) for an unknown name, with the list and the nearest one; UserError for a bad file.
    """
    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")):
        content = read_yaml(Path(text))
        refuse_open_places(Path(text))
        return _validate(ModelSpec, content, text)
    names = model_names()
    path = names.get(text) or _unknown("MODEL", text, names)
    content = read_yaml(path)
    refuse_open_places(path)
    spec = _validate(ModelSpec, content, str(path))
    if spec.name != path.parent.name:
        raise UserError(f"{path}: name is '{spec.name}', but its folder is '{path.parent.name}'", "make them equal")
    return spec


def model_from_dict(content: dict[str, Any], where: str) -> ModelSpec:
    """A ModelSpec from a resolved dict (source.json); `where` names it in messages."""
    return _validate(ModelSpec, content, where)


def load_chip(name: str) -> ChipSpec:
    """What chip.yaml says of this chip; operators may stand in operators.yaml beside it. UserError if bad."""
    names = chip_names()
    path = names.get(name) or _unknown("chip", name, names)
    content = read_yaml(path)
    operators = path.parent / "operators.yaml"
    if operators.exists():
        content |= read_yaml(operators)
    return _validate(ChipSpec, content | {"folder": path.parent}, str(path)).of(name)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping. Raises UserError when the file is missing, damaged, or not a mapping."""
    try:
        state = path.stat()
        content = _parsed(path, state.st_mtime_ns, state.st_size)
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist", "check the path; models/*/model.yaml are examples", USAGE_EXIT
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}", "models/*/model.yaml are examples") from None
    except yaml.YAMLError as error:
        raise UserError(
            f"{path} is not valid YAML: {' '.join(str(error).split())}", "mind indents and colons"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} should hold keys and values", "models/*/model.yaml are examples")
    return dict(content)


@functools.lru_cache(maxsize=256)
def _parsed(path: Path, modified_ns: int, size: int) -> Any:
    """What a YAML file holds. Parsed once: finding one chip looks into all folders, and `make all` has many chips."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _unknown(what: str, name: str, known: dict[str, Path]) -> Path:
    import difflib  # here: only for a name that is wrong

    near = difflib.get_close_matches(name, known, n=1)
    raise UserError(
        f"unknown {what} '{name}'; known: {', '.join(known)}",
        f"did you mean {near[0]}?" if near else "see `make list`; your own network: ONNX=file.onnx SPEC=file.yaml",
        USAGE_EXIT,
    )


def _validate(kind: type[BaseModel], content: dict[str, Any], where: str) -> Any:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{_place(problem)}: {problem['msg'].removeprefix('Value error, ')}" for problem in error.errors()
        )
        raise UserError(f"{where}: {problems}", "the keys are explained in docs/adding_a_model.md") from None


def _place(problem: Any) -> str:
    """Where in the file a problem is, as people write it: pydantic counts the kind of `decode` as a step of the way."""
    steps = [str(step) for step in problem["loc"] if step not in DECODED_BY.values()]
    if problem["type"].startswith("union_tag"):
        steps.append("kind")
    return ".".join(steps) or "the whole"
