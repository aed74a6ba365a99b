"""What every layer of a compiled network gives in the toolkit's simulator, against float.

    python layers.py JOB

The toolkit's own accuracy_analysis, on the first samples of the job; writes layers.json: for each layer the cosine
similarity and the signal-to-noise ratio of its dequantised output against float32, errors of the layers before
included. The toolkit names its own layers: a fused activation stands for the convolution before it as well.
"""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from artifact_record import check_artifact
from atomic_files import write_json
from failure import VendorError, run
from graph_preparation import load_graph
from infer import open_toolkit
from job_file import Job, load_samples, read_job
from network_build import FLOAT, MIXED, STEM, STEP_ONE_FILES, toolkit_version
from quantization_file import CONVERSION
from ruamel.yaml import YAML
from toolkit import Toolkit

SAMPLES = 4
LINE = re.compile(r"\[(?P<operator>[^\]]+)\] +(?P<name>\S+) +(?P<figures>.*\|.*)?")
NO_LAYER = ("Input", CONVERSION)
CONVERTED = "_int8"  # what the toolkit appends to the name of an output that it converts to float behind the network


def listed(path: Path) -> list[tuple[str, str]]:
    """(operator, layer) of the toolkit's error_analysis.txt, in the graph's order; those without figures left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise VendorError(f"accuracy_analysis left no {path.name} ({error})", "see toolkit.log; run it again") from None
    found = [match for line in lines if (match := LINE.match(line.strip() + " "))]
    return [(one["operator"], one["name"]) for one in found if one["figures"] and one["operator"] not in NO_LAYER]


def files_of(path: Path) -> dict[str, str]:
    """The file of each tensor, from the toolkit's map_name_to_file.txt."""
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 2}


def _values(path: Path) -> np.ndarray:
    """One number a line: float64 [n]."""
    return np.array(path.read_text(encoding="ascii").split(), np.float64)


class Sums:
    """Sums over the samples, from which both measures follow."""

    def __init__(self) -> None:
        self.floating = self.chip = self.product = self.difference = 0.0

    def add(self, floating: np.ndarray, chip: np.ndarray) -> None:
        self.floating += float(floating @ floating)
        self.chip += float(chip @ chip)
        self.product += float(floating @ chip)
        self.difference += float((floating - chip) @ (floating - chip))

    def cosine(self) -> float:
        if self.floating == 0 or self.chip == 0:
            return float(self.floating == self.chip)
        return float(np.clip(self.product / math.sqrt(self.floating * self.chip), -1.0, 1.0))

    def sqnr_db(self) -> float | None:
        if self.difference == 0:
            return None
        return 10 * math.log10(max(self.floating, 1e-30) / self.difference)


def analyse(job: Job, toolkit: Toolkit) -> tuple[int, dict[tuple[str, str], Sums]]:
    """(samples, the sums of each (operator, layer) in the graph's order)."""
    samples = load_samples(job.samples, job.inputs)
    count = max(job.batch, min(SAMPLES, len(next(iter(samples.values())))) // job.batch * job.batch)
    layers: dict[tuple[str, str], Sums] = {}
    for start in range(0, count, job.batch):
        names = []
        for index, tensor in enumerate(job.inputs):
            rows = np.minimum(np.arange(start, start + job.batch), len(samples[tensor.name]) - 1)
            names.append(f"input-{index}.npy")
            np.save(toolkit.folder / names[-1], samples[tensor.name][rows])
        toolkit.call("analyse", inputs=names, folder=f"analysis-{start}")
        folder = toolkit.folder / f"analysis-{start}"
        files = files_of(folder / "map_name_to_file.txt")
        for operator, name in listed(folder / "error_analysis.txt"):
            pair = [folder / side / files.get(name, name) for side in ("golden", "simulator")]
            if all(path.is_file() for path in pair):
                layers.setdefault((operator, name), Sums()).add(*(_values(path) for path in pair))
    if not layers:
        raise VendorError("accuracy_analysis named no layer", "see toolkit.log; run it again")
    return count, layers


def float16_tensors(job: Job, compiled: dict[str, Any]) -> set[str] | None:
    """The tensors that a mixed artifact keeps in float16; None when all are."""
    if compiled["way"] == FLOAT:
        return None
    if compiled["way"] != MIXED:
        return set()
    path = job.folder / f"{job.artifact}{STEP_ONE_FILES[2].removeprefix(STEM)}"
    return set(YAML(typ="safe").load(path.read_text(encoding="utf-8"))["custom_quantize_layers"] or {})


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise VendorError("one argument is needed", "layers.py JOB, of a compiled job")
    job = read_job(Path(arguments[0]))
    compiled = check_artifact(job)
    toolkit, _shown = open_toolkit(job, compiled)
    count, sums = analyse(job, toolkit)
    wide = float16_tensors(job, compiled)
    known = {name for node in load_graph(job.graph).graph.node for name in node.output}
    rows = []
    for (operator, name), one in sums.items():
        plain = name.removesuffix(CONVERTED) if name not in known else name
        rows.append(
            {
                "name": plain,
                "operator": operator,
                "precision": "float16" if wide is None or {name, plain} & wide else "int8",
                "cosine": one.cosine(),
                "sqnr_db": one.sqnr_db(),
                "outputs": [plain] if plain in known else [],
            }
        )
    source = f"RKNN-Toolkit2 {toolkit_version()}, accuracy_analysis on its simulator of {job.chip}"
    write_json(job.folder / "layers.json", {"version": 1, "source": source, "samples": count, "layers": rows})
    print(f"layers.json: {len(rows)} layers, {count} samples", file=sys.stderr)


if __name__ == "__main__":
    run(main)
