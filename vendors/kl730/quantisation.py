"""From the graph to a .bie: the optimised graph, and its quantisation with as many threads as the machine bears."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from atomic_files import read_json, replacing, write_json
from failure import VendorError
from host_limits import threads_for
from job_file import Job, load_calibration
from rung_options import Options
from toolchain import Toolchain, ToolchainMemoryError

GRAPH = "input.onnx"
OPTIMISED = "optimised.onnx"
FEW_SAMPLES = 100  # the vendor asks for at least so many (quantization/1.2_Flow_and_Steps.md)
AGAIN = "see toolchain.log; compile again: python compile.py JOB"


@dataclass(frozen=True)
class Quantised:
    """A .bie, the name that the toolchain gave it, the report beside it, and how it was made."""

    bie: Path
    name: str
    report: Path | None
    about: dict[str, Any]


def checked_file(path: str, suffix: str, call: str) -> Path:
    """The file that a call of the toolchain says it made. Raises VendorError when it is not there, empty, or another
    kind: the call may have returned all the same."""
    made = Path(path)
    if not made.is_file() or made.stat().st_size == 0:
        raise VendorError(f"the toolchain's {call} returned {made}, which is not there or empty", AGAIN)
    if made.suffix != suffix:
        raise VendorError(f"the toolchain's {call} returned {made.name}, which is no {suffix}", AGAIN)
    return made


def optimise(toolchain: Toolchain, job: Job, cache: Path) -> tuple[Path, str]:
    """The optimised graph, made or from the cache, and by what. Raises VendorError when it has other inputs or
    outputs than the job."""
    made, told = cache / OPTIMISED, cache / "optimised.json"
    if not made.is_file() or not told.is_file():
        target = toolchain.folder / "made.onnx"
        answer = toolchain.call("optimise", graph=str(toolchain.put(job.graph, GRAPH)), target=str(target))
        checked_file(str(target), ".onnx", "optimiser")
        expected = {"inputs": [one.name for one in job.inputs], "outputs": [one.name for one in job.outputs]}
        for side, names in expected.items():
            if sorted(answer[side]) != sorted(names):
                raise VendorError(
                    f"{answer['by']} changed the {side} {names} into {answer[side]}",
                    "end the network before the node that was removed: the outputs of job.json are to stay",
                )
        with replacing(made) as temporary:
            temporary.write_bytes(target.read_bytes())
        write_json(told, {"by": answer["by"], "nodes": answer["nodes"]})
    return made, read_json(told, AGAIN)["by"]


def chosen_tensors(job: Job, folder: Path, most: int) -> list[Path]:
    """Lay at most `most` calibration tensors, evenly chosen, into a folder with a plain path."""
    arrays = load_calibration(job)
    if len(arrays) > most:
        arrays = [arrays[index * len(arrays) // most] for index in range(most)]
    paths = []
    for index, array in enumerate(arrays):
        paths.append(folder / f"{index:05d}.npy")
        np.save(paths[-1], array)
    return paths


def quantise(toolchain: Toolchain, job: Job, options: Options, graph: Path, cache: Path) -> Quantised:
    """The .bie of the rung, made or from the cache. Fewer threads are tried when memory runs out.

    Raises VendorError, ToolchainMemoryError when even one thread is too much.
    """
    asked = {**options.analysis, "samples": options.samples}
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
    bie, report, told = (cache / f"{key}.{suffix}" for suffix in ("bie", "html", "json"))
    if not bie.is_file() or not told.is_file():
        tensors = chosen_tensors(job, toolchain.empty_folder("calibration"), options.samples)
        answer, folder, threads = _with_fewer_threads(toolchain, job, options, graph, tensors)
        made = checked_file(answer["made"], ".bie", "analysis")
        pages = folder / "model_fx_report.html"
        if pages.is_file():
            with replacing(report) as temporary:
                temporary.write_bytes(pages.read_bytes())
        with replacing(bie) as temporary:
            temporary.write_bytes(made.read_bytes())
        about = {
            "arguments": options.analysis,
            "samples": len(tensors),
            "threads": threads,
            "left_out": answer["dropped"],
        }
        write_json(told, {"name": made.name, **about})
    about = read_json(told, AGAIN)
    name = about.pop("name")
    return Quantised(bie, name, report if report.is_file() else None, about)


def _with_fewer_threads(
    toolchain: Toolchain, job: Job, options: Options, graph: Path, tensors: list[Path]
) -> tuple[dict[str, Any], Path, int]:
    _, _, height, width = job.inputs[0].shape
    threads, why = threads_for(height * width, graph.stat().st_size, options.wide)
    while True:
        print(f"analysis: {len(tensors)} calibration tensors, {threads} threads ({why})", file=sys.stderr)
        folder = toolchain.empty_folder("analysis")
        try:
            answer = toolchain.call(
                "analyse",
                graph=str(graph),
                tensors=[str(path) for path in tensors],
                input=job.inputs[0].name,
                folder=str(folder),
                threads=threads,
                arguments=options.analysis,
            )
            return answer, folder, threads
        except ToolchainMemoryError as short:
            if threads == 1:
                raise
            threads //= 2
            why = f"{short.message}; fewer this time"
            toolchain.restart()


def samples_warning(count: int) -> list[str]:
    """What to say of few calibration tensors."""
    return [f"calibrated on {count} tensors; the vendor asks for {FEW_SAMPLES} or more"] if count < FEW_SAMPLES else []
