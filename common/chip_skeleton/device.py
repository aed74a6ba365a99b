"""Run the artifact of a job folder on the chip, through the vendor's runtime.

    python device.py JOB [SAMPLES.npz OUTPUTS.npz]        on the board; needs this folder and the job folder

Writes the outputs (float32 [N, ...] under the ONNX names) and, for the job's own samples, device.json with the latency.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from failure import VendorError, run
from inference_loop import main_of
from job_file import Job


class OnDevice:
    """The artifact on the chip."""

    simulated = False
    timed = True
    warm_up = 3

    def __init__(self, job: Job, compiled: dict[str, Any]):
        self.device = job.chip
        raise VendorError(
            f"device.py: OnDevice is still to be written: nothing runs {compiled['artifact'][0]} on {job.chip} yet",
            "load the artifact in __init__ and run it in run(); docs/adding_a_chip.md says more",
        )

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """float32 [batch, C, H, W] by input name in, float32 [batch, ...] by ONNX output name out."""
        raise NotImplementedError


if __name__ == "__main__":
    run(main_of(OnDevice, "device.json", "device"))
