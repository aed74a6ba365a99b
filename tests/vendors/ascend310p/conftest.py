"""Job folders for the scripts of vendors/ascend310p, which run against the stand-ins in tests/doubles/ascend310p.

Other vendor folders have modules of the same names: what is imported here is imported under a clean list of modules.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[3]
VENDOR = ROOT / "vendors" / "ascend310p"
DOUBLES = ROOT / "tests" / "doubles"
DOUBLE = DOUBLES / "ascend310p"
SHAPE = (3, 16, 12)
SIZES = [[16, 12], [12, 16], [32, 24]]
PIXELS = {"color": "rgb", "scale": 255.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([str(DOUBLE), str(DOUBLES)]),
    "PATH": os.pathsep.join([str(DOUBLE / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    "PYTHONDONTWRITEBYTECODE": "1",
}


@contextmanager
def importing(*folders: Path) -> Iterator[None]:
    """Within: modules of these folders are the ones that `import` finds, whatever was imported before."""
    names = {path.stem for folder in folders for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}

    def own() -> list[str]:
        return [name for name in sys.modules if name.split(".")[0] in names]

    before = {name: sys.modules.pop(name) for name in own()}
    sys.path[:0] = [str(folder) for folder in folders]
    try:
        yield
    finally:
        del sys.path[: len(folders)]
        for name in own():
            del sys.modules[name]
        sys.modules.update(before)


def load(*names: str) -> list[ModuleType]:
    """Modules of the vendor folder, together: what they share is the same in each."""
    with importing(VENDOR):
        return [importlib.import_module(name) for name in names]


def run_script(name: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(VENDOR / name), *(str(argument) for argument in arguments)]
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PROGRESS")}
    environment = {**kept, **ENVIRONMENT, **variables}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def failed(done: subprocess.CompletedProcess[str], *words: str, code: int = 1) -> None:
    """One message and one hint, the exit code, no traceback; message or hint hold the words."""
    lines = done.stderr.splitlines()
    assert done.returncode == code, done.stdout + done.stderr
    said = [line for line in lines if line.startswith(("ERROR: ", "HINT: "))]
    assert [line.split(":")[0] for line in said] == ["ERROR", "HINT"], done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    for word in words:
        assert word in " ".join(said), said


def left_over(folder: Path) -> list[str]:
    """What a failing compilation should not leave behind."""
    endings = (".om", ".onnx", ".cfg")
    names = [path.name for path in folder.iterdir() if path.name != "model.onnx"]
    return [name for name in names if name.endswith(endings) or name == "compile.json" or name.startswith(".partial")]


def network(batch: int = 1, more: str = "") -> onnx.ModelProto:
    """A stem, a convolution whose inputs differ much in size, a residual sum, an upsampling, and two outputs.

    more: "reshape", "grid", "sizes" or "slice", a node that holds the image's size; "batch": one that holds the batch.
    """
    generator = np.random.default_rng(1)
    weights: list[onnx.TensorProto] = []

    def constant(name: str, values: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(values, name))
        return name

    def convolution(name: str, source: str, inputs: int, outputs: int) -> onnx.NodeProto:
        values = generator.standard_normal((outputs, inputs, 3, 3)) / np.sqrt(inputs * 9)
        if name == "uneven":
            values[::2] *= 50
        if name == "evening":
            values[:, ::2] /= 50
        names = [constant(f"{name}.w", values.astype(np.float32))]
        names.append(constant(f"{name}.b", (generator.standard_normal(outputs) * 0.1).astype(np.float32)))
        return helper.make_node("Conv", [source, *names], [name], name, pads=[1] * 4)

    _, height, width = SHAPE
    nodes = [
        convolution("stem", "image", SHAPE[0], 8),
        helper.make_node("Relu", ["stem"], ["stem.r"], "stem_relu"),
        convolution("uneven", "stem.r", 8, 8),
        convolution("evening", "uneven", 8, 8),
        helper.make_node("Add", ["evening", "stem.r"], ["sum"], "residual"),
    ]
    source = "sum"
    if more in ("reshape", "batch"):
        to = [0, 0, height, width] if more == "reshape" else [batch, 8, -1, width]
        nodes.append(helper.make_node("Reshape", [source, constant("to", np.array(to, np.int64))], ["held"], "holder"))
    if more == "grid":
        grid = constant("grid", np.ones((1, 1, height, width), np.float32))
        nodes.append(helper.make_node("Add", [source, grid], ["held"], "holder"))
    if more == "slice":
        parts = [constant(name, np.array([value], np.int64)) for name, value in (("s", 0), ("e", height), ("a", 2))]
        nodes.append(helper.make_node("Slice", [source, *parts], ["held"], "holder"))
    source = "held" if more in ("reshape", "batch", "grid", "slice") else source
    scales = constant("scales", np.array([1, 1, 2, 2], np.float32))
    last = [constant("empty", np.array([], np.float32)), scales]
    if more == "sizes":
        last = ["empty", "empty", constant("sizes", np.array([batch, 8, 2 * height, 2 * width], np.int64))]
    nodes += [
        convolution("small", source, 8, 4),
        helper.make_node("Resize", [source, *last], ["up"], "up", mode="nearest",
                         coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        convolution("large", "up", 8, 5),
    ]  # fmt: skip
    shapes = {"small": (batch, 4, height, width), "large": (batch, 5, 2 * height, 2 * width)}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in shapes.items()]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, (batch, *SHAPE))]
    graph = helper.make_graph(nodes, "g", inputs, values, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    onnx.checker.check_model(made)
    return onnx.shape_inference.infer_shapes(made)


def pixels(count: int) -> np.ndarray:
    """Normalised photographs, so to speak: float32 [count, 3, 16, 12]."""
    values = np.random.default_rng(0).integers(0, 256, (count, *SHAPE))
    mean, std = (np.array(PIXELS[key]).reshape(1, 3, 1, 1) * 255 for key in ("mean", "std"))
    return ((values - mean) / std).astype(np.float32)


def write_job(folder: Path, precision: str, options: dict | None = None, graph: onnx.ModelProto | None = None, **more):
    """A job folder as common/ writes it: 12 calibration tensors, 3 samples. options: of make; more: of job.json."""
    (folder / "calib").mkdir(parents=True)
    batch = more.get("batch", 1)
    graph = graph or network(batch)
    onnx.save(graph, folder / "model.onnx")
    images = pixels(15)
    for index in range(12):
        np.save(folder / "calib" / f"{index:04d}.npy", images[index : index + 1])
    np.savez(folder / "samples.npz", image=images[12:])
    outputs = [
        {"name": value.name, "shape": [size.dim_value for size in value.type.tensor_type.shape.dim]}
        for value in graph.graph.output
    ]
    job = {
        "version": 1, "model": "net", "chip": "ascend310p", "vendor": "ascend310p", "variant": precision,
        "precision": precision, "batch": batch, "keep_float": [], "graph": "model.onnx", "rung": None,
        "inputs": [{"name": "image", "shape": [batch, *SHAPE], **PIXELS}], "outputs": outputs, "sizes": SIZES,
        "calibration": "calib" if precision == "int8" else None, "samples": "samples.npz", "double": True,
        "outputs_file": "outputs.npz", "artifact": "net.double", "options": options or {},
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job | more))
    return folder


def rung(**options: object) -> dict:
    return {"number": 1, "name": "test", "options": options}


def change_job(folder: Path, **keys: object) -> None:
    path = folder / "job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def by_onnxruntime(folder: Path) -> dict[str, np.ndarray]:
    """The float network's outputs on the samples, float32 [N, ...] by name."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    samples = np.load(folder / "samples.npz")["image"]
    batch = session.get_inputs()[0].shape[0]
    places = [np.minimum(np.arange(start, start + batch), len(samples) - 1) for start in range(0, len(samples), batch)]
    rows = [session.run(None, {"image": samples[place]}) for place in places]
    names = [value.name for value in session.get_outputs()]
    return {name: np.concatenate([row[i] for row in rows])[: len(samples)] for i, name in enumerate(names)}


def error(folder: Path, file: str = "outputs.npz") -> float:
    """Squared error over squares against float, of the worse output."""
    exact, found = by_onnxruntime(folder), np.load(folder / file)
    assert sorted(found.files) == sorted(exact)
    return max(float(((found[name] - exact[name]) ** 2).sum() / (exact[name] ** 2).sum()) for name in exact)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory):
    """compiled(precision, options=None, **more of job.json) -> a compiled job folder, to look at or to copy."""
    made: dict[str, Path] = {}

    def build(precision: str, options: dict | None = None, **more: object) -> Path:
        key = repr((precision, options, more))
        if key not in made:
            folder = write_job(tmp_path_factory.mktemp("job") / "job", precision, options, **more)
            done = run_script("compile.py", folder)
            assert done.returncode == 0, done.stdout + done.stderr
            made[key] = folder
        return made[key]

    return build
