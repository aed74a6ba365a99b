"""job.json against job.schema.json, with the standard library alone: containers of vendors have no package for it.

It understands as much of JSON Schema as that file uses, and says the first thing that is wrong in words. This file is
the same in every vendor folder, so that each folder can be taken away alone.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from atomic_files import read_json
from failure import VendorError

SCHEMA_FILE = Path(__file__).parent / "job.schema.json"
JOB_HINT = (
    "job.schema.json in the vendor folder has every key, job.example.json is an example; in npumake, run make again"
)
SHOWN = 80  # characters of a wrong value, in a message
# What a value of each type is called in a message, and how it is told. True is no number, and 2.0 is a whole one.
TYPES = {
    "object": ("keys and values in { }", lambda value: isinstance(value, dict)),
    "array": ("a list in [ ]", lambda value: isinstance(value, list)),
    "string": ("a text", lambda value: isinstance(value, str)),
    "boolean": ("true or false", lambda value: isinstance(value, bool)),
    "null": ("null", lambda value: value is None),
    "number": ("a number", lambda value: isinstance(value, (int, float)) and not isinstance(value, bool)),
    "integer": ("a whole number", lambda value: TYPES["number"][1](value) and value == value // 1),
}
# The least and the most that a value may be or hold: (keyword, of what, whether it fits, in words).
LIMITS = (
    ("minimum", (int, float), lambda value, limit: value >= limit, "less than"),
    ("exclusiveMinimum", (int, float), lambda value, limit: value > limit, "not more than"),
    ("maximum", (int, float), lambda value, limit: value <= limit, "more than"),
    ("minItems", list, lambda value, limit: len(value) >= limit, "a list of fewer than"),
    ("maxItems", list, lambda value, limit: len(value) <= limit, "a list of more than"),
    ("minLength", str, lambda value, limit: len(value) >= limit, "a text shorter than"),
)


@lru_cache(maxsize=1)
def schema() -> dict[str, Any]:
    """The content of job.schema.json. Raises VendorError when it does not lie beside this file."""
    return read_json(SCHEMA_FILE, "this vendor folder is not complete: copy all of it")


def checked(content: Any, path: Path) -> dict[str, Any]:
    """The content of a job.json, with the schema's defaults for the keys that it leaves out.

    path: names the file in messages. Raises VendorError that names the first key that is wrong, and what is wrong.
    """
    if not isinstance(content, dict):
        raise VendorError(f"{path} is not a JSON object", JOB_HINT)
    _check_version(content, path)
    if problem := next(_problems(content, schema(), ""), None):
        raise VendorError(f"{path}: {problem}", JOB_HINT)
    rules = schema()["properties"].items()
    return {key: rule["default"] for key, rule in rules if "default" in rule} | content


def is_inside(text: str) -> bool:
    """Whether a path of job.json is relative and stays inside the job folder."""
    return not any(_problems(text, schema()["$defs"]["path"], ""))


def _check_version(content: dict[str, Any], path: Path) -> None:
    """The version first: what another one calls a key is not known here."""
    known, version = schema()["properties"]["version"]["const"], content.get("version")
    if "version" not in content:
        raise VendorError(f"{path}: version is missing; this folder reads version {known}", JOB_HINT)
    if not TYPES["integer"][1](version):
        raise VendorError(
            f"{path}: version {version!r} is no whole number; this folder reads version {known}", JOB_HINT
        )
    if version != known:
        age = "newer" if version > known else "older"
        raise VendorError(
            f"{path}: version {version} is {age} than version {known}, which this folder reads",
            f"take the vendor folder of the npumake that wrote it; {JOB_HINT}",
        )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _problems(value: Any, rule: dict[str, Any], where: str) -> Iterator[str]:
    """All that is wrong with a value, in words; where: its key, such as inputs[0].mean, empty for the whole file."""
    if reference := rule.get("$ref"):
        yield from _problems(value, schema()["$defs"][reference.rpartition("/")[2]], where)
    types = rule.get("type", [])
    types = [types] if isinstance(types, str) else types
    shown = f"{where} {_shown(value)}"
    if types and not any(TYPES[name][1](value) for name in types):
        yield f"{shown} is not {' or '.join(TYPES[name][0] for name in types)}"
        return
    choices = rule.get("enum", [])
    if choices and value not in choices:
        yield f"{shown} is not {' or '.join(map(repr, choices))}"
    if "pattern" in rule and isinstance(value, str) and not re.search(rule["pattern"], value):
        path = rule is schema()["$defs"]["path"]
        yield f"{shown} is not {'a path inside the job folder' if path else 'a plain file name'}"
    for keyword, kind, fits, words in LIMITS:
        if keyword in rule and isinstance(value, kind) and not fits(value, rule[keyword]):
            yield f"{shown} is {words} {rule[keyword]}"
    if isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _problems(entry, rule.get("items", {}), f"{where}[{index}]")
    if isinstance(value, dict):
        yield from _object_problems(value, rule, f"{where}." if where else "")


def _object_problems(value: dict[str, Any], rule: dict[str, Any], prefix: str) -> Iterator[str]:
    """A misspelt key is told before the one that is missing for it."""
    known, other = rule.get("properties", {}), rule.get("additionalProperties", True)
    for key in value:
        if key not in known and other is False:
            near = difflib.get_close_matches(key, known, 1)
            yield f"unknown key {prefix}{key}; " + (
                f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            )
    for key in rule.get("required", []):
        if key not in value:
            yield f"{prefix}{key} is missing"
    for key, others in rule.get("dependentRequired", {}).items():
        for missing in [name for name in others if key in value and name not in value]:
            yield f"{prefix}{missing} is missing, which belongs to {key}"
    for key, entry in value.items():
        inner = known.get(key, other if isinstance(other, dict) else {})
        yield from _problems(entry, inner, f"{prefix}{key}")
