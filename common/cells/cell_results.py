"""What is known about a cell, read from its files: for the ladder of proof, the report and the summary.

facts() is one entry of results.json, which results.schema.json describes. Standard library only: `make` prints the
summary at the end of every build, also when nothing was to be done.
"""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Any

from common.basics.errors import UserError
from common.basics.files import MISSING, read_json, read_json_if_there

OUT = Path("out")
CALIBRATED = "calib/manifest.json"  # of a precision that needs a calibration only
# The files of a cell in the order in which they are made, and the step that makes each. A log names the step's own.
STAGES = (
    ("fix.json", "fix", None),
    ("preflight.json", "preflight", None),
    (CALIBRATED, "calibrate", None),
    ("job.json", "job", None),
    ("compile.json", "compile", "compile.log"),
    ("outputs.npz", "simulate", "infer.log"),
    ("compare.json", "compare", None),
    ("metrics.json", "evaluate", None),
    ("pictures.json", "draw", None),
    ("proof.json", "proof", None),
)
FLOAT_STAGES = (("samples.json", "samples"), ("export.json", "export"), ("predictions.json", "reference"))
STATES = ("proven", "not simulated", "double", "not judged", "failed", "out of date", "unfinished", "skipped")


class CellResults:
    """One cell's files. A missing one is None; a damaged one raises UserError with its name.

    told: (state, reason) from `make all`, for a cell that left no result of its own: "skipped" or "failed".
    """

    def __init__(self, folder: str | os.PathLike, told: tuple[str, str] | None = None):
        self.folder = Path(folder)
        self.told = told
        self.float_folder = self.folder.parent.parent / "float"

    @property
    def name(self) -> str:
        """model/chip/variant"""
        return "/".join(self.folder.parts[-3:])

    def read(self, file: str) -> Any:
        """The content of a JSON file of the cell, None when it is missing. Raises UserError when it is damaged."""
        return _read_mapping(f"{self.folder}/{file}")

    def read_float(self, file: str) -> Any:
        """Like read(), for a file of the float reference."""
        return _read_mapping(f"{self.float_folder}/{file}")

    @cached_property
    def request(self) -> dict[str, Any]:
        path = self.folder / "request.json"
        return _named_request(self.name) if self.told and not path.exists() else read_json(path)

    @cached_property
    def source(self) -> dict[str, Any]:
        """float/source.json: {"model", "spec", "source": {"kind", "origin", "path"}}; empty when missing."""
        return self.read_float("source.json") or {}

    @property
    def weights(self) -> str | None:
        """published, path, random or onnx."""
        return self.source.get("source", {}).get("origin")

    @property
    def rendered(self) -> bool:
        """Whether the evaluation set was rendered by npumake (calib/renderer leaves a manifest): no photographs."""
        described = self.read_float("evaluation_set.json")
        return bool(described) and "renderer" in (_read_mapping(Path(described["folder"]) / "manifest.json") or {})

    @cached_property
    def calibration_set(self) -> dict[str, Any] | None:
        return self.read("calibration_set.json")

    @cached_property
    def calibration(self) -> dict[str, Any] | None:
        return self.read(CALIBRATED)

    @cached_property
    def compiled(self) -> dict[str, Any] | None:
        return self.read("compile.json")

    @cached_property
    def inferred(self) -> dict[str, Any] | None:
        return self.read("infer.json")

    @cached_property
    def compared(self) -> dict[str, Any] | None:
        return self.read("compare.json")

    @cached_property
    def metrics(self) -> dict[str, Any] | None:
        return self.read("metrics.json")

    @cached_property
    def rungs(self) -> dict[str, Any] | None:
        """What was tried (common/climb.py): {"chosen": number, "of": how many there are, "tried": [...]}."""
        return self.read("rungs.json")

    @property
    def rung(self) -> dict[str, Any] | None:
        """The entry of the rung that the cell stands on; None where the precision has no rungs."""
        if not self.rungs or not self.rungs["of"]:
            return None
        return next(entry for entry in self.rungs["tried"] if entry["number"] == self.rungs["chosen"])

    @cached_property
    def proof(self) -> dict[str, Any] | None:
        return self.read("proof.json")

    def damaged_artifact(self) -> str | None:
        """The first file of the artifact that is missing or not of its size; cheap enough for every make."""
        for name in (self.compiled or {}).get("artifact", []):
            path = f"{self.folder}/{name}"
            if not os.path.isfile(path) or os.path.getsize(path) != self.compiled["files"][name]["bytes"]:
                return name
        return None

    def state(self) -> tuple[str, str]:
        """One of STATES and a reason in words (empty where there is nothing to add)."""
        stages = [(f"{self.float_folder}/{file}", step, None) for file, step in FLOAT_STAGES]
        stages += [(f"{self.folder}/{file}", step, log) for file, step, log in STAGES
                   if file != CALIBRATED or self.calibration_set is not None]  # fmt: skip
        times = {path: _modified(path) for path, _, _ in stages}
        for path, step, log in stages:
            if times[path] is None:
                error = self._recorded_error(step, log)
                return (
                    ("failed", f"{step}: {error}") if error else self.told or ("unfinished", f"stopped before {step}")
                )
        damaged = self.damaged_artifact()
        if damaged:
            return "failed", f"{damaged} is not the file that compile.json describes: remove {self.folder}/compile.json"
        # A stage that ran after the proof: another request, or a build that stopped in the middle.
        proved = times.pop(f"{self.folder}/proof.json")
        asked = [*(f"{self.folder}/{name}" for name in ("request.json", "climb.json", "calibration_set.json")),
                 f"{self.float_folder}/source.json", f"{self.float_folder}/evaluation_set.json"]  # fmt: skip
        for path, modified in ({path: _modified(path) for path in asked} | times).items():
            if modified is not None and modified > proved:
                return "out of date", f"{os.path.basename(path)} is newer than proof.json"
        return self.proof["state"], self.proof.get("reason", "")

    def _recorded_error(self, step: str, log: str | None) -> str | None:
        """Why a step did not end well, where it left a record of that."""
        if step == "preflight":
            problems = (self.read("preflight.failed.json") or {}).get("problems") or []
            return problems[0]["problem"] if problems else None
        return _logged_error(self.folder / log) if log else None

    def figures(self) -> dict[str, Any]:
        """Those of facts() that `make all` prints a line of, without reading the files that only the others are in."""
        state, reason = self.state()
        measured, compiled, compared, rung = self.metrics or {}, self.compiled or {}, self.compared or {}, self.rung
        before, after = (measured.get(key) or {} for key in ("float", "chip"))
        metric = measured.get("metric")
        # Neither side found anything: a 1.0 there would look like a proof.
        agreement = compared.get("agreement") if compared.get("compared") != 0 else None
        return {
            "state": state,
            "reason": reason,
            "metric": metric,
            "metric_float": before.get(metric),
            "metric_chip": after.get(metric),
            "similarity": compared.get("similarity"),
            "agreement": agreement,
            "artifact_bytes": compiled.get("artifact_bytes"),
            "rung": f"{rung['number']} of {self.rungs['of']}: {rung['name']}" if rung else None,
        }

    def facts(self) -> dict[str, Any]:
        """One row of the matrix; None where a number is not known.

        The metric ("AP" or "PCKh") and the agreement with float ("OKS" or "IoU", see `similarity`) are 0..1, sizes are
        in bytes, latency is in ms, times are in s. `drop` is the metric of float minus that of the chip. AP and OKS
        stand under their own names, too.
        """
        figures = self.figures()
        measured = self.metrics or {}
        before, after, drop = (measured.get(key) or {} for key in ("float", "chip", "drop"))
        metric = figures["metric"]
        compiled, inferred, compared = self.compiled or {}, self.inferred or {}, self.compared or {}
        quantization = compiled.get("quantization") or {}
        return {
            "cell": self.name,
            "model": self.request["model"],
            "chip": self.request["chip"],
            "variant": self.request["variant"],
            "precision": self.request["precision"],
            "weights": self.weights,
            "task": self.source.get("spec", {}).get("task"),
            **figures,
            "metric_float_interval": before.get("interval"),
            "metric_chip_interval": after.get("interval"),
            "drop": drop.get(metric),
            "drop_interval": drop.get("interval"),
            "AP_float": before.get("AP"),
            "AP_chip": after.get("AP"),
            "protocol": measured.get("protocol"),
            "rendered": self.rendered,
            "instances": measured.get("instances"),
            "images": measured.get("images"),
            "agreement_minimum": compared.get("agreement_minimum"),
            "oks": figures["agreement"] if figures["similarity"] == "OKS" else None,
            "samples": compared.get("samples"),
            "artifact": compiled.get("artifact"),
            "artifact_sha256": compiled.get("sha256"),
            "rungs_tried": len(self.rungs["tried"]) if figures["rung"] else None,
            "layers": quantization.get("layers"),
            "float_layers": len(quantization["float_layers"]) if "float_layers" in quantization else None,
            "batch": self.request.get("batch", 1),
            "compile_seconds": compiled.get("seconds"),
            "peak_memory_bytes": compiled.get("peak_memory_bytes"),
            "latency_ms": inferred.get("latency_ms"),
            "device": inferred.get("device"),
            "simulated": inferred.get("simulated"),
            "tools": compiled.get("tools"),
            "forced_lint": forced_findings(self.calibration),
            "double": self.request.get("double", False),
            "estimate": compiled.get("estimate"),
            "warnings": compiled.get("warnings") or [],
        }


