"""A vendor folder taken into another project, nothing of npumake around it: a job that make packed, one made by hand.

For real where the SDK is installed (and in Docker, where an engine answers), against its stand-in elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from common.declarations.spec import chip_names, load_chip
from common.engines.engine import double_environment
from tests.common.cell_fixture import make_image_set
from tests.conftest import ROOT, copy_of_project

FOLDERS = sorted({load_chip(name).folder.name for name in chip_names()})
JOB_FILES = {"README.txt", "job.json", "model.onnx", "samples.npz", "calib"}
BASE = "python:3.11-slim-bookworm"
IMAGE = "npumake-test-alone"
SMALLER = 8  # than the example's picture: the slowest simulator computes the instructions of the chip one by one


class Elsewhere:
    """A vendor folder copied to an empty directory, with a job folder beside it."""

    def __init__(self, place: Path, folder: str):
        self.chip = load_chip(next(name for name in chip_names() if load_chip(name).folder.name == folder))
        self.double = not self.chip.local
        # The declarations and stand-ins are found from the root; nothing that runs here is.
        self.variables = {"PATH": os.defpath, "HOME": str(place), "LANG": "C.UTF-8"}
        self.python = ROOT / ".venv" / folder / "bin" / "python"
        if self.double:
            self.python = Path(sys.executable)
            self.variables |= double_environment(self.chip)
        elif not (ROOT / ".venv" / folder / "ready").exists():
            pytest.skip(f"no .venv/{folder}: `make .venv/{folder}/ready` says why")
        self.vendor, self.job, self.empty = place / folder, place / "job", place / "empty"
        shutil.copytree(ROOT / self.chip.folder, self.vendor, ignore=shutil.ignore_patterns("__pycache__"))
        self.empty.mkdir()

    def run(self, script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(self.python), str(self.vendor / script), *map(str, arguments or [self.job])]
        return subprocess.run(
            command, cwd=self.empty, env=self.variables, capture_output=True, text=True, check=False
        )  # fmt: skip

    def done(self, script: str) -> None:
        result = self.run(script)
        assert result.returncode == 0, result.stdout + result.stderr

    def read(self, name: str):
        return json.loads((self.job / name).read_text())

    def listing(self) -> dict[str, str]:
        """Every file that is here, and its content's hash."""
        files = [path for folder in (self.vendor, self.job, self.empty) for path in folder.rglob("*") if path.is_file()]
        files = [path for path in files if path.suffix != ".pyc"]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(params=FOLDERS)
