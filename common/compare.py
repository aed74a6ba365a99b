"""How far the chip's outputs are from the float network's, on the same proof inputs.

    python -m common.compare out/<model>/<chip>/<variant>     writes compare.json

Two yardsticks: per output and channel, cosine similarity and SQNR; per network input, the agreement of what the chip
finds with what float finds: OKS or IoU, with float in the place of ground truth (Task.agreement).
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from common.basics.errors import UserError, run
from common.basics.files import read_json, write_json
from common.declarations.keypoints import keypoint_set
from common.declarations.spec import ModelSpec
from common.decoding.predictions import check_finite
from common.job import Cell
from common.samples import load_arrays
from common.tasks import Outputs, instance_of, task_of

SQNR_LIMIT_DB = 200.0  # JSON has no infinity: equal outputs count as 200 dB, far above float32's own 150


def cosine_similarity(reference: np.ndarray, value: np.ndarray) -> float:
    """The cosine of the angle between two tensors, in float64; two zero tensors are alike (1), one is not (0)."""
    reference, value = reference.astype(np.float64).ravel(), value.astype(np.float64).ravel()
    norms = float(np.sqrt(reference @ reference) * np.sqrt(value @ value))
    if norms == 0:
        return 1.0 if not reference.any() and not value.any() else 0.0
    return float(np.clip(reference @ value / norms, -1.0, 1.0))


def sqnr_db(reference: np.ndarray, value: np.ndarray) -> float:
    """Signal to quantisation noise ratio, 10 log10(sum r^2 / sum (r - v)^2), in dB, cut to -200..200."""
    reference = reference.astype(np.float64).ravel()
    error = reference - value.astype(np.float64).ravel()
    signal, noise = float(reference @ reference), float(error @ error)
    if noise == 0:
        return SQNR_LIMIT_DB
    if signal == 0:
        return -SQNR_LIMIT_DB
    return float(np.clip(10 * np.log10(signal / noise), -SQNR_LIMIT_DB, SQNR_LIMIT_DB))


def compare_tensors(reference: np.ndarray, value: np.ndarray) -> dict[str, float]:
    """Cosine, SQNR in dB and the largest absolute difference of two tensors of one shape."""
    difference = np.abs(reference.astype(np.float64) - value)
    return {
        "cosine": cosine_similarity(reference, value),
        "sqnr_db": sqnr_db(reference, value),
        "max_abs": float(difference.max(initial=0.0)),
    }


def compare_output(reference: np.ndarray, value: np.ndarray, joints: tuple[str, ...]) -> dict[str, Any]:
    """compare_tensors() over all samples, and per channel; channels bear the joints' names where the count fits."""
    channels = reference.shape[1] if reference.ndim > 1 else 0
    names = joints if channels == len(joints) else [f"channel {index}" for index in range(channels)]
    return compare_tensors(reference, value) | {
        "channels": [
            {"name": name, **compare_tensors(reference[:, index], value[:, index])} for index, name in enumerate(names)
        ]
    }


def check_same_outputs(reference: dict[str, np.ndarray], value: dict[str, np.ndarray], where: str) -> None:
    """UserError when outputs are missing or extra, of another shape, of no samples, or not finite."""
    missing, extra = sorted(reference.keys() - value.keys()), sorted(value.keys() - reference.keys())
    if missing or extra:
        raise UserError(
            f"{where}: the chip's outputs are {sorted(value)}, the float network's are {sorted(reference)}",
            "infer.py has to write outputs under the ONNX output names of job.json",
        )
    for name, expected in reference.items():
        if value[name].shape != expected.shape:
            raise UserError(
                f"{where}: output {name} has shape {list(value[name].shape)}, expected {list(expected.shape)}",
                "outputs are NCHW float32, one row per sample: a vendor's NHWC has to be transposed in infer.py",
            )
        if expected.size == 0:
            raise UserError(f"{where}: output {name} is empty", "run the same make again")
        check_finite(expected, f"{where}: float output {name}")
        check_finite(value[name], f"{where}: output {name} of the chip")


