"""Run the artifact of a job folder on the NPU of this machine.

    python device.py JOB [SAMPLES.npz OUTPUTS.npz]    the samples, and the latency of the job's own size
    python device.py JOB --latency [RUNS]             the latency of every size and batch that the artifact takes
    python device.py JOB --dump INPUTS OUTPUTS        every INPUTS/*.npy, to OUTPUTS/*.npz of the same name

Needs this folder, the job folder, numpy and tqdm, and ais_bench or CANN's acl. Writes device.json beside job.json and
the outputs (float32 [N, ...] under the ONNX names); --latency writes latency.json. An input of --dump is float32
[1, C, H, W], normalised, of any size that the artifact takes. Tested against a double of the documented API only.
"""

from __future__ import annotations

import sys
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from artifact_record import check_artifact
from atomic_files import write_json
from failure import VendorError, quiet, run
from inference_loop import main_of, save_arrays
from job_file import Job, read_job
from npu_runner import OnBoard
from tqdm import tqdm

RUNS = 50
USAGE = "device.py JOB [SAMPLES.npz OUTPUTS.npz | --latency [RUNS] | --dump INPUTS OUTPUTS]"


def image_of(job: Job, batch: int, size: tuple[int, int]) -> np.ndarray:
    """Noise as the network eats it, float32 [batch, C, H, W]: normalised pixels where job.json says how."""
    generator = np.random.default_rng(0)
    shape = (batch, job.inputs[0].shape[1], *size)
    if job.preprocessing is None:
        return generator.standard_normal(shape).astype(np.float32)
    mean = np.array(job.preprocessing.mean_pixels).reshape(1, -1, 1, 1)
    std = np.array(job.preprocessing.std_pixels).reshape(1, -1, 1, 1)
    return ((generator.integers(0, 256, shape) - mean) / std).astype(np.float32)


def measure(job: Job, runner: OnBoard, runs: int) -> list[dict[str, Any]]:
    """One row for each size and batch: {"height", "width", "batch", "median_ms", "ninth_ms", "images_per_second"}.

    The time is from the input in the host's memory to the outputs there; ninth_ms: nine of ten were no slower.
    """
    own = job.inputs[0].shape
    rows = []
    for height, width in runner.sizes or [own[2:]]:
        for batch in runner.batches or [own[0]]:
            inputs = {job.inputs[0].name: image_of(job, batch, (height, width))}
            for _ in range(runner.warm_up):
                runner.run(inputs)
            spent = []
            for _ in tqdm(range(runs), desc=f"{height}x{width}", disable=quiet(), file=sys.stderr):
                began = time.perf_counter()
                runner.run(inputs)
                spent.append((time.perf_counter() - began) * 1000.0)
            median = float(np.median(spent))
            rows.append(
                {
                    "height": height,
                    "width": width,
                    "batch": batch,
                    "median_ms": round(median, 3),
                    "ninth_ms": round(float(np.quantile(spent, 0.9)), 3),
                    "images_per_second": round(1000.0 * batch / median, 1),
                }
            )
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    """The rows as a table that a README takes as it is."""
    print("| height x width | batch | median ms | 9 of 10 within ms | images/s |\n|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['height']}x{row['width']} | {row['batch']} | {row['median_ms']:.2f} | {row['ninth_ms']:.2f} "
            f"| {row['images_per_second']:.1f} |"
        )


def latency(job: Job, arguments: list[str]) -> None:
    """--latency [RUNS]."""
    if len(arguments) > 1 or (arguments and (not arguments[0].isdecimal() or int(arguments[0]) < 1)):
        raise VendorError(f"--latency {' '.join(arguments)} is not a number of runs", USAGE)
    runs = int(arguments[0]) if arguments else RUNS
    compiled = check_artifact(job)
    runner = OnBoard(job, compiled)
    rows = measure(job, runner, runs)
    write_json(
        job.folder / "latency.json",
        {"artifact": compiled["artifact"], "sha256": compiled["sha256"], "device": runner.device, "runs": runs}
        | {"double": job.double, "rows": rows},
    )
    print_table(rows)


def read_inputs(job: Job, folder: Path) -> list[tuple[Path, np.ndarray]]:
    """All *.npy of the folder, in the order of their names. Raises VendorError that names a bad one."""
    hint = "each input is float32 [1, channels, height, width], normalised, as numpy.save writes it"
    paths = sorted(folder.glob("*.npy")) if folder.is_dir() else []
    if not paths:
        raise VendorError(f"{folder} holds no .npy", hint)
    found = []
    for path in paths:
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise VendorError(f"{path} is not a readable .npy ({error})", hint) from None
        channels = job.inputs[0].shape[1]
        if array.dtype != np.float32 or array.ndim != 4 or array.shape[:2] != (1, channels):
            raise VendorError(f"{path} is {array.dtype} {list(array.shape)}, not float32 [1, {channels}, H, W]", hint)
        if not np.isfinite(array).all():
            raise VendorError(f"{path} holds NaN or infinity", hint)
        found.append((path, array))
    return found


def dump(job: Job, arguments: list[str]) -> None:
    """--dump INPUTS OUTPUTS. Inputs of one size that follow each other share a batch."""
    if len(arguments) != 2:
        raise VendorError("--dump takes two folders", USAGE)
    inputs, target = read_inputs(job, Path(arguments[0])), Path(arguments[1])
    runner = OnBoard(job, check_artifact(job))
    target.mkdir(parents=True, exist_ok=True)
    batch = job.inputs[0].shape[0]
    for _, same in groupby(inputs, key=lambda one: one[1].shape):
        entries = list(same)
        for start in range(0, len(entries), batch):
            part = entries[start : start + batch]
            filled = [part[min(index, len(part) - 1)][1] for index in range(batch)]
            outputs = runner.run({job.inputs[0].name: np.concatenate(filled)})
            for index, (path, _) in enumerate(part):
                save_arrays(
                    target / f"{path.stem}.npz", {name: array[index : index + 1] for name, array in outputs.items()}
                )
    print(f"{len(inputs)} inputs run, {target}; {runner.device}")


def main(arguments: list[str]) -> None:
    if len(arguments) >= 2 and arguments[1] in ("--latency", "--dump"):
        job = read_job(Path(arguments[0]))
        (latency if arguments[1] == "--latency" else dump)(job, arguments[2:])
        return
    main_of(OnBoard, "device.json", "device")(arguments)


if __name__ == "__main__":
    run(main)
