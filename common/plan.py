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
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common import image
from common.basics.errors import USAGE_EXIT, UserError, run
from common.basics.files import write_json_if_changed
from common.cells.variant import Variant, read_variant
from common.declarations.asked import (
    file_identity,
    find_source,
    find_spec,
    image_set,
    positive_number,
    resize,
    share,
    user_options,
)
from common.declarations.chip_spec import ChipSpec
from common.declarations.spec import ModelSpec, load_chip
from common.engines import container

OUT = Path("out")
# make's variables, as it hands them over: text, empty where unset.
VARIABLES = (
    *("model", "spec", "size", "onnx", "weights", "force", "calib", "eval", "limit"),
    *("gate", "rung", "keep-float", "job-only"),
)
DOUBLES = Path("tests") / "doubles"  # stand-ins for SDKs that cannot be installed, by vendor folder


def check_engine(chip: ChipSpec, name: str, variant: Variant, job_only: bool) -> None:
    """Raises UserError when nothing on this machine could compile the cell, before anything is done for it."""
    if variant.double:
        stand_in = DOUBLES / chip.folder.name
        if not stand_in.is_dir():
            why = "its SDK is a package that make installs" if chip.local else f"there is no {stand_in}"
            raise UserError(f"chip '{name}' has no stand-in for its SDK: {why}", "leave DOUBLE= out", USAGE_EXIT)
    elif not job_only and container.engine_of(chip, name) != container.LOCAL:
        image.check_sdk_file(chip, name, variant.precision)
        container.machine_of(container.program_for(chip, name))


def engine_request(chip: ChipSpec, name: str, variant: Variant, job_only: bool) -> dict[str, str]:
    """{"engine": docker or podman, "image": the id of the chip's image, built first where it is missing}; {} for a
    cell that is compiled without a container."""
    if variant.double or job_only or container.engine_of(chip, name) == container.LOCAL:
        return {}
    identity = image.ensure_image(chip, name, os.environ.get("BASE", ""))
    return {"engine": container.program_for(chip, name), "image": identity}


def say_engines(requests: dict[str, dict[str, str]]) -> None:
    """One line about where each chip's scripts run, for those that run in a container. requests: by chip."""
    for name, request in requests.items():
        if request:
            chip = load_chip(name)
            print(f"engine      {name}: {request['engine']}, {image.image_name(chip)}", flush=True)
            if warning := container.emulation_warning(chip, name):
                print(f"WARNING: {warning}", file=sys.stderr)


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


class Asked(NamedTuple):
    """One cell of a request. text: its variant's name; climb: the content of its climb.json; calibrated: whether the
    precision needs a calibration."""

    chip: str
    text: str
    variant: Variant
    climb: dict[str, Any]
    calibrated: bool


def request_files(
    spec: ModelSpec,
    source: dict[str, Any],
    evaluation: dict[str, Any],
    calibration: dict[str, Any] | None,
    cells: Sequence[Asked],
    spec_path: str = "",
) -> dict[Path, dict[str, Any] | None]:
    """The files of a network's request with their content; see the head of this file. calibration: None where none of
    the cells' precisions needs one."""
    folder = OUT / spec.name
    resolved = {"version": 1, "model": spec.name, "spec": spec.model_dump(mode="json"), "source": source}
    if spec_path:
        resolved["spec_path"] = spec_path
    files: dict[Path, dict[str, Any] | None] = {
        folder / "float" / "source.json": resolved,
        folder / "float" / "evaluation_set.json": evaluation,
    }
    for asked in cells:
        cell = folder / asked.chip / asked.text
        files[cell / "request.json"] = {
            "version": 1,
            "model": spec.name,
            "chip": asked.chip,
            "variant": asked.text,
            "precision": asked.variant.precision,
            "batch": asked.variant.batch,
            "double": asked.variant.double,
        }
        files[cell / "climb.json"] = asked.climb
        if asked.calibrated:
            files[cell / "calibration_set.json"] = calibration
    return files


def write_requests(specs: Sequence[ModelSpec], files: dict[Path, dict[str, Any] | None]) -> None:
    """Write the files of these networks' requests (request_files), only where they differ."""
    for spec in specs:
        link_aliases(spec)
    for path, content in files.items():
        write_json_if_changed(path, content)


def image_sets(arguments: argparse.Namespace, calibrated: bool) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """(the evaluation set, the calibration set or None) as EVAL=, LIMIT=, CALIB=, CALIB_COUNT= and FORCE= say."""
    evaluation = image_set(arguments.eval, "EVAL") | {"limit": positive_number(arguments.limit, "LIMIT")}
    if not calibrated:
        return evaluation, None
    calibration = image_set(arguments.calib, "CALIB")
    return evaluation, calibration | {"count": arguments.calib_count, "force": arguments.force == "1"}


def write_plan(arguments: argparse.Namespace) -> None:
    """Write the request files of all asked cells of one network; see the head of this file."""
    named = find_spec(arguments.model, arguments.spec, arguments.onnx)
    spec = resize(named, arguments.size)
    # Check everything before the first file is written: a refused request leaves no trace.
    cells = [cell.split("/") for cell in arguments.cells]
    chips = {chip: load_chip(chip) for _, chip, _ in cells}
    options = user_options(arguments.option, chips)
    job_only = arguments.job_only == "1"
    asked: list[Asked] = []
    for model, chip, text in cells:
        variant = read_variant(text, chips[chip], chip)
        check_engine(chips[chip], chip, variant, job_only)
        climb = climb_request(chips[chip], chip, variant.precision, options, arguments)
        asked.append(Asked(chip, text, variant, climb, variant.precision in chips[chip].calibrated))
        if model != spec.name:  # make reads the name with sed, before there is a Python that knows YAML
            raise UserError(
                f"{arguments.spec}: make reads the name as '{model}'", f"write it plainly: name: {spec.name}"
            )
    source = find_source(named, arguments.onnx, arguments.weights)
    evaluation, calibration = image_sets(arguments, any(one.calibrated for one in asked))
    engines = {one.chip: engine_request(chips[one.chip], one.chip, one.variant, job_only) for one in asked}
    say_engines(engines)
    asked = [one._replace(climb=one.climb | engines[one.chip]) for one in asked]
    write_requests([spec], request_files(spec, source, evaluation, calibration, asked, arguments.spec))
    # Last: this is the file that make asks for, and it stands for all of the above.
    write_json_if_changed(OUT / spec.name / "plan.json", {"version": 1, "cells": arguments.cells})


def link_aliases(spec: ModelSpec) -> None:
    """out/<alias> leads to out/<name>, so that results are found under the name that was asked for, too."""
    for alias in spec.aliases:
        link = OUT / alias
        if not link.is_symlink() and not link.exists():
            OUT.mkdir(exist_ok=True)
            link.symlink_to(spec.name)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The variables of make that a request is made of."""
    for name in VARIABLES:
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--calib-count", type=int, default=100)
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")


def main() -> None:
    """python -m common.plan MODEL/CHIP/VARIANT... --calib FOLDER --eval FOLDER (called by make)."""
    parser = argparse.ArgumentParser(description="write the request files of cells, only where they changed")
    parser.add_argument("cells", nargs="+", help="model/chip/variant")
    add_arguments(parser)
    write_plan(parser.parse_args())


if __name__ == "__main__":
    run(main)
