"""Compile the network of a job folder for a Kneron NPU.

    python compile.py JOB        in the image of this folder's Dockerfile

int8 and int16, quantised as the rung says. Writes <artifact>.nef and, last, compile.json; beside it the .bie (the same
network for the fast simulator), the optimised ONNX, the evaluator's text and the toolchain's reports. A failure leaves
none of them. What the toolchain prints goes to toolchain.log.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from artifact_record import cache_folder, finish, remove_results
from atomic_files import scratch_folder
from evaluation import evaluate, judge
from failure import VendorError, run
from job_file import Job, read_job
from quantisation import OPTIMISED, checked_file, optimise, quantise, samples_warning
from rung_options import Options, read_options
from toolchain import LOG, Toolchain

SUFFIX = ".nef"


def compile_nef(toolchain: Toolchain, options: Options, bie: Path, name: str) -> tuple[Path, list[str]]:
    """The .nef in the toolchain's folder, and the arguments of `compile` that this release does not take."""
    folder = toolchain.empty_folder("compilation")
    source = toolchain.put(bie, name)
    arguments = {"compiler_tiling": options.tiling}
    answer = toolchain.call("compile", bie=str(source), folder=str(folder), arguments=arguments)
    return checked_file(answer["made"], SUFFIX, "compile"), answer["dropped"]


def compile_job(job: Job) -> Path:
    """Compile and move the results into place, compile.json last; returns the artifact."""
    started = time.monotonic()
    remove_results(job)
    (job.folder / LOG).unlink(missing_ok=True)
    options = read_options(job)
    if not job.graph.is_file():
        raise VendorError(f"{job.graph} is missing", "run make again: it writes the fixed graph")
    with scratch_folder(job.folder) as folder, Toolchain(job) as toolchain:
        own = sorted(Path(__file__).parent.glob("*.py"))
        cache = cache_folder(job, [job.graph, job.calibration or job.graph, *own], job.chip, toolchain.about)
        kept, by = optimise(toolchain, job, cache)
        print(f"toolchain {toolchain.version}; graph by {by}", file=sys.stderr)
        graph = toolchain.put(kept, OPTIMISED)
        found = evaluate(toolchain, options, graph, cache)
        warnings = [*toolchain.version_warnings, *judge(job, found)]
        quantised = quantise(toolchain, job, options, graph, cache)
        made, left_out = compile_nef(toolchain, options, quantised.bie, quantised.name)
        left_out = sorted({*found.left_out, *left_out, *quantised.about["left_out"]})
        if left_out:
            warnings.append(f"toolchain {toolchain.version} does not take: {', '.join(left_out)}")
        warnings += samples_warning(quantised.about["samples"])
        for warning in warnings:
            print(f"WARNING: {warning}", file=sys.stderr)
        text = folder / f"{job.artifact}.evaluation.txt"
        text.write_text(found.text, encoding="utf-8")
        beside = {".bie": quantised.bie, f".{OPTIMISED}": kept}
        beside |= {".evaluation.html": found.report, ".analysis.html": quantised.report}
        artifact = _copy(made, folder / f"{job.artifact}{SUFFIX}")
        toolchain.close()  # its memory is counted when it has ended
        finish(
            job,
            [artifact],
            [text, *(_copy(one, folder / f"{job.artifact}{suffix}") for suffix, one in beside.items() if one)],
            started,
            {"kneron-toolchain": toolchain.version, **{key: toolchain.about[key] for key in ("python", "onnx")}},
            {"calibration": f"{options.words}; {quantised.about['samples']} tensors", **quantised.about},
            estimate=found.estimate,
            warnings=warnings,
            optimised_by=by,
            bie_name=quantised.name,
            nef_name=made.name,
        )
    return job.folder / f"{job.artifact}{SUFFIX}"


def _copy(source: Path, target: Path) -> Path:
    shutil.copyfile(source, target)
    return target


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise VendorError("one argument is needed", "compile.py JOB, where JOB is out/<model>/<chip>/<precision>")
    made = compile_job(read_job(Path(arguments[0])))
    print(f"{made.name}: {made.stat().st_size / 1e6:.2f} MB", file=sys.stderr)


if __name__ == "__main__":
    run(main)