def find_cells(out: Path = OUT) -> list[CellResults]:
    """All cells that were ever asked for, sorted by name. out/<alias> is a link to a model's folder: not followed."""
    folders = (folder for folder in out.glob("*") if folder.is_dir() and not folder.is_symlink())
    requests = [path for folder in folders for path in folder.glob("*/*/request.json")]
    return [CellResults(path.parent) for path in sorted(requests)]


def _named_request(name: str) -> dict[str, Any]:
    """What a cell's name says that was asked for: model/chip/int8-b4-double."""
    model, chip, variant = name.split("/")
    precision, *further = variant.split("-")
    batch = next((int(word[1:]) for word in further if re.fullmatch(r"b\d+", word)), 1)
    return {"model": model, "chip": chip, "variant": variant, "precision": precision, "batch": batch,
            "double": "double" in further}  # fmt: skip


def _modified(path: str) -> int | None:
    """When a file was written, in ns; None for one that is not there."""
    try:
        return os.stat(path).st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return None


def forced_findings(manifest: dict[str, Any] | None) -> list[str]:
    """The lint's failures that FORCE=1 overrode, in words."""
    findings = (manifest or {}).get("lint", [])
    return [f"{finding['check']}: {finding['message']}" for finding in findings if finding["state"] == "fail"]


def _read_mapping(path: str | Path) -> dict[str, Any] | None:
    content = read_json_if_there(path)
    if content is MISSING:
        return None
    if not isinstance(content, dict):
        raise UserError(f"{path} should hold keys and values", "remove it and run the same make again")
    return content


def _logged_error(path: Path) -> str | None:
    """The last ERROR line of a vendor script's log."""
    if not path.exists():
        return None
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return errors[-1] if errors else None
