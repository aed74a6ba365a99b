"""What the page says about one cell, beside its row in the matrix."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from common.basics.errors import UserError
from common.basics.wording import number_in_words
from common.cells.cell_results import CellResults
from common.reporting.ladder import shown_steps
from common.reporting.pictures import Picture, Pictures

LOG_LINES = 25
WORST_LAYERS = 10
DEFAULT_CALIBRATION_COUNT = 100
FURTHER = "_further."  # in the names of pictures of neither the worst nor the median sample
LOGS = {"compile": "compile.log", "simulate": "infer.log"}  # of the steps that the vendor's tools do
NAMED_LOG = re.compile(r"\(log: (?P<path>[^\s()]+)\)")  # in a reason: the log of what is no step, as of an image
BOXES = {"gt": "ground truth"}


def make_command(cell: CellResults) -> str:
    """The command that makes this cell."""
    source, model = cell.source.get("source", {}), cell.request["model"]
    declared = cell.source.get("spec", {}).get("input", {})
    size = "x".join(map(str, declared.get("shape", [])[2:]))
    if not declared.get("sizes") or not model.endswith(f"-{size}"):
        size = ""
    words = ["make", cell.request["chip"]]
    if source.get("origin") == "onnx":
        words += [f"ONNX={source['path']}", f"SPEC={cell.source['spec_path']}"]
    else:
        words.append(f"MODEL={model.removesuffix(f'-{size}') if size else model}")
        words += {"random": ["WEIGHTS=random"], "path": [f"WEIGHTS={source.get('path')}"]}.get(str(cell.weights), [])
    words += [f"SIZE={size}"] if size else []
    words.append(f"PRECISION={cell.request['precision']}")
    words += [f"BATCH={cell.request['batch']}"] if cell.request.get("batch", 1) > 1 else []
    climb = cell.read("climb.json") or {}
    words += [f"{name}={value}" for name, value in (climb.get("options") or {}).items()]
    words += ["DOUBLE=1"] if cell.request.get("double") else []
    words += [f"{key.upper()}={climb[key]}" for key in ("gate", "rung", "keep_float") if climb.get(key)]
    if cell.calibration_set:
        words.append(f"CALIB={cell.calibration_set['folder']}")
        if cell.calibration_set["count"] != DEFAULT_CALIBRATION_COUNT:
            words.append(f"CALIB_COUNT={cell.calibration_set['count']}")
        words += ["FORCE=1"] if cell.calibration_set["force"] else []
    evaluation = cell.read_float("evaluation_set.json")
    words += [f"EVAL={evaluation['folder']}"] if evaluation else []
    words += [f"LIMIT={evaluation['limit']}"] if evaluation and evaluation.get("limit") else []
    return " ".join(f"'{word}'" if " " in word else word for word in words)


def log_tail(path: Path) -> str | None:
    """The last lines of a log, None when there is none."""
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(line.rpartition("\r")[2] for line in lines[-LOG_LINES:])


def failed_log(cell: CellResults, facts: dict[str, Any]) -> tuple[str, str] | None:
    """(path, its last lines) of the log that tells why a cell failed; None where none was kept.

    A reason may come from another machine: a path that it names counts only within out/.
    """
    if facts["state"] != "failed":
        return None
    named, step = NAMED_LOG.search(facts["reason"]), facts["reason"].partition(":")[0]
    path = Path(named["path"]) if named else cell.folder / LOGS.get(step, "")
    if not path.resolve().is_relative_to(cell.folder.parents[2].resolve()):
        return None
    tail = log_tail(path)
    return (str(path), tail) if tail else None


def cell_preprocessing(cell: CellResults) -> dict[str, Any]:
    """{"declared": what the model declares, "flags": the chip's own, derived from it, "steps": in words}.

    From the sidecar; a cell that has none yet shows what its flags will be, if its model and its chip are there still.
    """
    sidecar = cell.read("artifact.json")
    if sidecar:
        preprocessing = dict(sidecar["preprocessing"])
        flags, steps = preprocessing.pop("chip_flags", {}), preprocessing.pop("steps", [])
        return {"declared": preprocessing, "flags": flags, "steps": [*steps, *sidecar["decode"].get("steps", [])]}
    from common.explain import derived_flags
    from common.job import Cell

    declared = cell.source.get("spec", {}).get("input") or {}
    try:
        planned = Cell(cell.folder)
        flags = derived_flags(planned.float.spec, planned.chip_spec) if declared and not cell.told else {}
    except UserError:
        flags = {}
    return {"declared": declared, "flags": flags, "steps": []}


def cell_details(cell: CellResults) -> dict[str, Any]:
    """What folds out below a cell: title -> text, or keys and values. Missing parts are left out."""
    sidecar, compiled, fix = cell.read("artifact.json") or {}, cell.compiled or {}, cell.read("fix.json") or {}
    provenance = dict(sidecar.get("provenance") or {})
    tools = provenance.pop("tools", None) or compiled.get("tools")
    provenance.pop("quantization", None)
    hashes = provenance | ({"artifact": sidecar["artifact"]} if "artifact" in sidecar else {})
    compared = {name: {key: number for key, number in output.items() if key != "channels"}
                for name, output in (cell.compared or {}).get("outputs", {}).items()}  # fmt: skip
    stages = {
        f"{stage['title']}, {stage['samples']} samples: {name}": figures
        | {"difference from the chip's": stage["from_main"]}
        for stage in (cell.compared or {}).get("stages") or []
        for name, figures in stage["outputs"].items()
    }
    details = {
        "Agreement of outputs with float": compared,
        "Step by step through the vendor's chain: agreement with float": stages,
        "Accuracy": {key: (cell.metrics or {}).get(key) for key in ("float", "chip", "drop") if cell.metrics},
        "Quantisation": compiled.get("quantization"),
        "The vendor's own estimate": compiled.get("estimate"),
        "What was checked of the artifact": "\n".join(compiled.get("checks") or []),
        "Fix passes": {item["name"]: "; ".join(map(str, item["changes"])) or "nothing to do"
                       for item in fix.get("passes", [])},
        "Operators": {key: fix[key] for key in ("operators_before", "operators_after") if key in fix},
        "Versions": tools,
        "Hashes of all that went in and came out": hashes,
    } | {f"End of {name}": log_tail(cell.folder / name) for name in LOGS.values()}  # fmt: skip
    return {title: content for title, content in details.items() if content}


def cell_layers(cell: CellResults, pictures: Pictures) -> dict[str, Any] | None:
    """What `make layers` found: {"picture", "source", "samples", "layers": count, "worst": [layer], "stale"}, or None.

    stale: the artifact was made again since.
    """
    found, plot = cell.read("layers.json"), cell.folder / "layers.png"
    if found is None or not plot.exists():
        return None
    compiled = cell.folder / "compile.json"
    ranked = sorted((layer for layer in found["layers"] if layer["sqnr_db"] is not None),
                    key=lambda layer: layer["sqnr_db"])  # fmt: skip
    return {
        "picture": pictures.add([plot])[0],
        "source": found["source"],
        "samples": found["samples"],
        "layers": len(found["layers"]),
        "worst": ranked[:WORST_LAYERS],
        "stale": compiled.exists() and compiled.stat().st_mtime_ns > (cell.folder / "layers.json").stat().st_mtime_ns,
    }


def layers_command(cell: CellResults, command: str) -> str | None:
    """The command that draws what each layer loses; None where the vendor's tools do not tell, or nothing is built."""
    vendor = (cell.read("job.json") or {}).get("vendor", "")
    if cell.compiled is None or cell.request.get("double") or not Path("vendors", vendor, "layers.py").is_file():
        return None
    named = [word for word in command.split() if word.startswith(("MODEL=", "SIZE=", "SPEC="))]
    return " ".join(["make layers", *named, f"CHIP={cell.request['chip']}", f"VARIANT={cell.request['variant']}"])


def cell_pictures(cell: CellResults, pictures: Pictures) -> list[dict[str, Any]]:
    """The cell's pictures: [{"title", "caption", "wide", "path", "picture"}]."""
    listed = (cell.read("pictures.json") or {}).get("pictures", [])
    if not pictures.size.further:
        listed = [entry for entry in listed if FURTHER not in entry["file"]]
    paths = [cell.folder / entry["file"] for entry in listed]
    return [entry | {"path": str(path), "picture": picture}
            for entry, path, picture in zip(listed, paths, pictures.add(paths), strict=True)]  # fmt: skip


def contact_sheet(cell: CellResults, pictures: Pictures) -> Picture | None:
    """The calibration samples as the network sees them."""
    sheet = cell.folder / "calib" / "contact_sheet.jpg"
    return pictures.add([sheet])[0] if cell.calibration_set and sheet.exists() else None


def cell_latency(facts: dict[str, Any]) -> tuple[str, str, float | None]:
    """(in words, whose figure it is, milliseconds). The vendor's estimate is of the chip; a simulator's own time on
    this machine is not, so it comes second."""
    milliseconds = (facts["estimate"] or {}).get("milliseconds")
    if milliseconds is not None:
        return number_in_words(milliseconds, ".3g", " ms"), "vendor's estimate", milliseconds
    measured = facts["latency_ms"]
    return number_in_words(measured, ".1f", " ms"), "not on the chip" if facts["simulated"] else "", measured


def cell_view(cell: CellResults, pictures: Pictures, chip_title: str | None) -> dict[str, Any]:
    """All that the page says about a cell. Raises UserError when one of its files is damaged."""
    proof, facts, command = cell.proof or {}, cell.facts(), make_command(cell)
    layers, calibration = cell_layers(cell, pictures), cell.calibration if cell.calibration_set else None
    return {
        "facts": facts,
        "anchor": facts["cell"].replace("/", "--"),
        "chip_title": chip_title,
        "command": command,
        "folder": str(cell.folder) if cell.folder.is_dir() else None,
        "latency": cell_latency(facts),
        "steps": shown_steps(cell),
        "failed_log": failed_log(cell, facts),
        "gate": proof.get("gate"),
        "rungs": cell.rungs if cell.rung else None,
        "pictures": cell_pictures(cell, pictures),
        "layers": layers,
        "layers_command": layers_command(cell, command) if layers is None or layers["stale"] else None,
        "calibration": calibration,
        "boxes": BOXES.get(calibration["boxes"], calibration["boxes"].replace("_", " ")) if calibration else None,
        "contact_sheet": contact_sheet(cell, pictures),
        "preprocessing": cell_preprocessing(cell),
        "details": cell_details(cell),
    }
