"""Run the artifact of a job folder on its samples with the ncnn runtime.

    python infer.py JOB [SAMPLES.npz OUTPUTS.npz]

Writes the outputs (float32 [N, ...] under the ONNX names) and, for the job's own samples, infer.json.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from pathlib import Path

import numpy as np
from atomic_files import read_json, replacing, sha256_of, write_json
from failure import VendorError, quiet, run
from job_file import Job, load_samples, read_job
from network_runner import THREADS, Runner
from tqdm import tqdm

WARM_UP = 3  # inferences before the clock counts: caches, memory pools


def check_artifact(job: Job) -> None:
    """VendorError unless the artifact is, byte for byte, the one that compile.json describes."""
    path = job.folder / "compile.json"
    compiled = read_json(path, "compile first: python compile.py JOB")
    hint = "compile again: python compile.py JOB"
    if not isinstance(compiled, dict) or not isinstance(compiled.get("sha256"), str):
        raise VendorError(f"{path} names no sha256", hint)
    names = [file.name for file in job.artifact_files]
    if compiled.get("artifact") != names:
        raise VendorError(f"{path} is about {compiled.get('artifact')}, not {names}", hint)
    for file in job.artifact_files:
        if not file.is_file():
            raise VendorError(f"{file} is missing", hint)
    if sha256_of(job.artifact_files) != compiled["sha256"]:
        raise VendorError(
            f"the artifact {', '.join(names)} is not the compiled one: its sha256 differs from {path}", hint
        )


def infer(job: Job, samples: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[float]]:
    """Run every sample: ({ONNX output name: float32 [N, ...]}, milliseconds of each inference).

    Raises VendorError when an output has another shape than job.json says, or is not finite.
    """
    runner = Runner(*job.artifact_files)
    blobs = [f"out{index}" for index in range(len(job.outputs))]
    count = len(next(iter(samples.values())))
    found = {tensor.name: np.empty((count, *tensor.shape[1:]), np.float32) for tensor in job.outputs}

    def once(index: int) -> list[np.ndarray]:
        inputs = {f"in{i}": samples[tensor.name][index : index + 1] for i, tensor in enumerate(job.inputs)}
        return runner.run(inputs, blobs)

    for _ in range(WARM_UP):
        once(0)
    milliseconds = []
    for index in tqdm(range(count), desc="infer", disable=quiet(), file=sys.stderr):
        start = time.perf_counter()
        outputs = once(index)
        milliseconds.append((time.perf_counter() - start) * 1000.0)
        for array, tensor in zip(outputs, job.outputs, strict=True):
            if array.shape != tensor.shape[1:]:
                raise VendorError(
                    f"output {tensor.name} is of shape {list(array.shape)}, not {list(tensor.shape[1:])}",
                    "compile again: job.json and the artifact do not belong together",
                )
            if not np.isfinite(array).all():
                raise VendorError(
                    f"output {tensor.name} of sample {index} holds NaN or infinity",
                    "try PRECISION=fp32; if it fails too, the network itself overflows on this input",
                )
            found[tensor.name][index] = array
    return found, milliseconds


def main(arguments: list[str]) -> None:
    if len(arguments) not in (1, 3):
        raise VendorError("one or three arguments are needed", "infer.py JOB [SAMPLES.npz OUTPUTS.npz]")
    job = read_job(Path(arguments[0]))
    own = len(arguments) == 1
    samples_path, outputs_path = (job.samples, job.outputs_file) if own else (Path(arguments[1]), Path(arguments[2]))
    samples = load_samples(samples_path, job.inputs)
    check_artifact(job)
    outputs, milliseconds = infer(job, samples)
    outputs_path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(outputs_path) as temporary, temporary.open("wb") as file:
        np.savez(file, **outputs)
    version = importlib.metadata.version("ncnn")
    result = {
        "samples": len(milliseconds),
        "latency_ms": round(float(np.median(milliseconds)), 3),
        "device": f"ncnn {version} on the host CPU, {THREADS} threads",
        "simulated": True,
    }
    if own:
        write_json(job.folder / "infer.json", result)
    print(json.dumps(result))


if __name__ == "__main__":
    run(main)
