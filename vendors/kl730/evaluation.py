"""The vendor's own estimate: frames a second on the NPU, and the nodes that the NPU cannot run (IP evaluator)."""

from __future__ import annotations

import hashlib
import html
import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from artifact_record import COMPILE_AGAIN as AGAIN
from atomic_files import read_json, replacing, write_json
from failure import VendorError
from job_file import Job
from rung_options import Options
from toolchain import Toolchain
from unproven import CPU_NODES, CPU_ROW, FPS, MILLISECONDS, NO_CPU_NODES, UNSUPPORTED

REPORT = "model_fx_report.html"


@dataclass(frozen=True)
class Evaluation:
    """frames, milliseconds: of the NPU alone; None where the text does not say. cpu_nodes: what runs on the CPU, if
    the firmware has it. complaints: lines that say that the chip lacks something. problem: why there is no text.
    report: the HTML page, where one was left. left_out: arguments that this release does not take."""

    text: str
    frames: float | None = None
    milliseconds: float | None = None
    cpu_nodes: tuple[str, ...] = ()
    complaints: tuple[str, ...] = ()
    problem: str = ""
    report: Path | None = None
    left_out: tuple[str, ...] = ()

    @property
    def estimate(self) -> dict[str, Any]:
        """For compile.json."""
        return {
            "fps": self.frames,
            "milliseconds": self.milliseconds,
            "cpu_nodes": self.cpu_nodes,
            "of": "the NPU alone",
        }

    @property
    def warnings(self) -> list[str]:
        """In words; empty when the NPU runs the whole network."""
        found = [f"the evaluator failed: {self.problem}"] if self.problem else []
        if self.cpu_nodes:
            found.append(f"on the CPU, if the firmware has them: {', '.join(self.cpu_nodes)}")
        found += [f"the evaluator says: {line}" for line in self.complaints]
        return found


def parse(text: str) -> Evaluation:
    """What the evaluator's text says; unproven.py has the patterns."""
    frames, milliseconds = FPS.search(text), MILLISECONDS.search(text)
    nodes = [name for name in CPU_ROW.findall(text) if name]
    if not nodes:  # no table: the summary names them
        listed = [one.strip() for one in CPU_NODES.findall(text)]
        nodes = [one.strip() for line in listed if line.lower() not in NO_CPU_NODES for one in line.split(",")]
    lines = [" ".join(line.split()) for line in text.splitlines()]
    complaints = [line[:200] for line in lines if any(words in line.lower() for words in UNSUPPORTED)]
    return Evaluation(
        text,
        float(frames[1]) if frames else None,
        float(milliseconds[1]) if milliseconds else None,
        tuple(dict.fromkeys(node for node in nodes if node)),
        tuple(dict.fromkeys(complaints)),
    )


def text_of_report(page: str) -> str:
    """The lines of an HTML page, the cells of a table row as "name: value"."""
    rows = re.sub(r"<(?:/tr|br|/p|/div)[^>]*>", "\n", re.sub(r"</t[dh]>\s*<t[dh][^>]*>", ": ", page))
    return html.unescape(re.sub(r"<[^>]+>", " ", rows))


def evaluate(toolchain: Toolchain, options: Options, graph: Path, cache: Path) -> Evaluation:
    """Run the evaluator for the rung's bit widths, or take its words from the cache.

    It only estimates: when it fails, that is told in `problem`, and the compiler may know better.
    """
    arguments = {**options.widths, "compiler_tiling": options.tiling}
    key = hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()[:12]
    told, report = (cache / f"evaluation-{key}.{suffix}" for suffix in ("json", "html"))
    if not told.is_file():
        folder = toolchain.empty_folder("evaluation")
        try:
            answer = toolchain.call("evaluate", graph=str(graph), arguments=arguments, folder=str(folder))
        except VendorError as failure:
            toolchain.restart()
            return Evaluation(failure.message, problem=failure.message)
        if (folder / REPORT).is_file():
            with replacing(report) as temporary:
                shutil.copyfile(folder / REPORT, temporary)
        write_json(told, {"text": answer["text"], "left_out": answer["dropped"]})
    words = read_json(told, AGAIN)
    found = parse(words["text"])
    page = report if report.is_file() else None
    if found.frames is None and page:  # a release that writes it into the report only
        of_report = parse(text_of_report(page.read_text(encoding="utf-8", errors="replace")))
        found = replace(of_report, text=found.text, cpu_nodes=found.cpu_nodes or of_report.cpu_nodes)
    return replace(found, report=page, left_out=tuple(words["left_out"]))


def judge(job: Job, found: Evaluation) -> list[str]:
    """What to warn of. Raises VendorError for a node that the NPU cannot run, where STRICT=1 asks for that."""
    warnings = list(found.warnings)
    if warnings and job.options.get("STRICT"):
        raise VendorError(
            f"{job.chip} cannot run all of the network on its NPU: {'; '.join(warnings)}",
            "change these nodes, or end the network before them; without STRICT=1 this is a warning",
        )
    if found.frames is None and not found.problem:
        warnings.append("the evaluator's text has no frames a second: see the .evaluation.txt")
    return warnings
