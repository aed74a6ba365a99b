"""What make's variables may say: each is checked before the first file of a request is written.

Variables are text, empty where unset. Whatever makes no sense is a UserError that names the variable.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.basics.errors import USAGE_EXIT, UserError
from common.basics.files import folder_fingerprint
from common.declarations.chip_spec import ChipSpec
from common.declarations.spec import MODELS_FOLDER, ModelSpec, load_model, model_names


def file_identity(path: Path) -> dict[str, Any]:
    """Path, size and time of an input file; its SHA-256 is taken where it is read (export)."""
    state = path.stat()
    return {"path": str(path), "bytes": state.st_size, "modified_ns": state.st_mtime_ns}


def image_set(folder_text: str, variable: str) -> dict[str, Any]:
    """The folder and its fingerprint. Raises UserError when it is no folder."""
    folder = Path(folder_text)
    if not folder.is_dir():
        raise UserError(
            f"{variable}={folder_text} is not a folder",
            f"{variable}= takes a folder of images, optionally with person_keypoints.json or person_detections.json",
            USAGE_EXIT,
        )
    return {"folder": str(folder), "fingerprint": folder_fingerprint(folder)}


def positive_number(text: str, variable: str) -> int | None:
    """The number that a variable was set to, None for an unset one. Raises UserError (exit 2) for anything else."""
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{variable}={text} is no number of 1 or more", f"{variable}=20", USAGE_EXIT)
    return int(text)


def share(text: str, variable: str) -> float | None:
    """A number of 0..1, None for an unset variable. Raises UserError (exit 2) for anything else."""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UserError(f"{variable}={text} is no number of 0 to 1", f"{variable}=0.98", USAGE_EXIT)
    return value


def find_spec(model: str, spec_path: str, onnx: str) -> ModelSpec:
    """The declaration that MODEL= or SPEC= names. Raises UserError on a clash or an incomplete request."""
    if bool(spec_path) != bool(onnx):
        given, missing = ("SPEC=", "ONNX=file.onnx") if spec_path else ("ONNX=", "SPEC=file.yaml")
        raise UserError(f"{given} was given without its other half", f"add {missing}", USAGE_EXIT)
    if not spec_path:
        return load_model(model)
    spec = load_model(Path(spec_path))
    if spec.name in model_names() and Path(spec_path).resolve() != model_names()[spec.name].resolve():
        raise UserError(f"{spec_path}: the name '{spec.name}' is taken by models/", "give your network another name")
    return spec


def resize(spec: ModelSpec, size: str) -> ModelSpec:
    """The model for SIZE=heightxwidth, with the size in its name: its results lie beside those of the usual size.

    Raises UserError (exit 2) unless the model lists the size (input.sizes).
    """
    if not size:
        return spec
    own = spec.input.shape[2:]
    known = [own, *(other for other in spec.input.sizes if other != own)]
    wanted = [int(side) for side in size.split("x")] if re.fullmatch(r"[0-9]+x[0-9]+", size) else None
    if wanted not in known:
        listed = ", ".join(f"{height}x{width}" for height, width in known)
        raise UserError(f"{spec.name} has no SIZE={size}", f"heightxwidth, one of: {listed}", USAGE_EXIT)
    shape = [*spec.input.shape[:2], *wanted]
    resized = spec.input.model_copy(update={"shape": shape})
    return spec.model_copy(update={"name": f"{spec.name}-{size}", "aliases": [], "input": resized})


def find_source(spec: ModelSpec, onnx: str, weights: str) -> dict[str, Any]:
    """Where the float network comes from: the user's ONNX, WEIGHTS=path, WEIGHTS=random, or the published file.

    Raises UserError when that file is missing, with the command that gets it.
    """
    if onnx:
        if not Path(onnx).is_file():
            raise UserError(f"ONNX={onnx} does not exist", "check the path", USAGE_EXIT)
        return {"kind": "onnx", "origin": "onnx", **file_identity(Path(onnx))}
    if spec.architecture is None and not (spec.weights and weights_kind(Path(spec.weights.file)) == "onnx"):
        raise UserError(f"model '{spec.name}' declares no architecture", "give its graph: ONNX=file.onnx", USAGE_EXIT)
    if weights == "random" and spec.architecture is None:
        raise UserError(f"model '{spec.name}' is a graph with its weights", "leave WEIGHTS= out", USAGE_EXIT)
    if weights == "random":
        return {"kind": "random", "origin": "random", "path": None}
    if weights:
        if not Path(weights).is_file():
            raise UserError(
                f"WEIGHTS={weights} does not exist", "give a checkpoint file, or WEIGHTS=random", USAGE_EXIT
            )
        return {"kind": weights_kind(Path(weights)), "origin": "path", **file_identity(Path(weights))}
    if spec.weights is None:
        raise UserError(f"model '{spec.name}' has no published weights", "give WEIGHTS=file.pth or WEIGHTS=random")
    path = MODELS_FOLDER / spec.name / "weights" / spec.weights.file
    if not path.is_file():
        raise UserError(
            f"the weights of {spec.name} are missing: {path}",
            f"`make weights MODEL={spec.name}` downloads them; or WEIGHTS=file.pth; or WEIGHTS=random to try the chain",
        )
    return {"kind": weights_kind(path), "origin": "published", **file_identity(path)}


def weights_kind(path: Path) -> str:
    """Tell a whole graph, "onnx" (detectors come so), from a checkpoint of one of our architectures, "weights"."""
    return "onnx" if path.suffix.lower() == ".onnx" else "weights"


def user_options(words: Sequence[str], chips: dict[str, ChipSpec]) -> dict[str, str]:
    """{name: value} of NAME=value, as make hands over what only some vendor folders know.

    Raises UserError (exit 2) for a value that makes no sense, and for an option that none of the asked chips has.
    """
    found = dict(word.split("=", 1) for word in words)
    for name, value in found.items():
        rules = {chip: spec.option_rules[name] for chip, spec in chips.items() if name in spec.options}
        if not rules:
            known = sorted({option for spec in chips.values() for option in spec.options})
            hint = f"options here: {', '.join(known)}" if known else f"leave {name}= out"
            raise UserError(f"{', '.join(chips)}: there is no option {name}=", hint, USAGE_EXIT)
        for chip, rule in rules.items():
            if rule.values and value not in rule.values:
                listed = " or ".join(f"{name}={known}" for known in rule.values)
                raise UserError(f"{chip}: {name}={value} makes no sense", f"{listed}: {rule.title}", USAGE_EXIT)
            if rule.file and not Path(value).is_file():
                raise UserError(f"{name}={value} is not a file", f"{name}=file: {rule.title}", USAGE_EXIT)
    return found
