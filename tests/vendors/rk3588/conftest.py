"""Job folders for the scripts of vendors/rk3588, which run in their own environment as they do in a build.

A start of the toolkit takes seconds: what several tests look at is compiled once a session.
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
VENDOR = ROOT / "vendors" / "rk3588"
ENVIRONMENT = ROOT / ".venv" / "rk3588"
PYTHON = ENVIRONMENT / "bin" / "python"
SHAPE = (3, 16, 12)
OUTPUTS = {"small": 4, "large": 5}
MIXED = {"ranges": "least_squares", "float_share": 0.5, "error": 0.0001}


@pytest.fixture(scope="session")
def toolkit() -> Path:
    """The environment's python; skips where it cannot exist."""
    if not (ENVIRONMENT / "ready").exists():
        pytest.skip("no .venv/rk3588/ready: RKNN-Toolkit2 needs CPython 3.10 to 3.12 on Linux, x86-64")
    return PYTHON


def run_script(
    name: str, *arguments: object, folder: Path = VENDOR, **variables: str
) -> subprocess.CompletedProcess[str]:
    command = [str(PYTHON), str(folder / name), *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **variables})


def failed(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One message and one hint, exit code 1, no traceback; the message holds the words."""
    lines = done.stderr.splitlines()
    assert done.returncode == 1, done.stdout + done.stderr
    assert len([line for line in lines if line.startswith("ERROR: ")]) == 1, done.stderr
    assert len([line for line in lines if line.startswith("HINT: ")]) == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    message = next(line for line in lines if line.startswith("ERROR: "))
    for word in words:
        assert word in message, message


def left_over(folder: Path) -> list[str]:
    """What a failing compilation should not leave behind."""
    made = ("compile.json", "net.rknn", "net.model", "net.data", "net.quantization.cfg")
    return [path.name for path in folder.iterdir() if path.name in made or path.name.startswith(".partial")]


def network(batch: int = 1) -> onnx.ModelProto:
    """A stem, a convolution whose input has channels of very different size, a transposed convolution with a batch
    normalisation of its own, and two outputs."""
    generator = np.random.default_rng(1)
    weights: list[onnx.TensorProto] = []

    def constant(name: str, values: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def convolution(name: str, source: str, inputs: int, outputs: int) -> onnx.NodeProto:
        values = generator.standard_normal((outputs, inputs, 3, 3)) / np.sqrt(inputs * 9)
        if name == "uneven":
            values[::2] *= 200
        if name == "evening":
            values[:, ::2] /= 200
        names = [constant(f"{name}.w", values), constant(f"{name}.b", generator.standard_normal(outputs) * 0.1)]
        return helper.make_node("Conv", [source, *names], [name], name, pads=[1] * 4)

    normal = generator.standard_normal
    nodes = [
        convolution("stem", "image", SHAPE[0], 16),
        helper.make_node("Relu", ["stem"], ["stem.r"], "stem_relu"),
        convolution("uneven", "stem.r", 16, 16),
        convolution("evening", "uneven", 16, 16),
        helper.make_node("Add", ["evening", "stem.r"], ["sum"], "residual"),
        convolution("small", "sum", 16, OUTPUTS["small"]),
        helper.make_node("ConvTranspose", ["sum", constant("up.w", normal((16, 4, 4, 4)) * 0.2)], ["up"], "up",
                         strides=[2, 2], pads=[1] * 4, group=2),
        helper.make_node("BatchNormalization", ["up", constant("bn.s", np.geomspace(0.05, 5, 8)),
                                                constant("bn.b", normal(8)), constant("bn.m", normal(8) * 0.1),
                                                constant("bn.v", normal(8) ** 2 + 0.1)], ["up.n"], "norm"),
        helper.make_node("Relu", ["up.n"], ["up.r"], "up_relu"),
        convolution("large", "up.r", 8, OUTPUTS["large"]),
    ]  # fmt: skip
    channels, height, width = SHAPE
    outputs = {"small": (batch, 4, height, width), "large": (batch, 5, 2 * height, 2 * width)}
    return model(nodes, weights, (batch, channels, height, width), outputs)


def model(nodes: list, weights: list, shape: tuple, outputs: dict[str, tuple]) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in outputs.items()]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "g", inputs, values, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    onnx.checker.check_model(made)
    return made


def write_job(
    folder: Path,
    precision: str,
    options: dict | None = None,
    batch: int = 1,
    graph: onnx.ModelProto | None = None,
    **more,
) -> Path:
    """A job folder as common/ writes it: 16 calibration tensors, 5 samples. options: of the rung; more: of job.json."""
    (folder / "calib").mkdir(parents=True)
    graph = graph or network(batch)
    onnx.save(graph, folder / "model.onnx")
    generator = np.random.default_rng(0)
    for index in range(16):
        np.save(folder / "calib" / f"{index:04d}.npy", generator.standard_normal((1, *SHAPE), np.float32))
    np.savez(folder / "samples.npz", image=generator.standard_normal((5, *SHAPE), np.float32))
    outputs = [
        {"name": value.name, "shape": [size.dim_value for size in value.type.tensor_type.shape.dim]}
        for value in graph.graph.output
    ]
    job = {
        "version": 1, "model": "net", "chip": "rk3588", "vendor": "rk3588", "variant": precision,
        "precision": precision, "batch": batch, "keep_float": [], "graph": "model.onnx",
        "rung": None if options is None else {"number": 1, "name": "test", "options": options},
        "inputs": [{"name": "image", "shape": [batch, *SHAPE]}], "outputs": outputs,
        "calibration": None if precision == "fp16" else "calib", "samples": "samples.npz",
        "outputs_file": "outputs.npz", "artifact": "net", "options": {},
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job | more))
    return folder


def change_job(folder: Path, **keys: object) -> None:
    path = folder / "job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


@pytest.fixture(scope="session")
def compiled(toolkit: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """compiled(precision, options=None, batch=1) -> a compiled and simulated job folder, for looking at only."""
    made: dict[str, Path] = {}

    def build(precision: str, options: dict | None = None, batch: int = 1) -> Path:
        key = repr((precision, options, batch))
        if key not in made:
            folder = write_job(tmp_path_factory.mktemp("job") / "job", precision, options, batch)
            for script in ("compile.py", "infer.py"):
                done = run_script(script, folder)
                assert done.returncode == 0, done.stdout + done.stderr
            made[key] = folder
        return made[key]

    return build


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    """copied(folder) -> a copy that a test may damage."""
    return lambda folder: Path(shutil.copytree(folder, tmp_path / "copy"))
