"""`make bench`: out/bench/bench.json, a table and a picture. Nothing is judged here; a busy machine is slow.

python -m common common.bench.__main__ [--network hrnet_w32_256x192] [--set calib/people_evaluation] [--people 100]
    [--compile-network hrnet_tiny] [--calibration calib/people_calibration]
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common.basics.errors import UserError, run
from common.basics.files import write_json, write_json_if_changed
from common.bench.compilation import benched_cells, measure_compilation
from common.bench.figure import draw
from common.bench.grouping import measure_grouping
from common.bench.growth import measure_growth
from common.bench.images import measure_images
from common.bench.latency import measure_latency
from common.bench.make_graph import measure_make_graph
from common.bench.measured import run_stage
from common.bench.page import measure_page
from common.bench.pipeline import measure_parts
from common.bench.report import table
from common.bench.stages import float_stages
from common.bench.start_up import measure_start_up
from common.datasets.imageset import ImageSet
from common.declarations.spec import load_model
from common.graphs.onnx_graph import Runner
from common.job import FloatReference
from common.plan import OUT
from common.reporting.bench_figures import VERSION
from common.tasks import task_of

FOLDER = OUT / "bench"
THREADS = 2  # of onnxruntime within an operator, as everywhere in npumake
GROWTH = [10, 100, 1000, 5000]  # the last as many as COCO val2017 has
PEOPLE = 10  # in the image whose heatmaps are grouped


def random_reference(name: str, folder: Path) -> Path:
    """folder/<name>/float with a source.json: the network with random weights (time does not depend on them). What was
    made for another declaration is removed."""
    reference = folder / name / "float"
    source = {"kind": "random", "origin": "random", "path": None}
    spec = load_model(name).model_dump(mode="json")
    wanted = {"version": 1, "model": name, "spec": spec, "source": source}
    if write_json_if_changed(reference / "source.json", wanted):
        for path in [path for path in reference.iterdir() if path.name != "source.json"]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return reference


def exported_reference(name: str, folder: Path) -> Path:
    """The same, exported once."""
    reference = random_reference(name, folder)
    if not (reference / "export.json").exists():
        run_stage(reference / "bench-export.log", "export", str(reference))
    return reference


def resolved_name(model: str) -> str:
    """The name of a model that may be an alias. Raises UserError (exit 2) for an unknown one."""
    return load_model(model).name


def machine() -> dict[str, Any]:
    """What was measured on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": THREADS,
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{package: version(package) for package in ("onnxruntime", "numpy", "opencv-python-headless")},
    }


def optional(what: str, measure: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """What measure() gives; None, and a line that says why, where it cannot: the others are worth having."""
    try:
        return measure()
    except UserError as error:
        print(f"bench: left out: {what}: {error.message}", flush=True)
        return None


def bench(
    reference: Path, small: Path, image_set: Path, people: int, repeats: int, growth: list[int]
) -> dict[str, Any]:
    """Measure what needs no vendor's tools; most of the content of bench.json.

    reference, small: exported networks; the parts are measured with the first, on `people` of the set's, and whole
    evaluations of `growth` images with the second, beside whose inference everything else counts the most.
    """
    before = machine()
    task = task_of(FloatReference(reference).spec)
    opened = ImageSet.open(image_set)
    instances = task.instances(opened, "gt")[:people]
    pipeline = measure_parts(task, opened, instances, Runner(reference / "model.onnx", threads=THREADS), repeats)
    around = sum(part.ours for part in pipeline["parts"])
    return {
        "version": VERSION,
        "machine": before,
        "network": task.spec.name,
        "set": str(image_set),
        "repeats": repeats,
        "pipeline": pipeline
        | {
            "parts": [asdict(part) for part in pipeline["parts"]],
            "around": around,
            "share": around / pipeline["inference"],
        },
        "grouping": measure_grouping(PEOPLE, repeats),
        "growth": measure_growth(small, image_set, growth),
    }


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description="how fast everything around the network is")
    parser.add_argument("--network", default="hrnet_w32_256x192")
    parser.add_argument("--set", default="calib/people_evaluation")
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile-network", default="hrnet_tiny", help="compiled beside the vendors' bare commands")
    parser.add_argument("--calibration", default="calib/people_calibration")
    parser.add_argument("--images", default="", help="images built from nothing: all, or a vendor folder's name")
    arguments = parser.parse_args()
    images = measure_images(arguments.images)  # first: it refuses a wrong word
    compiled = resolved_name(arguments.compile_network)
    calibration, evaluation = Path(arguments.calibration), Path(arguments.set)
    cells = benched_cells()
    print(f"bench: {arguments.network} with random weights; ten minutes on two cores, longer beside other work")
    if cells:
        chips = ", ".join(chip for chip, _ in cells)
        print(f"bench: then {compiled} is compiled for {chips}: minutes; with a large network, half an hour or more")
    small = random_reference(compiled, FOLDER)
    before = float_stages(small, evaluation)
    reference = exported_reference(resolved_name(arguments.network), FOLDER)
    content = bench(reference, small, evaluation, arguments.people, arguments.repeats, GROWTH)
    content["page"] = measure_page()
    content["make_graph"] = optional("make with nothing to do", measure_make_graph)
    content["start_up"] = optional("the start of a stage", measure_start_up)
    if cells:
        content["compilation"] = measure_compilation(small, calibration, cells, before)
    both = list(dict.fromkeys([small, reference]))
    content["latency"] = measure_latency(both, calibration, evaluation)
    content["images"] = images
    write_json(FOLDER / "bench.json", content)
    draw(content, FOLDER / "bench.png")
    print(table(content))
    print(f"{FOLDER}/bench.json, bench.png")


if __name__ == "__main__":
    run(main)
