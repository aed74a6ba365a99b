"""Job folders for the scripts of vendors/bm1684, which run in their own environment as they do in a build.

Each of TPU-MLIR's steps takes seconds: what several tests look at is compiled once a session.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[3]
VENDOR = ROOT / "vendors" / "bm1684"
ENVIRONMENT = ROOT / ".venv" / "bm1684"
PYTHON = ENVIRONMENT / "bin" / "python"
WITHOUT = "no .venv/bm1684/ready: TPU-MLIR needs CPython 3.10"
SHAPE = (3, 16, 12)
OUTPUTS = {"tags.out": 3, "maps": 5}  # the other way round than the nodes that compute them


@pytest.fixture(scope="session")
def toolchain() -> Path:
    """The environment's python; skips where it cannot exist."""
    if not (ENVIRONMENT / "ready").exists():
        pytest.skip(WITHOUT)
    return PYTHON


def run_script(name: str, *arguments: object, python: Path = PYTHON, **variables: str) -> subprocess.CompletedProcess:
    command = [str(python), str(VENDOR / name), *(str(argument) for argument in arguments)]
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def failed(done: subprocess.CompletedProcess) -> str:
    """The one message of a script that failed as it should: exit code 1, ERROR and HINT, no traceback."""
    lines = done.stderr.splitlines()
    assert done.returncode == 1, done.stdout + done.stderr
    assert len([line for line in lines if line.startswith("ERROR: ")]) == 1, done.stderr
    assert len([line for line in lines if line.startswith("HINT: ")]) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return next(line for line in lines if line.startswith("ERROR: "))


def network(batch: int = 1, seed: int = 1) -> onnx.ModelProto:
    """Convolutions with a residual sum and two outputs, one of which the converter fuses with a Relu."""
    generator = np.random.default_rng(seed)
    weights: list[onnx.TensorProto] = []

    def convolution(name: str, source: str, inputs: int, outputs: int, size: int = 3) -> onnx.NodeProto:
        values = generator.standard_normal((outputs, inputs, size, size)) / np.sqrt(inputs * size**2)
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"{name}.w"))
        weights.append(
            numpy_helper.from_array((generator.standard_normal(outputs) * 0.1).astype(np.float32), f"{name}.b")
        )
        return helper.make_node("Conv", [source, f"{name}.w", f"{name}.b"], [name], name, pads=[size // 2] * 4)

    nodes = [
        convolution("stem", "image", SHAPE[0], 8),
        helper.make_node("Relu", ["stem"], ["stem.r"], "stem_relu"),
        convolution("middle", "stem.r", 8, 8),
        helper.make_node("Add", ["middle", "stem.r"], ["sum"], "residual"),
        convolution("maps", "sum", 8, OUTPUTS["maps"]),
        convolution("tags", "sum", 8, OUTPUTS["tags.out"], 1),
        helper.make_node("Relu", ["tags"], ["tags.out"], "tags_relu"),
    ]
    shapes = {name: (batch, channels, *SHAPE[1:]) for name, channels in OUTPUTS.items()}
    return model(nodes, weights, (batch, *SHAPE), shapes)


def model(nodes: list, weights: list, shape: tuple, outputs: dict[str, tuple]) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in outputs.items()]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)]
    made = helper.make_model(
        helper.make_graph(nodes, "g", inputs, values, weights), opset_imports=[helper.make_opsetid("", 11)]
    )
    made.ir_version = 7
    onnx.checker.check_model(made)
    return made


def write_job(folder: Path, chip: str, precision: str, batch: int = 1, graph: onnx.ModelProto | None = None, **more):
    """A job folder as common/ writes it: 8 calibration tensors, 5 samples. more: keys of job.json."""
    (folder / "calib").mkdir(parents=True)
    graph = graph or network(batch)
    onnx.save(graph, folder / "model.onnx")
    generator = np.random.default_rng(0)
    for index in range(8):
        np.save(folder / "calib" / f"{index:04d}.npy", generator.standard_normal((1, *SHAPE), np.float32))
    np.savez(folder / "samples.npz", image=generator.standard_normal((5, *SHAPE), np.float32))
    outputs = [
        {"name": value.name, "shape": [size.dim_value for size in value.type.tensor_type.shape.dim]}
        for value in graph.graph.output
    ]
    job = {
        "version": 1, "model": "small-net", "chip": chip, "vendor": "bm1684", "variant": precision,
        "precision": precision, "batch": batch, "rung": None, "keep_float": [], "graph": "model.onnx",
        "inputs": [{"name": "image", "shape": [batch, *SHAPE]}], "outputs": outputs,
        "calibration": "calib" if precision == "int8" else None, "samples": "samples.npz",
        "outputs_file": "outputs.npz", "artifact": "small-net", "options": {},
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job | more))
    return folder


@pytest.fixture(scope="session")
def compiled(toolchain, tmp_path_factory) -> Callable[..., Path]:
    """compiled(chip, precision, batch=1) -> a compiled job folder, for looking at only; take copies() to change it."""
    made: dict[tuple, Path] = {}

    def build(chip: str, precision: str, batch: int = 1) -> Path:
        key = (chip, precision, batch)
        if key not in made:
            folder = write_job(tmp_path_factory.mktemp("job") / f"{chip}-{precision}", chip, precision, batch)
            done = run_script("compile.py", folder)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr
            folder.with_suffix(".log").write_text(done.stdout)
            made[key] = folder
        return made[key]

    return build


@pytest.fixture
def copies(tmp_path) -> Callable[[Path], Path]:
    """copies(folder) -> a copy that a test may damage."""

    def copy(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / f"copy{len(list(tmp_path.iterdir()))}"))

    return copy


@pytest.fixture
def shadow(toolchain, tmp_path) -> Callable[..., Path]:
    """shadow({"bin/tpuc-opt": text}) -> the python of an environment that is the real one but for these files of the
    wheel: a script that stands in for a tool, or None where the file is missing."""

    def make(replaced: dict[str, str | bytes | None], name: str = "shadow") -> Path:
        folder = tmp_path / name
        real = next(ENVIRONMENT.glob("lib/python3.10/site-packages"))
        packages = folder / "lib" / "python3.10" / "site-packages"
        packages.mkdir(parents=True)
        for path in real.iterdir():
            if path.name != "tpu_mlir":
                (packages / path.name).symlink_to(path)
        _link_tree(real / "tpu_mlir", packages / "tpu_mlir", {tuple(key.split("/")): key for key in replaced})
        for key, content in replaced.items():
            if content is not None:
                target = packages / "tpu_mlir" / key
                target.write_bytes(content if isinstance(content, bytes) else content.encode())
                target.chmod(0o755)
        (folder / "bin").mkdir()
        shutil.copy(ENVIRONMENT / "pyvenv.cfg", folder)
        for python in ("python", "python3"):
            (folder / "bin" / python).symlink_to(PYTHON.resolve())
        return folder / "bin" / "python"

    return make


def _link_tree(source: Path, target: Path, replaced: dict[tuple, str]) -> None:
    """Links to everything in `source`; real folders only on the way to a replaced file."""
    target.mkdir()
    for path in source.iterdir():
        inside = {key[1:]: value for key, value in replaced.items() if key[0] == path.name}
        if () in inside:
            continue
        if inside:
            _link_tree(path, target / path.name, inside)
        else:
            (target / path.name).symlink_to(path)


PRELUDE = """
import json, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
folder = Path(sys.argv[2])
"""


def in_environment(toolchain, code, *arguments):
    """Run code after PRELUDE; returns what its last line prints as JSON."""
    command = [str(toolchain), "-c", PRELUDE + code, str(VENDOR), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
