"""What only the owner of a network knows stays open in a declaration until it is filled in, and is refused until then.

`make new-model` writes FILL_IN there, with a comment that says what belongs in its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from common.basics.errors import UserError

OPEN = "FILL_IN"


class Place(NamedTuple):
    """A key, written with dots, and its line in the file, counted from 1."""

    key: str
    line: int


def open_places(path: Path) -> list[Place]:
    """The places of a YAML file that still say FILL_IN, in its order; [] for a file that is damaged or not there: who
    reads it says so."""
    try:
        text = path.read_text(encoding="utf-8")
        if OPEN not in text:
            return []
        return list(_walk(yaml.compose(text), ""))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []


def _walk(node: Any, key: str) -> Iterator[Place]:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from _walk(value, f"{key}.{name.value}" if key else str(name.value))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _walk(value, f"{key}.{number}")
    elif isinstance(node, yaml.ScalarNode) and node.value == OPEN:
        yield Place(key, node.start_mark.line + 1)


def refuse_open_places(path: Path) -> None:
    """Raises UserError that names each open place with its line, as editors and compilers do."""
    places = open_places(path)
    if places:
        listed = "".join(f"\n  {path}:{place.line}: {place.key}" for place in places)
        count = "1 place is" if len(places) == 1 else f"{len(places)} places are"
        raise UserError(
            f"{path}: {count} still to be filled in:{listed}",
            f"open {path} at line {places[0].line}: the comment there says what belongs in the place of {OPEN}",
        )
