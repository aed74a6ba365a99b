"""Which layers the artifact of an int8 job computes differently from float, and how much.

    python layers.py JOB

Runs the artifact and the float model that pnnx made, on a few of the job's samples, and compares every blob that a
layer makes. Errors of the layers before are in it: the artifact runs as it is. Writes layers.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from artifact_files import artifact_files, side_files
from artifact_record import check_artifact
from atomic_files import write_json
from calibration_stages import spread
from compile import first_sample, float_cache
from failure import VendorError, quiet, run
from job_file import Job, load_samples, read_job
from network_runner import Runner
from node_layers import tensors_of_layers
from onnx_reader import read_onnx
from param_file import Layer, Network
from pnnx_convert import converted
from quantize import load_network, quantize_network
from scale_table import read_table
from tqdm import tqdm

SAMPLES = 4
NOT_SHOWN = ("Input", "Split")  # they compute nothing
SOURCE = "ncnn's own blobs: the artifact beside the float model that pnnx made"


class Comparison:
    """Sums over samples of one layer's float values f and chip values c: f f, c c, f c and (f - c)^2."""

    def __init__(self) -> None:
        self._sums = np.zeros(4)

    def add(self, exact: np.ndarray, found: np.ndarray) -> None:
        """float32 blobs of one shape."""
        f, c = exact.reshape(-1).astype(np.float64), found.reshape(-1).astype(np.float64)
        # Sums instead of dot products: those start threads that wait in the way of ncnn's.
        self._sums += ((f * f).sum(), (c * c).sum(), (f * c).sum(), np.square(f - c).sum())

    @property
    def cosine(self) -> float:
        """Of the angle between the two; two zero blobs are alike (1), one is not (0)."""
        f, c, both, _ = self._sums
        if f == 0 or c == 0:
            return float(f == c)
        return float(np.clip(both / np.sqrt(f) / np.sqrt(c), -1.0, 1.0))

    @property
    def sqnr_db(self) -> float | None:
        """10 log10(sum f^2 / sum (f - c)^2), within -200..200; None when nothing differs."""
        signal, noise = self._sums[0], self._sums[3]
        if noise == 0:
            return None
        return float(np.clip(10 * np.log10(signal / noise), -200, 200)) if signal > 0 else -200.0


def compare_layers(
    layers: Sequence[Layer], exact: Runner, artifact: Runner, samples: Sequence[dict[str, np.ndarray]]
) -> list[Comparison]:
    """One comparison a layer. layers: of the quantised network. samples: {blob: float32 [1, C, H, W]} each.

    A convolution that hands int8 to the next one has an int8 blob; its scale is the layer's top_scale.
    """
    found = [Comparison() for _ in layers]
    for sample in tqdm(samples, desc="layers", disable=quiet(), file=sys.stderr):
        of_float, of_chip = exact.extractor(sample, keep_blobs=True), artifact.extractor(sample, keep_blobs=True)
        for layer, comparison in zip(layers, found, strict=True):
            scale = layer.weights["top_scale"][0] if "top_scale" in layer.weights else np.float32(1)
            for name in layer.tops:
                value = np.array(artifact.extract(of_chip, name)).astype(np.float32) / scale
                comparison.add(np.array(exact.extract(of_float, name)), value)
    return found


def _quantized(job: Job, float_names: Sequence[str]) -> Network:
    """The artifact's network, made again from the files beside it."""
    table, param, weights = side_files(job)
    network = load_network(param, weights, keep_unwritten=True)
    return quantize_network(network, read_table(table), float_names)


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise VendorError("one argument is needed", "layers.py JOB, where JOB is out/<model>/ncnn/int8")
    job = read_job(Path(arguments[0]))
    compiled = check_artifact(job)
    if job.precision == "fp32":
        raise VendorError("nothing is quantised in an fp32 artifact: its layers are float's", "use PRECISION=int8")
    arrays = load_samples(job.samples, job.inputs)
    count = len(next(iter(arrays.values())))
    samples = [
        {f"in{index}": arrays[tensor.name][number : number + 1] for index, tensor in enumerate(job.inputs)}
        for number in spread(range(count), SAMPLES)
    ]
    float_files = converted(job, float_cache(job), first_sample(job))
    network = _quantized(job, compiled["quantization"]["float_layers"])
    layers = [layer for layer in network.layers if layer.type not in NOT_SHOWN]
    comparisons = compare_layers(layers, Runner(*float_files), Runner(*artifact_files(job)), samples)
    tensors = tensors_of_layers(read_onnx(job.graph), load_network(*float_files, keep_unwritten=True))
    ends = {f"out{index}": tensor.name for index, tensor in enumerate(job.outputs)}
    rows = []
    for layer, comparison in zip(layers, comparisons, strict=True):
        int8 = any(array.dtype == np.int8 for array in layer.weights.values())
        known = [ends[name] for name in layer.tops if name in ends] or tensors.get(layer.name, [])
        rows.append(
            {
                "name": layer.name,
                "operator": layer.type,
                "precision": "int8" if int8 else "float",
                "cosine": comparison.cosine,
                "sqnr_db": comparison.sqnr_db,
                "outputs": known,
            }
        )
    write_json(job.folder / "layers.json", {"version": 1, "source": SOURCE, "samples": len(samples), "layers": rows})
    print(f"{len(rows)} layers, {sum(row['precision'] == 'int8' for row in rows)} of them int8", file=sys.stderr)


if __name__ == "__main__":
    run(main)