def compare(
    reference: dict[str, np.ndarray],
    value: dict[str, np.ndarray],
    descriptions: list[dict[str, Any]],
    spec: ModelSpec,
    where: str,
) -> dict[str, Any]:
    """The content of compare.json.

    reference, value: outputs by name, [N, ...] float32. descriptions: the instances of samples.json.
    Raises UserError when the outputs do not fit each other or the instances.
    """
    check_same_outputs(reference, value, where)
    task = task_of(spec)
    instances = [instance_of(description) for description in descriptions]
    if any(len(array) != len(instances) for array in reference.values()):
        counts = ", ".join(str(len(array)) for array in reference.values())
        raise UserError(f"{where}: {counts} outputs for {len(instances)} samples", "remove the cell and make it again")
    found = [task.decode(outputs, instances) for outputs in (reference, value)]
    agreement = task.agreement(*found, instances)
    order = np.argsort(agreement.per_instance, kind="stable")
    joints = keypoint_set(spec.keypoints).names if spec.keypoints else ()
    return {
        "similarity": task.similarity,
        "agreement": agreement.overall,
        task.similarity.lower(): agreement.overall,  # the same under its own name, "oks" or "iou", for scripts
        "agreement_minimum": float(agreement.per_instance.min()),
        "agreement_of": agreement.explanation,
        "compared": agreement.compared,
        "found": [len(side) for side in found],
        "agreement_instances": [float(value) for value in agreement.per_instance],
        "samples": len(instances),
        "worst_instance": int(order[0]),
        "median_instance": int(order[len(order) // 2]),
        "joints": agreement.joints,
        "outputs": {name: compare_output(reference[name], value[name], joints) for name in reference},
    }


def compare_stages(cell: Cell, reference: Outputs, main: Outputs) -> list[dict[str, Any]]:
    """The steps of the vendor's chain that infer.py ran by themselves (infer.json, "stages"): the graph as the tool
    read it, its quantised form, the bit-exact artifact. So one sees in which step a network breaks.

    reference, main: the float network's outputs and the chip's, [N, ...]. One entry a stage: {"name", "title",
    "samples", "outputs": {name: figures against float}, "from_main": the largest difference from the chip's own
    outputs, 0 for equal to the bit}. Raises UserError when a stage's outputs do not fit.
    """
    path = cell.folder / "infer.json"
    told = (read_json(path) if path.exists() else {}).get("stages") or []
    found = []
    for stage in told:
        outputs = load_arrays(cell.folder / stage["file"])
        count = stage["samples"]
        expected, own = ({name: value[:count] for name, value in side.items()} for side in (reference, main))
        check_same_outputs(expected, outputs, f"{cell.name}, stage {stage['name']}")
        if any(len(value) != count for value in outputs.values()):
            raise UserError(f"{cell.name}: {stage['file']} does not hold {count} samples", "run the same make again")
        found.append(
            {
                "name": stage["name"],
                "title": stage["title"],
                "samples": count,
                "outputs": {name: compare_tensors(expected[name], outputs[name]) for name in expected},
                "from_main": max(float(np.abs(own[name] - outputs[name]).max(initial=0.0)) for name in own),
            }
        )
    return found


def compare_cell(cell: Cell) -> None:
    """Compare outputs.npz of the cell with that of the float reference and write compare.json."""
    instances = read_json(cell.float_folder / "samples.json")["instances"]
    reference, value = (load_arrays(folder / "outputs.npz") for folder in (cell.float_folder, cell.folder))
    result = compare(reference, value, instances, cell.spec, cell.name)
    write_json(cell.folder / "compare.json", result | {"stages": compare_stages(cell, reference, value)} | marks(cell))


def marks(cell: Cell) -> dict[str, Any]:
    """What every file of figures says of a cell that a stand-in computed; nothing for others."""
    return {"double": "a stand-in of the vendor's SDK computed this: no result of the chip"} if cell.double else {}


def main() -> None:
    """python -m common.compare CELL"""
    compare_cell(Cell(sys.argv[1]))


if __name__ == "__main__":
    run(main)
