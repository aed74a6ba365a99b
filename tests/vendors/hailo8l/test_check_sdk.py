"""check_sdk.py: the right wheels are taken, and each wrong one is told apart."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

_spec = importlib.util.spec_from_file_location("hailo8l_conftest_sdk", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
run_script, failed, VENDOR = _conftest.run_script, _conftest.failed, _conftest.VENDOR
HERE = f"cp{sys.version_info.major}{sys.version_info.minor}"
COMPILER = "hailo_dataflow_compiler-3.33.1-py3-none-linux_x86_64.whl"
RUNTIME = f"hailort-4.23.0-{HERE}-{HERE}-linux_x86_64.whl"


def put(folder: Path, name: str, inside: str = "") -> Path:
    """A wheel of this name; inside: the "name version" of its metadata, by default those of its own name."""
    told, version = (inside or " ".join(name.split("-")[:2])).split()
    with ZipFile(folder / name, "w") as archive:
        text = f"Metadata-Version: 2.1\nName: {told}\nVersion: {version}\n"
        archive.writestr(f"{told}-{version}.dist-info/METADATA", text)
    return folder / name


def test_the_right_wheels(tmp_path):
    put(tmp_path, COMPILER, "hailo-dataflow-compiler 3.33.1")  # its metadata may have the dashes of the index
    put(tmp_path, RUNTIME)
    (tmp_path / "README.md").write_text("x")
    done = run_script("check_sdk.py", tmp_path, paths="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / COMPILER), str(tmp_path / RUNTIME)]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], ["holds no hailo_dataflow_compiler", "hailo.ai/developer-zone"]),
        ([RUNTIME], ["holds no hailo_dataflow_compiler"]),
        (["hailo_dataflow_compiler-5.0.0-py3-none-linux_x86_64.whl"], ["5.0.0", "other chips"]),
        (["hailo_dataflow_compiler-3.33.1-cp27-none-linux_x86_64.whl"], ["cp27", HERE]),
        (["hailo_dataflow_compiler-3.33.1-py3-none-linux_aarch64.whl"], ["aarch64"]),
        (["hailo_dataflow_compiler-3.33.1.whl"], ["not named like a wheel"]),
        ([COMPILER, COMPILER.replace("3.33.1", "3.32.0")], ["3.32.0", "leave one"]),
        ([COMPILER, RUNTIME.replace("4.23.0", "4.20.0")], ["4.20.0", "goes with 4.23"]),
    ],
)
def test_wheels_that_do_not_fit(tmp_path, names, words):
    for name in names:
        put(tmp_path, name, "x 1" if name.count("-") < 4 else "")
    failed(run_script("check_sdk.py", tmp_path, paths=""), *words)


def test_what_is_inside_counts(tmp_path):
    put(tmp_path, COMPILER, "hailo_dataflow_compiler 5.1.0")
    failed(run_script("check_sdk.py", tmp_path, paths=""), "says inside", "5.1.0")
    (tmp_path / COMPILER).write_bytes((tmp_path / COMPILER).read_bytes()[:40])
    failed(run_script("check_sdk.py", tmp_path, paths=""), "no readable wheel")
    failed(run_script("check_sdk.py", tmp_path / "none", paths=""), "holds no", "but nothing")


def test_it_runs_where_nothing_is_installed_yet(tmp_path):
    """In the Dockerfile it comes before every package, with the files that are copied there."""
    put(tmp_path, COMPILER)
    lines = (VENDOR / "Dockerfile").read_text().splitlines()
    (copied,) = (line.split()[1:-1] for line in lines if line.startswith("COPY check_sdk.py"))
    for name in copied:
        (tmp_path / name).write_bytes((VENDOR / name).read_bytes())
    here = str(tmp_path)
    code = f"import sys; sys.path.insert(0, {here!r}); import check_sdk as c; print(c.wheels(c.Path({here!r})))"
    command = [sys.executable, "-S", "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and COMPILER in done.stdout, done.stderr


@pytest.mark.parametrize("name", [COMPILER, RUNTIME, "notes.txt", "sub/x.whl"])
def test_git_never_takes_what_lies_there(name):
    ignored = ["git", "check-ignore", "-q", f"vendors/hailo8l/sdk/{name}"]
    assert subprocess.run(ignored, cwd=_conftest.ROOT, check=False).returncode == 0
    kept = ["git", "check-ignore", "-q", "vendors/hailo8l/sdk/README.md"]
    assert subprocess.run(kept, cwd=_conftest.ROOT, check=False).returncode == 1
