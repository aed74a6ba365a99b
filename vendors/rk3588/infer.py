"""Run the artifact of a job folder on its samples in RKNN-Toolkit2's simulator.

    python infer.py JOB [SAMPLES.npz OUTPUTS.npz]

The simulator cannot load a .rknn: the network is built again from the files that the artifact was made of, and what
that build exports is compared with the artifact before anything is simulated. Writes the outputs (float32 [N, ...]
under the ONNX names) and, for the job's own samples, infer.json, which says how the two were shown to be the same.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from artifact_record import COMPILE_AGAIN
from failure import VendorError, run
from inference_loop import main_of
from job_file import Job
from network_build import FLOAT, MIXED, PLAIN, STEM, STEP_ONE_FILES, Way, build, log_of, same_network, toolkit_version
from rknn_file import check_target
from toolkit import Toolkit


def recorded_way(job: Job, compiled: dict[str, Any], folder: Path) -> Way:
    """How compile.py made the artifact; the prepared graph is made again in `folder`."""
    kind = compiled.get("way")
    if kind == MIXED:
        return Way(MIXED, tuple(job.folder / f"{job.artifact}{name.removeprefix(STEM)}" for name in STEP_ONE_FILES))
    if kind not in (FLOAT, PLAIN):
        raise VendorError(f"compile.json was written by another version of compile.py (way: {kind!r})", COMPILE_AGAIN)
    from graph_preparation import prepare  # onnx is imported beside the toolkit's own start

    graph = folder / f"{STEM}.onnx"
    prepare(job.graph, graph)
    return Way(kind, (graph,))


def open_toolkit(job: Job, compiled: dict[str, Any]) -> tuple[Toolkit, str]:
    """A toolkit that has built the artifact's network again, and how that was shown; closed when the process ends."""
    artifact = job.folder / compiled["artifact"][0]
    check_target(artifact, job.chip)
    if compiled["tools"].get("rknn-toolkit2") != toolkit_version():
        raise VendorError(
            f"{artifact} was compiled by RKNN-Toolkit2 {compiled['tools'].get('rknn-toolkit2')}, this is "
            f"{toolkit_version()}",
            COMPILE_AGAIN,
        )
    folder = Path(tempfile.mkdtemp(prefix="rknn-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    toolkit = Toolkit(log_of(job)).__enter__()
    atexit.register(toolkit.close)
    made = build(toolkit, job, recorded_way(job, compiled, folder))
    return toolkit, same_network(toolkit, job, made, compiled)


class Simulated:
    """The artifact's network in the toolkit's simulator."""

    simulated = True
    timed = False
    warm_up = 0

    def __init__(self, job: Job, compiled: dict[str, Any]):
        self._job = job
        self._toolkit, shown = open_toolkit(job, compiled)
        self.device = f"RKNN-Toolkit2 {toolkit_version()} simulator of {job.chip}; {shown}"
        self._first = True

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """float32 [batch, C, H, W] by input name in, float32 [batch, ...] by ONNX output name out."""
        ordered = {tensor.name: inputs[tensor.name] for tensor in self._job.inputs}
        outputs = self._toolkit.simulate(ordered, self._job.batch, self._first)
        self._first = False
        return {tensor.name: array for tensor, array in zip(self._job.outputs, outputs, strict=True)}


if __name__ == "__main__":
    run(main_of(Simulated))
