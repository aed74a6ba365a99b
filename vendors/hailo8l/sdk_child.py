"""What runs in the SDK's own process, started by sdk_process.py in a scratch folder; writes answer.json there.

python sdk_child.py build JOB               <artifact>.hef, .alls and two .har
python sdk_child.py emulate JOB CONTEXT     samples.npz, network.har -> outputs.npz
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from artifact_record import COMPILE_AGAIN, RECORD, cache_folder
from atomic_files import read_json, write_json
from box_suppression import OPTION as NMS
from box_suppression import UNPROVEN as NMS_UNPROVEN
from box_suppression import suppression
from end_nodes import end_points, load_graph
from failure import RungUnavailableError, VendorError
from har_store import HarStore
from job_file import Job, load_calibration, load_samples, read_job
from machine import visible_gpus
from model_script import extra_lines, merged, script_lines
from output_map import EndPoint, assign, output_layer_names, outputs_of, to_onnx
from rung_options import choose_level, read_options
from sdk_calls import Sdk
from sdk_process import ANSWER, STEP


def network_name(job: Job) -> str:
    """The network's name in Hailo's files, a word: layers are called <name>/conv1."""
    return re.sub(r"[^A-Za-z0-9_]", "_", f"net_{job.artifact}" if job.artifact[0].isdigit() else job.artifact)


def to_hailo(job: Job, array: np.ndarray, raw: bool, where: str) -> np.ndarray:
    """float32 [N, C, H, W] normalised -> float32 [N, H, W, C]; raw: pixels of 0..255 where the script normalises."""
    if raw and job.preprocessing is not None:
        array = job.preprocessing.pixels(array, where)
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1), np.float32)


def link(source: Path, target: Path) -> Path:
    """A second name for a kept file; a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


class Build:
    """One compilation: what several of its steps need."""

    def __init__(self, job: Job, sdk: Sdk):
        self.job, self.sdk = job, sdk
        self.options = read_options(job)
        self.extra = extra_lines(job.option_path("ALLS"))
        self.points = end_points(job, load_graph(job.graph))
        self.tensors = load_calibration(job)
        self.level = choose_level(self.options, len(self.tensors), visible_gpus())
        own = sorted(Path(__file__).parent.glob("*.py"))
        assert job.calibration is not None  # load_calibration() said so
        folder = cache_folder(job, [job.graph, job.calibration, *own], job.chip, sdk.version, str(job.preprocessing))
        self.store = HarStore(folder)

    def parsed(self) -> Path:
        """The network as Hailo reads it."""
        nodes = [point.node for point in self.points]
        shapes = {tensor.name: list(tensor.shape) for tensor in self.job.inputs}
        return self.store.get(
            "parsed",
            repr((nodes, network_name(self.job))),
            lambda path: self.sdk.parse(self.job.graph, network_name(self.job), nodes, shapes, path),
        )

    def calibration(self) -> np.ndarray:
        """float32 (N, H, W, C), raw pixels where the script normalises."""
        return to_hailo(self.job, np.concatenate(self.tensors), True, str(self.job.calibration))

    def quantised(self, parsed: Path, lines: list[str], stem: str) -> Path:
        """Quantised as these lines say. Leaves the script itself in the working folder, as <stem>.alls."""
        script = Path(f"{stem}.alls").resolve()
        text = "".join(f"{line}\n" for line in lines)
        script.write_text(text, encoding="utf-8")
        return self.store.get(
            "quantised",
            f"{parsed.name} {text}",
            lambda path: self.sdk.quantise(parsed, script, self.calibration(), path),
        )


