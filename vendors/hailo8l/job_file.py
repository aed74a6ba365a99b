"""job.json: all that these scripts are told about a network; and the files that lie beside it.

Every path in it is relative to the job folder and stays inside it; job.schema.json describes its keys. This file is the
same in every vendor folder, so that each folder can be taken away alone; which chips and precisions it takes stands in
chip.yaml beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from atomic_files import read_json
from failure import VendorError
from job_schema import JOB_HINT, checked, is_inside
from preprocessing import Preprocessing, preprocessing_of

SAMPLES_HINT = "job.schema.json says what samples holds; in npumake, run make again: it writes them"
CALIBRATION_HINT = (
    "job.schema.json says what calibration holds; in npumake, run make with CALIB=<folder of images>, which writes it"
)
CHIP_FILE = Path(__file__).parent / "chip.yaml"


@dataclass(frozen=True)
class Tensor:
    """An input or an output of the network: its ONNX name and static shape, the batch first."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class KeptFloat:
    """A node of the graph that KEEP_FLOAT= keeps out of int8: its ONNX name, its operator, its output tensors."""

    node: str
    operator: str
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """A checked job.json."""

    folder: Path
    chip: str
    precision: str
    batch: int
    graph: Path
    inputs: list[Tensor]
    outputs: list[Tensor]
    calibration: Path | None
    samples: Path
    outputs_file: Path
    artifact: str
    rung: dict[str, Any] = field(default_factory=dict)  # the options of the rung in chip.yaml; empty: the plain way
    keep_float: list[KeptFloat] = field(default_factory=list)
    preprocessing: Preprocessing | None = None  # None: job.json does not tell
    options: dict[str, str] = field(default_factory=dict)  # those of chip.yaml's options that the user set
    sizes: list[tuple[int, int]] = field(default_factory=list)  # height, width; the job's own first
    decode: dict[str, Any] = field(default_factory=dict)  # what the outputs mean, as the network's owner declares it
    labels: list[str] = field(default_factory=list)  # of classes or keypoints
    double: bool = False  # whether a stand-in of the SDK is to be used

    def option_path(self, name: str) -> Path | None:
        """The file that an option names, inside the job folder; None when the option is not set."""
        if name not in self.options:
            return None
        if not is_inside(self.options[name]):
            raise VendorError(f"options: {name} {self.options[name]!r} is not a path inside the job folder", JOB_HINT)
        return self.folder / self.options[name]


def chip_list(key: str) -> list[str]:
    """A one-line list of chip.yaml ("chips: [a, b]"), read without a YAML library; empty when it is not there."""
    found = re.search(rf"^{key}: *\[([^]]*)\]", CHIP_FILE.read_text(encoding="utf-8"), re.MULTILINE)
    return [word for word in re.split(r"[,\s]+", found[1]) if word] if found else []


def read_job(folder: Path) -> Job:
    """Read and check job.json of a job folder. Raises VendorError that names what is wrong."""
    if not folder.is_dir():
        raise VendorError(f"{folder} is not a folder", "give the job folder: the one with job.json")
    path = folder / "job.json"
    content = checked(read_json(path, JOB_HINT), path)
    chip, precision, batch = content["chip"], content["precision"], int(content["batch"])
    if chip not in chip_list("chips"):
        served = ", ".join(chip_list("chips"))
        raise VendorError(f"{path} is for chip {chip!r}, not {served}", "give a job folder of this chip")
    lacking = chip_list("lacks")
    precisions = [name for name in chip_list("precisions") if f"{chip}:{name}" not in lacking]
    if precision not in precisions:
        raise VendorError(f"{path}: precision {precision!r} is none of {', '.join(precisions)}", "choose one of them")
    known = chip_list("options")
    for name in content["options"]:
        if name not in known:
            raise VendorError(f"{path}: options: {name} is none of {', '.join(known) or 'no options'}", JOB_HINT)
    inputs, outputs = _tensors(path, content, "inputs"), _tensors(path, content, "outputs")
    if any(tensor.shape[0] != batch for tensor in inputs):
        raise VendorError(
            f"{path}: an input is not of shape [{batch}, channels, height, width]",
            f"export with a static batch of {batch}",
        )
    preprocessing = preprocessing_of(content["inputs"][0])
    if preprocessing and inputs[0].shape[1] != len(preprocessing.mean):
        raise VendorError(f"{path}: mean and std are of three channels, the input has {inputs[0].shape[1]}", JOB_HINT)
    sizes = [(int(height), int(width)) for height, width in content["sizes"]]
    return Job(
        folder,
        chip,
        precision,
        batch,
        folder / content["graph"],
        inputs,
        outputs,
        folder / content["calibration"] if content["calibration"] else None,
        folder / content["samples"],
        folder / content["outputs_file"],
        content["artifact"],
        content["rung"]["options"] if content["rung"] else {},
        [KeptFloat(one["node"], one["operator"], tuple(one["outputs"])) for one in content["keep_float"]],
        preprocessing,
        content["options"],
        [inputs[0].shape[2:], *(size for size in sizes if size != inputs[0].shape[2:])],
        content["decode"],
        content["labels"],
        content["double"],
    )


