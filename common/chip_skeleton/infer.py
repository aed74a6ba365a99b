"""Run the artifact of a job folder on its samples in the vendor's simulator.

    python infer.py JOB [SAMPLES.npz OUTPUTS.npz]

Writes the outputs (float32 [N, ...] under the ONNX names) and, for the job's own samples, infer.json. Where nothing
but the chip can run an artifact, list its precision under `unsimulated` in chip.yaml: this script is not called then.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from failure import VendorError, run
from inference_loop import main_of
from job_file import Job


class Simulated:
    """The artifact in the vendor's simulator."""

    simulated = True
    timed = False  # a simulator's time says nothing about the chip
    warm_up = 0

    def __init__(self, job: Job, compiled: dict[str, Any]):
        self.device = f"the simulator of {job.chip}"
        raise VendorError(
            f"infer.py: Simulated is still to be written: nothing simulates {compiled['artifact'][0]} yet",
            "open the artifact in __init__ and run it in run(); docs/adding_a_chip.md says more",
        )

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """float32 [batch, C, H, W] by input name in, float32 [batch, ...] by ONNX output name out."""
        raise NotImplementedError


if __name__ == "__main__":
    run(main_of(Simulated))
