"""Run the network of a job folder on its samples in the emulator of Hailo's SDK.

    python infer.py JOB [SAMPLES.npz OUTPUTS.npz]

The .hef itself can only run on the chip: what is emulated is the quantised network that it was compiled from, with the
chip's integers (SDK_QUANTIZED). Two stages beside it tell where a loss comes from: the network as the parser read it
(SDK_NATIVE), and optimised but still in float (SDK_FP_OPTIMIZED). Writes the outputs (float32 [N, ...] under the ONNX
names) and, for the job's own samples, infer.json. Every context is one call with all samples: each takes long to set
up.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from artifact_record import COMPILE_AGAIN
from failure import VendorError, run
from inference_loop import Stage, main_of
from job_file import Job
from sdk_process import sdk_step

STAGE_SAMPLES = 16  # of the two float stages: enough to see whether one is off


def har_of(job: Job, compiled: dict[str, Any], kind: str) -> Path:
    """<artifact>.<kind>.har beside the artifact. VendorError when compile.json does not list it."""
    name = f"{job.artifact}.{kind}.har"
    if name not in compiled["files"] or not compiled.get("outputs"):
        raise VendorError(f"compile.json was written by another version of compile.py: no {name}", COMPILE_AGAIN)
    return job.folder / name


class Emulated:
    """The artifact's network in the emulator."""

    simulated = True
    timed = False
    warm_up = 0

    def __init__(self, job: Job, compiled: dict[str, Any]):
        self._job = job
        parsed, quantised = har_of(job, compiled, "parsed"), har_of(job, compiled, "quantised")
        version = compiled["tools"].get("hailo_dataflow_compiler")
        self.device = f"Hailo Dataflow Compiler {version}, emulator of {job.chip} (SDK_QUANTIZED)"
        self._quantised = quantised
        self.stages = [
            self._stage("native", "as Hailo parsed it, float", parsed, "SDK_NATIVE"),
            self._stage("optimised", "optimised by Hailo, still float", quantised, "SDK_FP_OPTIMIZED"),
        ]

    def _stage(self, name: str, title: str, har: Path, context: str) -> Stage:
        return Stage(name, title, STAGE_SAMPLES, lambda inputs: self._emulate(inputs, har, context), whole=True)

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """float32 [N, C, H, W] by input name in, float32 [N, ...] by ONNX output name out."""
        return self._emulate(inputs, self._quantised, "SDK_QUANTIZED")

    run_all = run

    def _emulate(self, inputs: dict[str, np.ndarray], har: Path, context: str) -> dict[str, np.ndarray]:
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=self._job.folder) as name:
            samples = Path(name) / "samples.npz"
            np.savez(samples, **inputs)
            files = {"samples.npz": samples, "network.har": har}
            with sdk_step("emulate", self._job, context, files=files) as (folder, _answer):
                path = folder / "outputs.npz"
                if not path.is_file():
                    raise VendorError(f"the emulator ({context}) wrote no outputs", "see infer.log")
                with np.load(path, allow_pickle=False) as archive:
                    return {key: archive[key] for key in archive.files}


if __name__ == "__main__":
    run(main_of(Emulated))
