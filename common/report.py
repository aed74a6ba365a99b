"""The report over all cells that there are: one page that needs nothing else, a table for a pull request, and numbers.

    python -m common.report     writes out/report/index.html, summary.md and results.json

results.json: {"version": 1, "cells": [CellResults.facts(), ...]}, sorted by name; results.schema.json describes it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from common.basics.errors import UserError, run
from common.basics.files import replacing, write_json
from common.basics.progress import track
from common.basics.wording import Naming, number_in_words, size_in_words
from common.cells.cell_results import OUT, STATES
from common.reporting.cell import cell_view
from common.reporting.cells import reported_cells
from common.reporting.pictures import Pictures, PictureSize

TEMPLATES = Path(__file__).parent / "reporting" / "templates"
BETWEEN_TAGS = re.compile(r">\n\s*<")  # half of a browser's nodes would be such line breaks
MANY_CELLS = 30  # from which on the overview is open at once
TASK_NAMES = {"topdown_pose": "top-down pose", "bottomup_pose": "bottom-up pose", "detection": "detection"}
MEANINGS = {
    "AP": "AP is COCO's average precision (of keypoints, or of a detector's boxes; the protocol says which)",
    "PCKh": "PCKh is the share of MPII's joints that lie within half a head's size of their place",
}
TABLES = (
    "Accuracy",
    "Agreement of outputs with float",
    "Step by step through the vendor's chain: agreement with float",
    "Versions",
)
STATE_MEANINGS = {
    "proven": "every step of its ladder of proof was passed",
    "not simulated": "nothing but the chip can run the artifact; the cell says what was checked instead",
    "double": "a stand-in of a vendor's SDK computed it, not the vendor's tools; it is no artifact, and says nothing "
              "about the chip",
    "not judged": "a step could not be judged, and the cell says why",
    "failed": "a step is red, or a tool ended with an error",
    "out of date": "something that the proof is about was made again since",
    "unfinished": "the build stopped before the end",
    "skipped": "make all left it out, and says why",
}  # fmt: skip


def templates() -> jinja2.Environment:
    """The template environment: HTML is escaped, a missing name is an error, numbers have one form."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": number_in_words,
        "size": size_in_words,
        "interval": interval_in_words,
        "breakable": breakable,
        "cell": plain,
        "lines": lines,
    }
    return environment


def interval_in_words(interval: list[float] | None) -> Markup:
    """[low, high] as a small line of HTML; nothing for None."""
    return Markup("<small>[{}, {}]</small>").format(*(f"{value:.3f}" for value in interval)) if interval else Markup("")


def breakable(name: str) -> Markup:
    """A name that may be broken after its separators, so that a long one does not widen a table."""
    text = str(escape(name))
    for separator in "_-/":
        text = text.replace(separator, f"{separator}<wbr>")
    return Markup(text)


def lines(content: Any, indent: str = "") -> str:
    """Nested keys and values as indented text, numbers with six digits; lists of plain values on one line, and so lists
    of such lists."""
    if isinstance(content, dict):
        parts = ((f"{indent}{key}:", item) for key, item in content.items())
    elif isinstance(content, list) and content and all(_is_flat_list(item) for item in content):
        return "; ".join(map(lines, content))
    elif isinstance(content, list) and any(isinstance(item, dict | list) for item in content):
        parts = ((f"{indent}-", item) for item in content)
    elif isinstance(content, list):
        return ", ".join(map(lines, content)) or "none"
    elif content is None:
        return "none"
    else:
        return f"{content:.6g}" if isinstance(content, float) else str(content)
    told = []
    for head, item in parts:
        text = lines(item, indent + "  ")
        told.append(f"{head}\n{text}" if text.startswith(indent + "  ") else f"{head} {text}")
    return "\n".join(told) or "none"


def _is_flat_list(content: Any) -> bool:
    return isinstance(content, list) and not any(isinstance(item, dict | list) for item in content)


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


