"""compile.py, infer.py and layers.py of vendors/bm1684 with the real TPU-MLIR, on a network of four convolutions."""

import json
import os
import re
import subprocess
import tempfile

import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from .conftest import OUTPUTS, SHAPE, VENDOR, model, network, run_script, write_job


def record_of(folder):
    return json.loads((folder / "compile.json").read_text())


def outputs_of(folder, *arguments, **variables):
    done = run_script("infer.py", folder, *arguments, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    with np.load(arguments[1] if arguments else folder / "outputs.npz") as archive:
        return {name: archive[name] for name in archive.files}


def float_outputs(batch, samples):
    """The ONNX's own outputs for float32 [N, ...] samples, one batch of copies a sample."""
    session = onnxruntime.InferenceSession(network(batch).SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    rows = [session.run(None, {"image": np.repeat(sample[None], batch, axis=0)}) for sample in samples]
    return {name: np.concatenate([row[index][:1] for row in rows]) for index, name in enumerate(names)}


def energy_ratio_db(exact, found):
    error = np.sum((exact - found).astype(np.float64) ** 2)
    return np.inf if error == 0 else 10 * np.log10(np.sum(exact.astype(np.float64) ** 2) / error)


@pytest.mark.parametrize(
    ("chip", "precision", "batch", "least_db"),
    [("bm1684", "int8", 1, 12), ("bm1684x", "bf16", 4, 30), ("bm1684", "fp32", 1, 90)],
)
def test_the_compiled_network_gives_the_onnx_s_outputs_under_its_names(
    compiled, copies, chip, precision, batch, least_db
):
    folder = copies(compiled(chip, precision, batch))
    record = record_of(folder)
    assert record["artifact"] == ["small-net.bmodel"]
    assert record["graph_equals_bmodel"]["samples"] in (1, 2)
    assert record["peak_memory_bytes"] > 100e6
    assert set(record["tools"]) >= {"tpu_mlir", "onnx"}
    assert {"top_against_onnx", "graph_against_float", "bmodel_against_graph"} == set(record["stages"])
    assert record["stages"]["top_against_onnx"]["compared"] >= 5
    found = outputs_of(folder)
    with np.load(folder / "samples.npz") as archive:
        exact = float_outputs(batch, archive["image"])
    assert set(found) == set(OUTPUTS)
    for name, value in found.items():
        assert value.shape == exact[name].shape
        assert energy_ratio_db(exact[name], value) > least_db, name
    result = json.loads((folder / "infer.json").read_text())
    assert result["samples"] == 5
    assert result["latency_ms"] is None
    assert result["simulated"] is True


@pytest.mark.parametrize(("chip", "precision", "batch"), [("bm1684", "int8", 1), ("bm1684x", "bf16", 4)])
def test_the_bmodel_itself_gives_the_bits_of_the_graph_that_stands_for_it(compiled, copies, chip, precision, batch):
    folder = copies(compiled(chip, precision, batch))
    assert record_of(folder)["graph_equals_bmodel"]["equal"] is True
    of_graph = outputs_of(folder)
    assert "quantised graph" in json.loads((folder / "infer.json").read_text())["device"]
    with tempfile.TemporaryDirectory(prefix="t") as temporary:  # a short path: the vendor's tools have sockets there
        of_bmodel = outputs_of(folder, BMODEL="1", TMPDIR=temporary)
        assert os.listdir(temporary) == []
    assert "the BModel in the simulator" in json.loads((folder / "infer.json").read_text())["device"]
    for name in OUTPUTS:
        assert np.array_equal(of_graph[name], of_bmodel[name])


@pytest.mark.parametrize(("precision", "samples"), [("int8", 2), ("fp32", 1)])  # fp32 differs in its last bit at once
def test_the_second_sample_runs_beside_the_vendors_own_comparison(compiled, precision, samples):
    folder = compiled("bm1684", precision)
    told = folder.with_suffix(".log").read_text()
    (lowered,) = re.finditer(r"^== tpuc-opt ", told, re.MULTILINE)  # the graph with its weights, which is run
    last_comparison = told.rindex("compared\n")
    assert told.index("--codegen=") < lowered.start() < last_comparison
    assert record_of(folder)["graph_equals_bmodel"]["samples"] == samples
    assert record_of(folder)["graph"] in record_of(folder)["files"]


def test_a_graph_that_was_not_shown_to_be_equal_is_not_taken(compiled, copies):
    folder = copies(compiled("bm1684", "int8"))
    record = record_of(folder)
    record["graph_equals_bmodel"]["equal"] = False
    (folder / "compile.json").write_text(json.dumps(record))
    outputs_of(folder)
    assert "the BModel in the simulator" in json.loads((folder / "infer.json").read_text())["device"]


def test_the_same_job_elsewhere_gives_the_same_bytes(compiled, tmp_path):
    again = write_job(tmp_path / "another place" / "job", "bm1684", "fp32")
    # All new memory is 0: the number that the compiler leaves uninitialised is, too, which moves what stands behind it.
    done = run_script("compile.py", again, MALLOC_PERTURB_="255")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert record_of(again)["sha256"] == record_of(compiled("bm1684", "fp32"))["sha256"]
    # Nothing is left behind but what compile.json lists, and the cache.
    known = {"job.json", "model.onnx", "samples.npz", "calib", "cache", "compile.json", *record_of(again)["files"]}
    assert {path.name for path in again.iterdir()} == known


def test_layers_are_compared_with_float_in_the_graph_s_order(compiled, copies):
    folder = copies(compiled("bm1684", "int8"))
    done = run_script("layers.py", folder)
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "layers.json").read_text())
    assert report["samples"] == 4
    layers = {layer["outputs"][0]: layer for layer in report["layers"] if layer["outputs"]}
    assert next(iter(layers)) == "stem.r"
    assert {"stem.r", "sum", "maps", "tags.out"} <= set(layers)
    assert all(layer["precision"] == "int8" and 0.9 < layer["cosine"] <= 1 for layer in layers.values())
    # Errors add up on the way: the first layer has less of it than an output.
    assert layers["stem.r"]["sqnr_db"] > layers["maps"]["sqnr_db"]


