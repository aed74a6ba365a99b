"""Job folders for the ncnn scripts, which run in their own virtual environment as they do in a build."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[3]
VENDOR = ROOT / "vendors" / "ncnn"
PYTHON = ROOT / ".venv" / "ncnn" / "bin" / "python"
sys.path.insert(0, str(VENDOR))  # the scripts import each other by plain names

SHAPE = (1, 3, 32, 24)


def run_script(name: str, *arguments: object, **options: object) -> subprocess.CompletedProcess:
    assert PYTHON.exists(), "make the environment first: make .venv/ncnn"
    command = [str(PYTHON), str(VENDOR / name), *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def network(hurting: bool = False) -> onnx.ModelProto:
    """A small heatmap network: five convolutions, a residual sum, an upsampling.

    hurting: the input of convolution `hurt` has half its channels a thousand times larger than the other half, and
    weights that make up for it: one scale for all its channels cannot be right for both.
    """
    generator = np.random.default_rng(1)
    weights: dict[str, np.ndarray] = {}

    def convolution(name: str, source: str, inputs: int, outputs: int, size: int, stride: int = 1) -> list:
        weights[f"{name}.w"] = generator.standard_normal((outputs, inputs, size, size)) / np.sqrt(inputs * size**2)
        weights[f"{name}.b"] = generator.standard_normal(outputs) * 0.1
        pads = [size // 2] * 4
        node = helper.make_node(
            "Conv", [source, f"{name}.w", f"{name}.b"], [name], name, pads=pads, strides=[stride] * 2
        )
        return [node, helper.make_node("Relu", [name], [f"{name}.r"])]

    nodes = [
        *convolution("stem", "image", 3, 32, 3, 2),
        *convolution("one", "stem.r", 32, 32, 3),
        helper.make_node("Add", ["one.r", "stem.r"], ["sum"]),
        *convolution("two", "sum", 32, 32, 3),
        *convolution("hurt", "two.r", 32, 8, 1),
        helper.make_node("Resize", ["hurt.r", "region", "scales"], ["large"], mode="nearest", nearest_mode="floor",
                         coordinate_transformation_mode="asymmetric"),
        convolution("last", "large", 8, 5, 3)[0],
    ]  # fmt: skip
    if hurting:
        weights["two.w"][::2] *= 1000
        weights["two.b"][::2] *= 1000
        weights["hurt.w"][:, ::2] /= 1000
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    tensors.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"))
    tensors.append(numpy_helper.from_array(np.array([], np.float32), "region"))
    return model(nodes, tensors, SHAPE, {"last": (1, 5, 32, 24)})


def model(nodes: list, tensors: list, shape: tuple, outputs: dict[str, tuple]) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in outputs.items()]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)], values, tensors
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    made.ir_version = 7
    onnx.checker.check_model(made)
    return made


def job_maker(folder_of_all: Path) -> Callable[..., Path]:
    """A function that makes job folders, as common/ writes them, inside a folder."""

    def make(precision: str, graph: onnx.ModelProto | None = None, samples: int = 12, name: str = "job") -> Path:
        folder = folder_of_all / name
        (folder / "calib").mkdir(parents=True)
        graph = graph or network()
        onnx.save(graph, folder / "model.onnx")
        outputs = [
            {"name": value.name, "shape": [d.dim_value for d in value.type.tensor_type.shape.dim]}
            for value in graph.graph.output
        ]
        generator = np.random.default_rng(0)
        for index in range(samples):
            np.save(folder / "calib" / f"{index:04d}.npy", generator.standard_normal(SHAPE, np.float32))
        np.savez(folder / "samples.npz", image=generator.standard_normal((5, *SHAPE[1:]), np.float32))
        job = {
            "version": 1, "model": "small", "chip": "ncnn", "variant": precision, "precision": precision,
            "graph": "model.onnx", "inputs": [{"name": "image", "shape": list(SHAPE)}], "outputs": outputs,
            "calibration": "calib" if precision == "int8" else None, "samples": "samples.npz",
            "outputs_file": "outputs.npz", "artifact": "small", "options": {},
        }  # fmt: skip
        (folder / "job.json").write_text(json.dumps(job))
        return folder

    return make


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Path]:
    """make_job(precision, graph=None, samples=12) -> a job folder."""
    return job_maker(tmp_path)
