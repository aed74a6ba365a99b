"""Compile the network of a job folder for ncnn.

    python compile.py JOB

fp32: pnnx's float files. int8: those, calibrated on calib/*.npy and quantised by this folder's own writer.
Writes <artifact>.ncnn.param, <artifact>.ncnn.bin and, last, compile.json; for int8 also <artifact>.table and
<artifact>.float.param/.bin, from which upstream's ncnn2int8 makes the same artifact. A failure leaves none of them.
"""

from __future__ import annotations

import importlib.metadata
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from artifact_files import artifact_files, side_files
from artifact_record import finish, remove_results
from atomic_files import scratch_folder
from failure import VendorError, run
from job_file import Job, load_calibration, load_samples, read_job
from pnnx_convert import convert, prove


def _first_sample(job: Job) -> dict[str, np.ndarray]:
    """A real input when the job has one, else noise of the order of a normalised image (no chance is involved)."""
    if job.samples.is_file():
        return {name: array[:1] for name, array in load_samples(job.samples, job.inputs).items()}
    generator = np.random.default_rng(0)
    return {tensor.name: generator.standard_normal(tensor.shape, np.float32) for tensor in job.inputs}


def build(job: Job, folder: Path) -> tuple[list[Path], dict[str, Any] | None]:
    """Make all files inside `folder` under their final names; returns them, the artifact's first, and the report."""
    param, weights = convert(job, folder)
    sample = _first_sample(job)
    prove(job, param, weights, sample, folder)
    made = [folder / path.name for path in artifact_files(job)]
    if job.precision == "fp32":
        param.replace(made[0])
        weights.replace(made[1])
        return made, None
    # Imported here: converting alone needs none of it.
    from calibrate import calibrate
    from quantize import load_network, quantize_network, write_network
    from scale_table import table_text

    table_path, float_param, float_weights = (folder / path.name for path in side_files(job))
    param.replace(float_param)
    weights.replace(float_weights)
    network = load_network(float_param, float_weights, keep_unwritten=True)
    outputs = [f"out{index}" for index in range(len(job.outputs))]
    result = calibrate(network, float_param, float_weights, load_calibration(job), outputs, folder)
    table_path.write_text(table_text(result.table), encoding="utf-8")
    write_network(quantize_network(network, result.table, result.float_layers), *made, keep_unwritten=True)
    prove(job, *made, sample, folder)
    limit = result.report["limits"]["artifact_bytes"]
    if sum(path.stat().st_size for path in made) > limit:
        raise VendorError(
            f"the int8 artifact is larger than {limit} bytes, the limit for this network: too little of it can be int8",
            "use PRECISION=fp32: a network without convolutions gains nothing from int8 in ncnn",
        )
    return [*made, table_path, float_param, float_weights], result.report


def compile_job(job: Job) -> list[Path]:
    """Compile and move the results into place, compile.json last; returns the artifact's files."""
    started = time.monotonic()
    remove_results(job)
    with scratch_folder(job.folder) as folder:
        made, quantization = build(job, folder)
        artifact = artifact_files(job)
        tools = {name: importlib.metadata.version(name) for name in ("ncnn", "pnnx")}
        finish(job, made[: len(artifact)], made[len(artifact) :], started, tools, quantization)
    return artifact


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise VendorError("one argument is needed", "compile.py JOB, where JOB is out/<model>/ncnn/<precision>")
    made = compile_job(read_job(Path(arguments[0])))
    size = sum(path.stat().st_size for path in made)
    print(f"{', '.join(path.name for path in made)}: {size / 1e6:.2f} MB", file=sys.stderr)


if __name__ == "__main__":
    run(main)
