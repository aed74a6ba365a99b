"""The toolkit's plain calls, as its manual has them, with nothing of this folder around them: what `make bench` sets
the cost of compile.py against.

    python bare_commands.py JOB

config, load_onnx, build with the job's calibration tensors, export_rknn. Prints one line of JSON last: seconds with the
toolkit's import, seconds of the steps, peak memory. Changes nothing in the job folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from artifact_record import peak_memory_bytes
from failure import VendorError, run
from job_file import Job, read_job

PLAIN = """
import json, sys, time
began = time.monotonic()
from rknn.api import RKNN
target, graph, dataset, answer = sys.argv[1:]
steps = {"import": time.monotonic() - began}
def step(name, call, *arguments, **options):
    start = time.monotonic()
    if call(*arguments, **options) != 0:
        sys.exit(f"{name} failed")
    steps[name] = time.monotonic() - start
rknn = RKNN(verbose=False)
step("config", rknn.config, target_platform=target)
step("load_onnx", rknn.load_onnx, model=graph)
step("build", rknn.build, do_quantization=bool(dataset), dataset=dataset or None)
step("export_rknn", rknn.export_rknn, "bare.rknn")
rknn.release()
with open(answer, "w") as file:
    json.dump({"steps": steps}, file)
"""


def measure(job: Job) -> dict[str, object]:
    """Run the plain calls in a process and a folder of their own. Raises VendorError when one fails."""
    with tempfile.TemporaryDirectory(prefix="rknn-bare-") as name:
        folder = Path(name)
        dataset = ""
        if job.calibration is not None:
            dataset = "dataset.txt"
            paths = sorted(job.calibration.resolve().glob("*.npy"))
            (folder / dataset).write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
        command = [sys.executable, "-c", PLAIN, job.chip, os.path.realpath(job.graph), dataset, "answer.json"]
        # The toolkit prints on both: the last line of standard output has to be the answer.
        began = time.perf_counter()
        done = subprocess.run(command, cwd=folder, stdout=sys.stderr, check=False)
        # Of the whole process, as compile.py is measured: its start and its end belong to what a user waits for.
        seconds = time.perf_counter() - began
        answer = folder / "answer.json"
        if done.returncode != 0 or not answer.is_file():
            raise VendorError(f"the plain calls ended with {done.returncode}", "the toolkit's messages stand above")
        measured = {"seconds": seconds, "peak_memory_bytes": peak_memory_bytes()}  # the only child's is the larger one
        return json.loads(answer.read_text(encoding="utf-8")) | measured


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise VendorError("one argument is needed", "bare_commands.py JOB")
    job = read_job(Path(arguments[0]))
    if job.batch != 1:
        raise VendorError("the plain calls are measured with a batch of 1", "make bench without BATCH=")
    print(json.dumps(measure(job)))


if __name__ == "__main__":
    run(main)
