"""Job folders for the scripts of vendors/kl730, which run with the doubles of Kneron's packages first on the path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[3]
VENDOR = ROOT / "vendors" / "kl730"
DOUBLES = ROOT / "tests" / "doubles"
SHAPE = (3, 16, 12)
MIXED = {"ranges": "mmse", "datapath": "mix light", "weights": "mix light"}
WIDE = {"datapath": "int16", "weights": "int16", "inputs": "int16", "outputs": "int16", "cpu_nodes": "int16"}


def environment(*folders: Path, **variables: str) -> dict[str, str]:
    """The variables of a run; folders: in front of the doubles."""
    paths = [*folders, DOUBLES / "kl730", DOUBLES]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(str(path) for path in paths), **variables}


def run_script(name: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(VENDOR / name), *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment(**variables))


def evaluated(code: str, **variables: str) -> object:
    """What a piece of code prints as JSON, with the vendor folder's modules on the path."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment(VENDOR, **variables)
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def failed(done: subprocess.CompletedProcess[str], *words: str, code: int = 1) -> None:
    """One message and one hint, the exit code, no traceback; the message holds the words."""
    lines = done.stderr.splitlines()
    assert done.returncode == code, done.stdout + done.stderr
    assert len([line for line in lines if line.startswith("ERROR: ")]) == 1, done.stderr
    assert len([line for line in lines if line.startswith("HINT: ") and len(line) > 10]) == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    message = next(line for line in lines if line.startswith("ERROR: "))
    for word in words:
        assert word in message, message


def left_over(folder: Path) -> list[str]:
    """What a failing compilation should not leave behind."""
    return [
        one.name for one in folder.iterdir() if one.name == "compile.json" or one.name.startswith(("net.", ".part"))
    ]


def network(equal_outputs: bool = False, extra: str = "", opset: int = 11) -> onnx.ModelProto:
    """A stem, a residual, an upsampling and two outputs, of one shape or of two. extra: an operator before the end."""
    generator = np.random.default_rng(1)
    scales = {"roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
    weights = [numpy_helper.from_array(array, name) for name, array in scales.items()]

    def convolution(name: str, source: str, inputs: int, outputs: int) -> onnx.NodeProto:
        values = generator.standard_normal((outputs, inputs, 3, 3)) / np.sqrt(inputs * 9)
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"{name}.w"))
        return helper.make_node("Conv", [source, f"{name}.w"], [name], name, pads=[1] * 4)

    nodes = [
        convolution("stem", "image", SHAPE[0], 8),
        helper.make_node("Relu", ["stem"], ["stem.r"], "stem_relu"),
        convolution("body", "stem.r", 8, 8),
        helper.make_node("Add", ["body", "stem.r"], ["sum"], "residual"),
    ]
    last = "sum"
    if extra:
        nodes.append(helper.make_node(extra, ["sum"], ["extra"], "odd_one"))
        last = "extra"
    nodes.append(convolution("small", last, 8, 4))
    if equal_outputs:
        nodes.append(convolution("large", last, 8, 4))
        large = [1, 4, *SHAPE[1:]]
    else:
        resize = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        nodes += [
            helper.make_node("Resize", [last, "roi", "scales"], ["up"], "up", **resize),
            convolution("large", "up", 8, 5),
        ]
        large = [1, 5, 2 * SHAPE[1], 2 * SHAPE[2]]
    outputs = {"small": [1, 4, *SHAPE[1:]], "large": large}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in outputs.items()]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, *SHAPE])]
    graph = helper.make_graph(nodes, "g", inputs, values, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    onnx.checker.check_model(made)
    return made


def write_job(folder: Path, options: dict | None = None, graph: onnx.ModelProto | None = None, count: int = 6, **more):
    """A job folder as common/ writes it. options: of the rung; more: of job.json."""
    (folder / "calib").mkdir(parents=True)
    graph = graph or network()
    onnx.save(graph, folder / "model.onnx")
    generator = np.random.default_rng(0)
    for index in range(count):
        np.save(folder / "calib" / f"{index:04d}.npy", generator.standard_normal((1, *SHAPE), np.float32))
    # Within what was calibrated on: what is clipped would hide what is rounded.
    np.savez(folder / "samples.npz", image=generator.standard_normal((3, *SHAPE), np.float32) * np.float32(0.7))
    outputs = [
        {"name": value.name, "shape": [size.dim_value for size in value.type.tensor_type.shape.dim]}
        for value in graph.graph.output
    ]
    job = {
        "version": 1, "model": "net", "chip": "kl730", "vendor": "kl730", "variant": "int8", "precision": "int8",
        "batch": 1, "keep_float": [], "graph": "model.onnx", "double": True, "options": {},
        "rung": None if options is None else {"number": 1, "name": "test", "options": options},
        "inputs": [{"name": "image", "shape": [1, *SHAPE]}], "outputs": outputs, "calibration": "calib",
        "samples": "samples.npz", "outputs_file": "outputs.npz", "artifact": "net.double",
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job | more))
    return folder


def change_job(folder: Path, **keys: object) -> None:
    path = folder / "job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def record_of(folder: Path, name: str = "compile.json") -> dict:
    return json.loads((folder / name).read_text())


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
