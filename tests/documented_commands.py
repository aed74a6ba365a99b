"""Finds what a Markdown document tells its reader to type: lines of indented blocks, and `make ...` in the text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

# What a line begins with, after VARIABLE=value, when a shell is to run it.
PROGRAMS = re.compile(
    r"(?:make|docker|podman|sudo|cp|cd|mkdir|export|alias|source|rsync|ssh|sbatch|kubectl|python[\d.]*|pip|git|\./\S+"
    r"|venv/bin/\S+|run(?:\(\))?|kneron)(?= |$)"
)
ASSIGNMENTS = r"(?:[A-Z_]+=\S+ )*"
FURTHER_WORDS = re.compile(rf"{ASSIGNMENTS}(?:make|docker|podman|sudo|cp|export|pip|git)\s+\S")
SPAN = re.compile(r"(?<!`)`((?:[^`\n]|\n(?![ \t]*\n))+)`(?!`)")
HTML_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Lines of an indented block that lie together. line: the number of the first, from 1 on."""

    line: int
    lines: tuple[str, ...]

    @property
    def is_of_commands(self) -> bool:
        """Whether a shell is to run it: it begins with a program's name."""
        return re.match(ASSIGNMENTS + PROGRAMS.pattern, self.lines[0]) is not None

    def commands(self) -> list[tuple[int, str]]:
        """(number of the line, command): continued lines are joined, comments and empty lines left out."""
        found, begun, first = [], "", self.line
        for number, line in enumerate(self.lines, self.line):
            if not begun:
                first = number
            begun = f"{begun} {line.strip()}".strip()
            if begun.endswith("\\"):
                begun = begun[:-1].rstrip()
                continue
            if command := without_comment(begun):
                found.append((first, command))
            begun = ""
        return found


def without_comment(line: str) -> str:
    """The line up to a # that begins a word outside of quotes."""
    quote = ""
    for place, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#" and (place == 0 or line[place - 1].isspace()):
            return line[:place].rstrip()
    return line.rstrip()


def blocks_of(text: str) -> list[Block]:
    """The indented blocks. They begin behind an empty line or an HTML comment, as Markdown wants it, and end with the
    first line that is empty or stands further left; each is shifted to the left by its own first line."""
    found: list[Block] = []
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        before = lines[number - 1] if number else ""
        if lines[number].startswith("    ") and (not before.strip() or before.startswith("<!--")):
            indent = len(lines[number]) - len(lines[number].lstrip())
            end = number
            while end < len(lines) and lines[end].startswith(" " * indent):
                end += 1
            found.append(Block(number + 1, tuple(line[indent:] for line in lines[number:end])))
            number = end
        number += 1
    return found


def spans_of(text: str) -> Iterator[tuple[int, str]]:
    """(number of the line, text) of each `code` in prose, tables and lists of files, on one line; blocks of commands
    and HTML comments are left out."""
    lines = text.splitlines()
    for block in blocks_of(text):
        for number in range(block.line - 1, block.line - 1 + len(block.lines) if block.is_of_commands else 0):
            lines[number] = ""
    prose = HTML_COMMENT.sub(lambda found: "\n" * found[0].count("\n"), "\n".join(lines))
    for found in SPAN.finditer(prose):
        yield prose.count("\n", 0, found.start()) + 1, re.sub(r"\s+", " ", found[1].strip())


def commands_in_prose(text: str) -> list[tuple[int, str]]:
    """(number of the line, command) of each `code` that is a program with something behind it."""
    return [(number, span) for number, span in spans_of(text) if FURTHER_WORDS.match(span)]


# --- What is run ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Command:
    """A command of a document. text: as it is shown; typed: as it is executed."""

    place: str  # "README.md:53"
    text: str
    typed: str

    @property
    def goal(self) -> str:
        """The first goal of a make, without variables and options; "" of other programs."""
        words = shlex.split(self.typed)
        rest = words[1 + words.index("make") :] if "make" in words else []
        return next((word for word in rest if "=" not in word and not word.startswith("-")), "")

    @property
    def variables(self) -> dict[str, str]:
        """What a make is given as NAME=value."""
        words = shlex.split(self.typed)
        return dict(word.split("=", 1) for word in words if "=" in word) if "make" in words else {}


def units_of(name: str, text: str, prose_only: bool = False) -> list[list[tuple[str, str]]]:
    """What is typed together, in the order of the document: the (place, command)s of a block, and each of the prose."""
    blocks = [] if prose_only else blocks_of(text)
    units = [(block.line, block.commands()) for block in blocks if block.is_of_commands]
    units += [(line, [(line, command)]) for line, command in commands_in_prose(text)]
    units.sort(key=lambda unit: unit[0])
    return [[(f"{name}:{line}", command) for line, command in commands] for _, commands in units]


def matching(table: dict[str, T], command: str) -> list[T]:
    """The entries of a table whose pattern the command begins with, in the table's order."""
    return [value for pattern, value in table.items() if re.match(pattern, command)]


def shell_script(commands: list[Command]) -> str:
    """One shell runs them all, in its folder; it stops at the first that fails, says which, and exits with 1."""
    lines = []
    for command in commands:
        told = shlex.quote(f"{command.place}: {command.text}\n  executed as: {command.typed}\n  exit code ")
        lines += [command.typed, f"code=$?; [ $code -eq 0 ] || {{ printf %s {told} >&2; echo $code >&2; exit 1; }}"]
    return "\n".join(["set -u -o pipefail", *lines])
