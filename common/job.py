"""The folders under out/, and job.json: all that a vendor script may know.

out/<model>/float/              FloatReference: source.json, evaluation_set.json, model.onnx, samples, float results
out/<model>/<chip>/<variant>/   Cell: request.json, climb.json, calibration_set.json, job.json, the artifact, the proof
"""

from __future__ import annotations

import os
import shutil
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from common.basics.errors import UserError, run
from common.basics.files import read_json, write_json
from common.declarations.chip_spec import ChipSpec, RungSpec
from common.declarations.classes import class_names
from common.declarations.keypoints import keypoint_set
from common.declarations.spec import GateSpec, ModelSpec, load_chip, model_from_dict

JOB_VERSION = 1


class FloatReference:
    """out/<model>/float: the float network that every chip is measured against."""

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    @cached_property
    def source_json(self) -> dict[str, Any]:
        return read_json(self.folder / "source.json")

    @property
    def spec(self) -> ModelSpec:
        return model_from_dict(self.source_json["spec"], str(self.folder / "source.json"))

    @property
    def source(self) -> dict[str, Any]:
        """{"kind": "weights" | "random" | "onnx", "path": str | None, ...}"""
        return self.source_json["source"]

    @cached_property
    def evaluation_request(self) -> dict[str, Any]:
        """{"folder", "fingerprint", "limit": only so many images, or None}"""
        return read_json(self.folder / "evaluation_set.json")

    @property
    def evaluation_folder(self) -> Path:
        return Path(self.evaluation_request["folder"])


class Cell:
    """out/<model>/<chip>/<variant>: one network on one chip in one precision; also the vendor's job folder."""

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self.float = FloatReference(self.folder.parent.parent / "float")

    @cached_property
    def request(self) -> dict[str, Any]:
        return read_json(self.folder / "request.json")

    @cached_property
    def calibration_request(self) -> dict[str, Any] | None:
        """{"folder", "fingerprint", "count", "force"}, or None where the precision needs no calibration."""
        path = self.folder / "calibration_set.json"
        return read_json(path) if path.exists() else None

    @property
    def name(self) -> str:
        return "/".join(self.folder.parts[-3:])

    @property
    def model(self) -> str:
        return self.request["model"]

    @property
    def chip(self) -> str:
        return self.request["chip"]

    @property
    def variant(self) -> str:
        return self.request["variant"]

    @property
    def precision(self) -> str:
        return self.request["precision"]

    @property
    def batch(self) -> int:
        return self.request.get("batch", 1)

    @property
    def double(self) -> bool:
        """DOUBLE=1: a stand-in computes in the place of the vendor's SDK."""
        return self.request.get("double", False)

    @property
    def simulated(self) -> bool:
        """Whether anything but the chip can run the artifact."""
        return self.precision not in self.chip_spec.unsimulated

    @cached_property
    def climb_request(self) -> dict[str, Any]:
        """{"gate": number or None, "rung": number or None, "keep_float": text, "options": {name: value}}, as GATE=,
        RUNG=, KEEP_FLOAT= and the chip's own variables ask."""
        path = self.folder / "climb.json"
        return {"gate": None, "rung": None, "keep_float": "", "options": {}} | (
            read_json(path) if path.exists() else {}
        )

    @property
    def spec(self) -> ModelSpec:
        return self.float.spec

    @cached_property
    def chip_spec(self) -> ChipSpec:
        return load_chip(self.chip)

    @property
    def quantised(self) -> bool:
        """Whether the precision needs a calibration."""
        return self.precision in self.chip_spec.calibrated

    @property
    def gate(self) -> GateSpec:
        """What the model accepts in this precision; GATE= overrides the agreement."""
        declared = self.spec.gate_for(self.precision)
        asked = self.climb_request["gate"]
        return declared if asked is None else declared.model_copy(update={"oks": asked})

    @property
    def float_folder(self) -> Path:
        return self.float.folder

    @property
    def evaluation_folder(self) -> Path:
        return self.float.evaluation_folder

    @property
    def calibration_folder(self) -> Path | None:
        return Path(self.calibration_request["folder"]) if self.calibration_request else None

    @property
    def calibration_count(self) -> int:
        return self.calibration_request["count"] if self.calibration_request else 0

    @property
    def force(self) -> bool:
        """FORCE=1: the calibration lint's findings are recorded, not obeyed."""
        return bool(self.calibration_request and self.calibration_request["force"])

    @property
    def weights(self) -> str:
        """Where the weights come from: "published", "path", "random" or "onnx"."""
        return self.float.source["origin"]


