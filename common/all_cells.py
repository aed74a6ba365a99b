"""`make all`: which cells there are, which of them this machine can build, and why not the others.

    python -m common.all_cells --models "..." --chips "..." --precisions "..." ...     (called by make)

Writes the requests of all cells that can be built, as common/plan.py does for one network, and then
    out/all/cells.txt      their names, for make
    out/all/asked.json     {"version": 1, "cells": [name], "skipped": {name: why}, "failed": {name: why}}
A cell whose SDK, weights or engine this machine lacks is skipped, with its reason; it never counts as built, nor as
failed.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common import image
from common.basics.errors import USAGE_EXIT, UserError, run
from common.basics.files import replacing, write_json
from common.cells.variant import DOUBLE, read_variant
from common.declarations.asked import find_source
from common.declarations.chip_spec import ChipSpec
from common.declarations.open_places import open_places
from common.declarations.spec import MODELS_FOLDER, ModelSpec, chip_names, load_chip, load_model, model_names
from common.engines import container
from common.environment import choose_python, read_versions
from common.plan import (
    DOUBLES,
    OUT,
    Asked,
    add_arguments,
    climb_request,
    engine_request,
    image_sets,
    request_files,
    say_engines,
    write_requests,
)

FOLDER = OUT / "all"
FAILURES = FOLDER / "failures"


class Choice(NamedTuple):
    """All cells of a `make all`. asked: by model, those that can be built; skipped: {name: why}."""

    models: dict[str, ModelSpec | None]
    chips: dict[str, ChipSpec]
    sources: dict[str, dict[str, Any]]
    asked: dict[str, list[Asked]]
    skipped: dict[str, str]


def chosen_models(text: str) -> dict[str, ModelSpec | None]:
    """The models that MODELS= names (aliases too), all without it: then one whose declaration is not filled in yet
    stops nobody, and is None. Raises UserError (exit 2) for an unknown name."""
    if text.split():
        return {spec.name: spec for spec in map(load_model, text.split())}
    paths = sorted(set(model_names().values()))
    return {path.parent.name: None if open_places(path) else load_model(path.parent.name) for path in paths}


def chosen_chips(text: str) -> dict[str, ChipSpec]:
    """The chips that CHIPS= names, all without it. Raises UserError (exit 2) for an unknown name."""
    return {name: load_chip(name) for name in (text.split() or sorted(chip_names()))}


def no_weights(model: str, spec: ModelSpec | None, weights: str) -> str | None:
    """Why there is no float network of this model on this machine; None where there is one."""
    if spec is None:
        return f"places to fill in: {MODELS_FOLDER / model / 'model.yaml'}"
    try:
        find_source(spec, "", weights)
    except UserError as error:
        if error.exit_code == USAGE_EXIT and weights not in ("", "random"):
            raise
        return f"no weights: make weights MODEL={spec.name}, or WEIGHTS=random"
    return None


def no_tools(chip: ChipSpec, name: str, precision: str, double: bool) -> str | None:
    """Why this machine cannot compile for the chip; None where it can."""
    if double:
        return None if (DOUBLES / chip.folder.name).is_dir() else "no stand-in: the real SDK is a package"
    if chip.local and os.environ.get("ENGINE", "") in ("", container.LOCAL):
        return no_python(chip)
    try:
        program = container.engine_of(chip, name)
    except UserError as error:
        if error.exit_code == USAGE_EXIT:
            return f"not by ENGINE={os.environ['ENGINE']}"
        return f"no {' or '.join(engine for engine in chip.engines if engine in container.PROGRAMS)}"
    if pattern := image.missing_sdk_file(chip, precision):
        return f"no SDK: {chip.folder}/{pattern} ({chip.folder}/README.md says where it is offered)"
    try:
        container.machine_of(program)
    except UserError:
        return f"{program} does not answer"
    return None


def no_python(chip: ChipSpec) -> str | None:
    """Why make cannot install the chip's tools: this machine lacks the Python that they are made for."""
    versions = chip.folder / ".python-version"
    if not versions.exists() or (Path(".venv") / chip.folder.name / "ready").exists():
        return None
    python, wanted = choose_python(read_versions(versions))
    return None if python else f"no CPython {wanted}, which {chip.sdk.name} needs"


