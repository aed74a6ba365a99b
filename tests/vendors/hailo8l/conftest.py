"""Job folders for the scripts of vendors/hailo8l, run against the double of Hailo's compiler.

A start of the SDK's process takes a second: what several tests look at is compiled once a session.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[3]
VENDOR = ROOT / "vendors" / "hailo8l"
DOUBLES = ROOT / "tests" / "doubles"
PATHS = os.pathsep.join([str(DOUBLES / "hailo8l"), str(DOUBLES)])
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
LEFT_OVER = ("compile.json", "net.double.hef", "net.double.alls", "net.double.parsed.har", "net.double.quantised.har")


def run_script(
    name: str, *arguments: object, folder: Path = VENDOR, paths: str = PATHS, **variables: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / name), *(str(argument) for argument in arguments)]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HAILO", "PYTHON"))}
    environment = {**kept, "PYTHONPATH": paths, **variables}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def in_vendor_folder(code: str) -> str:
    """What this code prints, run with the vendor folder's modules and the double's paths."""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(VENDOR), PATHS])}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def failed(done: subprocess.CompletedProcess[str], *words: str, code: int = 1) -> None:
    """One message and one hint, the exit code, no traceback; message and hint hold the words."""
    lines = done.stderr.splitlines()
    assert done.returncode == code, done.stdout + done.stderr
    assert len([line for line in lines if line.startswith("ERROR: ")]) == 1, done.stderr
    assert len([line for line in lines if line.startswith("HINT: ") and len(line) > 6]) == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    told = "\n".join(line for line in lines if line.startswith(("ERROR: ", "HINT: ")))
    for word in words:
        assert word in told, told


def left_over(folder: Path) -> list[str]:
    """What a failing compilation should not leave behind."""
    return [path.name for path in folder.iterdir() if path.name in LEFT_OVER or path.name.startswith(".partial")]


def convolutions() -> tuple[list, Callable[..., onnx.NodeProto]]:
    """(weights, convolution(name, source, inputs, outputs, stride=1)); the weights fill up as it is called."""
    generator = np.random.default_rng(1)
    weights: list[onnx.TensorProto] = []

    def convolution(name: str, source: str, inputs: int, outputs: int, stride: int = 1) -> onnx.NodeProto:
        values = generator.standard_normal((outputs, inputs, 3, 3)) / np.sqrt(inputs * 9)
        biases = generator.standard_normal(outputs) * 0.1
        for kind, array in (("w", values), ("b", biases)):
            weights.append(numpy_helper.from_array(array.astype(np.float32), f"{name}.{kind}"))
        made = helper.make_node("Conv", [source, f"{name}.w", f"{name}.b"], [name], f"/{name}/Conv",
                                pads=[1] * 4, strides=[stride] * 2)  # fmt: skip
        return made

    return weights, convolution


def network() -> onnx.ModelProto:
    """A stem, a residual, a transposed convolution; two outputs, one of them behind an Identity."""
    weights, convolution = convolutions()
    values = np.random.default_rng(2).standard_normal((8, 4, 4, 4)) * 0.2
    weights.append(numpy_helper.from_array(values.astype(np.float32), "up.w"))
    nodes = [
        convolution("stem", "image", 3, 8),
        helper.make_node("Relu", ["stem"], ["stem.r"], "/stem/Relu"),
        convolution("middle", "stem.r", 8, 8),
        helper.make_node("Add", ["middle", "stem.r"], ["sum"], "/sum/Add"),
        convolution("small", "sum", 8, 4),
        helper.make_node("ConvTranspose", ["sum", "up.w"], ["up"], "/up/ConvTranspose", strides=[2, 2], pads=[1] * 4),
        convolution("last", "up", 4, 5),
        helper.make_node("Identity", ["last"], ["large"], "/large/Identity"),
    ]
    return model(nodes, weights, (3, 16, 12), {"small": (4, 16, 12), "large": (5, 32, 24)})


def detector(classes: int = 3, bins: int = 4) -> onnx.ModelProto:
    """Six heads at the strides 8, 16 and 32 of an input of 64 x 64: boxes (4 x bins) and classes, raw."""
    weights, convolution = convolutions()
    nodes, source, outputs = [], "image", {}
    for index, stride in enumerate((2, 4, 8, 16, 32)):
        nodes.append(convolution(f"down{stride}", source, 8 if index else 3, 8, 2))
        nodes.append(helper.make_node("Relu", [f"down{stride}"], [f"down{stride}.r"], f"/down{stride}/Relu"))
        source = f"down{stride}.r"
        if stride >= 8:
            for name, channels in (("box", 4 * bins), ("class", classes)):
                nodes.append(convolution(f"{name}_{stride}", source, 8, channels))
                outputs[f"{name}_{stride}"] = (channels, 64 // stride, 64 // stride)
    return model(nodes, weights, (3, 64, 64), outputs)


def model(nodes: list, weights: list, shape: tuple, outputs: dict[str, tuple]) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, *sizes)) for name, sizes in outputs.items()]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, *shape))]
    graph = helper.make_graph(nodes, "g", inputs, values, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    onnx.checker.check_model(made)
    return made


def images(count: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Pixels, normalised: float32 [count, 3, height, width]."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.float64)
    mean, std = (np.array(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    return ((pixels / 255 - mean) / std).astype(np.float32)


def write_job(
    folder: Path, rung: dict | None = None, graph: onnx.ModelProto | None = None, count: int = 12, **more
) -> Path:
    """A job folder as common/ writes it: 5 samples. rung: its options; more: of job.json."""
    (folder / "calib").mkdir(parents=True)
    graph = graph or network()
    onnx.save(graph, folder / "model.onnx")
    shape = tuple(size.dim_value for size in graph.graph.input[0].type.tensor_type.shape.dim)[1:]
    for index, image in enumerate(images(count, shape)):
        np.save(folder / "calib" / f"{index:04d}.npy", image[None])
    np.savez(folder / "samples.npz", image=images(5, shape, seed=1))
    outputs = [
        {"name": value.name, "shape": [size.dim_value for size in value.type.tensor_type.shape.dim]}
        for value in graph.graph.output
    ]
    job = {
        "version": 1, "model": "net", "chip": "hailo8l", "vendor": "hailo8l", "variant": "int8-double",
        "precision": "int8", "batch": 1, "keep_float": [], "graph": "model.onnx",
        "rung": None if rung is None else {"number": 1, "name": "test", "options": rung},
        "inputs": [{"name": "image", "shape": [1, *shape], "color": "rgb", "scale": 255.0, "mean": MEAN, "std": STD}],
        "outputs": outputs, "calibration": "calib", "samples": "samples.npz", "outputs_file": "outputs.npz",
        "artifact": "net.double", "options": {}, "sizes": [], "decode": {}, "labels": [], "double": True,
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job | more))
    return folder


def change_job(folder: Path, **keys: object) -> None:
    path = folder / "job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def float_outputs(folder: Path) -> dict[str, np.ndarray]:
    """What the ONNX itself gives on the job's samples."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    samples = np.load(folder / "samples.npz")["image"]
    found = [session.run(names, {"image": image[None]}) for image in samples]
    return {name: np.concatenate([one[index] for one in found]) for index, name in enumerate(names)}


def record(folder: Path, name: str = "compile.json") -> dict:
    return json.loads((folder / name).read_text())


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled and emulated job of the plain way; for looking at only."""
    folder = write_job(tmp_path_factory.mktemp("job") / "job")
    for script in ("compile.py", "infer.py"):
        done = run_script(script, folder)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def copied(compiled: Path, tmp_path: Path) -> Path:
    """The same, as a copy that a test may damage."""
    return Path(shutil.copytree(compiled, tmp_path / "copy"))
