"""Building a network with the toolkit, in one of three ways, so that it can be done again and give the same bytes.

The toolkit's simulator runs only what the same process has built: a .rknn file alone cannot be simulated
(`load_rknn` and `init_runtime()` without a board is refused). So infer.py builds the network again from the same
files, and shows that what it simulates is the artifact: the .rknn that this build exports has the artifact's sha256.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from atomic_files import sha256_of
from failure import VendorError
from job_file import Job, load_calibration
from toolkit import LOG, Toolkit

FLOAT, PLAIN, MIXED = "float16", "plain", "mixed"
STEM = "network"  # network.onnx, and the files that step one of the mixed way makes of it
STEP_ONE_FILES = (f"{STEM}.model", f"{STEM}.data", f"{STEM}.quantization.cfg")
MADE = "artifact.rknn"


@dataclass(frozen=True)
class Way:
    """How the artifact is made of which files.

    kind: FLOAT (float16 throughout), PLAIN (`build` with quantisation, the toolkit's default), MIXED (step two of the
    hybrid quantisation). files: for MIXED the three files of step one, its .cfg as changed; else the prepared graph.
    """

    kind: str
    files: tuple[Path, ...]


def toolkit_version() -> str:
    return importlib.metadata.version("rknn-toolkit2")


def log_of(job: Job) -> Path:
    return job.folder / LOG


def batches_of(arrays: Iterable[np.ndarray], batch: int) -> list[np.ndarray]:
    """Tensors [1, C, H, W] as tensors [batch, C, H, W]; the last is filled up with the first ones again."""
    singles = list(arrays)
    wanted = -(-len(singles) // batch) * batch
    singles += [singles[index % len(singles)] for index in range(wanted - len(singles))]
    return [np.concatenate(singles[start : start + batch]) for start in range(0, wanted, batch)]


def put_calibration(toolkit: Toolkit, job: Job, arrays: list[np.ndarray] | None = None) -> str:
    """Lay the calibration tensors into the toolkit's folder, a batch a file; returns the list that names them.

    arrays: those to take, float32 [1, C, H, W]; else all of the job's.
    """
    folder = toolkit.folder / "calib"
    folder.mkdir()
    names = []
    for index, array in enumerate(batches_of(arrays or load_calibration(job), job.batch)):
        names.append(f"calib/{index:05d}.npy")
        np.save(toolkit.folder / names[-1], array)
    (toolkit.folder / "dataset.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return "dataset.txt"


def build(toolkit: Toolkit, job: Job, way: Way) -> Path:
    """Build and export; returns the .rknn in the toolkit's folder. The toolkit can simulate it from then on.

    Raises VendorError when a call fails, or when none failed and there is no file.
    """
    for path in way.files:
        if not path.is_file():
            raise VendorError(f"{path} is missing", "compile again: python compile.py JOB")
    if way.kind == MIXED:
        model, data, configuration = (
            toolkit.put(path, name) for path, name in zip(way.files, STEP_ONE_FILES, strict=True)
        )
        toolkit.call("build_mixed", model=model, data=data, configuration=configuration)
    else:
        graph = toolkit.put(way.files[0], f"{STEM}.onnx")
        dataset = put_calibration(toolkit, job) if way.kind == PLAIN else None
        toolkit.call("build", target=job.chip, algorithm="normal", graph=graph, dataset=dataset)
    made = toolkit.folder / MADE
    toolkit.call("export", file=MADE)
    if not made.is_file() or made.stat().st_size == 0:
        raise VendorError(
            f"RKNN-Toolkit2's export_rknn returned 0 but wrote no {MADE}", f"its own messages stand in {log_of(job)}"
        )
    return made


def probe_inputs(job: Job) -> dict[str, np.ndarray]:
    """An input that is always the same: noise of the order of a normalised image, float32 [batch, C, H, W] each."""
    generator = np.random.default_rng(0)
    return {tensor.name: generator.standard_normal(tensor.shape, np.float32) for tensor in job.inputs}


def probe(toolkit: Toolkit, job: Job) -> str:
    """The SHA-256 of what the built network gives for probe_inputs(). Raises VendorError for other shapes than the
    job's: then the toolkit read the graph wrongly."""
    outputs = toolkit.simulate(probe_inputs(job), job.batch)
    shapes = [array.shape for array in outputs]
    if shapes != [tensor.shape for tensor in job.outputs]:
        raise VendorError(
            f"the built network's outputs are of shapes {[list(shape) for shape in shapes]}, not "
            f"{[list(tensor.shape) for tensor in job.outputs]}",
            "a Reshape or Squeeze that the toolkit reads otherwise: end the graph before it",
        )
    return hashlib.sha256(b"".join(array.tobytes() for array in outputs)).hexdigest()


def same_network(toolkit: Toolkit, job: Job, made: Path, compiled: dict[str, Any]) -> str:
    """Show that the built network is the artifact; says how, in words. Raises VendorError when it is not.

    Equal bytes show it. On another machine, or where the system does not let the toolkit's process have fixed
    addresses, uninitialised bytes differ: then the file must be of the same length, and its network must give the
    artifact's outputs bit for bit.
    """
    if sha256_of([made]) == compiled["sha256"]:
        return "the simulated build exports the artifact byte for byte"
    artifact = job.folder / compiled["artifact"][0]
    if artifact.stat().st_size != made.stat().st_size or probe(toolkit, job) != compiled.get("probe_sha256"):
        raise VendorError(
            f"building the network again gives another one than {artifact}",
            "the graph, the calibration tensors or the toolkit changed since: compile again: python compile.py JOB",
        )
    first, second = (np.frombuffer(path.read_bytes(), np.uint8) for path in (artifact, made))
    differing = int(np.count_nonzero(first != second))
    return f"the simulated build gives the artifact's outputs bit for bit; {differing} uninitialised bytes differ"
