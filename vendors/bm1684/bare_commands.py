"""TPU-MLIR's plain commands on a job, as its manual writes them: what compile.py is measured against.

    python bare_commands.py JOB

model_transform, run_calibration, model_deploy with the vendor's own comparisons, by the wheel's start scripts, in a
scratch folder that goes away. Same tensors, same calibration as the job's rung. The last line is JSON: seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from artifact_record import peak_memory_bytes
from atomic_files import scratch_folder
from failure import VendorError, run
from graph_stages import ANY_SIMILARITY, MODES, QUANTISED_TOLERANCE
from job_file import Job, load_calibration, load_samples, read_job

RUNNER_STARTS = 2


def _command(folder: Path, tool: str, *arguments: object) -> float:
    """Run one start script of the environment in `folder`; seconds. Raises VendorError when it fails."""
    binaries = Path(sys.executable).parent
    environment = {**os.environ, "PATH": os.pathsep.join([str(binaries), os.environ.get("PATH", "")])}
    print(f"== {tool} {' '.join(map(str, arguments))}", flush=True)
    started = time.perf_counter()
    code = subprocess.call([str(binaries / tool), *map(str, arguments)], cwd=folder, env=environment)
    if code != 0:
        raise VendorError(f"{tool} failed with exit code {code}", "its output stands above")
    return time.perf_counter() - started


def measure(job: Job, folder: Path) -> dict:
    """Seconds of every command; and of model_runner, started anew for one sample."""
    samples = load_samples(job.samples, job.inputs)
    batch = {name: np.resize(array, (job.batch, *array.shape[1:])) for name, array in samples.items()}
    np.savez(folder / "in.npz", **batch)
    shapes = ",".join("[" + ",".join(map(str, tensor.shape)) + "]" for tensor in job.inputs)
    mode, steps = MODES[job.precision], {}
    arguments = ["--model_name", "net", "--model_def", job.graph, "--input_shapes", f"[{shapes}]"]
    arguments += ["--test_input", "in.npz", "--test_result", "top.npz", "--mlir", "net.mlir"]
    steps["transform"] = _command(folder, "model_transform", *arguments)
    arguments = ["--mlir", "net.mlir", "--quantize", mode, "--processor", job.chip]
    if job.precision == "int8":
        from calibration_table import vendor_arguments, vendor_samples

        (folder / "samples").mkdir()
        tensors = vendor_samples(load_calibration(job), job.batch)
        for index, tensor in enumerate(tensors):
            np.savez(folder / "samples" / f"{index:04d}.npz", **{job.inputs[0].name: tensor})
        options = [*vendor_arguments(job.rung.get("calibration", "max"), len(tensors)), "--processor", job.chip]
        steps["calibration"] = _command(folder, "run_calibration", "net.mlir", *options)
        arguments += ["--calibration_table", "table"]
    arguments += ["--test_input", "in.npz", "--test_reference", "top.npz", "--model", "net.bmodel"]
    arguments.append(f"--tolerance={QUANTISED_TOLERANCE.get(mode, ANY_SIMILARITY)}")
    steps["deploy"] = _command(folder, "model_deploy", *arguments)
    arguments = ["--input", "in.npz", "--model", "net.bmodel", "--output", "out.npz"]
    runs = [_command(folder, "model_runner", *arguments) for _ in range(RUNNER_STARTS)]
    return {
        "seconds": sum(steps.values()),
        "steps": steps,
        "peak_memory_bytes": peak_memory_bytes(),
        "runner_seconds_per_sample": sum(runs) / len(runs) / job.batch,
    }


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise VendorError("one argument is needed", "bare_commands.py JOB")
    job = read_job(Path(arguments[0]).resolve())
    with scratch_folder(job.folder) as folder:
        print(json.dumps(measure(job, folder)))


if __name__ == "__main__":
    run(main)
