"""Compile the network of a job folder for a Huawei Ascend 310-family NPU.

    python compile.py JOB

fp16: float16 throughout, by atc. int8: by AMCT, then atc; what is not int8 stays float16. Options of job.json: INPUT=u8
(pixels in, normalised on the chip), DYNAMIC=image_size|batch (one artifact for several), AOE=1 (tuned on this machine's
NPU), SOC= (the exact chip). Writes <artifact>.om and, last, compile.json; for int8 also <artifact>.fake_quant.onnx,
which infer.py runs, and for INPUT=u8 <artifact>.aipp.cfg. A failure leaves none of them. What the tools print goes to
atc.log and amct.log.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from aipp import aipp_config
from artifact_record import cache_folder, finish, remove_results
from atc import Workplace, convert, describe, tune
from atomic_files import scratch_folder, sha256_of
from build_options import BuildOptions, read_options
from cann import find_cann
from failure import VendorError, run
from free_dimensions import check_batches, check_sizes, without_batch, without_sizes
from job_file import Job, load_calibration, load_samples, read_job
from mixed_precision import choose_layers
from network_graph import float16_range, load_graph, opset_of
from om_json import compare, read_description
from quantise import LOG as AMCT_LOG
from quantise import MOST_IMAGES, Quantised, evenly, quantise
from rung_options import read_rung

SUFFIX = ".om"
ATC_LOG = "atc.log"
AMCT_OPSET = 11
RANGE_SAMPLES = 2


def prepare_graph(job: Job, options: BuildOptions, model: onnx.ModelProto, target: Path) -> list[str]:
    """Write the float graph for atc; returns what was shown of it, in words."""
    checks = []
    if options.sizes:
        free = without_sizes(model)
        checks.append(check_sizes(job, model, free, options.sizes))
    elif options.batches:
        free = without_batch(model)
        checks.append(check_batches(job, model, free))
    else:
        free = model
    onnx.save(free, str(target))
    return checks


def quantise_graph(job: Job, model: onnx.ModelProto, folder: Path) -> tuple[Quantised, dict[str, Any], list[str]]:
    """Int8: what AMCT made, the report for compile.json, and what the user has to know."""
    options, calibration = read_rung(job), load_calibration(job)
    warnings = []
    if opset_of(model) != AMCT_OPSET:
        warnings.append(f"the graph is of opset {opset_of(model)}, and AMCT documents {AMCT_OPSET}")
    own = sorted(Path(__file__).parent.glob("*.py"))
    cache = cache_folder(job, [job.graph, job.calibration, *own], job.batch, job.double)
    trials = folder / "trials"
    trials.mkdir()
    skip, report = choose_layers(job, options, model, calibration, cache, trials)
    images = evenly(calibration, MOST_IMAGES)
    samples = evenly(calibration, job.batch)
    made = quantise(job, options, skip, images, samples, folder / "amct")
    offset = "with" if options.activation_offset else "without"
    said = f"{options.algorithm}, {offset} offset, on {len(images)} of {len(calibration)} tensors"
    return made, {"calibration": said, **report}, warnings + made.warnings


def compile_job(job: Job) -> Path:
    """Compile and move the results into place, compile.json last; returns the artifact."""
    started = time.monotonic()
    remove_results(job)
    for log in (ATC_LOG, AMCT_LOG):
        (job.folder / log).unlink(missing_ok=True)
    options = read_options(job)
    if len(job.inputs) != 1:
        raise VendorError(f"the network has {len(job.inputs)} inputs", "export it with one: the image")
    model = load_graph(job.graph)
    cann = find_cann()
    print(f"CANN {cann.version}, {cann.atc}; stand-in of the driver: {cann.stub}", file=sys.stderr)
    tools, warnings, more = {"CANN": cann.version}, [], {}
    with scratch_folder(job.folder) as folder:
        work = folder / "atc"
        work.mkdir()
        graph, side_files = work / "network.onnx", []
        checks = prepare_graph(job, options, model, graph)
        said, fits = float16_range(model, job, first_samples(job))
        (checks if fits else warnings).append(said if fits else f"{said}: the NPU will overflow")
        report = None
        if job.precision == "int8":
            made, report, told = quantise_graph(job, model, folder)
            warnings += told
            tools |= made.tools
            graph.unlink()
            shutil.copyfile(made.deploy, graph)
            side_files.append(folder / f"{job.artifact}.fake_quant.onnx")
            shutil.copyfile(made.fake, side_files[-1])
            more["fake_quantised"] = {"file": side_files[-1].name, "sha256": sha256_of([side_files[-1]])}
        aipp = None
        if options.pixels:
            aipp = work / "aipp.cfg"
            size = None if options.sizes else job.inputs[0].shape[2:]
            aipp.write_text(aipp_config(job.preprocessing, size), encoding="utf-8")
            side_files.append(folder / f"{job.artifact}.aipp.cfg")
            shutil.copyfile(aipp, side_files[-1])
        bank = None
        if options.tune:
            bank = work / "bank"
            bank.mkdir()
        place = Workplace(cann, work, job.folder / ATC_LOG, bank)
        if options.tune:
            tune(place, job, options, graph)
            checks.append("kernels tuned by aoe on this machine's NPU (subgraphs, then operators)")
        om = convert(place, job, options, graph, aipp)
        checks.append("atc ended with 0, said 'ATC run success', and left an .om that begins as one")
        shown, unknown = compare(read_description(describe(place, om)), job, options)
        artifact = folder / f"{job.artifact}{SUFFIX}"
        shutil.move(str(om), artifact)
        more |= {
            "soc_version": options.soc,
            "pixels": options.pixels,
            "input_kind": input_kind(job, options),
            "profiles": {"sizes": options.sizes, "batches": options.batches},
        }
        finish(
            job, [artifact], side_files, started, tools, report,
            warnings=[*warnings, *unknown], checks=[*checks, *shown], **more,
        )  # fmt: skip
    return job.folder / artifact.name


def first_samples(job: Job) -> list[dict[str, np.ndarray]]:
    """The first inputs of the job's samples, each filled up to the batch; empty where there are none yet."""
    if not job.samples.exists():
        return []
    arrays = load_samples(job.samples, job.inputs)
    count = min(RANGE_SAMPLES, len(next(iter(arrays.values()))))
    return [
        {name: np.repeat(array[index : index + 1], job.batch, axis=0) for name, array in arrays.items()}
        for index in range(count)
    ]


def input_kind(job: Job, options: BuildOptions) -> str:
    """What an application has to give the artifact, in words."""
    if options.pixels:
        assert job.preprocessing is not None
        return f"uint8 NHWC pixels of 0..255, {job.preprocessing.color}"
    return "float32 NCHW, normalised"


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise VendorError("one argument is needed", "compile.py JOB, where JOB is out/<model>/<chip>/<precision>")
    made = compile_job(read_job(Path(arguments[0])))
    print(f"{made.name}: {made.stat().st_size / 1e6:.2f} MB", file=sys.stderr)


if __name__ == "__main__":
    run(main)
