"""compile.py and infer.py on whole job folders, with the real pnnx and the real ncnn."""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper

_spec = importlib.util.spec_from_file_location("ncnn_conftest", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
run_script, network, SHAPE = _conftest.run_script, _conftest.network, _conftest.SHAPE

from atomic_files import sha256_of  # noqa: E402
from quantize import load_network, quantize_network, write_network  # noqa: E402
from scale_table import read_table  # noqa: E402

MADE = ("small.ncnn.param", "small.ncnn.bin", "small.table", "small.float.param", "small.float.bin", "compile.json")


def compiled(folder: Path) -> dict:
    done = run_script("compile.py", folder)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "compile.json").read_text())


def refused(done: subprocess.CompletedProcess, *words: str) -> None:
    """One message, one hint, exit 1, no traceback."""
    assert done.returncode == 1, done.stderr
    lines = done.stderr.splitlines()
    assert sum(line.startswith("ERROR: ") for line in lines) == 1 and "Traceback" not in done.stderr
    assert sum(line.startswith("HINT: ") for line in lines) == 1
    for word in words:
        assert word in done.stderr


def nothing_left(folder: Path) -> None:
    left = [path.name for path in folder.iterdir() if path.name in MADE or path.name.startswith(".partial")]
    assert left == []


def by_onnxruntime(folder: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    samples = np.load(folder / "samples.npz")["image"]
    return np.concatenate([session.run(None, {"image": sample[None]})[0] for sample in samples])


def test_fp32_is_exact_float(make_job):
    folder = make_job("fp32")
    record = compiled(folder)
    files = [folder / name for name in record["artifact"]]
    assert record["artifact"] == ["small.ncnn.param", "small.ncnn.bin"] and record["quantization"] is None
    assert record["sha256"] == sha256_of(files)
    assert record["artifact_bytes"] == sum(path.stat().st_size for path in files)
    assert record["tools"] == {"ncnn": "1.0.20261020", "pnnx": "20261020"}
    done = run_script("infer.py", folder)
    assert done.returncode == 0, done.stderr
    outputs = np.load(folder / "outputs.npz")
    assert outputs.files == ["last"] and outputs["last"].dtype == np.float32
    np.testing.assert_allclose(outputs["last"], by_onnxruntime(folder), atol=2e-5)
    result = json.loads((folder / "infer.json").read_text())
    assert result["samples"] == 5 and result["latency_ms"] > 0 and result["simulated"] is True
    assert {path.name for path in folder.iterdir()} == {
        "calib", "model.onnx", "samples.npz", "job.json", "small.ncnn.param", "small.ncnn.bin", "compile.json",
        "outputs.npz", "infer.json",
    }  # fmt: skip


def test_int8_is_close_small_and_the_same_every_time(make_job, tmp_path):
    folder, again = make_job("int8"), make_job("int8", name="again")
    record = compiled(folder)
    assert (folder / "small.ncnn.bin").stat().st_size < 0.35 * (folder / "small.float.bin").stat().st_size
    assert run_script("infer.py", folder).returncode == 0
    found, exact = np.load(folder / "outputs.npz")["last"], by_onnxruntime(folder)
    error = ((found - exact) ** 2).sum() / (exact**2).sum()
    assert 0 < error < 0.003
    report = record["quantization"]
    assert report["error_after"] <= report["error_before"] == min(report["methods"].values())
    assert {layer["method"] for layer in report["per_layer"].values()} <= {*report["methods"], "float"}
    assert report["layers"] == len(report["per_layer"]) == 5

    assert compiled(again)["sha256"] == record["sha256"]

    # The artifact is what the writer, and so ncnn2int8, makes of the float files and the table that lie beside it.
    float_network = load_network(folder / "small.float.param", folder / "small.float.bin")
    quantized = quantize_network(float_network, read_table(folder / "small.table"))
    write_network(quantized, tmp_path / "o.param", tmp_path / "o.bin")
    assert (tmp_path / "o.param").read_bytes() == (folder / "small.ncnn.param").read_bytes()
    assert (tmp_path / "o.bin").read_bytes() == (folder / "small.ncnn.bin").read_bytes()


def test_a_layer_that_hurts_stays_float(make_job):
    folder = make_job("int8", network(hurting=True))
    report = compiled(folder)["quantization"]
    kept = {name: layer for name, layer in report["per_layer"].items() if layer["method"] == "float"}
    (layer,) = kept.values()  # five layers: one may stay float
    assert report["float_layers"] == list(kept)
    assert layer["why"]["after"] < layer["why"]["before"]
    widths = [line.split() for line in (folder / "small.float.param").read_text().splitlines()]
    (line,) = [words for words in widths if words[:1] and len(words) > 1 and words[1] in kept]
    assert "1=1" in line and "0=8" in line  # the 1x1 convolution to 8 channels
    assert f"{line[1]}_param_0" not in (folder / "small.table").read_text()


@pytest.mark.parametrize("file", ["small.ncnn.param", "small.ncnn.bin"])
def test_a_truncated_or_foreign_artifact_is_not_run(make_job, file):
    folder = make_job("fp32")
    compiled(folder)
    data = (folder / file).read_bytes()
    for other in (data[:-1], data[: len(data) // 2], bytes([data[0] ^ 1]) + data[1:]):
        (folder / file).write_bytes(other)
        refused(run_script("infer.py", folder), file, "not the compiled one")
    (folder / file).unlink()
    refused(run_script("infer.py", folder), file, "missing")
    assert not (folder / "outputs.npz").exists() and not (folder / "infer.json").exists()


BAD_JOBS = {
    "version": 2, "chip": "bm1684", "precision": "int4", "graph": "../model.onnx", "artifact": "a/b",
    "inputs": [{"name": "image", "shape": [1, 3, -1, 24]}], "outputs": [], "samples": "/etc/passwd",
}  # fmt: skip


@pytest.mark.parametrize("key", BAD_JOBS)
def test_a_wrong_job_is_refused(make_job, key):
    folder = make_job("fp32")
    job = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**job, key: BAD_JOBS[key]}))
    refused(run_script("compile.py", folder), "job.json")
    nothing_left(folder)


