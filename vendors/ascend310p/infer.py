"""Run what AMCT made of a job folder's network on its samples, on the host: int8 only.

    python infer.py JOB [SAMPLES.npz OUTPUTS.npz]

No emulator of an .om exists. What can be run is the fake-quantised ONNX that AMCT saves together with the network that
atc compiled: the same integers, rounded in float arithmetic by onnxruntime, without the float16 of everything else and
without atc's fusion. infer.json says so. For fp16 there is nothing to run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from amct_session import AmctSession, import_amct, version_of
from artifact_record import COMPILE_AGAIN
from atomic_files import sha256_of
from failure import VendorError, run
from inference_loop import main_of
from job_file import Job, check_double


class FakeQuantised:
    """AMCT's fake-quantised network in onnxruntime."""

    simulated = True
    timed = False
    warm_up = 0

    def __init__(self, job: Job, compiled: dict[str, Any]):
        if job.precision != "int8":
            raise VendorError(
                f"nothing can simulate an .om of {job.precision}: CANN has no emulator", "run device.py on the board"
            )
        described = compiled.get("fake_quantised") or {}
        path = job.folder / str(described.get("file"))
        if described.get("file") not in compiled["files"] or sha256_of([path]) != described.get("sha256"):
            raise VendorError("compile.json names no fake-quantised network, or not this one", COMPILE_AGAIN)
        amct = import_amct()
        check_double(job, amct)
        self._session = AmctSession(amct, path)
        self.device = (
            f"AMCT {version_of('amct_onnx')}'s fake-quantised ONNX in onnxruntime {version_of('onnxruntime')} on the "
            "host: the int8 layers' rounding, not the compiled .om"
        )

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """float32 [batch, C, H, W] by input name in, float32 [batch, ...] by ONNX output name out."""
        return {name: array.astype(np.float32) for name, array in self._session.run(inputs).items()}


if __name__ == "__main__":
    run(main_of(FakeQuantised))
