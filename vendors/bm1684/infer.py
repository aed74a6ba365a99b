"""Run the compiled network of a job folder on its samples, simulated on this machine.

    python infer.py JOB [SAMPLES.npz OUTPUTS.npz]

Loaded once, for all samples. The quantised graph runs where compile.py has shown that the BModel gives the same bits;
else, or with BMODEL=1 in the environment, the BModel itself, in the vendor's instruction-level simulator of the chip,
one simulator a core.
Writes the outputs (float32 [N, ...] under the ONNX names) and, for the job's own samples, infer.json.
"""

from __future__ import annotations

import os
from typing import Any

from artifact_record import COMPILE_AGAIN
from bmodel_file import CHIP_NAMES, check_file
from failure import VendorError, run
from graph_runner import Arrays, GraphRunner
from inference_loop import main_of
from job_file import Job
from parallel_bmodel import run_parallel
from toolchain import versions


class Simulation:
    """The job's network in one of the two simulators (inference_loop.Runner)."""

    simulated, warm_up, timed = True, 0, False

    def __init__(self, job: Job, compiled: dict[str, Any]):
        """compiled: compile.json, its files checked. Raises VendorError when it lacks what is needed here."""
        bmodel = job.folder / compiled["artifact"][0]
        check_file(bmodel, job.chip)
        equality, self.names = compiled.get("graph_equals_bmodel"), compiled.get("outputs")
        graph = compiled.get("graph")
        if not isinstance(equality, dict) or not isinstance(self.names, dict) or graph not in compiled["files"]:
            raise VendorError(f"{job.folder / 'compile.json'} is not of this compile.py", COMPILE_AGAIN)
        words = f"{CHIP_NAMES[job.chip]}, TPU-MLIR {versions()['tpu_mlir']}"
        if equality.get("equal") is True and os.environ.get("BMODEL") != "1":
            self.runner = GraphRunner(job.folder / graph)
            shown = f"the BModel's bits on {equality['samples']} samples of this build"
            self.device = f"{words}: the quantised graph ({shown})"
        else:
            self.run_all = lambda inputs: self._named(run_parallel(bmodel, job.chip, inputs, job.batch))
            self.device = f"{words}: the BModel in the simulator of the chip's instructions"

    def run(self, inputs: Arrays) -> Arrays:
        return self._named(self.runner.run(inputs))

    def _named(self, found: Arrays) -> Arrays:
        return {output: found[name] for output, name in self.names.items() if name in found}


if __name__ == "__main__":
    run(main_of(Simulation))