def labels(spec: ModelSpec) -> list[str]:
    """The names of what the outputs are numbered by: a detector's classes, a pose network's keypoints."""
    if spec.task == "detection":
        return list(class_names(spec.decode.classes))
    return list(keypoint_set(spec.keypoints).names)


def option_files(cell: Cell) -> dict[str, Path]:
    """{name: the file that the user's option names}, of chip.yaml's options that are files."""
    rules = cell.chip_spec.option_rules
    return {name: Path(value) for name, value in cell.climb_request["options"].items() if rules[name].file}


def job_options(cell: Cell) -> dict[str, str]:
    """The user's options as the vendor's scripts get them; a file is named by its copy in the job folder."""
    files = {name: f"options/{name}{path.suffix}" for name, path in option_files(cell).items()}
    return cell.climb_request["options"] | files


def copy_option_files(cell: Cell) -> None:
    """Copy the files that options name into the job folder, which has to be complete in itself. UserError when one is
    gone or cannot be read."""
    shutil.rmtree(cell.folder / "options", ignore_errors=True)
    for name, source in option_files(cell).items():
        target = cell.folder / job_options(cell)[name]
        target.parent.mkdir(exist_ok=True)
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise UserError(f"{name}={source} cannot be read: {error.strerror}", "check the path") from None


def first_rung(cell: Cell) -> dict[str, Any] | None:
    """The rung that a job is written for: the asked one, else the cheapest; common/climb.py goes on from there."""
    rungs = cell.chip_spec.rungs.get(cell.precision)
    number = cell.climb_request["rung"] or 1
    return rung_entry(number, rungs[number - 1]) if rungs else None


def rung_entry(number: int, rung: RungSpec) -> dict[str, Any]:
    """A rung as job.json tells of it."""
    return {"number": number, "name": rung.name, "options": rung.options}


def job_description(cell: Cell) -> dict[str, Any]:
    """The content of job.json, from the request, the model's declaration and the fixed graph's own inputs and outputs.

    Paths are relative to the job folder, so that it can be packed and compiled on another machine.
    """
    fixed = read_json(cell.folder / "fix.json")
    declared = cell.spec.input
    keep_float: list[dict[str, Any]] = []
    if asked := cell.climb_request["keep_float"]:  # imported here: without it no stage needs onnx for job.json
        from common.declarations.keep_float import resolve
        from common.graphs.onnx_graph import load_onnx

        keep_float = resolve(asked, load_onnx(cell.folder / "model.onnx"), cell.name)
    if len(fixed["inputs"]) != 1:
        raise UserError(f"{cell.name}: the graph has {len(fixed['inputs'])} inputs, the network has one image")
    return {
        "version": JOB_VERSION,
        "model": cell.model,
        "chip": cell.chip,
        "variant": cell.variant,
        "vendor": cell.chip_spec.folder.name,
        "precision": cell.precision,
        "batch": cell.batch,
        "graph": "model.onnx",
        "inputs": [
            {
                "name": fixed["inputs"][0]["name"],
                "shape": fixed["inputs"][0]["shape"],
                "color": declared.color,
                "scale": declared.scale,
                "mean": declared.mean,
                "std": declared.std,
            }
        ],
        "outputs": [{"name": output["name"], "shape": output["shape"]} for output in fixed["outputs"]],
        "calibration": "calib" if cell.calibration_request else None,
        "samples": "samples.npz",
        "outputs_file": "outputs.npz",
        "artifact": f"{cell.model}.double" if cell.double else cell.model,
        "keep_float": keep_float,
        "rung": first_rung(cell),
        "options": job_options(cell),
        "sizes": declared.sizes,
        "decode": cell.spec.decode.model_dump(mode="json"),
        "labels": labels(cell.spec),
        "double": cell.double,
    }


def main() -> None:
    """python -m common.job CELL: write job.json."""
    cell = Cell(sys.argv[1])
    copy_option_files(cell)
    write_json(cell.folder / "job.json", job_description(cell))


if __name__ == "__main__":
    run(main)
