"""Compile the network of a job folder for ncnn.

    python compile.py JOB

fp32: pnnx's float files. int8: those, calibrated on calib/*.npy as far as the job's rung goes (rung.py) and quantised
by this folder's own writer. Writes <artifact>.ncnn.param, <artifact>.ncnn.bin and, last, compile.json; for int8 also
<artifact>.table and <artifact>.float.param/.bin, from which upstream's ncnn2int8 makes the same artifact. A failure
leaves none of them. What later rungs take over stays in cache/.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from artifact_files import artifact_files, side_files
from artifact_record import cache_folder, finish, remove_results
from atomic_files import scratch_folder
from failure import VendorError, run
from job_file import Job, load_calibration, load_samples, read_job
from pnnx_convert import convert, converted, prove
from rung import rung_of

TOOLS = ("ncnn", "pnnx")


def first_sample(job: Job) -> dict[str, np.ndarray]:
    """A real input when the job has one, else noise of the order of a normalised image (no chance is involved)."""
    if job.samples.is_file():
        return {name: array[:1] for name, array in load_samples(job.samples, job.inputs).items()}
    generator = np.random.default_rng(0)
    return {tensor.name: generator.standard_normal(tensor.shape, np.float32) for tensor in job.inputs}


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in TOOLS}


def float_cache(job: Job) -> Path:
    """The cache folder of the job's graph and calibration tensors."""
    if not job.graph.is_file():
        raise VendorError(f"{job.graph} is missing", "run make again: it writes the graph")
    return cache_folder(job, [job.graph, *([job.calibration] if job.calibration else [])], _versions(), job.inputs)


def _float32(job: Job, folder: Path) -> list[Path]:
    made = [folder / path.name for path in artifact_files(job)]
    for path, target in zip(convert(job, folder), made, strict=True):
        path.replace(target)
    prove(job, *made, first_sample(job), folder)
    return made


def _quantized(job: Job, folder: Path) -> tuple[list[Path], dict[str, Any]]:
    """Make all files of an int8 job inside `folder` under their final names; returns them and the report."""
    # Imported here: converting alone needs none of it.
    from activation_statistics import store_biases
    from calibrate import calibrate, float16
    from node_layers import layers_of_nodes
    from onnx_reader import read_onnx
    from quantize import load_network, quantize_network, write_network
    from scale_search import with_biases
    from scale_table import table_text

    rung = rung_of(job.rung)
    samples = load_calibration(job)
    cache, sample = float_cache(job), first_sample(job)
    param, weights = converted(job, cache, sample)
    network = load_network(param, weights, keep_unwritten=True)
    asked = layers_of_nodes(job.keep_float, read_onnx(job.graph), network) if job.keep_float else frozenset()
    outputs = [f"out{index}" for index in range(len(job.outputs))]
    if rung.is_int8:
        result = calibrate(rung, network, param, weights, samples, outputs, folder, cache, asked)
    else:
        result = float16(network)
    table_path, float_param, float_weights = (folder / path.name for path in side_files(job))
    shutil.copyfile(param, float_param)
    shutil.copyfile(weights, float_weights)
    store_biases(network, result.biases, float_weights)
    table_path.write_text(table_text(result.table), encoding="utf-8")
    made = [folder / path.name for path in artifact_files(job)]
    variant = quantize_network(with_biases(network, result.biases, result.table), result.table, result.float_layers)
    write_network(variant, *made, keep_unwritten=True)
    prove(job, *made, sample, folder)
    limit = result.artifact_limit
    if limit is not None and sum(path.stat().st_size for path in made) > limit:
        raise VendorError(
            f"the int8 artifact is larger than {limit} bytes, the limit for this network: too little of it can be int8",
            "use PRECISION=fp32: a network without convolutions gains nothing from int8 in ncnn",
        )
    return [*made, table_path, float_param, float_weights], result.report


def compile_job(job: Job) -> list[Path]:
    """Compile and move the results into place, compile.json last; returns the artifact's files."""
    started = time.monotonic()
    remove_results(job)
    if job.batch != 1:
        raise VendorError(f"job.json: batch {job.batch}: ncnn's blobs have no batch axis", "use BATCH=1")
    with scratch_folder(job.folder) as folder:
        made, quantization = (_float32(job, folder), None) if job.precision == "fp32" else _quantized(job, folder)
        artifact = artifact_files(job)
        finish(job, made[: len(artifact)], made[len(artifact) :], started, _versions(), quantization)
    return artifact


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise VendorError("one argument is needed", "compile.py JOB, where JOB is out/<model>/ncnn/<precision>")
    made = compile_job(read_job(Path(arguments[0])))
    size = sum(path.stat().st_size for path in made)
    print(f"{', '.join(path.name for path in made)}: {size / 1e6:.2f} MB", file=sys.stderr)


if __name__ == "__main__":
    run(main)