def elsewhere(request, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    return Elsewhere(tmp_path, request.param)


PYTHON = ".venv/common/bin/python -m common "
# Runs the commands of `make -n` that are stages of npumake in this one process, so that torch and the rest are loaded
# once, and the others by the shell.
STAGES = f"""
import importlib, shlex, subprocess, sys
for line in sys.stdin.read().replace("\\\\\\n", " ").splitlines():
    if line.startswith({PYTHON!r}):
        sys.argv = shlex.split(line)[3:]
        importlib.import_module("common." + sys.argv[0]).main()
    else:
        subprocess.run(line, shell=True, check=True)
"""


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """packed(folder) -> (what make said, the packed file) of `make job` for the folder's first chip, in the first
    precision that something simulates. The float network is made once."""
    project = copy_of_project(tmp_path_factory.mktemp("packed") / "project")
    project.path("tests").mkdir()
    project.path("tests", "doubles").symlink_to(ROOT / "tests" / "doubles")
    make_image_set(project.path("photos", "calibration"), count=34, seed=1)
    make_image_set(project.path("photos", "evaluation"), count=1, seed=2)

    def run(folder: str) -> tuple[str, Path]:
        chip = load_chip(next(name for name in chip_names() if load_chip(name).folder.name == folder))
        precision = next(one for one in chip.precisions if one not in chip.unsimulated)
        asked = ["job", "MODEL=hrnet_tiny", f"CHIP={chip.chips[0]}", f"PRECISION={precision}", "V=1"]
        asked += ["CALIB=photos/calibration", "EVAL=photos/evaluation", *([] if chip.local else ["DOUBLE=1"])]
        begun = project.path("out/hrnet_tiny/float/export.json").exists()
        result = project.make(*asked, *(["-n"] if begun else []))
        if begun and result.returncode == 0:
            lines = [line for line in result.stdout.splitlines(True) if not line.endswith("/float\n")]
            result = subprocess.run(
                [sys.executable, "-c", STAGES], input="".join(lines), cwd=project.folder, env=os.environ,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        (line,) = [line for line in result.stdout.splitlines() if ".tar.gz: " in line]
        assert " MB, the job of out/hrnet_tiny/" in line
        return line, project.path(line.split(": ")[0])

    return run


def check_results(place: Elsewhere, worst: float) -> None:
    """compile.json describes what lies there, and outputs.npz holds what the graph computes, within the number format.

    worst: the largest squared error over squares that is allowed against onnxruntime.
    """
    record, job = place.read("compile.json"), place.read("job.json")
    assert record["artifact"] and record["double"] is place.double
    for name, described in record["files"].items():
        data = (place.job / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (described["bytes"], described["sha256"])
    session = onnxruntime.InferenceSession(str(place.job / "model.onnx"), providers=["CPUExecutionProvider"])
    with np.load(place.job / "samples.npz") as samples, np.load(place.job / "outputs.npz") as outputs:
        assert outputs.files == [output["name"] for output in job["outputs"]]
        name = job["inputs"][0]["name"]
        for found, output in zip((outputs[key] for key in outputs.files), job["outputs"], strict=True):
            rows = [session.run([output["name"]], {name: samples[name][i : i + 1]})[0] for i in range(len(found))]
            exact = np.concatenate(rows)
            assert found.shape == (len(samples[name]), *output["shape"][1:]) and found.dtype == np.float32
            assert ((found - exact) ** 2).sum() / (exact**2).sum() < worst


def test_nothing_of_npumake_can_be_reached_from_there(elsewhere):
    """What the tests below show would be worth nothing if the scripts could import common."""
    code = "import importlib.util as u; print([n for n in ('common', 'tests', 'vendors', 'models') if u.find_spec(n)])"
    (elsewhere.vendor / "look.py").write_text(code)
    assert elsewhere.run("look.py").stdout == "[]\n"


def test_the_job_that_make_packed_is_compiled_and_run_there(elsewhere, packed):
    chip = elsewhere.chip
    line, archive = packed(elsewhere.vendor.name)
    assert line.startswith(f"out/jobs/hrnet_tiny-{chip.chips[0]}-")
    with tarfile.open(archive) as tar:
        top = archive.name.removesuffix(".tar.gz")
        assert {member.split("/")[0] for member in tar.getnames()} == {top}
        tar.extractall(elsewhere.job.parent, filter="data")
    (elsewhere.job.parent / top).rename(elsewhere.job)
    given = {path.name for path in elsewhere.job.iterdir()}
    assert given <= JOB_FILES and JOB_FILES - {"calib"} <= given
    words = (elsewhere.job / "README.txt").read_text()
    assert f"docker build -t npumake-{elsewhere.vendor.name} " in words.replace(" --platform linux/amd64", "")
    for script in ("compile.py", "infer.py"):
        assert f"npumake-{elsewhere.vendor.name} {script} /job" in words
        assert (f"python {elsewhere.vendor.name}/{script} {top}" in words) is chip.local
        elsewhere.done(script)
    assert ("what it makes is no artifact" in words) is elsewhere.double
    check_results(elsewhere, 0.2 if elsewhere.read("job.json")["precision"] in chip.calibrated else 1e-3)


def write_by_hand(place: Elsewhere, **more) -> None:
    """The job folder of job.example.json, for a smaller picture: an ONNX of such shapes, samples, and calibration where
    it asks for that. more: other keys of job.json."""
    job = json.loads((place.vendor / "job.example.json").read_text())
    (source,), (output,) = job["inputs"], job["outputs"]
    for tensor in (source, output):
        tensor["shape"][2:] = [size // SMALLER for size in tensor["shape"][2:]]
    random = np.random.default_rng(0)
    place.job.mkdir()
    (place.job / "job.json").write_text(json.dumps(job | more))
    _, channels, height, width = source["shape"]
    stride = height // output["shape"][2]
    layers = {"stem": (16, channels, stride), "head": (output["shape"][1], 16, 1)}
    nodes, weights, last = [], [], source["name"]
    for name, (outputs, inputs, step) in layers.items():
        values = random.standard_normal((outputs, inputs, 3, 3)) / np.sqrt(inputs * 9)
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"{name}.w"))
        weights.append(numpy_helper.from_array(np.zeros(outputs, np.float32), f"{name}.b"))
        target = output["name"] if name == "head" else name
        nodes.append(
            helper.make_node("Conv", [last, f"{name}.w", f"{name}.b"], [target], f"/{name}/Conv", strides=[step] * 2,
                             kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        )  # fmt: skip
        last = target
        if name == "stem":
            nodes.append(helper.make_node("Relu", [last], ["stem.r"], "/stem/Relu"))
            last = "stem.r"
    ends = [helper.make_tensor_value_info(one["name"], TensorProto.FLOAT, one["shape"]) for one in (source, output)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    onnx.save(onnx.shape_inference.infer_shapes(made), place.job / job["graph"])
    pixels = random.integers(0, 256, (6, channels, height, width)).astype(np.float32)
    mean, std = (np.reshape(source[key], (1, 3, 1, 1)) for key in ("mean", "std"))
    tensors = ((pixels / source["scale"] - mean) / std).astype(np.float32)
    np.savez(place.job / job["samples"], **{source["name"]: tensors[:2]})
    if "calibration" in job:
        (place.job / job["calibration"]).mkdir()
        for index in range(6):
            np.save(place.job / job["calibration"] / f"{index}.npy", tensors[index : index + 1])


def test_a_job_written_by_hand_is_compiled_and_run_there(elsewhere):
    write_by_hand(elsewhere, **({"double": True} if elsewhere.double else {}))
    elsewhere.done("compile.py")
    precision = elsewhere.read("job.json")["precision"]
    if precision in elsewhere.chip.unsimulated:
        result = elsewhere.run("infer.py")
        assert result.returncode == 1 and "HINT: run device.py on the board" in result.stderr
        return
    elsewhere.done("infer.py")
    check_results(elsewhere, 0.05 if precision in elsewhere.chip.calibrated else 1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"presision": "int8"}, "unknown key presision; did you mean precision?"),
        ({"version": 2}, "version 2 is newer than version 1, which this folder reads"),
    ],
    ids=["unknown key", "newer version"],
)
def test_an_unknown_key_or_version_is_one_message_and_nothing_is_written(elsewhere, change, message):
    write_by_hand(elsewhere, **change)
    before = elsewhere.listing()
    for script in ("compile.py", "infer.py"):
        result = elsewhere.run(script)
        assert result.returncode == 1
        (error, hint) = [line for line in result.stderr.splitlines() if line.startswith(("ERROR: ", "HINT: "))]
        assert error == f"ERROR: {elsewhere.job}/job.json: {message}"
        assert hint.startswith("HINT: ") and "job.schema.json" in hint
        assert "Traceback" not in result.stderr and result.stdout == ""
    assert elsewhere.listing() == before


@pytest.mark.parametrize("elsewhere", [name for name in FOLDERS if load_chip(name).demo], indirect=True)
def test_the_folders_own_image_makes_the_same_artifact(elsewhere):
    """docker build and docker run, as the folder's README has them."""
    for asked in (["docker", "info"], ["docker", "image", "inspect", BASE]):
        try:
            code = subprocess.run(asked, capture_output=True, check=False, timeout=60).returncode
        except (OSError, subprocess.TimeoutExpired):
            code = 1
        if code:
            pytest.skip(f"`{' '.join(asked)}` fails: there is no Docker Engine here, or not that image")
    write_by_hand(elsewhere)
    elsewhere.done("compile.py")
    expected = elsewhere.read("compile.json")["sha256"]
    for name in [*elsewhere.read("compile.json")["files"], "compile.json"]:
        (elsewhere.job / name).unlink()
    build = ["docker", "build", "--quiet", "--tag", IMAGE, "--build-arg", f"BASE={BASE}", str(elsewhere.vendor)]
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    try:
        for script in ("compile.py", "infer.py"):
            command = ["docker", "run", "--rm", "--network", "none", "--user", f"{os.getuid()}:{os.getgid()}"]
            command += ["--volume", f"{elsewhere.job}:/job", IMAGE, script, "/job"]
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            assert ran.returncode == 0, ran.stdout + ran.stderr
    finally:
        subprocess.run(["docker", "image", "rm", "--no-prune", IMAGE], capture_output=True, check=False)
    assert elsewhere.read("compile.json")["sha256"] == expected
    assert {path.stat().st_uid for path in elsewhere.job.iterdir()} == {os.getuid()}
    check_results(elsewhere, 1e-3)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_folders_readme_has_the_commands_for_another_project(folder, monkeypatch):
    monkeypatch.chdir(ROOT)
    chip = load_chip(next(name for name in chip_names() if load_chip(name).folder.name == folder))
    text = (ROOT / chip.folder / "README.md").read_text()
    _, _, section = text.partition("\n## In another project\n")
    section = section.partition("\n## ")[0]
    platform = f" --platform {chip.platform}" if chip.platform else ""
    low, high = chip.graph.opset
    for words in (
        f"cp -r npumake/vendors/{folder} other/",
        f"docker build{platform} -t npumake-{folder} {folder}\n",
        f"cp {folder}/job.example.json job/job.json",
        f"docker run --rm{platform} --network none ",
        "run compile.py /job",
        "run infer.py /job",
        "`job.schema.json` describes every key",
        f"opset {low} to {high}, IR {chip.graph.ir_version} or older",
        f"`make job CHIP={folder} MODEL=...`",
    ):
        assert words in section, words
    assert (f"`{folder}/venv/bin/python {folder}/compile.py job`" in section) is chip.local
