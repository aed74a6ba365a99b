"""Run the artifact of a job folder on its samples with the ncnn runtime.

    python infer.py JOB [SAMPLES.npz OUTPUTS.npz]

Writes the outputs (float32 [N, ...] under the ONNX names) and, for the job's own samples, infer.json.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
from artifact_files import artifact_files
from failure import run
from inference_loop import main_of
from job_file import Job
from network_runner import THREADS, Runner


class Artifact:
    """The two files of the artifact in the ncnn runtime, which is the chip's own: here it runs on the host's CPU."""

    simulated = True  # this CPU stands in for the phone's
    timed = True
    warm_up = 3  # caches, memory pools

    def __init__(self, job: Job, _compiled: dict[str, Any]):
        self.device = f"ncnn {importlib.metadata.version('ncnn')} on the host CPU, {THREADS} threads"
        self._inputs = [tensor.name for tensor in job.inputs]
        self._outputs = [tensor.name for tensor in job.outputs]
        self._runner = Runner(*artifact_files(job))

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """float32 [1, C, H, W] by input name in, float32 [1, ...] by ONNX output name out."""
        blobs = {f"in{index}": inputs[name] for index, name in enumerate(self._inputs)}
        outputs = self._runner.run(blobs, [f"out{index}" for index in range(len(self._outputs))])
        return {name: array[np.newaxis] for name, array in zip(self._outputs, outputs, strict=True)}


if __name__ == "__main__":
    run(main_of(Artifact))
