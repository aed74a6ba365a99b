"""How commands are found in the documents, and that no command, variable or row of a table is overlooked."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.conftest import ROOT, Project
from tests.documented_commands import Block, Command, blocks_of, commands_in_prose, matching, spans_of, units_of
from tests.documented_programs import install
from tests.test_documented_commands import (
    ADDED,
    BEFORE,
    BLOCKS_ELSEWHERE,
    DOCUMENTS,
    ELSEWHERE,
    FILLED,
    LEFT,
    NAMES,
    NO_COMMANDS,
    TEXTS,
    WHEN_SLOW,
    Reader,
)  # fmt: skip

TABLES = {"NAMES": NAMES, "ELSEWHERE": ELSEWHERE, "ADDED": ADDED, "WHEN_SLOW": WHEN_SLOW, "BEFORE": BEFORE}
SHOWN = [shown for name, text in TEXTS.items() for unit in units_of(name, text) for shown in unit]
GOALS = {Command(place, text, text).goal for place, text in SHOWN}
# Variables that are no make's: of compose/compose.yaml, of Dockerfiles, of an engine, of the tests.
OTHER_VARIABLES = {"JOB", "JOB_USER", "MEMORY", "CPUS", "DOCKER_HOST", "SDK_URLS", "SLOW", "ARG"}
SAMPLE = """# Text

Say `make list`, then `SLOW=1 make
test`; `make` alone is nothing. ``make twice`` neither.

    make demo      # a comment
    DIR=a#b make list NAME="a # b"

    docker run \\
        -v "$PWD:/job" image   # continued

1. In a list

       make listed

<!-- `make hidden` -->
    cp -r a b && cd b
A sentence that goes on
    make no-block

    out/file      what `make all` leaves

