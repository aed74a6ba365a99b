"""Which layers lose the most: every tensor of the quantised graph against the float graph's, on a few real samples.

    python layers.py JOB        a compiled job; writes layers.json

Both graphs are run by TPU-MLIR's own interpreter (pymlir), which computes with the chip's arithmetic and gives every
tensor back, dequantised. A layer's figures hold the errors of all layers before it, too: that is what the chip has.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from artifact_record import COMPILE_AGAIN, check_artifact
from atomic_files import write_json
from failure import VendorError, quiet, run
from graph_runner import GraphRunner
from job_file import Job, load_samples, read_job
from mlir_names import onnx_outputs, operations
from toolchain import versions
from tqdm import tqdm

SAMPLES = 4  # batches


class _Sums:
    """Running sums of one layer over samples, in float64: a·a, b·b, a·b and (a-b)·(a-b)."""

    def __init__(self) -> None:
        self.values = np.zeros(4)

    def add(self, exact: np.ndarray, found: np.ndarray) -> None:
        a, b = exact.ravel().astype(np.float64), found.ravel().astype(np.float64)
        difference = a - b
        self.values += (a @ a, b @ b, a @ b, difference @ difference)

    @property
    def cosine(self) -> float:
        """1 where both are zero everywhere."""
        size = float(np.sqrt(self.values[0] * self.values[1]))
        return float(np.clip(self.values[2] / size, -1, 1)) if size else float(self.values[0] == self.values[1])

    @property
    def sqnr_db(self) -> float | None:
        """10 log10 of the float tensor's energy over the error's; None where there is no error."""
        signal, error = self.values[0], self.values[3]
        if error == 0:
            return None
        return float(10 * np.log10(max(signal, np.finfo(np.float64).tiny) / error))


def compare(job: Job, compiled: dict[str, Any]) -> dict[str, Any]:
    """The content of layers.json. Raises VendorError when the two graphs have no layer in common."""
    if any(compiled.get(key) not in compiled["files"] for key in ("graph", "float_graph")):
        raise VendorError(f"{job.folder / 'compile.json'} names no graphs", COMPILE_AGAIN)
    graph, float_graph = (job.folder / compiled[key] for key in ("graph", "float_graph"))
    samples = load_samples(job.samples, job.inputs)
    count = len(next(iter(samples.values())))
    exact, found = GraphRunner(float_graph, keep_all=True), GraphRunner(graph, keep_all=True)
    layers = operations(graph)
    sums = {layer.name: _Sums() for layer in layers}
    used = 0
    starts = range(0, min(count, SAMPLES * job.batch), job.batch)
    for start in tqdm(starts, desc="layers", disable=quiet(), file=sys.stderr):
        indices = np.minimum(np.arange(start, start + job.batch), count - 1)
        inputs = {name: array[indices] for name, array in samples.items()}
        exact.run(inputs)
        found.run(inputs)
        used += len(set(indices.tolist()))
        exact_tensors, found_tensors = exact.tensors(), found.tensors()
        for name in [name for name in sums if name not in exact_tensors or name not in found_tensors]:
            del sums[name]  # an operation that only one of the two has: a reshape, a fused pair
        for name, total in sums.items():
            total.add(exact_tensors[name], found_tensors[name])
    if not sums:
        raise VendorError(f"{graph.name} and {float_graph.name} have no layer in common", COMPILE_AGAIN)
    tensors = onnx_outputs(job)
    return {
        "version": 1,
        "source": f"TPU-MLIR {versions()['tpu_mlir']}: tensors of the quantised graph against those of the float graph",
        "samples": used,
        "layers": [
            {
                "name": layer.name,
                "operator": layer.operator,
                "precision": layer.precision,
                "cosine": sums[layer.name].cosine,
                "sqnr_db": sums[layer.name].sqnr_db,
                "outputs": [tensors[layer.name]] if layer.name in tensors else [],
            }
            for layer in layers
            if layer.name in sums
        ],
    }


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise VendorError("one argument is needed", "layers.py JOB, a folder that compile.py has been through")
    job = read_job(Path(arguments[0]).resolve())
    result = compare(job, check_artifact(job))
    write_json(job.folder / "layers.json", result)
    print(f"layers.json: {len(result['layers'])} layers on {result['samples']} samples", file=sys.stderr)


if __name__ == "__main__":
    run(main)
