"""Compile the network of a job folder for a Rockchip NPU.

    python compile.py JOB

fp16: float16 throughout. int8: the toolkit's own quantisation, or as the rung says. hybrid: int8 with the layers that
lose the most in float16. Writes <artifact>.rknn and, last, compile.json; for a mixed artifact also <artifact>.model,
.data and .quantization.cfg, from which the toolkit's hybrid_quantization_step2 makes the same artifact, and from which
infer.py simulates it. A failure leaves none of them. What the toolkit prints goes to toolkit.log.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from artifact_record import cache_folder, finish, remove_results
from atomic_files import scratch_folder
from failure import VendorError, run
from job_file import Job, load_calibration, read_job
from network_build import FLOAT, PLAIN, STEM, Way, build, log_of, probe, toolkit_version
from rknn_file import check_target
from rung_options import Options, read_options
from toolkit import Toolkit

SUFFIX = ".rknn"


def choose_way(job: Job, options: Options, folder: Path) -> tuple[Way, dict[str, Any] | None]:
    """How to make the artifact, with all files that it takes in `folder`; and the report on the quantisation."""
    from graph_preparation import prepare  # onnx is imported beside the toolkit's own start

    graph = folder / f"{STEM}.onnx"
    changes, layers = prepare(job.graph, graph)
    for change in changes:
        print(change, file=sys.stderr)
    if options.all_float16:
        quantised = job.precision != "fp16"
        return Way(FLOAT, (graph,)), {"calibration": "none: float16 throughout"} if quantised else None
    count = len(load_calibration(job))
    if options == Options() and not job.keep_float:
        report = {"calibration": f"smallest to largest value, on {count} tensors", "float_layers": []}
        return Way(PLAIN, (graph,)), report | {"layers": layers}
    # Imported here: onnxruntime takes a second that the plain ways do not need.
    from mixed_precision import make_mixed

    own = sorted(Path(__file__).parent.glob("*.py"))
    cache = cache_folder(job, [job.graph, job.calibration, *own], job.chip, job.batch, toolkit_version())
    return make_mixed(job, options, graph, cache, folder)


def compile_job(job: Job) -> Path:
    """Compile and move the results into place, compile.json last; returns the artifact."""
    started = time.monotonic()
    remove_results(job)
    log_of(job).unlink(missing_ok=True)
    options = read_options(job)
    # A fresh process for the last step: infer.py does the same in one, and compares the bytes. It starts meanwhile.
    with scratch_folder(job.folder) as folder, Toolkit(log_of(job)) as toolkit:
        way, quantization = choose_way(job, options, folder)
        made = build(toolkit, job, way)
        check_target(made, job.chip)
        probed = probe(toolkit, job)
        artifact = folder / f"{job.artifact}{SUFFIX}"
        shutil.copyfile(made, artifact)
        fixed = toolkit.addresses_fixed
        toolkit.close()  # the system counts a process's memory when it has ended
        tools = {name: importlib.metadata.version(name) for name in ("rknn-toolkit2", "onnx", "onnxruntime")}
        finish(
            job,
            [artifact],
            [path for path in way.files if path.name.startswith(f"{job.artifact}.")],
            started,
            tools,
            quantization,
            way=way.kind,
            probe_sha256=probed,
            addresses_fixed=fixed,
        )
    return job.folder / artifact.name


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise VendorError("one argument is needed", "compile.py JOB, where JOB is out/<model>/<chip>/<precision>")
    made = compile_job(read_job(Path(arguments[0])))
    print(f"{made.name}: {made.stat().st_size / 1e6:.2f} MB", file=sys.stderr)


if __name__ == "__main__":
    run(main)
