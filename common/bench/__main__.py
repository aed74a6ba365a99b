"""`make bench`: out/bench/bench.json, a table and a picture. Nothing is judged here; a busy machine is slow.

python -m common common.bench.__main__ [--network hrnet_w32_256x192] [--set calib/people_evaluation] [--people 100]
    [--compile-network hrnet_tiny] [--calibration calib/people_calibration]
"""

from __future__ import annotations

import argparse
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common.basics.errors import run
from common.basics.files import write_json, write_json_if_changed
from common.bench.compilation import benched_cells, measure_compilation
from common.bench.grouping import measure_grouping
from common.bench.growth import measure_growth
from common.bench.images import measure_images
from common.bench.page import measure_page
from common.bench.pipeline import measure_parts
from common.bench.report import draw, table
from common.datasets.imageset import ImageSet
from common.declarations.spec import load_model
from common.export import export
from common.graphs.onnx_graph import Runner
from common.job import FloatReference
from common.plan import OUT
from common.tasks import task_of

FOLDER = OUT / "bench"
THREADS = 2  # of onnxruntime within an operator, as everywhere in npumake
GROWTH = [10, 100]
PEOPLE = 10  # in the image whose heatmaps are grouped


def random_reference(name: str, folder: Path) -> Path:
    """folder/<name>/float: the network with random weights (time does not depend on them), exported once."""
    reference = folder / name / "float"
    source = {"kind": "random", "origin": "random", "path": None}
    spec = load_model(name).model_dump(mode="json")
    changed = write_json_if_changed(
        reference / "source.json", {"version": 1, "model": name, "spec": spec, "source": source}
    )
    if changed or not (reference / "export.json").exists():
        export(reference)
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


def bench(reference: Path, image_set: Path, people: int, repeats: int, growth: list[int]) -> dict[str, Any]:
    """Measure everything; the content of bench.json. people: how many of the set's the parts are measured on."""
    before = machine()
    task = task_of(FloatReference(reference).spec)
    opened = ImageSet.open(image_set)
    instances = task.instances(opened, "gt")[:people]
    pipeline = measure_parts(task, opened, instances, Runner(reference / "model.onnx", threads=THREADS), repeats)
    around = sum(part.ours for part in pipeline["parts"])
    return {
        "version": 1,
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
        "growth": measure_growth(reference, image_set, growth),
        "page": measure_page(),
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
    cells = benched_cells()
    print(f"bench: {arguments.network} with random weights; three minutes on two cores, longer beside other work")
    if cells:
        chips = ", ".join(chip for chip, _ in cells)
        print(f"bench: then {compiled} is compiled for {chips}: minutes; with a large network, half an hour or more")
    reference = random_reference(arguments.network, FOLDER)
    content = bench(reference, Path(arguments.set), arguments.people, arguments.repeats, GROWTH)
    if cells:
        source = random_reference(compiled, FOLDER)
        content["compilation"] = measure_compilation(source, Path(arguments.calibration), Path(arguments.set), cells)
    content["images"] = images
    write_json(FOLDER / "bench.json", content)
    draw(content, FOLDER / "bench.png")
    print(table(content))
    print(f"{FOLDER}/bench.json, bench.png")


if __name__ == "__main__":
    run(main)
