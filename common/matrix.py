"""`make matrix`: the cells of a list in ci/, as JSON on one line, for the matrix of a continuous integration.

    python -m common matrix --list quick|full [--models "a b"] [--chips "x y"] [--changed "path path"|@file]
        [--shards 16] [--notes file]

    {"include": [{"name": "model-chip", "model", "chip", "vendor", "precision": "fp32 int8", "sdk", "double", "weights",
                  "download", "limit", "python", "minutes", "skipped"}, ...]}

An entry is one leg: a network on a chip, in all the precisions that were asked for, so that the float build can serve
the quantised one as a rung. All values but `minutes` are strings as make's variables take them, "" where one is not
set. sdk: what it takes to have the compiler: "package" (make installs it), "image" (a container that anybody can
build), "file" (licensed: a secret), "double" (a stand-in). skipped: precisions that are left out, and why; a leg with
no precision left is none to run, and says so. --shards: each entry n times, with "shard": "1/16" and "part": "01".
"""

from __future__ import annotations

import argparse
import difflib
import functools
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from common.basics.errors import USAGE_EXIT, UserError, run
from common.cells.changed_paths import Touched, read_paths, touched_by
from common.declarations.asked import positive_number
from common.declarations.chip_spec import ChipSpec
from common.declarations.decode_spec import PositiveInt, Strict
from common.declarations.spec import MODELS_FOLDER, chip_names, model_names, read_yaml
from common.declarations.spec import load_chip as read_chip
from common.declarations.spec import load_model as read_model
from common.image import missing_sdk_file
from common.sdk_file import URLS, licensed_folders

LISTS = Path("ci")
MOST_LEGS = 256  # GitHub starts no more jobs from one matrix
OWN_PYTHON = "3.11"  # of common/; a vendor folder's .python-version may want another one beside it
Names = Annotated[list[str], Field(min_length=1)]


load_chip, load_model = functools.cache(read_chip), functools.cache(read_model)  # a list asks for each many times


class Choice(Strict):
    """A block of cells: every one of these models on every one of these chips, in those of the precisions that the
    chip has. chips: families: the first chip of every vendor folder. double: an SDK that is no package is stood in for.
    """

    models: Literal["all"] | Names
    chips: Literal["all", "families"] | Names
    precisions: Literal["all"] | Names = "all"
    double: bool = False
    weights: Literal["published", "random"] = "published"


class CellList(Strict):
    """A file ci/<list>.yaml. limit: measure on the first so many images; minutes: what a leg may take."""

    title: str
    limit: PositiveInt | None = None
    minutes: PositiveInt = 60
    cells: Annotated[list[Choice], Field(min_length=1)]


def read_list(name: str) -> CellList:
    """ci/<name>.yaml. Raises UserError: no such list (exit 2, with the nearest), or a bad file."""
    known = [path.stem for path in sorted(LISTS.glob("*.yaml"))]
    if name not in known:
        raise _unknown("LIST", name, known)
    path = LISTS / f"{name}.yaml"
    try:
        return CellList.model_validate(read_yaml(path))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'the whole'}: {problem['msg']}" for problem in error.errors()
        )
        raise UserError(f"{path}: {problems}", "the other lists in ci/ are examples") from None


def _unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "`make list` shows what there is"
    return UserError(f"unknown {what} '{name}'; known: {', '.join(known)}", hint, USAGE_EXIT)


def all_models() -> list[str]:
    """Every model folder's name, sorted."""
    return sorted(path.parent.name for path in MODELS_FOLDER.glob("*/model.yaml"))


def families() -> list[str]:
    """The first chip of every vendor folder."""
    first: dict[Path, str] = {}
    for name, path in chip_names().items():
        first.setdefault(path, name)
    return list(first.values())