def choose(arguments: argparse.Namespace) -> Choice:
    """Every cell of the asked models, chips and precisions, and what becomes of it. Writes nothing.

    Raises UserError (exit 2) for an unknown model, chip or precision, and when no cell is left at all.
    """
    models, chips = chosen_models(arguments.models), chosen_chips(arguments.chips)
    wanted = arguments.precisions.split()
    known = {precision for chip in chips.values() for precision in chip.precisions}
    if unknown := [precision for precision in wanted if precision not in known]:
        raise UserError(f"no chip builds precision '{unknown[0]}'", f"one of: {', '.join(sorted(known))}", USAGE_EXIT)
    double = arguments.double == "1"
    choice = Choice(models, chips, {}, {}, {})
    tools: dict[tuple[str, str], str | None] = {}
    for model, spec in models.items():
        lacking = no_weights(model, spec, arguments.weights)
        if lacking is None:
            choice.sources[model] = find_source(spec, "", arguments.weights)
        for name, chip in chips.items():
            for precision in [one for one in chip.precisions if not wanted or one in wanted]:
                text = f"{precision}-{DOUBLE}" if double else precision
                if (name, precision) not in tools:
                    tools[name, precision] = no_tools(chip, name, precision, double)
                why = lacking or tools[name, precision]
                if why:
                    choice.skipped[f"{model}/{name}/{text}"] = why
                    continue
                climb = climb_request(chip, name, precision, {}, arguments)
                choice.asked.setdefault(model, []).append(
                    Asked(name, text, read_variant(text, chip, name), climb, precision in chip.calibrated)
                )
    return choice


def with_engines(choice: Choice) -> dict[str, str]:
    """Have the images that the cells need, and name them in their requests. Returns {cell: why}: those whose image
    cannot be built; they are taken out."""
    engines: dict[str, dict[str, str]] = {}
    broken: dict[str, str] = {}
    for cells in choice.asked.values():
        for cell in cells:
            chip = choice.chips[cell.chip]
            if cell.chip in engines or chip.folder.name in broken:
                continue
            try:
                engines[cell.chip] = engine_request(chip, cell.chip, cell.variant, False)
            except UserError as error:
                broken[chip.folder.name] = f"{error.message.splitlines()[0]}: {error.hint}"
    say_engines({name: engine for name, engine in engines.items() if engine})
    failed: dict[str, str] = {}
    for model, cells in choice.asked.items():
        kept = []
        for cell in cells:
            if why := broken.get(choice.chips[cell.chip].folder.name):
                failed[f"{model}/{cell.chip}/{cell.text}"] = why
            else:
                kept.append(cell._replace(climb=cell.climb | engines[cell.chip]))
        choice.asked[model] = kept
    return failed


def requests_of(choice: Choice, arguments: argparse.Namespace) -> dict[Path, dict[str, Any] | None]:
    """The request files of all cells that can be built, with their content. Reads the image sets; writes nothing."""
    asked = {model: cells for model, cells in choice.asked.items() if cells}
    if not asked:
        return {}
    calibrated = any(cell.calibrated for cells in asked.values() for cell in cells)
    evaluation, calibration = image_sets(arguments, calibrated)
    files: dict[Path, dict[str, Any] | None] = {}
    for model, cells in asked.items():
        files |= request_files(choice.models[model], choice.sources[model], evaluation, calibration, cells)
    return files


def write_all(choice: Choice, failed: dict[str, str], arguments: argparse.Namespace) -> None:
    """Write the requests of all cells, and the two files of out/all."""
    write_requests(
        [choice.models[model] for model, cells in choice.asked.items() if cells], requests_of(choice, arguments)
    )
    names = [f"{model}/{cell.chip}/{cell.text}" for model, cells in choice.asked.items() for cell in cells]
    with replacing(FOLDER / "cells.txt") as temporary:
        temporary.write_text("\n".join(names) + "\n", encoding="utf-8")
    write_json(FOLDER / "asked.json", {"version": 1, "cells": names, "skipped": choice.skipped, "failed": failed})


def forget_failures(folder: Path = FAILURES) -> None:
    """Remove what an earlier run's failing stages left."""
    for path in folder.glob("*.json"):
        path.unlink(missing_ok=True)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments of make, as a namespace."""
    parser = argparse.ArgumentParser(description="the cells of `make all`")
    for name in ("models", "chips", "precisions", "double"):
        parser.add_argument(f"--{name}", default="")
    add_arguments(parser)
    return parser.parse_args(words)


def main() -> None:
    """python -m common.all_cells ... (called by make)."""
    arguments = parse()
    forget_failures()
    choice = choose(arguments)
    failed = with_engines(choice)
    write_all(choice, failed, arguments)


if __name__ == "__main__":
    run(main)
