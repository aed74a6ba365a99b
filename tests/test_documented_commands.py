"""Every command that README.md, CONTRIBUTING.md and docs/ show is executed, in the order of the document.

The commands come from the text itself. They run in a copy of the project in which `make demo` has run and in which lies
what a reader brings along (tests/documented_supplies.py); programs that not every machine has are played
(tests/documented_programs.py). A block of lines is one shell. The tables below say all that is not done to the letter:
what another test executes, what stands for a placeholder, what is made smaller, what waits for SLOW=1.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Project, project_files
from tests.documented_commands import Command, blocks_of, matching, shell_script, units_of
from tests.documented_programs import install
from tests.documented_supplies import lay, server_of

# README.md comes last, because its last command is `make clean`.
DOCUMENTS = [*sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")), "CONTRIBUTING.md", "README.md"]
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS}
SLOW = os.environ.get("SLOW") == "1"

# Blocks that no shell is to run, by how they begin.
NO_COMMANDS = {
    r"# mynet\.yaml: ": "a file, laid into the copy as it stands; the block after it builds with it",
    r"- uses: OWNER/": "steps of a workflow: tests/test_compile_action.py runs what they call",
    r"out/<model>/": "files, looked for in a test below",
    r"Makefile  ": "folders, looked for in a test below",
    r"chip\.yaml  ": "what is in a vendor folder",
    r"ERROR: ": "a message of make",
    r"name: hrnet_w32_256x192 ": "the keys of model.yaml",
    r"decode: \{": "some of them, for other tasks",
}
# Words in the prose that begin like a command and are none.
NAMES = {
    r"make (new-model|new-chip|layers|eval|explain|weights|merge|CHIP)$": "a goal by its name; it needs variables",
    r"docker (run|image rm|compose run)$": "a command by its name",
    r"docker does not answer": "a message",
    r"export JOB=$": "half a command, whose whole is in the same document",
}
# Commands that another test executes, and that test.
ELSEWHERE = {
    r"make demo$": "test_pipeline.py::test_the_demo_ends_with_a_table_and_a_report",
    r"make demo TOOLBOX=": "test_toolbox_container.py::test_the_demo_in_the_toolbox_gives_the_demos_bytes",
    r"make bench$": "test_bench.py::test_everything_together",
    r"make sdk ": "test_sdk_file.py::test_the_file_comes_whole_and_once",
    r"make weights MODEL=yolov8n": "test_ultralytics_export.py::test_the_licence_comes_first_and_the_export_is_checked",
    r"make kl730 MODEL=hrnet_tiny PRECISION=int8 DOUBLE=1$": "test_closed_sdks.py::"
    "test_the_whole_chain_runs_with_a_stand_in_and_says_so_everywhere",
    r"make test TESTS=tests/test_structure": "test_new_chip.py::test_it_passes_the_structural_test_as_it_stands",
    r"make job CHIP=kx900 ": "test_everyday_docs.py::"
    "test_a_new_chip_is_listed_and_stops_where_something_is_to_be_written",
    r"DOCKER_HOST=\S+ make ": "test_remote_engine.py::test_the_artifact_of_a_far_engine_is_the_local_one",
}
# Documents all of whose blocks another test executes.
BLOCKS_ELSEWHERE = {
    "docs/many_machines.md": "test_many_machines.py::test_every_command_shown_is_one_that_is_tested",
}
# What a reader puts into the place of words that stand for others.
FILLED = {
    r"\bmake CHIP\b": "make ncnn",
    r"\bMODEL=(name|\.\.\.)(?= |$)": "MODEL=hrnet_tiny",
    r"\bCHIP=name\b": "CHIP=ncnn",
    r"\bPRECISION=\.\.\.": "PRECISION=fp32",
    r"\bmake eval \.\.\.": "make eval MODEL=hrnet_tiny CHIP=float LIMIT=4",
}
# What is added to a command, so that it ends in seconds.
FEW = "LIMIT=4 CALIB_COUNT=16"
ADDED = {
    r"make all$": 'MODELS="hrnet_tiny hourglass52" CHIPS=ncnn',  # the other chips' compilers take minutes
    r"make kl730 ": f"{FEW} DOUBLE=1",  # nobody has its SDK here
    r"make job CHIP=kl730 ": FEW,
    r"make ncnn (ONNX=|MODEL=(mynet|hrnet_w32))": FEW,
    r"make ncnn MODEL=hrnet_w32( CALIB=.*)?$": "PRECISION=int8",
    r"make ncnn (MODEL=mynet$|ONNX=\S+ SPEC=\S+$|\S+ (ENGINE|WEIGHTS)=)": "PRECISION=fp32",
    r"(SLOW=1 )?make (format lint )?test$": 'TESTS="tests/test_make.py -k help"',  # not the suite within the suite
}
# What is executed with SLOW=1 only: networks that are built once more, with one thing another than elsewhere here.
WHEN_SLOW = {
    r"make ncnn (MODEL=mynet$|ONNX=\S+ SPEC=\S+$)": "tests/common/test_everyday_docs.py builds it as far as the job",
    r"make ncnn MODEL=hrnet_w32 (WEIGHTS|CALIB)=": "README's `make ncnn MODEL=hrnet_w32` is always built",
    r"make ncnn \S+ ENGINE=": "tests/test_images.py builds in containers",
}
# What a goal leaves; the names are the command's own variables.
LEFT = {
    "draw": "out/drawn/photo-{MODEL}-{CHIP}-{VARIANT}.png",
    "video": "out/drawn/clip-{MODEL}-{CHIP}-{VARIANT}.*",
    "job": "out/jobs/{MODEL}*-{CHIP}-{PRECISION}.tar.gz",
    "layers": "out/{MODEL}/{CHIP}/*/layers.png",
    "new-chip": "vendors/{NAME}/chip.yaml",
    "new-model": "{SPEC}",
    "eval": "out/{MODEL}*/**/eval/*/metrics.json",
    "merge": "out/hrnet_tiny/ncnn/fp32/proof.json",
    "report": "out/report/summary.md",
    "image": "out/images/{CHIP}.log",
    "ncnn": "out/{MODEL}*/ncnn/{PRECISION}/artifact.json",
    "kl730": "out/{MODEL}*/kl730/{PRECISION}-double/artifact.json",
}


# --- What the text tells a reader to do before a command --------------------------------------------------------------
def fill_in(project: Project, declaration: str) -> None:
    """What only the owner of mynet.onnx knows."""
    known = {"color": "rgb", "scale": "255", "mean": "[0.485, 0.456, 0.406]", "std": "[0.229, 0.224, 0.225]",
             "keypoints": "coco17", "padding": "1.25", "licence": "my own"}  # fmt: skip
    path = project.path(declaration)
    text = re.sub(r"^( *)(\w+): FILL_IN$", lambda at: f"{at[1]}{at[2]}: {known[at[2]]}", path.read_text(), flags=re.M)
    path.write_text(text)


def download(project: Project) -> None:
    """What is published has been fetched once."""
    if not list(project.path("models/hrnet_w32_256x192").glob("weights/*.pth")):
        said = project.make("weights", "MODEL=hrnet_w32")
        assert said.returncode == 0, said.stderr


def lose_a_cell(project: Project) -> None:
    """It is what another machine made: parts/ has it, this machine does not."""
    part = project.path("parts/other/hrnet_tiny")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(project.path("out/hrnet_tiny"), part)
    shutil.rmtree(project.path("out/hrnet_tiny/ncnn/fp32"))


BEFORE: dict[str, Callable[[Project], None]] = {
    r"make (ncnn|kl730|job CHIP=kl730) MODEL=hrnet_w32\b": download,
    r"make merge PARTS=": lose_a_cell,
    r"make (ncnn|explain) MODEL=mynet": lambda project: fill_in(project, "models/mynet/model.yaml"),
    r"make ncnn ONNX=mynet\.onnx SPEC=mine\.yaml$": lambda project: fill_in(project, "mine.yaml"),
    r"docker run .*PWD/job:/job": lambda project: shutil.copytree(
        project.path("out/hrnet_tiny/ncnn/int8"), project.path("../other/job"), dirs_exist_ok=True
    ),
}


# --- The reader ------------------------------------------------------------------------------------------------------
class Given(dict):
    """The variables of a command, for patterns of file names; what was not given may be anything."""

    def __missing__(self, name: str) -> str:
        return f"models/{self['NAME']}/model.yaml" if name == "SPEC" else "*"


class Reader:
    """Types the commands of documents into shells, in a project of its own."""

    def __init__(self, project: Project, programs: Path):
        self.project, self.known = project, set[str]()
        dropped = ("MAKE", "MFLAGS", "DOCKER_", "PYTEST_", "SLOW", "ENGINE", "BASE")
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
        path = f"{programs}{os.pathsep}{self.environment['PATH']}"
        self.environment |= {"PATH": path, "USER": str(os.getuid())}
        # The environments are a link to this project's own: whatever a document makes newer, nothing renews them.
        self.environment["PYTHON"] = str(programs / "python-that-makes-no-environment")

    def read(self, name: str, text: str) -> list[Command]:
        """Execute what a document shows; returns it. AssertionError: a command failed, or did not leave its file."""
        for own in ("models/mynet", "vendors/kx900"):  # what another document made
            shutil.rmtree(self.project.path(own), ignore_errors=True)
        for block in blocks_of(text):
            if file := re.match(r"# (\w+\.yaml): ", block.lines[0]):
                self.project.path(file[1]).write_text("\n".join(block.lines))
        executed: list[Command] = []
        for unit in units_of(name, text, prose_only=name in BLOCKS_ELSEWHERE):
            commands = [Command(place, shown, self.typed(shown)) for place, shown in unit if is_ours(shown)]
            if len(unit) == 1 and {command.text for command in commands} <= self.known:
                continue  # mentioned once more
            self.type(commands)
            executed += commands
            self.known |= {command.text for command in commands}
        return executed

    def typed(self, command: str) -> str:
        """The command with every placeholder filled in, and with what the table adds."""
        for pattern, filling in FILLED.items():
            command = re.sub(pattern, filling, command)
        if "<12 digits>" in command:
            built = self.project.path("docker.images").read_text()
            command = command.replace("<12 digits>", re.search(r"npumake-ncnn:(\w{12})$", built, re.MULTILINE)[1])
        return " ".join([command, *matching(ADDED, command)])

    def type(self, commands: list[Command]) -> None:
        for command in commands:
            for prepare in matching(BEFORE, command.text):
                prepare(self.project)
        done = subprocess.run(["bash", "-c", shell_script(commands)], cwd=self.project.folder, env=self.environment,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout
        for command in commands:
            if command.goal in LEFT and "SHARD" not in command.variables:  # a part leaves numbers to the whole
                expected = LEFT[command.goal].format_map(Given(command.variables))
                assert list(self.project.folder.glob(expected)), f"{command.place}: {command.text}: no {expected}"


def is_ours(command: str) -> bool:
    """Whether it is executed here and now."""
    if matching(WHEN_SLOW, command) and not SLOW:
        return False
    return not (matching(NAMES, command) or matching(ELSEWHERE, command))


@pytest.fixture(scope="module")
def reader(demo, tmp_path_factory) -> Iterator[Reader]:
    """One for all documents: what one of them builds the next finds."""
    place = tmp_path_factory.mktemp("documents")
    project = Project(place / "project")
    shutil.copytree(demo[0].folder, project.folder, symlinks=True)
    for name in project_files("tests"):
        project.path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, project.path(name))
    (place / "other").mkdir()
    with server_of(project.path("models/hrnet_tiny/weights")) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        lay(project, url)
        for words in (["init", "--quiet"], ["add", "--all"]):
            subprocess.run(["git", *words], cwd=project.folder, check=True, capture_output=True)
        yield Reader(project, install(place / "bin"))
    shutil.rmtree(place)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_that_is_shown_is_executed(reader, name):
    reader.read(name, TEXTS[name])