def test_a_broken_graph_and_another_shape_are_refused(make_job):
    folder = make_job("fp32")
    job = json.loads((folder / "job.json").read_text())
    job["outputs"][0]["shape"] = [1, 5, 32, 32]
    (folder / "job.json").write_text(json.dumps(job))
    refused(run_script("compile.py", folder), "last", "shape")
    nothing_left(folder)
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:500])
    refused(run_script("compile.py", folder), "pnnx")
    nothing_left(folder)
    (folder / "model.onnx").unlink()
    refused(run_script("compile.py", folder), "model.onnx is missing")


def test_an_older_artifact_does_not_survive_a_failure(make_job):
    folder = make_job("fp32")
    compiled(folder)
    (folder / "model.onnx").write_bytes(b"no graph")
    refused(run_script("compile.py", folder))
    nothing_left(folder)


def test_an_operator_without_an_ncnn_layer_is_named(make_job):
    weights = numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")
    nodes = [helper.make_node("Conv", ["image", "w"], ["c"]), helper.make_node("Softsign", ["c"], ["last"])]
    graph = _conftest.model(nodes, [weights], SHAPE, {"last": (1, 4, 32, 24)})
    folder = make_job("fp32", graph)
    refused(run_script("compile.py", folder), "Softsign")
    nothing_left(folder)


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.full(SHAPE, np.nan, np.float32), "NaN"),
        (np.zeros(SHAPE, np.float64), "float64"),
        (np.zeros((1, 3, 24, 32), np.float32), "shape"),
    ],
)
def test_bad_calibration_is_refused(make_job, array, word):
    folder = make_job("int8")
    np.save(folder / "calib" / "0003.npy", array)
    refused(run_script("compile.py", folder), "0003.npy", word)
    nothing_left(folder)


def test_no_calibration_is_refused(make_job):
    folder = make_job("int8", samples=0)
    refused(run_script("compile.py", folder), "calib")
    nothing_left(folder)


def test_samples_are_checked(make_job):
    folder = make_job("fp32")
    compiled(folder)
    good = np.load(folder / "samples.npz")["image"]
    for arrays, word in (
        ({"picture": good}, "picture"),
        ({"image": good.astype(np.float64)}, "float64"),
        ({"image": good[:, :2]}, "shape"),
        ({"image": good * np.float32(np.inf)}, "NaN or infinity"),
    ):
        np.savez(folder / "samples.npz", **arrays)
        refused(run_script("infer.py", folder), word)
    (folder / "samples.npz").write_bytes(b"PK no zip")
    refused(run_script("infer.py", folder), "samples.npz")
    # Finite inputs whose output is not: the network overflows.
    np.savez(folder / "samples.npz", image=np.copysign(np.float32(3e38), good))
    refused(run_script("infer.py", folder), "last")
    assert not (folder / "outputs.npz").exists()


def test_other_samples_and_outputs(make_job, tmp_path):
    folder = make_job("fp32")
    compiled(folder)
    np.savez(tmp_path / "in.npz", image=np.load(folder / "samples.npz")["image"][:2])
    done = run_script("infer.py", folder, tmp_path / "in.npz", tmp_path / "out.npz")
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "out.npz")["last"].shape == (2, 5, 32, 24)
    assert not (folder / "infer.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(make_job, number):
    folder = make_job("int8", samples=400)
    process = subprocess.Popen(
        [str(_conftest.PYTHON), str(_conftest.VENDOR / "compile.py"), str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(folder.glob("cache/*/float/model.ncnn.bin")):  # pnnx is done, calibration has begun
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "ERROR: interrupted" in message and "Traceback" not in message
    nothing_left(folder)
    assert not list(folder.rglob("*.partial*")) and not list(folder.rglob("statistics.json"))
    for path in sorted((folder / "calib").iterdir())[8:]:  # the next run is a shorter one, and starts clean
        path.unlink()
    compiled(folder)


def test_the_folder_works_alone(make_job, tmp_path):
    """Copied into another project, away from this one, it still compiles."""
    shutil.copytree(_conftest.VENDOR, tmp_path / "copied", ignore=shutil.ignore_patterns("__pycache__"))
    folder = make_job("fp32")
    command = [str(_conftest.PYTHON), str(tmp_path / "copied" / "compile.py"), str(folder)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
