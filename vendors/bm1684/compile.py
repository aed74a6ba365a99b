"""Compile the network of a job folder for a Sophon chip with TPU-MLIR.

    python compile.py JOB

Writes <artifact>.bmodel and, last, compile.json; beside them what infer.py and layers.py need: the quantised graph and
the float graph that it came from. Every stage is compared with the one before it. A failure leaves none of them.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from artifact_record import cache_folder, finish, remove_results
from atomic_files import read_json, scratch_folder, write_json
from bmodel_file import check_description, check_file, parse_info, remove_chance
from equality import SecondSample, prove
from failure import VendorError, run
from graph_runner import Arrays, GraphRunner, weight_file
from graph_stages import MODES, REFERENCE, TOP, Deployed, TopGraph, deploy, transform
from job_file import Job, load_calibration, load_samples, read_job
from mlir_names import kept_float_names, operations, output_names
from toolchain import run_tool, versions

TOP_RECORD = "transform.json"


def test_inputs(job: Job) -> list[Arrays]:
    """Two whole batches of the job's real samples (one, when there are no more): float32 [batch, C, H, W] by name.

    Without samples.npz: noise of the order of a normalised image (no chance is involved).
    """
    if not job.samples.is_file():
        generator = np.random.default_rng(0)
        return [{tensor.name: generator.standard_normal(tensor.shape, np.float32) for tensor in job.inputs}]
    samples = load_samples(job.samples, job.inputs)
    count = len(next(iter(samples.values())))
    found = []
    for start in range(0, min(count, 2 * job.batch), job.batch):
        indices = np.minimum(np.arange(start, start + job.batch), count - 1)
        found.append({name: array[indices] for name, array in samples.items()})
    return found


def top_graph(job: Job, cache: Path, sample: Arrays) -> TopGraph:
    """The job's float graph, from the cache where an earlier rung made it."""
    folder = cache / "top"
    if folder.is_dir():
        record = read_json(folder / TOP_RECORD, f"remove {cache}")
        return TopGraph(folder, record["comparison"], record["seconds"])
    with scratch_folder(cache) as scratch:
        made = transform(job, sample, scratch)
        # The reference holds every tensor of the graph: hundreds of megabytes. model_deploy compares the outputs.
        outputs = GraphRunner(made.folder / TOP).outputs
        with np.load(made.folder / REFERENCE, allow_pickle=False) as archive:
            reference = {name: archive[name] for name in outputs}
        np.savez(made.folder / REFERENCE, **reference)
        write_json(scratch / TOP_RECORD, {"comparison": made.comparison, "seconds": made.seconds})
        kept = scratch / "top"
        kept.mkdir()
        for path in (*made.files, scratch / TOP_RECORD):
            path.rename(kept / path.name)
        os.replace(kept, folder)
    return TopGraph(folder, made.comparison, made.seconds)


def float_layers_table(job: Job, top: TopGraph, folder: Path) -> Path | None:
    """For fp16 and bf16: a quantize table that keeps the layers of KEEP_FLOAT= in float32; None without any."""
    if not job.keep_float or job.precision == "fp32":
        return None
    names = kept_float_names(job, {operation.name for operation in operations(top.folder / TOP)})
    path = folder / "float_layers.qtable"
    path.write_text("".join(f"{name} F32\n" for name in names), encoding="utf-8")
    return path


def build(job: Job, folder: Path) -> tuple[list[Path], list[Path], dict[str, Any]]:
    """Make everything inside `folder`: the artifact, the files beside it (under their final names), the record."""
    parts = [job.graph, *([job.samples] if job.samples.is_file() else [])]
    if job.precision == "int8":
        load_calibration(job)  # a bad tensor is named before minutes of compiling
        parts.append(job.calibration)
    cache = cache_folder(job, parts, versions())
    inputs = test_inputs(job)
    seconds: dict[str, float] = {}
    top = top_graph(job, cache, inputs[0])
    stages = {"top_against_onnx": top.comparison}
    seconds["transform"] = top.seconds
    started = time.monotonic()
    tables: dict[str, Path | None]
    quantization, mode = None, MODES[job.precision]
    if job.precision == "int8":
        from quantise import quantise  # only int8 needs it

        quantised = quantise(job, top, cache)
        top, mode, quantization = quantised.top, quantised.mode, quantised.report
        tables = {"calibration_table": quantised.table, "quantize_table": quantised.qtable}
        seconds["quantise"] = round(time.monotonic() - started, 2)
    else:
        tables = {"quantize_table": float_layers_table(job, top, folder)}
    second = SecondSample(job.chip, inputs[1] if len(inputs) > 1 else None)
    deployed = deploy(
        top, job.chip, mode, folder, tables.get("calibration_table"), tables.get("quantize_table"), second.compare
    )
    seconds["deploy"] = deployed.seconds
    stages |= {
        "graph_against_float": deployed.graph_against_float,
        "bmodel_against_graph": deployed.bmodel_against_graph,
    }
    remove_chance(deployed.bmodel)
    check_file(deployed.bmodel, job.chip)
    names = output_names(job, GraphRunner(deployed.graph).outputs)
    described = parse_info(run_tool("model_tool", ["--info", deployed.bmodel.name], folder).output)
    check_description(job, described, names)
    started = time.monotonic()
    equality = prove(deployed, second)
    seconds["equality"] = round(time.monotonic() - started, 2)
    side_files = _side_files(job, top, deployed, tables, folder)
    artifact = folder / f"{job.artifact}.bmodel"
    deployed.bmodel.rename(artifact)
    record = {
        "quantization": quantization,
        "stages": stages,
        "step_seconds": seconds,
        "outputs": names,
        "graph": deployed.graph.name,
        "float_graph": TOP,
        "graph_equals_bmodel": equality,
        "device_memory_bytes": described.memory,
    }
    return [artifact], side_files, record


def _side_files(
    job: Job, top: TopGraph, deployed: Deployed, tables: dict[str, Path | None], folder: Path
) -> list[Path]:
    """The quantised and the float graph, each with its weights, and the tables, all in `folder`."""
    found = [deployed.graph, weight_file(deployed.graph)]
    for source in (top.folder / TOP, weight_file(top.folder / TOP)):
        # deploy() linked them in; a side file is a file of its own, which stays when the cache goes.
        target = folder / source.name
        target.unlink(missing_ok=True)
        shutil.copyfile(source, target)
        found.append(target)
    for suffix, path in tables.items():
        if path:
            found.append(folder / f"{job.artifact}.{suffix}")
            shutil.copyfile(path, found[-1])
    return found


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise VendorError("one argument is needed", "compile.py JOB, where JOB is out/<model>/<chip>/<precision>")
    started = time.monotonic()
    job = read_job(Path(arguments[0]).resolve())
    remove_results(job)
    with scratch_folder(job.folder) as folder:
        artifact, side_files, record = build(job, folder)
        finish(job, artifact, side_files, started, versions(), **record)
    size = (job.folder / artifact[0].name).stat().st_size
    print(f"{artifact[0].name}: {size / 1e6:.2f} MB", file=sys.stderr)


if __name__ == "__main__":
    run(main)
