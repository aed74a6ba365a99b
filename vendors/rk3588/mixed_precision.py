"""int8 with better ranges, and with the layers that lose the most in float16.

Step one of the toolkit's hybrid quantisation is done once, and so is the search for the layers: later rungs of the
same job find both in the cache.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from activation_ranges import FloatNetwork, choose_ranges
from atomic_files import scratch_folder, write_json
from failure import VendorError, quiet
from graph_preparation import load_graph
from job_file import Job, load_calibration
from layer_search import Run, choose, measure_runs, output_error
from network_build import (
    MIXED,
    STEM,
    STEP_ONE_FILES,
    Way,
    batches_of,
    build,
    log_of,
    put_calibration,
)
from quantization_file import Configuration, Layer, read_configuration, write_configuration
from rung_options import Options
from toolkit import Toolkit
from tqdm import tqdm

HELD_OUT = 4  # calibration tensors that no range is chosen on: what layers lose is measured on them
FEWEST = 12  # below so many calibration tensors, none is held out
LOOKED_AT = 24  # tensors that the ranges of least squared error are chosen on
# A trial builds the whole network again: a second for a small one, half a minute for one of 100 MB.
LARGE_BYTES = 30_000_000
TRIALS, TRIALS_LARGE = 40, 16
FOLLOWED = 4  # nodes after one that was asked to stay float: where the toolkit has its layer


def split(arrays: Sequence[np.ndarray], batch: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(those to calibrate on, those held out), float32 [1, C, H, W]; the held-out ones are spread evenly."""
    wanted = max(HELD_OUT, batch)
    if len(arrays) < max(FEWEST, 2 * wanted):
        return list(arrays), list(arrays[:wanted])
    held = {round((index + 0.5) * len(arrays) / wanted) for index in range(wanted)}
    return [one for index, one in enumerate(arrays) if index not in held], [arrays[index] for index in sorted(held)]


def step_one(job: Job, graph: Path, arrays: list[np.ndarray], cache: Path) -> Path:
    """The folder of the three files of step one, made or found."""
    folder = cache / "step-one"
    if all((folder / name).is_file() for name in STEP_ONE_FILES):
        return folder
    with Toolkit(log_of(job)) as toolkit, scratch_folder(cache) as scratch:
        dataset = put_calibration(toolkit, job, arrays)
        name = toolkit.put(graph, f"{STEM}.onnx")
        toolkit.call("calibrate", target=job.chip, algorithm="normal", graph=name, dataset=dataset)
        made = scratch / "files"
        made.mkdir()
        for name in STEP_ONE_FILES:
            if not (toolkit.folder / name).is_file():
                raise VendorError(
                    f"RKNN-Toolkit2's hybrid_quantization_step1 returned 0 but wrote no {name}",
                    f"its own messages stand in {log_of(job)}",
                )
            shutil.copyfile(toolkit.folder / name, made / name)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(made, folder)
    return folder


class Search:
    """Trials on the held-out tensors: what the outputs lose when only some layers are int8."""

    def __init__(
        self,
        toolkit: Toolkit,
        job: Job,
        graph: Path,
        held: list[np.ndarray],
        files: Path,
        configuration: Configuration,
    ):
        self.toolkit, self.job, self.files, self.configuration = toolkit, job, files, configuration
        self.layers = configuration.layers()
        batches = batches_of(held, job.batch)
        name = job.inputs[0].name
        floating = FloatNetwork(graph)
        found = [floating.run({name: batch}) for batch in batches]
        self.reference = [np.concatenate([one[output] for one in found]) for output in floating.outputs]
        self.inputs = {name: np.concatenate(batches)}

    def error(self, kept: list[int]) -> float:
        """Error of the outputs with these layers in float16 (layer_search.output_error)."""
        changed = self.toolkit.folder / "changed.cfg"
        write_configuration(changed, self.configuration.with_float16([self.layers[index] for index in kept]))
        build(self.toolkit, self.job, Way(MIXED, (*(self.files / name for name in STEP_ONE_FILES[:2]), changed)))
        return output_error(self.reference, self.toolkit.simulate(self.inputs, self.job.batch))

    def runs(self, kept: Path) -> list[Run]:
        """What the runs of layers lose alone; from the file `kept` when an earlier rung asked."""
        try:
            return [Run(int(start), int(stop), float(error)) for start, stop, error in json.loads(kept.read_text())]
        except (OSError, ValueError, TypeError):
            pass
        count = len(self.layers)
        trials = TRIALS_LARGE if self.job.graph.stat().st_size > LARGE_BYTES else TRIALS
        with tqdm(desc="layers", disable=quiet(), file=sys.stderr) as progress:

            def alone(start: int, stop: int) -> float:
                progress.update()
                return self.error([index for index in range(count) if not start <= index < stop])

            runs = measure_runs(count, alone, trials)
        write_json(kept, [[run.start, run.stop, run.error] for run in runs])
        return runs


