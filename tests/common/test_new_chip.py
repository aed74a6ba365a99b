"""`make new-chip`: a vendor folder that passes the structural test as it stands, and pretends nothing."""

import json
import subprocess

import pytest

from common.basics.errors import UserError
from common.declarations.spec import load_chip
from common.new_chip import check_name, new_chip, open_files, shared_files
from tests.conftest import ROOT, copy_of_project

NAME = "kx900"
PYTHON = ROOT / ".venv" / "common" / "bin" / "python"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project, with its tests, in which a chip was added. Look, do not touch."""
    copied = copy_of_project(tmp_path_factory.mktemp("chip") / "project")
    (copied.path("tests")).mkdir(exist_ok=True)
    for name in ("test_structure.py", "conftest.py"):
        copied.path("tests", name).write_bytes((ROOT / "tests" / name).read_bytes())
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=copied.folder, check=True, capture_output=True)
    command = [PYTHON, "-m", "common", "new_chip", "--name", NAME]
    said = subprocess.run(command, cwd=copied.folder, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    return copied, said.stdout


def run(project, *words):
    return subprocess.run([PYTHON, *words], cwd=project.folder, capture_output=True, text=True, check=False)


def test_it_passes_the_structural_test_as_it_stands(project):
    copied, _ = project
    done = run(copied, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_structure.py", "-vv", "-k",
               f"{NAME} or same or one_line or read_the_same or unique or option or says_what")  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert f"stands_alone[{NAME}] PASSED" in done.stdout


def test_make_knows_it_at_once(project):
    copied, _ = project
    command = ["awk", "-f", "common/chips.awk", f"vendors/{NAME}/chip.yaml"]
    read = subprocess.run(command, cwd=copied.folder, capture_output=True, text=True, check=True).stdout
    assert read.startswith(f"{NAME}:{NAME}:fp16,int8:int8:")
    listed = run(copied, "-m", "common", "listing").stdout
    line = next(line for line in listed.splitlines() if line.split()[:1] == [NAME])
    assert "not at all: compile.py, infer.py and device.py are still to be written" in line


def test_what_is_open_is_listed_and_no_placeholder_is_left(project):
    copied, said = project
    folder = copied.path("vendors", NAME)
    named = dict(open_files(folder))
    assert {"compile.py", "infer.py", "device.py", "chip.yaml", "README.md"} <= set(named)
    assert named["compile.py"] == "build()"
    for file in named:
        assert f"  {file} " in said
    for path in folder.iterdir():
        assert "NEWCHIP" not in path.read_text()
        assert "BASEIMAGE" not in path.read_text()


def test_the_files_that_all_folders_share_are_there(project):
    copied, _ = project
    for name, content in shared_files(ROOT / "vendors").items():
        assert (copied.path("vendors", NAME, name)).read_bytes() == content, name
    assert {"failure.py", "job_file.py", "inference_loop.py"} <= set(shared_files(ROOT / "vendors"))


def job(folder, **changes):
    """A small job folder for the new chip."""
    folder.mkdir()
    entry = {"name": "image", "shape": [1, 3, 8, 8], "color": "rgb", "scale": 255, "mean": [0, 0, 0], "std": [1, 1, 1]}
    content = {"version": 1, "chip": NAME, "precision": "fp16", "batch": 1, "graph": "model.onnx", "inputs": [entry],
               "outputs": [{"name": "maps", "shape": [1, 1, 8, 8]}], "calibration": None, "samples": "samples.npz",
               "outputs_file": "outputs.npz", "artifact": "net"}  # fmt: skip
    (folder / "job.json").write_text(json.dumps(content | changes))
    (folder / "model.onnx").write_bytes(b"a graph")
    return folder


def test_each_script_fails_with_what_is_to_be_written(project, tmp_path):
    copied, _ = project
    folder = job(tmp_path / "job")
    done = run(copied, f"vendors/{NAME}/compile.py", str(folder))
    assert done.returncode == 1
    assert "ERROR: compile.py: build() is still to be written" in done.stderr
    assert "HINT:" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["job.json", "model.onnx"]
    script = f"import sys; sys.path.insert(0, 'vendors/{NAME}'); import infer, device, failure\n"
    script += "for kind in (infer.Simulated, device.OnDevice):\n"
    script += " try: kind(type('J', (), {'chip': 'c'})(), {'artifact': ['net.bin']})\n"
    script += " except failure.VendorError as error: print(error.message)\n"
    said = run(copied, "-c", script).stdout
    assert "infer.py: Simulated is still to be written" in said
    assert "device.py: OnDevice is still to be written" in said


def test_a_written_build_is_all_that_a_compilation_needs(project, tmp_path):
    """The rest of compile.py works: filled in, it leaves the artifact and its record."""
    copied, _ = project
    code = f"import sys; sys.path.insert(0, 'vendors/{NAME}'); import compile, pathlib\n"
    code += "def build(job, target):\n target.write_bytes(job.graph.read_bytes() * 2)\n return {'tool': '1'}\n"
    code += "compile.build = build\ncompile.main(sys.argv[1:])\n"
    folder = job(tmp_path / "job")
    done = run(copied, "-c", code, str(folder))
    assert done.returncode == 0, done.stderr
    record = json.loads((folder / "compile.json").read_text())
    assert (record["artifact"], record["tools"], record["chip"]) == (["net.bin"], {"tool": "1"}, NAME)
    assert (folder / "net.bin").read_bytes() == b"a grapha graph"


def test_the_preflight_stops_every_network_until_operators_are_listed(project, monkeypatch):
    from common.preflight import check_problems, find_problems
    from tests.common.test_inspect_onnx import network

    copied, _ = project
    monkeypatch.chdir(copied.folder)
    problems = find_problems(network((17, 4)), load_chip(NAME))
    with pytest.raises(UserError) as error:
        check_problems(problems, "cell")
    assert f"vendors/{NAME}/chip.yaml lists no operators yet" in error.value.message


def test_a_plain_base_image_is_pinned_where_a_sibling_pins_it(project):
    copied, _ = project
    lines = copied.path("vendors", NAME, "Dockerfile").read_text().splitlines()
    assert [line.partition(":")[0] for line in lines if line.startswith("ARG BASE=")] == ["ARG BASE=python"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "NAME= is not set"),
        ("KX900", "small letters"),
        ("../x", "small letters"),
        ("a b", "small letters"),
        ("a__b", "small letters"),
        ("report", "out/ uses"),
        ("demo", "a word that Makefile uses"),
        ("preflight", "is a word that .* uses"),
        ("hrnet_tiny", "is taken by models/hrnet_tiny"),
        (NAME, "is taken by vendors/kx900"),
    ],
)
def test_a_bad_or_taken_name_is_refused_and_nothing_is_written(project, monkeypatch, name, expected):
    copied, _ = project
    monkeypatch.chdir(copied.folder)
    before = sorted(copied.path("vendors").rglob("*"))
    with pytest.raises(UserError, match=expected) as error:
        new_chip(name)
    assert error.value.exit_code == 2
    assert error.value.hint
    assert sorted(copied.path("vendors").rglob("*")) == before


def test_a_folder_without_a_chip_yaml_is_not_overwritten(project, monkeypatch):
    copied, _ = project
    monkeypatch.chdir(copied.folder)
    folder = copied.path("vendors", "kx901")
    folder.mkdir()
    try:
        with pytest.raises(UserError, match="is there already"):
            check_name("kx901", copied.folder)
    finally:
        folder.rmdir()


def test_without_siblings_there_is_nothing_to_copy(tmp_path, monkeypatch):
    (tmp_path / "vendors").mkdir()
    with pytest.raises(UserError, match="too few"):
        shared_files(tmp_path / "vendors")
