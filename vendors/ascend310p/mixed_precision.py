"""Which layers stay float16 when the rest is int8: those that lose the most, found by trying.

AMCT is run with only a run of layers quantised, and what that costs at the network's outputs is measured on calibration
tensors that it did not see; runs that hurt are halved (layer_search.py). A trial is a whole AMCT run, on few images, so
that their number is bounded, and the answers are kept for the later rungs.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from atomic_files import write_json
from failure import RungUnavailableError, VendorError, quiet
from job_file import Job
from layer_search import Run, choose, measure_runs, output_error
from network_graph import FloatNetwork, quantisable_nodes
from quantise import evenly, quantise
from rung_options import Options
from tqdm import tqdm

TRIALS = 24
TRIAL_IMAGES, HELD_OUT = 8, 4
LEAST_IMAGES = 8


def choose_layers(
    job: Job, options: Options, model: onnx.ModelProto, calibration: Sequence[np.ndarray], cache: Path, folder: Path
) -> tuple[list[str], dict[str, Any]]:
    """The names of the nodes to skip, and what was measured, for compile.json.

    calibration: float32 [1, C, H, W] each. cache: where trials of earlier rungs are kept. Raises RungUnavailableError
    for too few calibration tensors, VendorError when KEEP_FLOAT names a node that AMCT does not quantise anyway.
    """
    layers = quantisable_nodes(model)
    kept = {node.node for node in job.keep_float}
    if unknown := sorted(kept - {node.name for node in model.graph.node}):
        raise VendorError(f"KEEP_FLOAT names {', '.join(unknown)}, no node of the graph", "make lists the nodes")
    chosen = kept & set(layers)  # all other operators are float16 as it is
    report: dict[str, Any] = {"layers": len(layers)}
    if options.float_share:
        runs = _measured_runs(job, options, model, layers, calibration, cache, folder)
        report["error_before"] = sum(run.error for run in runs)
        picked = choose(runs, int(options.float_share * len(layers)), options.error)
        chosen |= {layers[index] for index in picked}
        report["error_after"] = _left(runs, picked)
        report["trials"] = len(runs)
    if options.float_tail:
        chosen |= set(layers[len(layers) - round(options.float_tail * len(layers)) :])
    if layers and len(chosen) == len(layers):
        raise RungUnavailableError("all layers would stay float16: there is nothing left for AMCT", "PRECISION=fp16")
    report["float_layers"] = [name for name in layers if name in chosen]
    return report["float_layers"], report


def _left(runs: Sequence[Run], picked: Sequence[int]) -> float:
    gone = set(picked)
    return float(sum(run.error for run in runs if not gone.issuperset(range(run.start, run.stop))))


def _measured_runs(
    job: Job,
    options: Options,
    model: onnx.ModelProto,
    layers: Sequence[str],
    calibration: Sequence[np.ndarray],
    cache: Path,
    folder: Path,
) -> list[Run]:
    file = cache / f"runs-{options.algorithm}-{options.activation_offset}.json"
    if file.is_file():
        return [Run(*entry) for entry in json.loads(file.read_text(encoding="utf-8"))]
    if len(calibration) < LEAST_IMAGES:
        raise RungUnavailableError(
            f"finding the layers that lose the most needs {LEAST_IMAGES} calibration tensors, there are "
            f"{len(calibration)}",
            "give more images in CALIB=",
        )
    images = evenly(calibration, HELD_OUT + TRIAL_IMAGES)
    held_out, trial_images = images[:HELD_OUT], images[HELD_OUT:]
    reference = _float_outputs(job, model, held_out)
    progress = tqdm(total=min(TRIALS, 2 * len(layers)), desc="layers", disable=quiet(), file=sys.stderr)

    def alone(start: int, stop: int) -> float:
        skipped = [name for index, name in enumerate(layers) if not start <= index < stop]
        place = folder / f"trial-{start}-{stop}"
        made = quantise(job, options, skipped, trial_images, held_out, place)
        shutil.rmtree(place)  # several copies of the network each
        progress.update()
        return output_error(reference, [made.outputs[tensor.name] for tensor in job.outputs])

    with progress:
        runs = measure_runs(len(layers), alone, TRIALS)
    write_json(file, [[run.start, run.stop, run.error] for run in runs])
    return runs


def _float_outputs(job: Job, model: onnx.ModelProto, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The float network's outputs, float32 [N, ...] each, in the order of the job's."""
    network, name = FloatNetwork(model), job.inputs[0].name
    rows = [network.run({name: np.repeat(image, job.batch, axis=0)}) for image in images]
    return [np.concatenate([row[tensor.name][:1] for row in rows]) for tensor in job.outputs]