def chip_titles(chips: set[str]) -> dict[str, str | None]:
    """The titles of chips; None for one whose vendor folder is gone (an old cell stays readable)."""
    from common.declarations.spec import load_chip

    titles: dict[str, str | None] = {}
    for chip in chips:
        try:
            titles[chip] = load_chip(chip).title
        except UserError:
            titles[chip] = None
    return titles


def charts(rows: Sequence[dict[str, Any]], pictures: Pictures) -> list[dict[str, Any]]:
    """[{"title", "caption", "picture"}]; none where there is too little to compare."""
    from common.reporting.charts import ROWS, rung_chart, size_chart, sizes, tried_rungs

    found = []
    if len(entries := tried_rungs(rows)) > 1:
        left_out = f" The {ROWS} that agree least of {len(entries)}." if len(entries) > ROWS else ""
        found.append({
            "title": "Agreement of the quantised networks with float, by rung",
            "caption": "A line is a cell. A circle is a way to quantise that was tried, by its rung's number; filled: "
                       f"the one that was taken. The upright stroke is the gate.{left_out}",
            "picture": pictures.add_drawn(rung_chart, entries[:ROWS]),
        })  # fmt: skip
    if sum(map(len, (series := sizes(rows)).values())) > 1:
        found.append({
            "title": "Size of the artifact and agreement with float",
            "caption": "A mark is a cell. Networks of random weights and stand-ins of an SDK are left out of both.",
            "picture": pictures.add_drawn(size_chart, series),
        })  # fmt: skip
    return found


def overview(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """{"chips": [name], "models": {name: {chip: [row]}}}: where each cell is; None where one line or column is all."""
    chips = sorted({row["facts"]["chip"] for row in rows})
    models: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        models.setdefault(row["facts"]["model"], {}).setdefault(row["facts"]["chip"], []).append(row)
    return {"chips": chips, "models": models} if len(chips) > 1 and len(models) > 1 else None


def content_security(script: str) -> str:
    """The page's own policy: nothing from the network, no script but its own."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def make_report(out: Path = OUT) -> Path:
    """Write out/report/: index.html, summary.md, results.json. Returns the page's path."""
    cells, folder = reported_cells(out), out / "report"
    pictures = Pictures(folder / "pictures", PictureSize.for_cells(len(cells)))
    titles = chip_titles({cell.request["chip"] for cell in cells})
    rows = [cell_view(cell, pictures, titles[cell.request["chip"]]) for cell in track(cells, "report", "cells")]
    facts = [row["facts"] for row in rows]
    found = Counter(one["state"] for one in facts)
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    shared = {
        "rows": rows,
        "naming": Naming.of(facts),
        "legend": legend(facts),
        "overview": overview(rows),
        "many": len(rows) > MANY_CELLS,
        "mixed": len({one["task"] for one in facts} - {None}) > 1,
        "task_names": TASK_NAMES,
        "counts": {state: found[state] for state in STATES if found[state]},
        "meanings": STATE_MEANINGS,
        "tables": TABLES,
        "choices": {key: sorted({one[key] for one in facts}) for key in ("model", "chip", "precision")},
        "protocols": list(dict.fromkeys(protocol_in_words(one) for one in facts if one["protocol"])),
        "charts": charts(rows, pictures),
        "pictures": pictures,
        "made": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "css": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "policy": content_security(script),
    }
    environment = templates()
    write_json(folder / "results.json", {"version": 1, "cells": facts})
    for template, file in (("summary.md", "summary.md"), ("report.html", "index.html")):  # the page last: make's target
        with replacing(folder / file) as temporary:
            text = environment.get_template(template).render(shared)
            temporary.write_text(BETWEEN_TAGS.sub("><", text), encoding="utf-8")
    pictures.prune()
    return folder / "index.html"


def main() -> None:
    """python -m common.report"""
    make_report()


if __name__ == "__main__":
    run(main)
