"""Compile the network of a job folder.

    python compile.py JOB

Writes the artifact and, last, compile.json. A failure leaves neither.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from artifact_record import finish, remove_results
from atomic_files import scratch_folder
from failure import VendorError, run
from job_file import Job, read_job

SUFFIX = ".bin"  # as chip.yaml's `artifact`


def build(job: Job, target: Path) -> dict[str, str]:
    """Compile job.graph to the file `target`, in job.precision and as job.rung asks; returns {tool: version}.

    job.calibration is the folder of calibration tensors (load_calibration() of job_file.py reads them), None in a
    float precision. job.inputs and job.outputs have the ONNX names and shapes; job.preprocessing says how the inputs
    were made from pixels, for a compiler that normalises by itself. Raises VendorError, with a hint, where it fails.
    """
    raise VendorError(
        f"compile.py: build() is still to be written: nothing compiles {job.graph.name} for {job.chip} yet",
        "call the vendor's compiler in build(); docs/adding_a_chip.md says what it is given and what it has to leave",
    )


def compile_job(job: Job) -> Path:
    """Compile and move the result into place, compile.json last; returns the artifact."""
    started = time.monotonic()
    remove_results(job)
    if not job.graph.is_file():
        raise VendorError(f"{job.graph} is missing", "run make again: it writes the graph")
    with scratch_folder(job.folder) as folder:
        target = folder / f"{job.artifact}{SUFFIX}"
        tools = build(job, target)
        finish(job, [target], [], started, tools, {"method": job.rung} if job.calibration else None)
    return job.folder / target.name


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise VendorError("one argument is needed", "compile.py JOB, where JOB is out/<model>/<chip>/<precision>")
    made = compile_job(read_job(Path(arguments[0])))
    print(f"{made.name}: {made.stat().st_size / 1e6:.2f} MB", file=sys.stderr)


if __name__ == "__main__":
    run(main)