def resolve(names: Iterable[str], known: dict[str, Any], what: str, where: str) -> list[str]:
    """Names, or aliases of models, as folders and chips are called. Raises UserError (exit 2), saying where."""
    found = []
    for name in names:
        if name not in known:
            error = _unknown(what, name, list(known))
            raise UserError(f"{where}: {error.message}", error.hint, USAGE_EXIT)
        found.append(known[name].parent.name if what == "MODEL" else name)
    return found


def precisions_of(choice: Choice, chips: list[str], where: str) -> dict[str, list[str]]:
    """By chip, those of the asked precisions that it has. Raises UserError (exit 2) for one that none has."""
    has = {chip: load_chip(chip).precisions for chip in chips}
    if choice.precisions == "all":
        return has
    known = list(dict.fromkeys(name for names in has.values() for name in names))
    for name in choice.precisions:
        if name not in known:
            error = _unknown("precision", name, known)
            raise UserError(f"{where}: {error.message}", error.hint, USAGE_EXIT)
    return {chip: [name for name in names if name in choice.precisions] for chip, names in has.items()}


def legs_of(name: str) -> list[dict[str, Any]]:
    """The entries of a list, sorted by model and chip. Raises UserError for a bad list."""
    listed, where = read_list(name), str(LISTS / f"{name}.yaml")
    asked: dict[tuple[str, str, bool], tuple[Choice, list[str]]] = {}
    for choice in listed.cells:
        models = all_models() if choice.models == "all" else resolve(choice.models, model_names(), "MODEL", where)
        chips = {"all": list(chip_names()), "families": families()}.get(str(choice.chips))
        chips = resolve(choice.chips, chip_names(), "chip", where) if chips is None else chips
        for chip, precisions in precisions_of(choice, chips, where).items():
            double = choice.double and not load_chip(chip).local
            for model in models if precisions else ():
                before = asked.setdefault((model, chip, double), (choice, []))[1]
                before += [precision for precision in precisions if precision not in before]
    return [
        leg(model, chip, precisions, double, choice.weights, listed)
        for (model, chip, double), (choice, precisions) in sorted(asked.items())
    ]


def leg(model: str, chip: str, precisions: list[str], double: bool, weights: str, listed: CellList) -> dict[str, Any]:
    """One entry, as the head of this file says."""
    spec = load_chip(chip)
    missing = [] if double else without_sdk(spec, precisions)
    wanted = [precision for precision in spec.precisions if precision in precisions and precision not in missing]
    needs_file = any(precision in spec.sdk.files for precision in wanted or precisions)
    random, download = weights_of(model, weights)
    return {
        "name": f"{model}-{chip}{'-double' if double else ''}",
        "model": model,
        "chip": chip,
        "vendor": spec.folder.name,
        "precision": " ".join(wanted),
        "sdk": "double" if double else "package" if spec.local else "file" if needs_file else "image",
        "double": "1" if double else "",
        "weights": random,
        "download": download,
        "limit": str(listed.limit or ""),
        "python": pythons_of(spec),
        "minutes": listed.minutes,
        "skipped": skipped_because(spec, missing),
    }


def without_sdk(spec: ChipSpec, precisions: list[str]) -> list[str]:
    """Those of the precisions whose licensed file is neither in the vendor folder nor among the secrets."""
    if spec.folder.name in licensed_folders():
        return []
    return [precision for precision in precisions if missing_sdk_file(spec, precision)]


def skipped_because(spec: ChipSpec, missing: list[str]) -> str:
    """Why precisions are left out, in words; nothing where none is."""
    if not missing:
        return ""
    needed = " and ".join(sorted({spec.sdk.files[precision] for precision in missing}))
    return f"{' and '.join(missing)}: no SDK ({spec.folder}/{needed} is licensed, and the secret {URLS} names none)"


def weights_of(model: str, wanted: str) -> tuple[str, str]:
    """What WEIGHTS= is, and "1" where they have to be downloaded first: ("", "") for those that are in git."""
    declared = load_model(model).weights
    if wanted == "random" or declared is None:
        return "random", ""
    if (MODELS_FOLDER / model / "weights" / declared.file).is_file():
        return "", ""
    return ("", "1") if declared.url or declared.export else ("random", "")


