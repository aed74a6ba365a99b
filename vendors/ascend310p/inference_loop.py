"""infer.py and device.py, whatever the runtime: samples in, outputs out, batch by batch.

    infer.py JOB [SAMPLES.npz OUTPUTS.npz]

This file is the same in every vendor folder, so that each folder can be taken away alone.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from artifact_record import check_artifact
from atomic_files import replacing, write_json
from failure import VendorError, quiet
from job_file import Job, load_samples, read_job
from tqdm import tqdm

Arrays = dict[str, np.ndarray]


class Stage(NamedTuple):
    """A step of the vendor's chain that can be run by itself: the graph as the tool read it, say, or the bit-exact
    simulation where it is too slow for all samples. Run on the job's first samples, and shown beside the main one."""

    name: str  # of its file: stage-<name>.npz
    title: str  # in words
    samples: int  # how many of the job's samples it is run on, at most
    run: Callable[[Arrays], Arrays]  # like Runner.run, or like Runner.run_all where `whole`
    whole: bool = False  # whether run takes all samples in one call


class Runner(Protocol):
    """A loaded artifact. Two further things may be there:

    run_all: takes all samples, float32 [N, C, H, W], in one call, where starting the tool costs more than running it.
    stages: list[Stage].
    """

    device: str  # in words: the runtime, its version, where it runs
    simulated: bool  # False only on the chip itself (or where the runtime is the chip's own, as on a CPU)
    warm_up: int  # inferences before the clock counts
    timed: bool  # False for a simulator: its time says nothing about the chip

    def run(self, inputs: Arrays) -> Arrays:
        """One inference: float32 [batch, C, H, W] by input name in, float32 [batch, ...] by ONNX output name out."""
        ...


def infer(job: Job, samples: Arrays, runner: Runner, label: str = "infer") -> tuple[Arrays, list[float]]:
    """Run all samples: ({ONNX output name: float32 [N, ...]}, milliseconds of each inference of one batch).

    samples: {input name: float32 [N, C, H, W]}. The last batch is filled up with copies of its last sample.
    Raises VendorError when an output is missing, has another shape than job.json says, or is not finite.
    """
    count = len(next(iter(samples.values())))
    if run_all := getattr(runner, "run_all", None):
        began = time.perf_counter()
        outputs = run_all(samples)
        spent = (time.perf_counter() - began) * 1000.0 / count
        whole = {tensor.name: (count, *tensor.shape[1:]) for tensor in job.outputs}
        return {name: _checked(outputs, name, shape, 0) for name, shape in whole.items()}, [spent]
    found = {tensor.name: np.empty((count, *tensor.shape[1:]), np.float32) for tensor in job.outputs}

    def batch_at(start: int) -> Arrays:
        indices = np.minimum(np.arange(start, start + job.batch), count - 1)
        return {tensor.name: np.ascontiguousarray(samples[tensor.name][indices]) for tensor in job.inputs}

    for _ in range(runner.warm_up):
        runner.run(batch_at(0))
    milliseconds = []
    for start in tqdm(range(0, count, job.batch), desc=label, disable=quiet(), file=sys.stderr):
        inputs = batch_at(start)
        began = time.perf_counter()
        outputs = runner.run(inputs)
        milliseconds.append((time.perf_counter() - began) * 1000.0)
        for tensor in job.outputs:
            shown = min(job.batch, count - start)
            found[tensor.name][start : start + shown] = _checked(outputs, tensor.name, tensor.shape, start)[:shown]
    return found, milliseconds


def _checked(outputs: Arrays, name: str, shape: tuple[int, ...], sample: int) -> np.ndarray:
    if name not in outputs:
        raise VendorError(
            f"the artifact has no output {name}, but {', '.join(outputs)}",
            "compile again: job.json and the artifact do not belong together",
        )
    array = outputs[name]
    if array.shape != shape:
        raise VendorError(
            f"output {name} is of shape {list(array.shape)}, not {list(shape)}",
            "compile again: job.json and the artifact do not belong together",
        )
    if not np.isfinite(array).all():
        raise VendorError(
            f"output {name} of sample {sample} holds NaN or infinity",
            "try a wider PRECISION; if it fails too, the network itself overflows on this input",
        )
    return array


class _StageRunner:
    """One stage as a Runner."""

    warm_up = 0

    def __init__(self, stage: Stage):
        self.run = stage.run
        if stage.whole:
            self.run_all = stage.run


def run_stages(job: Job, samples: Arrays, stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """Run each stage on the first samples; writes stage-<name>.npz beside job.json and tells of each."""
    told = []
    for stage in stages:
        first = {name: array[: stage.samples] for name, array in samples.items()}
        outputs, _ = infer(job, first, _StageRunner(stage), stage.name)
        file = f"stage-{stage.name}.npz"
        save_arrays(job.folder / file, outputs)
        count = len(next(iter(first.values())))
        told.append({"name": stage.name, "title": stage.title, "file": file, "samples": count})
    return told


def save_arrays(path: Path, arrays: Arrays) -> None:
    """Write an .npz, whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def main_of(
    open_runner: Callable[[Job, dict[str, Any]], Runner], result_name: str = "infer.json", label: str = "infer"
) -> Callable[[list[str]], None]:
    """The main function of infer.py or device.py.

    open_runner: takes the job and the content of compile.json, and gives a loaded artifact.
    result_name: what is written beside the outputs when the job's own samples were run.
    """

    def main(arguments: list[str]) -> None:
        if len(arguments) not in (1, 3):
            script = Path(sys.argv[0]).name
            raise VendorError("one or three arguments are needed", f"{script} JOB [SAMPLES.npz OUTPUTS.npz]")
        job = read_job(Path(arguments[0]))
        own = len(arguments) == 1
        source, target = (job.samples, job.outputs_file) if own else (Path(arguments[1]), Path(arguments[2]))
        samples = load_samples(source, job.inputs)
        runner = open_runner(job, check_artifact(job))
        outputs, milliseconds = infer(job, samples, runner, label)
        target.parent.mkdir(parents=True, exist_ok=True)
        save_arrays(target, outputs)
        result = {
            "samples": len(next(iter(samples.values()))),
            "batch": job.batch,
            "latency_ms": round(float(np.median(milliseconds)), 3) if runner.timed else None,
            "device": runner.device,
            "simulated": runner.simulated,
        }
        if own:
            result["stages"] = run_stages(job, samples, getattr(runner, "stages", []))
            write_json(job.folder / result_name, result)
        print(json.dumps(result))

    return main
