"""From ONNX to ncnn's float files with pnnx, and whether what came out can run."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from atomic_files import scratch_folder
from failure import VendorError
from job_file import Job
from layer_table import LAYERS
from param_file import read_param

# What ncnn runs beyond the layers that the int8 writer knows.
RUNNABLE = frozenset(LAYERS) | {"Quantize", "Dequantize", "Requantize"}
HINT = "look at pnnx's messages in compile.log"


def pnnx_program() -> Path:
    """The converter that the pnnx wheel brings. Its Python module is not imported: that would ask for torch."""
    found = importlib.util.find_spec("pnnx")
    for folder in (found.submodule_search_locations or []) if found else []:
        program = Path(folder) / "pnnx"
        if program.is_file():
            return program
    raise VendorError(
        f"pnnx is not installed for {sys.executable}",
        "pip install --no-deps -r requirements-no-deps.txt (in this folder's virtual environment)",
    )


def convert(job: Job, folder: Path) -> tuple[Path, Path]:
    """Convert job.graph inside `folder` and check the result; returns the paths of .param and .bin.

    Raises VendorError when pnnx fails, writes no or damaged files, or leaves layers that ncnn cannot run.
    """
    if not job.graph.is_file():
        raise VendorError(f"{job.graph} is missing", "run make again: it writes the graph")
    program = pnnx_program()
    shutil.copyfile(job.graph, folder / "model.onnx")
    shapes = ",".join("[" + ",".join(str(size) for size in tensor.shape) + "]" for tensor in job.inputs)
    command = [str(program), "model.onnx", f"inputshape={shapes}", "fp16=0"]
    print("pnnx", *command[1:], flush=True)
    try:
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
        raise VendorError(f"cannot start {program}: {error}", "install pnnx again for this machine") from None
    param, weights = folder / "model.ncnn.param", folder / "model.ncnn.bin"
    for path in (param, weights):
        if not path.is_file() or not path.stat().st_size:
            raise VendorError(f"pnnx wrote no {path.name} for {job.graph} (exit code {done.returncode})", HINT)
    if done.returncode != 0:
        raise VendorError(f"pnnx failed on {job.graph} with exit code {done.returncode}", HINT)
    network = read_param(param)
    foreign = [f"{layer.type} ({layer.name})" for layer in network.layers if layer.type not in RUNNABLE]
    if foreign:
        more = f" and {len(foreign) - 8} more" if len(foreign) > 8 else ""
        raise VendorError(
            f"pnnx found no ncnn layer for {', '.join(foreign[:8])}{more}",
            "cut the ONNX before that operator and finish on the host, or replace the operator (see operators.yaml)",
        )
    return param, weights


def converted(job: Job, cache: Path, sample: dict[str, np.ndarray]) -> tuple[Path, Path]:
    """The float .param and .bin in the cache folder of this graph: converted and proven once.

    sample: see prove(). Raises VendorError as convert() and prove() do.
    """
    folder = cache / "float"
    if not folder.is_dir():
        with scratch_folder(cache) as scratch:
            files = convert(job, scratch)
            prove(job, *files, sample, scratch)
            (scratch / "float").mkdir()
            for path in files:
                path.rename(scratch / "float" / path.name)
            os.rename(scratch / "float", folder)
    return folder / "model.ncnn.param", folder / "model.ncnn.bin"


def prove(job: Job, param: Path, weights: Path, sample: dict[str, np.ndarray], folder: Path) -> None:
    """Load the model, run one sample, compare the outputs' shapes with job.json.

    sample: {ONNX input name: float32 [1, C, H, W]}. Blob in0 is the first input, out0 the first output, and so on.
    folder: for scratch files. Raises VendorError when ncnn refuses the files, crashes on them or cannot run them, or
    when an output has another shape or is not finite.
    """
    inputs, answer = folder / "sample.npz", folder / "answer.json"
    answer.unlink(missing_ok=True)
    np.savez(inputs, **{f"in{index}": sample[tensor.name] for index, tensor in enumerate(job.inputs)})
    script = Path(__file__).with_name("check_model.py")
    command = [sys.executable, str(script), str(param), str(weights), str(inputs), str(answer), str(len(job.outputs))]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode < 0:
        raise VendorError(f"ncnn crashes on this network (signal {-done.returncode})", HINT)
    if done.returncode or not answer.is_file():
        words = done.stderr.strip().splitlines()
        errors = [line.removeprefix("ERROR: ") for line in words if line.startswith("ERROR: ")]
        print(done.stderr, flush=True)
        raise VendorError(f"ncnn cannot run this network: {(errors or words or ['no message'])[-1]}", HINT)
    found = json.loads(answer.read_text(encoding="utf-8"))
    for shape, finite, tensor in zip(found["shapes"], found["finite"], job.outputs, strict=True):
        if tuple(shape) != tensor.shape[1:]:
            raise VendorError(
                f"ncnn's output for {tensor.name} is of shape {shape}, not {list(tensor.shape[1:])}", HINT
            )
        if not finite:
            raise VendorError(
                f"ncnn's output {tensor.name} holds NaN or infinity", "look at the ONNX: does it overflow?"
            )
