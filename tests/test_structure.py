"""The rules that keep the folders apart and the files readable."""

import ast
import re
import subprocess
import sys

import pytest
import yaml

from common.declarations.spec import chip_names, load_chip, model_names
from tests.conftest import ROOT, project_files

VENDOR_FILES = (
    *("chip.yaml", "requirements.txt", "Dockerfile", "compile.py", "infer.py", "device.py", "README.md"),
    "job.example.json",
)
KIT = (
    *("failure.py", "atomic_files.py", "job_schema.py", "job_file.py", "preprocessing.py", "artifact_record.py"),
    *("inference_loop.py", "job.schema.json"),
)
ONE_LINE = ("chips", "precisions", "calibrated", "engines", "lacks", "options", "variant_options")


def python_files():
    return [ROOT / name for name in project_files("*.py")]


def test_no_file_is_longer_than_a_reader_can_hold():
    assert {path.name: n for path in python_files() if (n := len(path.read_text().splitlines())) > 300} == {}


def test_every_module_says_what_it_is_for():
    for path in python_files():
        text = path.read_text() if "tests" not in path.parts else ""
        assert not text.strip() or ast.get_docstring(ast.parse(text)), path


def test_a_file_of_common_is_a_stage_and_a_folder_of_it_says_what_belongs_there():
    """The listing of common/ is what make runs; the rest lies in the folder of its subject."""
    for path in (ROOT / "common").glob("[!_]*.py"):
        text = path.read_text()
        assert "\nif __name__ ==" in text or "= sys.argv[1]" in text, f"{path.name} belongs in a folder of its subject"
    folders = {path.parent for path in python_files() if path.parent.parent == ROOT / "common"}
    for folder in folders - {ROOT / "common" / name for name in ("chip_skeleton", "toolbox")}:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder


def test_the_makefile_and_common_name_no_chip_and_the_vendors_no_network():
    for path in [ROOT / "Makefile", *(ROOT / "common").rglob("*.py")]:
        for chip in chip_names():
            assert not re.search(rf"\b{chip}\b", path.read_text()), f"{path.name} names the chip {chip}"
    for path in (ROOT / "vendors").rglob("*.py"):
        assert not re.search(r"hrnet|hourglass|yolov8", path.read_text().lower()), f"{path.name} names a network"


@pytest.mark.parametrize("chip", sorted(chip_names()))
def test_a_vendor_folder_is_complete_and_stands_alone(chip):
    folder = ROOT / load_chip(chip).folder
    for name in (*VENDOR_FILES, *(["layers.py"] if load_chip(chip).local else [])):
        assert (folder / name).stat().st_size > 0
    for line in (folder / "requirements.txt").read_text().splitlines():
        assert not line.strip() or line.startswith("#") or "==" in line, f"not pinned: {line}"
    own = {path.stem for path in folder.glob("*.py")}
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                root = name.split(".")[0]
                known = root in sys.stdlib_module_names or root in own
                assert known or root in load_chip(chip).python_packages, f"{path.name} imports {name}"


def test_the_lists_that_make_reads_stand_on_one_line():
    for path in (ROOT / "vendors").glob("*/chip.yaml"):
        content = yaml.safe_load(path.read_text())
        for key in [key for key in ONE_LINE if key in content]:
            line = next(line for line in path.read_text().splitlines() if line.startswith(f"{key}:"))
            assert yaml.safe_load(line) == {key: content[key]}


@pytest.mark.parametrize("name", KIT)
def test_what_every_vendor_folder_needs_is_the_same_in_each(name):
    """A folder can be taken away alone, so each has these files; they are changed together or not at all."""
    contents = {path.read_bytes() for path in (ROOT / "vendors").glob(f"*/{name}")}
    assert len(contents) == 1
    assert all((path.parent / name).exists() for path in (ROOT / "vendors").glob("*/chip.yaml"))


def test_make_and_python_read_the_same_chips():
    """chips.awk reads chip.yaml before there is a Python that knows YAML."""
    files = sorted(str(path) for path in (ROOT / "vendors").glob("*/chip.yaml"))
    command = ["awk", "-f", str(ROOT / "common" / "chips.awk"), *(file[len(str(ROOT)) + 1 :] for file in files)]
    words = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()

    def lists(chip):
        return chip.precisions, chip.calibrated, chip.engines, chip.options, chip.variant_options

    expected = {
        ":".join([name, chip.folder.name, *(",".join(found) or "-" for found in lists(chip))])
        for name in chip_names()
        for chip in [load_chip(name)]
    }
    assert set(words) == expected


def test_no_vendors_option_is_a_variable_that_make_or_the_shell_knows_already():
    known = set(re.findall(r"^(?:override )?([A-Z_]+) *[?:]?=", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in chip_names():
        for option in load_chip(name).options:
            assert re.fullmatch(r"[A-Z][A-Z_]*", option)
            assert option not in known | {"PATH", "HOME", "SHELL", "USER", "MAKE", "MAKEFLAGS"}


def test_names_are_unique():
    folders = (ROOT / "vendors").glob("*/chip.yaml")
    assert len(chip_names()) == sum(len(yaml.safe_load(path.read_text())["chips"]) for path in folders)
    assert not set(chip_names()) & set(model_names())