| `make status` | a table |
"""


# --- Finding ---------------------------------------------------------------------------------------------------------
def test_lines_of_blocks_are_found_with_their_places():
    found = [shown for unit in units_of("X.md", SAMPLE) for shown in unit]
    assert found == [
        ("X.md:3", "make list"),
        ("X.md:3", "SLOW=1 make test"),
        ("X.md:6", "make demo"),
        ("X.md:7", 'DIR=a#b make list NAME="a # b"'),
        ("X.md:9", 'docker run -v "$PWD:/job" image'),
        ("X.md:14", "make listed"),
        ("X.md:17", "cp -r a b && cd b"),
        ("X.md:21", "make all"),
        ("X.md:23", "make status"),
    ]


def test_a_block_of_something_else_is_not_typed():
    assert [block.is_of_commands for block in blocks_of(SAMPLE)] == [True, True, True, True, False]
    assert not Block(1, ("makefile: a list",)).is_of_commands
    assert Block(1, ("DOCKER_HOST=ssh://a@b make list",)).is_of_commands
    assert commands_in_prose("`make` and `docker`, `a make b`, `makes no sense`") == []


def test_goal_and_variables_of_a_command():
    command = Command("X.md:1", "", "DIR=x make -s job CHIP=a MODELS='a b'")
    assert (command.goal, command.variables["MODELS"]) == ("job", "a b")
    assert Command("X.md:1", "", "docker run -v a:b c").goal == ""


# --- Nothing is overlooked -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_block_is_of_commands_or_is_known_to_be_none(name):
    for block in blocks_of(TEXTS[name]):
        if not block.is_of_commands:
            assert matching(NO_COMMANDS, block.lines[0]), f"{name}:{block.line}: what is this? {block.lines[0]}"


@pytest.mark.parametrize("table", TABLES)
def test_every_row_of_a_table_is_about_a_command_that_is_shown(table):
    for pattern in TABLES[table]:
        assert any(re.match(pattern, text) for _, text in SHOWN), f"{table}: nothing shown is {pattern}"


def test_every_filling_fills_something():
    for pattern in FILLED:
        assert any(re.search(pattern, text) for _, text in SHOWN), pattern
    for goal in LEFT:
        assert goal in GOALS, goal
    begun = [block.lines[0] for text in TEXTS.values() for block in blocks_of(text)]
    for pattern in NO_COMMANDS:
        assert any(re.match(pattern, line) for line in begun), pattern


@pytest.mark.parametrize("test", sorted({*ELSEWHERE.values(), *BLOCKS_ELSEWHERE.values()}))
def test_the_test_that_executes_a_command_instead_is_there(test):
    name, _, function = test.partition("::")
    (path,) = (ROOT / "tests").rglob(name)
    assert re.search(rf"^def {function}\(", path.read_text(), re.MULTILINE), test


def test_a_goal_that_is_only_named_is_executed_with_its_variables_elsewhere():
    executed = {Command(place, text, text).goal for place, text in SHOWN if not matching(NAMES, text)}
    for place, text in SHOWN:
        if matching(NAMES, text) and text.startswith("make "):
            assert text.split()[1] in executed | {"CHIP"}, place


def known_variables() -> set[str]:
    """The names that the Makefile reads, and the options that chips declare."""
    found = set(re.findall(r"^([A-Z_]+) *[?:]?=", (ROOT / "Makefile").read_text(), re.MULTILINE)) | {"NAME"}
    for path in (ROOT / "vendors").glob("*/chip.yaml"):
        for line in re.findall(r"^(?:variant_)?options: \[(.*)\]$", path.read_text(), re.MULTILINE):
            found |= set(re.split(r", *", line))
    return found | OTHER_VARIABLES


def misspelt(name: str, text: str) -> list[str]:
    """A line such as X.md:3: LIMT for each variable, of commands and of the prose, that nobody reads: make says nothing
    about those."""
    given = [(place, command) for unit in units_of(name, text) for place, command in unit]
    words = [(place, word) for place, command in given for word in shlex.split(command)]
    words += [(f"{name}:{line}", span) for line, span in spans_of(text) if not span.startswith("make ")]
    named = [(place, re.match(r"([A-Z][A-Z_]+)=", word)) for place, word in words]
    return [f"{place}: {found[1]}" for place, found in named if found and found[1] not in known_variables()]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_variable_that_is_shown_is_one_that_something_reads(name):
    assert misspelt(name, TEXTS[name]) == []
    assert misspelt("X.md", "`FILP=1` and `make eval LIMT=3`") == ["X.md:1: LIMT", "X.md:1: FILP"]


# --- What README lists -----------------------------------------------------------------------------------------------
def block_of(name: str, begin: str) -> Block:
    return next(block for block in blocks_of(TEXTS[name]) if block.lines[0].startswith(begin))


def test_the_files_that_readme_lists_are_what_the_demo_left(demo):
    folder = demo[0].path("out/hrnet_tiny/ncnn/int8")
    listed = 0
    for line in block_of("README.md", "out/<model>/").lines:
        for word in re.split(r"\s{2,}", line.strip())[0].split():
            path = word.replace("<model>", "hrnet_tiny").replace("<chip>", "ncnn").replace("<variant>", "int8")
            if path.startswith("out/"):
                assert demo[0].path(path).exists(), path
            else:
                assert list(folder.glob(path if "*" in path or "/" in path else f"*{path}")), path
            listed += 1
    assert listed > 10


def test_the_folders_that_readme_lists_are_there():
    for line in block_of("README.md", "Makefile  ").lines:
        if (name := line.split()[0]) not in ("out/",) and not line.startswith(" "):
            assert (ROOT / name).exists(), name


# --- It turns red ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("    make lisst\n", "X.md:1: make lisst"),
        ("    cd nowhere && make help\n    make list\n", "X.md:1: cd nowhere && make help"),
        ("Say `make explain MODEL=hrnet_tinny CHIP=ncnn`.", "X.md:1: make explain MODEL=hrnet_tinny CHIP=ncnn"),
        ("    make help\n    make inspect ONNX=nowhere.onnx\n", "X.md:2: make inspect ONNX=nowhere.onnx"),
        ("    docker run --rm -v a:/job image compile.py /job\n", "X.md:1: docker run"),
        ("    docker build -t npumake-ncnn vendors/nccn\n", "X.md:1: docker build"),
        ("`make report`", "X.md:1: make report: no out/report/summary.md"),
    ],
)
def test_a_command_that_fails_or_leaves_nothing_is_told_with_its_place(project, tmp_path, text, said):
    reader = Reader(project, install(tmp_path / "bin"))
    if "report" in text:
        project.path("Makefile").write_text("report:\n\t@true\n")
    with pytest.raises(AssertionError, match=re.escape(said)):
        reader.read("X.md", text)


def test_one_shell_runs_a_block_and_another_the_next(tmp_path):
    reader = Reader(Project(tmp_path), install(tmp_path / "bin"))
    (tmp_path / "seen").write_text("x")
    reader.read("X.md", "    mkdir -p a && cd a\n    export B=1\n    cp ../seen $B\n\n    cp a/1 b\n")
    assert (tmp_path / "b").read_text() == "x"