def kept_float(job: Job, layers: list[Layer]) -> list[int]:
    """The layers of the nodes that KEEP_FLOAT= names. Raises VendorError for a node that has none."""
    by_tensor = {name: index for index, layer in enumerate(layers) for name in layer.tensors}
    readers: dict[str, list[str]] = {}
    for node in load_graph(job.graph).graph.node:
        for name in node.input:
            readers.setdefault(name, []).extend(node.output)
    chosen = set()
    for wanted in job.keep_float:
        names = list(wanted.outputs)
        # Its output may be gone: the toolkit fuses a node into the one behind it.
        for _ in range(FOLLOWED):
            if any(name in by_tensor for name in names):
                break
            names = [after for name in names for after in readers.get(name, [])]
        here = {by_tensor[name] for name in names if name in by_tensor}
        if not here:
            raise VendorError(
                f"KEEP_FLOAT names {wanted.node} ({wanted.operator}), which is no layer of its own for the toolkit",
                "name the convolution before or behind it",
            )
        chosen |= here
    return sorted(chosen)


def make_mixed(job: Job, options: Options, graph: Path, cache: Path, folder: Path) -> tuple[Way, dict[str, Any]]:
    """Choose ranges and layers; gives the way to build, with its files in `folder`, and the report for compile.json."""
    calibrating, held = split(load_calibration(job), job.batch)
    files = step_one(job, graph, calibrating, cache)
    configuration = read_configuration(files, STEM)
    if options.ranges == "least_squares":
        configuration = _with_ranges(job, configuration, graph, calibrating, cache)
    layers = configuration.layers()
    if not layers:
        raise VendorError("the toolkit found nothing to quantise in the network", "use PRECISION=fp16")
    kept = set(kept_float(job, layers))
    report: dict[str, Any] = {
        "calibration": f"{_words(options)}, on {len(calibrating)} tensors",
        "held_out": len(held),
        "layers": len(layers),
    }
    tail = set(range(len(layers) - round(options.float_tail * len(layers)), len(layers)))
    if options.float_share > 0:
        with Toolkit(log_of(job)) as toolkit:
            search = Search(toolkit, job, graph, held, files, configuration)
            report["error_before"] = search.error(sorted(kept))
            if report["error_before"] > options.error:
                runs = search.runs(cache / f"layers-{options.ranges}.json")
                kept |= set(choose(runs, int(options.float_share * len(layers)), options.error))
                report["runs"] = [[run.start, run.stop, run.error] for run in runs]
            kept |= tail
            report["error_after"] = search.error(sorted(kept))
    kept |= tail
    chosen = [layers[index] for index in sorted(kept)]
    report["float_layers"] = [layer.name for layer in chosen]
    for name in STEP_ONE_FILES[:2]:
        shutil.copyfile(files / name, folder / f"{job.artifact}{Path(name).suffix}")
    changed = folder / f"{job.artifact}.quantization.cfg"
    write_configuration(changed, configuration.with_float16(chosen))
    return Way(MIXED, (folder / f"{job.artifact}.model", folder / f"{job.artifact}.data", changed)), report


def _words(options: Options) -> str:
    return "range of least squared error" if options.ranges == "least_squares" else "smallest to largest value"


def _with_ranges(
    job: Job, configuration: Configuration, graph: Path, calibrating: list[np.ndarray], cache: Path
) -> Configuration:
    """The configuration with ranges of least squared error, from the cache when an earlier rung made them."""
    kept = cache / "ranges.json"
    try:
        ranges = json.loads(kept.read_text(encoding="utf-8"))
        for name, (low, high) in ranges.items():
            configuration.tensors[name]["min"], configuration.tensors[name]["max"] = [low], [high]
        return configuration
    except (OSError, ValueError, KeyError, TypeError):
        pass
    changed = Configuration(copy.deepcopy(configuration.content), configuration.graph)
    step = max(1, len(calibrating) // LOOKED_AT)
    looked_at = batches_of(calibrating[::step][:LOOKED_AT], job.batch)
    choose_ranges(changed, graph, [{job.inputs[0].name: batch} for batch in looked_at])
    ranges = {name: changed.range_of(name) for name in changed.tensors if changed.has_one_range(name)}
    write_json(kept, ranges)
    return changed