def pythons_of(spec: ChipSpec) -> str:
    """The CPython versions that a leg needs, one a line, common/'s own last."""
    path = spec.folder / ".python-version"
    wanted = path.read_text(encoding="utf-8").split() if path.exists() else [OWN_PYTHON]
    return OWN_PYTHON if OWN_PYTHON in wanted else f"{wanted[0]}\n{OWN_PYTHON}"


def chosen(legs: list[dict[str, Any]], models: list[str], chips: list[str], touched: Touched) -> list[dict[str, Any]]:
    """The legs of these models and chips (none named: all) that a change touches."""
    return [
        entry
        for entry in legs
        if (not models or entry["model"] in models)
        and (not chips or entry["chip"] in chips)
        and (touched.everything or entry["model"] in touched.models or entry["vendor"] in touched.vendors)
    ]


def sharded(legs: list[dict[str, Any]], shards: int | None) -> list[dict[str, Any]]:
    """Each leg once for every shard; as it is without shards."""
    if shards is None:
        return legs
    width = len(str(shards))
    return [
        entry | {"shard": f"{number}/{shards}", "part": f"{number:0{width}d}"}
        for entry in legs
        for number in range(1, shards + 1)
    ]


def notes_on(legs: list[dict[str, Any]], every: list[dict[str, Any]], touched: Touched, name: str) -> list[str]:
    """What the matrix leaves out, and why: lines of Markdown."""
    lines = []
    for reason in dict.fromkeys(entry["skipped"] for entry in legs if entry["skipped"]):
        chips, models = ({entry[key] for entry in legs if entry["skipped"] == reason} for key in ("chip", "model"))
        networks = next(iter(models)) if len(models) == 1 else f"{len(models)} networks"
        lines.append(f"- skipped: {networks} on {', '.join(sorted(chips))}, {reason}")
    for model in sorted(touched.models - {entry["model"] for entry in every}):
        lines.append(f"- not built: {model} is not in the list `{name}`")
    if not legs:
        lines.append(f"- no cell of the list `{name}` is touched")
    return lines


def matrix(name: str, models: str, chips: str, changed: str, shards: int | None, notes: str) -> dict[str, Any]:
    """{"include": [...]}, see the head of this file. models, chips, changed: words separated by spaces.

    notes: a file to which what is left out is appended. Raises UserError for unknown names and for too many legs.
    """
    touched = touched_by(read_paths(changed)) if changed else Touched(everything=True)
    every = legs_of(name)
    wanted_models = resolve(models.split(), model_names(), "MODEL", "MODELS=")
    legs = chosen(every, wanted_models, resolve(chips.split(), chip_names(), "chip", "CHIPS="), touched)
    lines = notes_on(legs, every, touched, name)
    include = sharded(legs, shards)
    if len(include) > MOST_LEGS:
        hint = "name fewer (MODELS=, CHIPS=), or split the list into two files of ci/, and run each"
        hint = f"SHARDS={MOST_LEGS // len(legs) or 1} at most, for so many cells" if shards else hint
        raise UserError(f"{len(include)} legs, and a matrix holds {MOST_LEGS} at most", hint, USAGE_EXIT)
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)
    if notes and lines:
        with open(notes, "a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    return {"include": include}


def main() -> None:
    """See the head of this file; called by `make matrix`, which passes every variable, set or not."""
    parser = argparse.ArgumentParser(description="the cells of a list in ci/, as JSON")
    for option in ("list", "models", "chips", "changed", "shards", "notes"):
        parser.add_argument(f"--{option}", default="")
    given = parser.parse_args()
    shards = positive_number(given.shards, "SHARDS")
    found = matrix(given.list or "quick", given.models, given.chips, given.changed, shards, given.notes)
    print(json.dumps(found, separators=(",", ":")))
    sys.stdout.flush()


if __name__ == "__main__":
    run(main)