def check_double(job: Job, module: object) -> None:
    """VendorError unless the SDK that was imported is the kind that the job asks for: the real one, or a stand-in,
    which says so (NPUMAKE_DOUBLE = True). Neither must ever be taken for the other."""
    found = bool(getattr(module, "NPUMAKE_DOUBLE", False))
    name = getattr(module, "__name__", str(module))
    if found and not job.double:
        raise VendorError(f"the {name} found here is a stand-in, not the vendor's SDK", "take it off PYTHONPATH")
    if job.double and not found:
        raise VendorError(f"the job asks for a stand-in of {name}, and the SDK is the real one", "leave DOUBLE= out")


def _tensors(path: Path, content: dict[str, Any], key: str) -> list[Tensor]:
    found = [Tensor(entry["name"], tuple(map(int, entry["shape"]))) for entry in content[key]]
    if len({tensor.name for tensor in found}) != len(found):
        raise VendorError(f"{path}: {key} names one tensor twice", JOB_HINT)
    return found


def load_samples(path: Path, inputs: list[Tensor]) -> dict[str, np.ndarray]:
    """Read an .npz of network inputs: {input name: float32 [N, C, H, W]}, the same N for all.

    Raises VendorError for a damaged file, other names, shapes or types, NaN or infinity.
    """
    hint = SAMPLES_HINT
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise VendorError(f"{path} is missing", hint) from None
    except (OSError, ValueError, EOFError, BadZipFile, AttributeError, TypeError) as error:
        raise VendorError(f"{path} is not a readable .npz ({error})", hint) from None
    expected = {tensor.name for tensor in inputs}
    if set(arrays) != expected:
        raise VendorError(f"{path} holds {sorted(arrays)}, and the network's inputs are {sorted(expected)}", hint)
    for tensor in inputs:
        check_sample(arrays[tensor.name], tensor, str(path))
    if len({len(array) for array in arrays.values()}) != 1:
        raise VendorError(f"{path}: the inputs differ in their number of samples", hint)
    return arrays


def check_sample(array: np.ndarray, tensor: Tensor, where: str) -> None:
    """VendorError unless `array` is finite float32 [N, ...] of the input's shape, N > 0."""
    hint = "tensors lie there as the network eats them (inputs in job.schema.json); in npumake, run make again"
    if array.dtype != np.float32:
        raise VendorError(f"{where}: {tensor.name} is {array.dtype}, not float32", hint)
    if array.ndim != len(tensor.shape) or array.shape[1:] != tensor.shape[1:] or not len(array):
        raise VendorError(f"{where}: {tensor.name} is of shape {list(array.shape)}, not [N, {tensor.shape[1:]}]", hint)
    if not np.isfinite(array).all():
        raise VendorError(f"{where}: {tensor.name} holds NaN or infinity", hint)


def load_calibration(job: Job) -> list[np.ndarray]:
    """Read calib/*.npy in the order of their names: float32 [1, C, H, W] each, whatever the batch of the graph.

    Raises VendorError when one is bad.
    """
    hint = CALIBRATION_HINT
    if job.calibration is None:
        raise VendorError("this precision needs calibration tensors, and job.json names none", hint)
    if len(job.inputs) != 1:
        raise VendorError(f"the network has {len(job.inputs)} inputs: only one can be calibrated", "use PRECISION=fp32")
    found = []
    for path in sorted(job.calibration.glob("*.npy")):
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise VendorError(f"{path} is not a readable .npy ({error})", hint) from None
        check_sample(array, job.inputs[0], str(path))
        found.append(array)
    if not found:
        raise VendorError(f"{job.calibration} holds no .npy", hint)
    return found
