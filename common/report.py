"""The report over all cells that there are: one page that needs nothing else, a table for a pull request, and numbers.

    python -m common.report     writes out/report/index.html, summary.md and results.json

results.json: {"version": 1, "cells": [CellResults.facts(), ...]}, sorted by name.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import jinja2
from markupsafe import Markup

from common.cell_results import OUT, STATES, CellResults, find_cells
from common.errors import UserError, run
from common.files import replacing, write_json
from common.wording import Naming, number_in_words, size_in_words

TEMPLATES = Path(__file__).parent / "templates"
PICTURE_WIDTH, JPEG_QUALITY = 900, 78  # a page of ten cells stays below 10 MB
LOG_LINES = 25
DEFAULT_CALIBRATION_COUNT = 100
TASK_NAMES = {"topdown_pose": "top-down pose", "bottomup_pose": "bottom-up pose", "detection": "detection"}
MEANINGS = {
    "AP": "AP is COCO's average precision (of keypoints, or of a detector's boxes; the protocol says which)",
    "PCKh": "PCKh is the share of MPII's joints that lie within half a head's size of their place",
}


def inline_picture(path: Path) -> dict[str, Any]:
    """A picture as a data: URL, at most 900 pixels wide: {"data", "width", "height"}. UserError when it is damaged."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"{path} is missing or is no picture", "remove pictures.json beside it, then make again")
    height, width = image.shape[:2]
    if width > PICTURE_WIDTH:
        height, width = round(height * PICTURE_WIDTH / width), PICTURE_WIDTH
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    encoded = base64.b64encode(data.tobytes()).decode("ascii")
    return {"data": f"data:image/jpeg;base64,{encoded}", "width": width, "height": height}


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
    if not path.exists():
        return None
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(line.rpartition("\r")[2] for line in lines[-LOG_LINES:])


def cell_details(cell: CellResults) -> dict[str, Any]:
    """What folds out below a cell: title -> text, or keys and values. Missing parts are left out."""
    sidecar, compiled, fix = cell.read("artifact.json") or {}, cell.compiled or {}, cell.read("fix.json") or {}
    provenance = dict(sidecar.get("provenance") or {})
    preprocessing = dict(sidecar.get("preprocessing") or {})
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
    operators = {key: fix[key] for key in ("operators_before", "operators_after") if key in fix}
    details = {
        "Preprocessing: the declaration": {key: entry for key, entry in preprocessing.items()
                                           if key not in ("chip_flags", "steps")},
        "Preprocessing: the chip's flags, derived from it": preprocessing.get("chip_flags"),
        "Preprocessing and decoding in words": "\n".join(
            f"{number}. {step}" for number, step in enumerate([*preprocessing.get("steps", []),
                                                               *(sidecar.get("decode") or {}).get("steps", [])], 1)),
        "Fix passes": {item["name"]: "; ".join(map(str, item["changes"])) or "nothing to do"
                       for item in fix.get("passes", [])},
        "Operators": operators,
        "Quantisation": compiled.get("quantization"),
        "The vendor's own estimate": compiled.get("estimate"),
        "What was checked of the artifact": "\n".join(compiled.get("checks") or []),
        "Agreement of outputs with float": compared,
        "Step by step through the vendor's chain: agreement with float": stages,
        "Accuracy": {key: (cell.metrics or {}).get(key) for key in ("float", "chip", "drop") if cell.metrics},
        "Versions": tools,
        "Hashes of all that went in and came out": hashes,
        "End of compile.log": log_tail(cell.folder / "compile.log"),
        "End of infer.log": log_tail(cell.folder / "infer.log"),
    }  # fmt: skip
    return {title: content for title, content in details.items() if content}


def cell_view(cell: CellResults) -> dict[str, Any]:
    """All that the page says about a cell. Raises UserError when one of its files is damaged."""
    listed = (cell.read("pictures.json") or {}).get("pictures", [])
    sheet = cell.folder / "calib" / "contact_sheet.jpg"
    proof = cell.proof or {}
    return {
        "facts": cell.facts(),
        "chip_title": chip_title(cell.request["chip"]),
        "command": make_command(cell),
        "steps": proof.get("steps", []),
        "gate": proof.get("gate"),
        "rungs": cell.rungs if cell.rung else None,
        "pictures": [picture | inline_picture(cell.folder / picture["file"]) for picture in listed],
        "calibration": cell.calibration if cell.calibration_set else None,
        "contact_sheet": inline_picture(sheet) if cell.calibration_set and sheet.exists() else None,
        "details": cell_details(cell),
    }


def chip_title(chip: str) -> str | None:
    """The chip's title; None when its vendor folder is gone (an old cell stays readable)."""
    from common.spec import load_chip

    try:
        return load_chip(chip).title
    except UserError:
        return None


def templates() -> jinja2.Environment:
    """The template environment: HTML is escaped, a missing name is an error, numbers have one form."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": number_in_words,
        "size": size_in_words,
        "interval": interval_in_words,
        "cell": plain,
    }
    return environment


def interval_in_words(interval: list[float] | None) -> Markup:
    """[low, high] as a small line of HTML; nothing for None."""
    return Markup("<small>[{}, {}]</small>").format(*(f"{value:.3f}" for value in interval)) if interval else Markup("")


def legend(rows: Sequence[dict[str, Any]]) -> str:
    """What the numbers of the table are, for the metrics and similarities that occur in it."""
    metrics = {row["metric"] for row in rows} - {None} or {"AP"}
    things = {"OKS": "keypoints", "IoU": "boxes"}
    compared = {row["similarity"] for row in rows} - {None} or {"OKS"}
    return (
        f"{'; '.join(MEANINGS[name] for name in sorted(metrics))}. Float network first, then the chip, on the same "
        "images and boxes; in brackets its 95 % interval. "
        + " ".join(f"{name} is the agreement of the chip's {thing} with the float network's."
                   for name, thing in things.items() if name in compared)
    )  # fmt: skip


def protocol_in_words(facts: dict[str, Any]) -> str:
    """The protocol, with a word about rendered people."""
    return facts["protocol"] + ("; rendered people, not photographs" if facts["rendered"] else "")


def plain(text: str) -> str:
    """Text for a Markdown table or list: no line breaks, no bars, no HTML."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def make_report(out: Path = OUT) -> Path:
    """Write out/report/: index.html, summary.md, results.json. Returns the page's path."""
    rows = [cell_view(cell) for cell in find_cells(out)]
    found = Counter(row["facts"]["state"] for row in rows)
    shared = {
        "rows": rows,
        "naming": Naming.of([row["facts"] for row in rows]),
        "legend": legend([row["facts"] for row in rows]),
        "mixed": len({row["facts"]["task"] for row in rows} - {None}) > 1,
        "task_names": TASK_NAMES,
        "counts": {state: found[state] for state in STATES if found[state]},
        "protocols": list(dict.fromkeys(protocol_in_words(row["facts"]) for row in rows if row["facts"]["protocol"])),
        "made": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "css": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
    }
    folder, environment = out / "report", templates()
    write_json(folder / "results.json", {"version": 1, "cells": [row["facts"] for row in rows]})
    for template, file in (("summary.md", "summary.md"), ("report.html", "index.html")):  # the page last: make's target
        with replacing(folder / file) as temporary:
            temporary.write_text(environment.get_template(template).render(shared), encoding="utf-8")
    return folder / "index.html"


def main() -> None:
    """python -m common.report"""
    make_report()


if __name__ == "__main__":
    run(main)