def test_the_bare_commands_that_bench_measures_run(compiled, copies):
    folder = copies(compiled("bm1684", "int8"))
    done = run_script("bare_commands.py", folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert set(result["steps"]) == {"transform", "calibration", "deploy"}
    assert result["seconds"] == pytest.approx(sum(result["steps"].values()))
    assert result["runner_seconds_per_sample"] > 0
    assert not list(folder.glob(".partial*"))


def test_a_layer_that_the_compiler_gets_wrong_is_written_otherwise(toolchain, tmp_path):
    """ConvTranspose with a bias on BM1684: as it stands the BModel would not be the graph (compiler_faults.py)."""
    generator = np.random.default_rng(3)
    kernel = (generator.standard_normal((SHAPE[0], 4, 4, 4)) / 5).astype(np.float32)
    weights = [numpy_helper.from_array(kernel, "k"), numpy_helper.from_array(np.arange(4, dtype=np.float32), "b")]
    shape = {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1] * 4}
    node = helper.make_node("ConvTranspose", ["image", "k", "b"], ["y"], "up", **shape)
    graph = model([node], weights, (1, *SHAPE), {"y": (1, 4, 2 * SHAPE[1], 2 * SHAPE[2])})
    folder = write_job(tmp_path / "job", "bm1684", "fp32", graph=graph)
    done = run_script("compile.py", folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    found = outputs_of(folder)["y"]
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    with np.load(folder / "samples.npz") as archive:
        exact = np.concatenate([session.run(None, {"image": sample[None]})[0] for sample in archive["image"]])
    assert energy_ratio_db(exact, found) > 90


def test_nodes_that_stay_float_are_found_where_they_were_fused(toolchain, tmp_path):
    kept = [
        {"node": "stem", "operator": "Conv", "outputs": ["stem"]},  # part of its Relu
        {"node": "residual", "operator": "Add", "outputs": ["sum"]},  # itself
    ]
    folder = write_job(tmp_path / "job", "bm1684", "int8", keep_float=kept)
    program = (
        "import sys; from pathlib import Path; from job_file import read_job; from mlir_names import kept_float_names\n"
        "print(*kept_float_names(read_job(Path(sys.argv[1])), set(sys.argv[2:])))"
    )
    names = ["stem.r_Relu", "middle_Conv", "sum_Add", "maps_Conv", "tags.out_Relu"]
    command = [str(toolchain), "-c", program, str(folder), *names]
    done = subprocess.run(command, cwd=VENDOR, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["stem.r_Relu", "sum_Add"], done.stderr
