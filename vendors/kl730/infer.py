"""Run the artifact of a job folder on its samples in Kneron's simulators.

    python infer.py JOB [SAMPLES.npz OUTPUTS.npz]        in the image of this folder's Dockerfile

All samples go through the .bie: the artifact's quantised network in the fast fixed-point simulator (dynasty). A few of
the job's own also go through the optimised ONNX in float, and through the .nef itself, bit for bit as the chip computes
it (csim), which is slow: so a loss can be told to come from the optimiser, the quantisation or the compiler.
Writes the outputs (float32 [N, ...] under the ONNX names) and, for the job's own samples, infer.json and stage-*.npz.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from artifact_record import COMPILE_AGAIN
from failure import VendorError, run
from inference_loop import Stage, main_of
from job_file import Job
from output_order import by_name_or_shape
from quantisation import OPTIMISED
from toolchain import Toolchain

ONNX_SAMPLES, NEF_SAMPLES = 4, 2
WITHOUT = "NEF_SAMPLES=0 leaves this simulation out"


def nef_samples(job: Job) -> int:
    """How many samples go through the .nef. Raises VendorError when NEF_SAMPLES= is no number."""
    asked = job.options.get("NEF_SAMPLES", str(NEF_SAMPLES))
    if not asked.isdecimal():
        raise VendorError(f"NEF_SAMPLES={asked} is no whole number", "NEF_SAMPLES=0, or as many as there is time for")
    return int(asked)


class Simulated:
    """The artifact in the toolchain's simulators."""

    simulated = True
    timed = False
    warm_up = 0

    def __init__(self, job: Job, compiled: dict[str, Any]):
        self._job = job
        of_nef = nef_samples(job)
        bie_name, nef_name = _plain(compiled, "bie_name"), _plain(compiled, "nef_name")
        self._toolchain = Toolchain(job).__enter__()
        atexit.register(self._toolchain.close)
        compiled_by = compiled["tools"].get("kneron-toolchain")
        if compiled_by != self._toolchain.version:  # a .bie is not portable between releases (history.md)
            raise VendorError(
                f"the artifact was compiled by toolchain {compiled_by}, this is {self._toolchain.version}",
                COMPILE_AGAIN,
            )
        self._ordered = {"onnx": True, "bie": True, "nef": True}
        self.device = f"Kneron toolchain {compiled_by}, fixed-point simulator of {job.chip} (.bie)"
        self.run = self._run_of("bie", job.folder / f"{job.artifact}.bie", bie_name)
        optimised = self._run_of("onnx", job.folder / f"{job.artifact}.{OPTIMISED}", OPTIMISED)
        nef = self._run_of("nef", job.folder / compiled["artifact"][0], nef_name)
        self.stages = [Stage("onnx", "the optimised graph in float", ONNX_SAMPLES, optimised)]
        if of_nef:
            self.stages.append(Stage("nef", "the .nef, bit for bit as on the chip", of_nef, nef))

    def _run_of(self, kind: str, source: Path, name: str) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
        """float32 [1, C, H, W] by input name in, float32 [1, ...] by ONNX output name out; under the toolchain's own
        file names, which it may read."""
        staged: list[Path] = []

        def run_one(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            if not staged:
                staged.append(self._toolchain.put(source, name))
            ordered = {tensor.name: inputs[tensor.name] for tensor in self._job.inputs}
            arrays, in_order = self._simulate(kind, staged[0], ordered)
            names = [tensor.name for tensor in self._job.outputs] if in_order else None
            return by_name_or_shape(arrays, names, self._job.outputs, f"the simulator of the .{kind}")

        return run_one

    def _simulate(self, kind: str, file: Path, inputs: dict[str, np.ndarray]) -> tuple[list[np.ndarray], bool]:
        """One sample; outputs by name where the simulator takes names for this kind of file."""
        if not self._ordered[kind]:
            return self._toolchain.simulate(kind, file, inputs, None)
        try:
            return self._toolchain.simulate(kind, file, inputs, [tensor.name for tensor in self._job.outputs])
        except VendorError as refused:
            # What it calls the outputs of this kind is not documented; a failure of another cause comes again.
            self._toolchain.restart()
            try:
                found = self._toolchain.simulate(kind, file, inputs, None)
            except VendorError as again:
                raise VendorError(again.message, f"{again.hint}; {WITHOUT}" if kind == "nef" else again.hint) from None
            print(f"the .{kind} takes no output names ({refused.message}): told by shape", file=sys.stderr)
            self._ordered[kind] = False
            return found


def _plain(compiled: dict[str, Any], key: str) -> str:
    name = compiled.get(key)
    if not isinstance(name, str) or not name or Path(name).name != name:
        raise VendorError(f"compile.json: {key} {name!r} is no plain file name", COMPILE_AGAIN)
    return name


if __name__ == "__main__":
    run(main_of(Simulated))
