"""job.json: all that these scripts are told about a network; and the files that lie beside it.

Every path in it is relative to the job folder and stays inside it. This file is the same in every vendor folder, so
that each folder can be taken away alone; which chips and precisions it takes stands in chip.yaml beside it.
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
from preprocessing import Preprocessing, preprocessing_of

JOB_HINT = "run make again: it writes job.json"
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
        return self.folder / self.options[name] if name in self.options else None


def chip_list(key: str) -> list[str]:
    """A one-line list of chip.yaml ("chips: [a, b]"), read without a YAML library; empty when it is not there."""
    found = re.search(rf"^{key}: *\[([^]]*)\]", CHIP_FILE.read_text(encoding="utf-8"), re.MULTILINE)
    return [word for word in re.split(r"[,\s]+", found[1]) if word] if found else []


def read_job(folder: Path) -> Job:
    """Read and check job.json of a job folder. Raises VendorError that names what is wrong."""
    if not folder.is_dir():
        raise VendorError(f"{folder} is not a folder", "give the job folder, out/<model>/<chip>/<variant>")
    path = folder / "job.json"
    content = read_json(path, JOB_HINT)
    if not isinstance(content, dict):
        raise VendorError(f"{path} is not a JSON object", JOB_HINT)
    if content.get("version") != 1:
        raise VendorError(f"{path}: version {content.get('version')!r} is not 1", JOB_HINT)
    chip, precision = content.get("chip"), content.get("precision")
    if chip not in chip_list("chips"):
        served = ", ".join(chip_list("chips"))
        raise VendorError(f"{path} is for chip {chip!r}, not {served}", "give a job folder of this chip")
    lacking = chip_list("lacks")
    precisions = [name for name in chip_list("precisions") if f"{chip}:{name}" not in lacking]
    if precision not in precisions:
        raise VendorError(f"{path}: precision {precision!r} is none of {', '.join(precisions)}", "choose one of them")
    artifact = content.get("artifact")
    if not isinstance(artifact, str) or not artifact or Path(artifact).name != artifact:
        raise VendorError(f"{path}: artifact {artifact!r} is no plain file name", JOB_HINT)
    inputs, outputs = _tensors(path, content, "inputs"), _tensors(path, content, "outputs")
    batch = content.get("batch", 1)
    if type(batch) is not int or batch < 1:
        raise VendorError(f"{path}: batch {batch!r} is no number of 1 or more", JOB_HINT)
    if any(len(tensor.shape) != 4 or tensor.shape[0] != batch for tensor in inputs):
        raise VendorError(
            f"{path}: an input is not of shape [{batch}, channels, height, width]",
            f"export with a static batch of {batch}",
        )
    calibration = content.get("calibration")
    return Job(
        folder,
        chip,
        precision,
        batch,
        _inside(folder, path, content, "graph"),
        inputs,
        outputs,
        None if calibration is None else _inside(folder, path, content, "calibration"),
        _inside(folder, path, content, "samples"),
        _inside(folder, path, content, "outputs_file"),
        artifact,
        _rung(path, content),
        _keep_float(path, content),
        preprocessing_of(content["inputs"][0], str(path)),
        _options(path, content),
        [inputs[0].shape[2:], *(size for size in _sizes(path, content) if size != inputs[0].shape[2:])],
        _mapping(path, content, "decode"),
        [str(label) for label in content.get("labels") or []],
        content.get("double") is True,
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


def _mapping(path: Path, content: dict[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key) or {}
    if not isinstance(value, dict):
        raise VendorError(f"{path}: {key} {value!r} does not hold keys and values", JOB_HINT)
    return value


def _options(path: Path, content: dict[str, Any]) -> dict[str, str]:
    known, given = chip_list("options"), _mapping(path, content, "options")
    for name, value in given.items():
        if name not in known or not isinstance(value, str):
            raise VendorError(f"{path}: options: {name} is none of {', '.join(known) or 'no options'}", JOB_HINT)
    return given


def _sizes(path: Path, content: dict[str, Any]) -> list[tuple[int, int]]:
    try:
        return [(int(height), int(width)) for height, width in content.get("sizes") or []]
    except (TypeError, ValueError):
        raise VendorError(f"{path}: sizes is no list of [height, width]", JOB_HINT) from None


def _rung(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    rung = content.get("rung")
    if rung is None:
        return {}
    options = rung.get("options") if isinstance(rung, dict) else None
    if not isinstance(options, dict):
        raise VendorError(f"{path}: rung {rung!r} has no options", JOB_HINT)
    return options


def _keep_float(path: Path, content: dict[str, Any]) -> list[KeptFloat]:
    entries = content.get("keep_float") or []
    try:
        return [KeptFloat(str(one["node"]), str(one["operator"]), tuple(map(str, one["outputs"]))) for one in entries]
    except (TypeError, KeyError):
        raise VendorError(f"{path}: keep_float {entries!r} is no list of nodes", JOB_HINT) from None


def _tensors(path: Path, content: dict[str, Any], key: str) -> list[Tensor]:
    found = []
    entries = content.get(key)
    for entry in entries if isinstance(entries, list) else []:
        name = entry.get("name") if isinstance(entry, dict) else None
        shape = entry.get("shape") if isinstance(entry, dict) else None
        sizes = shape if isinstance(shape, list) else []
        if not isinstance(name, str) or not sizes or any(type(size) is not int or size < 1 for size in sizes):
            raise VendorError(f"{path}: {key}: {entry!r} has no name or no static shape", JOB_HINT)
        found.append(Tensor(name, tuple(sizes)))
    if not found or len({tensor.name for tensor in found}) != len(found):
        raise VendorError(f"{path}: {key} is empty or names one tensor twice", JOB_HINT)
    return found


def _inside(folder: Path, path: Path, content: dict[str, Any], key: str) -> Path:
    text = content.get(key)
    if not isinstance(text, str) or not text or Path(text).is_absolute() or ".." in Path(text).parts:
        raise VendorError(f"{path}: {key} {text!r} is not a path inside the job folder", JOB_HINT)
    return folder / text


def load_samples(path: Path, inputs: list[Tensor]) -> dict[str, np.ndarray]:
    """Read an .npz of network inputs: {input name: float32 [N, C, H, W]}, the same N for all.

    Raises VendorError for a damaged file, other names, shapes or types, NaN or infinity.
    """
    hint = "run make again: it writes the samples"
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
    hint = "run make again: it writes tensors as the network eats them"
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
    hint = "run make with CALIB=<folder of images>: it writes the calibration tensors"
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
