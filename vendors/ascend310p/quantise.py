"""Int8 by AMCT: the network that atc is given, and the fake-quantised one that shows on the host what int8 costs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from amct_child import DEPLOY, FAKE_QUANTISED
from atomic_files import read_json
from failure import VendorError
from job_file import Job
from rung_options import Options
from tool_process import run_tool

# AMCT is taken to keep the activations of all batches until it has seen the last one: not measured, see README.md.
MOST_IMAGES = 32
LOG = "amct.log"
CRASHED = (
    "AMCT's operators crash with another onnxruntime than the one that they were built for: build the image again, "
    "and compare pip list with requirements.txt"
)


@dataclass(frozen=True)
class Quantised:
    """What AMCT made: deploy goes to atc, fake runs in onnxruntime. outputs: fake's on the samples, [N, ...] each."""

    deploy: Path
    fake: Path
    outputs: dict[str, np.ndarray]
    tools: dict[str, str]
    warnings: list[str]


def evenly(arrays: Sequence[np.ndarray], most: int) -> list[np.ndarray]:
    """At most so many of them, evenly over the whole list."""
    if len(arrays) <= most:
        return list(arrays)
    return [arrays[index * len(arrays) // most] for index in range(most)]


def batches_of(arrays: Sequence[np.ndarray], batch: int) -> np.ndarray:
    """float32 [1, C, H, W] each, as [batches, batch, C, H, W]; the last is filled up with the first ones again."""
    wanted = -(-len(arrays) // batch) * batch
    filled = [arrays[index % len(arrays)] for index in range(wanted)]
    return np.stack([np.concatenate(filled[start : start + batch]) for start in range(0, wanted, batch)])


def quantise(
    job: Job,
    options: Options,
    skip: Sequence[str],
    images: Sequence[np.ndarray],
    samples: Sequence[np.ndarray],
    folder: Path,
) -> Quantised:
    """Run AMCT once, in `folder`. skip: nodes that stay float16. images, samples: float32 [1, C, H, W] each, to
    calibrate on and to run the result on. Raises VendorError when AMCT refuses, crashes, or leaves no files."""
    folder.mkdir()
    shutil.copyfile(job.graph, folder / "graph.onnx")
    np.savez(folder / "calibration.npz", batches=batches_of(images, job.batch))
    np.savez(folder / "samples.npz", batches=batches_of(samples, job.batch))
    request = {
        "model": "graph.onnx",
        "input": job.inputs[0].name,
        "calibration": "calibration.npz",
        "samples": "samples.npz",
        "outputs": "outputs.npz",
        "skip_layers": list(skip),
        "algorithm": options.algorithm,
        "activation_offset": options.activation_offset,
        "double": job.double,
    }
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    child = Path(__file__).resolve().with_name("amct_child.py")
    log = job.folder / LOG
    done = run_tool([sys.executable, str(child), "request.json"], dict(os.environ), folder, log)
    answer_file = folder / "answer.json"
    if done.code != 0 or not answer_file.is_file():
        raise VendorError(f"AMCT ended with {done.ended} and without an answer (log: {log})", CRASHED)
    answer: dict[str, Any] = read_json(answer_file, f"its own messages stand in {log}")
    if not answer["ok"]:
        raise VendorError(
            f"AMCT's {answer['call']} failed: {answer['problem']}", answer["hint"] or f"its own messages stand in {log}"
        )
    with np.load(folder / "outputs.npz", allow_pickle=False) as archive:
        outputs = {name: archive[name][: len(samples)] for name in archive.files}
    for tensor in job.outputs:
        if tensor.name not in outputs or outputs[tensor.name].shape[1:] != tensor.shape[1:]:
            found = ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
            raise VendorError(
                f"AMCT's fake-quantised network gives {found}, and not {tensor.name} {list(tensor.shape)}",
                f"its own messages stand in {log}",
            )
    return Quantised(folder / DEPLOY, folder / FAKE_QUANTISED, outputs, answer["tools"], answer["warnings"])
