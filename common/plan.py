"""What was asked, as files that change only when the question changes.

Variables on make's command line are not files, so make cannot see that WEIGHTS= or CALIB= is another one today. This
step writes each answer to a small JSON file, only if it differs; every later stage depends on those files:

    out/<model>/plan.json                                the cells that were asked for
    out/<model>/float/source.json                        the model's declaration; where its weights come from
    out/<model>/float/evaluation_set.json                the evaluation images, by a fingerprint of the folder
    out/<model>/<chip>/<variant>/request.json            model, chip, precision, batch
    out/<model>/<chip>/<variant>/climb.json              gate, rung, nodes kept float, the chip's own options
    out/<model>/<chip>/<variant>/calibration_set.json    the calibration images, where the precision needs any
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import container
from common.chip_spec import ChipSpec
from common.errors import USAGE_EXIT, UserError, run
from common.files import folder_fingerprint, write_json_if_changed
from common.spec import MODELS_FOLDER, ModelSpec, load_chip, load_model, model_names
from common.variant import Variant, read_variant

OUT = Path("out")
# make's variables, as it hands them over: text, empty where unset.
VARIABLES = (
    *("model", "spec", "size", "onnx", "weights", "force", "calib", "eval", "limit"),
    *("gate", "rung", "keep-float", "job-only"),
)
DOUBLES = Path("tests") / "doubles"  # stand-ins for SDKs that cannot be installed, by vendor folder


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


def find_source(spec: ModelSpec, onnx: str, weights: str) -> dict[str, Any]:
    """Where the float network comes from: the user's ONNX, WEIGHTS=path, WEIGHTS=random, or the published file.

    Raises UserError when that file is missing, with the command that gets it.
    """
    if onnx:
        if not Path(onnx).is_file():
            raise UserError(f"ONNX={onnx} does not exist", "check the path", USAGE_EXIT)
        return {"kind": "onnx", "origin": "onnx", **file_identity(Path(onnx))}
    if spec.architecture is None:
        raise UserError(f"model '{spec.name}' declares no architecture", "give its graph: ONNX=file.onnx", USAGE_EXIT)
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


def check_engine(chip: ChipSpec, name: str, variant: Variant, job_only: bool) -> None:
    """Raises UserError when nothing on this machine could compile the cell, before anything is done for it."""
    if variant.double:
        stand_in = DOUBLES / chip.folder.name
        if not stand_in.is_dir():
            why = "its SDK is a package that make installs" if chip.local else f"there is no {stand_in}"
            raise UserError(f"chip '{name}' has no stand-in for its SDK: {why}", "leave DOUBLE= out", USAGE_EXIT)
    elif not job_only:
        container.asked_engine(chip, name)
        if not chip.local:
            container.image_id(chip, name)


def climb_request(
    chip: ChipSpec, name: str, precision: str, options: dict[str, str], arguments: argparse.Namespace
) -> dict[str, Any]:
    """The content of climb.json: {"gate": least agreement with float or None, "rung": number or None, "keep_float",
    "options": {name: value}, "files": {name: identity of the file that the option names}}.

    GATE= and KEEP_FLOAT= are about quantised precisions, RUNG= about those that have rungs: the others of the same
    request stay as they are. Raises UserError (exit 2) for values that make no sense.
    """
    rungs = chip.rungs.get(precision, [])
    quantised = precision in chip.calibrated
    rung = positive_number(arguments.rung, "RUNG") if rungs else None
    if rung is not None and rung > len(rungs):
        listed = ", ".join(f"{number} {one.name}" for number, one in enumerate(rungs, 1))
        raise UserError(f"{name} has no RUNG={rung} in {precision}", f"its rungs are: {listed}", USAGE_EXIT)
    if arguments.keep_float and quantised and not chip.float_layers:
        raise UserError(
            f"chip '{name}' cannot keep single layers float",
            "leave KEEP_FLOAT= out, or use a wider PRECISION=",
            USAGE_EXIT,
        )
    return {
        "gate": share(arguments.gate, "GATE") if quantised else None,
        "rung": rung,
        "keep_float": arguments.keep_float if quantised else "",
        "options": {key: value for key, value in options.items() if key in chip.options},
        "files": {
            key: file_identity(Path(value))
            for key, value in options.items()
            if key in chip.options and chip.option_rules[key].file
        },
    }


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


def write_plan(arguments: argparse.Namespace) -> None:
    """Write the request files of all asked cells; see the head of this file."""
    named = find_spec(arguments.model, arguments.spec, arguments.onnx)
    spec = resize(named, arguments.size)
    # Check everything before the first file is written: a refused request leaves no trace.
    cells = [cell.split("/") for cell in arguments.cells]
    chips = {chip: load_chip(chip) for _, chip, _ in cells}
    options = user_options(arguments.option, chips)
    asked: dict[tuple[str, str], tuple[Variant, dict[str, Any]]] = {}
    for model, chip, text in cells:
        variant = read_variant(text, chips[chip], chip)
        check_engine(chips[chip], chip, variant, arguments.job_only == "1")
        asked[chip, text] = variant, climb_request(chips[chip], chip, variant.precision, options, arguments)
        if model != spec.name:  # make reads the name with sed, before there is a Python that knows YAML
            raise UserError(
                f"{arguments.spec}: make reads the name as '{model}'", f"write it plainly: name: {spec.name}"
            )
    source = find_source(named, arguments.onnx, arguments.weights)
    evaluation = image_set(arguments.eval, "EVAL") | {"limit": positive_number(arguments.limit, "LIMIT")}
    calibration = None
    if any(variant.precision in chips[chip].calibrated for (chip, _), (variant, _) in asked.items()):
        calibration = image_set(arguments.calib, "CALIB")
        calibration |= {"count": arguments.calib_count, "force": arguments.force == "1"}

    folder = OUT / spec.name
    link_aliases(spec)
    resolved = {"version": 1, "model": spec.name, "spec": spec.model_dump(mode="json"), "source": source}
    if arguments.spec:
        resolved["spec_path"] = arguments.spec
    write_json_if_changed(folder / "float" / "source.json", resolved)
    write_json_if_changed(folder / "float" / "evaluation_set.json", evaluation)
    for (chip, text), (variant, climb) in asked.items():
        cell = folder / chip / text
        request = {
            "version": 1,
            "model": spec.name,
            "chip": chip,
            "variant": text,
            "precision": variant.precision,
            "batch": variant.batch,
            "double": variant.double,
        }
        write_json_if_changed(cell / "request.json", request)
        write_json_if_changed(cell / "climb.json", climb)
        if variant.precision in chips[chip].calibrated:
            write_json_if_changed(cell / "calibration_set.json", calibration)
    # Last: this is the file that make asks for, and it stands for all of the above.
    write_json_if_changed(folder / "plan.json", {"version": 1, "cells": arguments.cells})


def link_aliases(spec: ModelSpec) -> None:
    """out/<alias> leads to out/<name>, so that results are found under the name that was asked for, too."""
    for alias in spec.aliases:
        link = OUT / alias
        if not link.is_symlink() and not link.exists():
            OUT.mkdir(exist_ok=True)
            link.symlink_to(spec.name)


def main() -> None:
    """python -m common.plan MODEL/CHIP/VARIANT... --calib FOLDER --eval FOLDER (called by make)."""
    parser = argparse.ArgumentParser(description="write the request files of cells, only where they changed")
    parser.add_argument("cells", nargs="+", help="model/chip/variant")
    for name in VARIABLES:
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--calib-count", type=int, default=100)
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    write_plan(parser.parse_args())


if __name__ == "__main__":
    run(main)
