"""Compile the network of a job folder for a Hailo-8L or a Hailo-8.

    python compile.py JOB

Parses model.onnx at its own outputs, quantises it on calib/ as the rung says, compiles it. Writes <artifact>.hef, the
model script <artifact>.alls, <artifact>.parsed.har and .quantised.har (what infer.py emulates) and, last, compile.json.
With NMS=hailort also <artifact>.nms.hef with its .alls and .json. A failure leaves none of them. The two .har stay in
cache/, and a rerun or another rung goes on from there.
"""

from __future__ import annotations

import struct
import sys
import time
from pathlib import Path

from artifact_record import finish, remove_results
from failure import VendorError, run
from job_file import Job, load_calibration, read_job
from machine import check_processor
from model_script import extra_lines
from rung_options import check_images, read_options
from sdk_process import sdk_step

DOUBLE_MARK = b"NPUMAKE DOUBLE"
# hailort, libhailort/src/hef/hef_internal.hpp: HEADER_MAGIC, then version and length of the description, big-endian.
HEF_MAGIC = 0x01484546
AGAIN = "compile again; if it stays, see the SDK's own messages in compile.log"


def check_hef(path: Path, double: bool) -> None:
    """VendorError unless the file is a whole .hef by its head; a double's begins with the double's mark."""
    data = path.read_bytes() if path.is_file() else b""
    if data.startswith(DOUBLE_MARK) != double:
        kind = "is not marked as a stand-in's" if double else "is a stand-in's"
        raise VendorError(f"{path.name} was not written, or {kind}", AGAIN)
    if double:
        return
    magic, _version, length = struct.unpack_from(">III", data) if len(data) >= 12 else (0, 0, 0)
    if magic != HEF_MAGIC or not 0 < length < len(data):
        raise VendorError(f"{path.name} ({len(data)} bytes, head {data[:12].hex()}) is no whole .hef", AGAIN)


def compile_job(job: Job) -> Path:
    """Compile and move the results into place, compile.json last; returns the artifact."""
    started = time.monotonic()
    remove_results(job)
    if job.keep_float:
        raise VendorError("Hailo has no float layers: KEEP_FLOAT cannot be had", "RUNG=3 gives the outputs 16 bits")
    if not job.double:
        check_processor()
    # What can be known without the SDK is said before it takes its half minute to start.
    check_images(read_options(job), len(load_calibration(job)))
    extra_lines(job.option_path("ALLS"))
    with sdk_step("build", job) as (folder, answer):
        artifacts = [folder / name for name in answer["artifacts"]]
        for path in artifacts:
            check_hef(path, job.double)
        finish(
            job,
            artifacts,
            [folder / name for name in answer["side_files"]],
            started,
            {"hailo_dataflow_compiler": answer["version"]},
            answer["quantization"],
            warnings=answer["warnings"],
            outputs=answer["outputs"],
            resumed=answer["resumed"],
            input=answer["input"],
        )
    return job.folder / artifacts[0].name


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise VendorError("one argument is needed", "compile.py JOB, where JOB is out/<model>/<chip>/<precision>")
    made = compile_job(read_job(Path(arguments[0])))
    print(f"{made.name}: {made.stat().st_size / 1e6:.2f} MB", file=sys.stderr)


if __name__ == "__main__":
    run(main)