def build(job: Job, sdk: Sdk) -> dict[str, Any]:
    """Parse, quantise, compile; with NMS=hailort a second time. Returns what compile.json has to tell."""
    made = Build(job, sdk)
    parsed = made.parsed()
    hn = sdk.network(parsed)
    outputs = outputs_of(hn)
    matched = list(zip((output.layer for output in outputs), assign(outputs, made.points), strict=True))
    for layer, point in matched:
        print(f"{point.output}: {layer}, of {point.node}", file=sys.stderr)
    lines = merged(script_lines(job, made.options, made.level, output_layer_names(hn)), made.extra)
    quantised = made.quantised(parsed, lines, job.artifact)
    artifacts, side_files, warnings = [f"{job.artifact}.hef"], [f"{job.artifact}.alls"], []
    sdk.compile(quantised, Path(artifacts[0]))
    for har, kind in ((parsed, "parsed"), (quantised, "quantised")):
        side_files.append(link(har, Path(f"{job.artifact}.{kind}.har")).name)
    if NMS in job.options:
        stem = f"{job.artifact}.nms"
        configuration, further = suppression(job, matched, f"{stem}.json")
        write_json(Path(f"{stem}.json"), configuration)
        sdk.compile(made.quantised(parsed, [*lines, *further], stem), Path(f"{stem}.hef"))
        warnings.append(NMS_UNPROVEN.format(proven=artifacts[0], artifact=f"{stem}.hef"))
        artifacts.append(f"{stem}.hef")
        side_files += [f"{stem}.alls", f"{stem}.json"]
    if job.preprocessing is None:
        warnings.append("job.json tells no scale, mean and std: the .hef takes normalised float32, not pixels")
    chosen = any(line.startswith("model_optimization_flavor") for line in made.extra)
    return {
        "artifacts": artifacts,
        "side_files": side_files,
        "warnings": warnings,
        "version": sdk.version,
        "resumed": made.store.resumed,
        "outputs": [{**point.to_json(), "layer": layer} for layer, point in matched],
        "quantization": {
            "calibration": f"{made.level.images} images, statistics of the compiler's own",
            "optimization_level": None if chosen else made.level.level,
            "why": "as the lines of ALLS= say" if chosen else made.level.reason,
            "gpus": made.level.gpus,
            "layers": len(hn["layers"]),
            "script": lines,
        },
        "input": {
            "layout": "NHWC",
            "values": "pixels 0..255" if job.preprocessing else "normalised",
            "color": job.preprocessing.color if job.preprocessing else None,
        },
    }


def emulate(job: Job, sdk: Sdk, context: str) -> dict[str, Any]:
    """Run samples.npz through network.har in one of the emulator's contexts; writes outputs.npz in ONNX's layout."""
    record = read_json(job.folder / RECORD, COMPILE_AGAIN)
    compiled_by = record["tools"].get("hailo_dataflow_compiler")
    if compiled_by != sdk.version:
        raise VendorError(
            f"{job.artifact} was compiled by Dataflow Compiler {compiled_by}, and this is {sdk.version}", COMPILE_AGAIN
        )
    samples = load_samples(Path("samples.npz"), job.inputs)
    (name,) = samples
    inputs = to_hailo(job, samples[name], context != "SDK_NATIVE", f"samples for {context}")
    arrays, hn = sdk.emulate(Path("network.har").resolve(), context, inputs)
    points = [EndPoint.from_json(entry) for entry in record["outputs"]]
    matched = assign(outputs_of(hn), points)
    if len(arrays) != len(matched):
        raise VendorError(f"the emulator gave {len(arrays)} outputs, and the network has {len(matched)}", "README.md")
    np.savez(
        "outputs.npz", **{point.output: to_onnx(array, point) for array, point in zip(arrays, matched, strict=True)}
    )
    return {"samples": len(inputs)}


STEPS = {"build": build, "emulate": emulate}


def note(step: str) -> None:
    """Remember the call that is being made, for the message if it ends this process."""
    Path(STEP).write_text(step, encoding="utf-8")


def main(arguments: list[str]) -> None:
    step, folder, *words = arguments
    try:
        job = read_job(Path(folder))
        answer = STEPS[step](job, Sdk(job, note), *words)
    except VendorError as failure:
        unavailable = isinstance(failure, RungUnavailableError)
        answer = {"error": failure.message, "hint": failure.hint, "unavailable": unavailable}
    write_json(Path(ANSWER), answer)


if __name__ == "__main__":
    main(sys.argv[1:])
