"""How long the report of many cells takes to make, and a browser to open it.

The cells are those of out/, repeated under other names until there are enough; each one's pictures are marked with its
number, because pictures that are equal stand in the page only once.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from common.bench.browser import Browser, find_chromium
from common.cells.cell_results import OUT, CellResults, find_cells
from common.report import make_report

CELLS, REPEATS = 200, 3
MODELS_OF = 20  # cells a model
PICTURE_WIDTH = 1000
PAINTED = """new Promise(done => requestAnimationFrame(() => setTimeout(() => {
  const [timing] = performance.getEntriesByType("navigation");
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  done({load: timing.loadEventEnd, paint: paint ? paint.startTime : null, now: performance.now()});
}, 0)))"""


def _marked(source: Path, target: Path, number: int, kept: dict[Path, np.ndarray]) -> None:
    """The picture with a number on it, as quickly as it can be written; readers go by content, not by suffix."""
    if source not in kept:
        image = cv2.imread(str(source), cv2.IMREAD_COLOR)
        height, width = image.shape[:2]
        kept[source] = cv2.resize(image, (PICTURE_WIDTH, round(height * PICTURE_WIDTH / width)))
    image = cv2.putText(kept[source].copy(), str(number), (4, 16), cv2.FONT_HERSHEY_PLAIN, 1, (0, 0, 200))
    target.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())


def repeat_cells(sources: Sequence[CellResults], folder: Path, count: int) -> None:
    """`count` cells under folder/, each with the files that the report reads of one of `sources`."""
    kept: dict[Path, np.ndarray] = {}
    for number in range(count):
        source = sources[number % len(sources)]
        model, chip = f"network_{number // MODELS_OF:02d}", f"chip_{number % MODELS_OF // 2:02d}"
        cell = folder / model / chip / ("int8", "fp16")[number % 2]
        cell.mkdir(parents=True)
        reference = folder / model / "float"
        if not reference.exists():
            shutil.copytree(source.float_folder, reference, ignore=lambda _, names: [
                name for name in names if not name.endswith(".json") or name == "predictions.json"])  # fmt: skip
            (reference / "predictions.json").write_text("{}", encoding="utf-8")  # large, and only looked for
        for path in sorted(source.folder.iterdir()):
            if path.suffix in (".json", ".log") and path.name != "predictions.json":
                shutil.copy2(path, cell / path.name)
            elif path.suffix == ".png":
                _marked(path, cell / path.name, number, kept)
        (cell / "outputs.npz").touch()
        for name in ("manifest.json", "contact_sheet.jpg"):
            if (source.folder / "calib" / name).exists():
                (cell / "calib").mkdir(exist_ok=True)
                shutil.copy2(source.folder / "calib" / name, cell / "calib" / name)
        named = {"model": model, "chip": chip, "variant": cell.name, "precision": cell.name}
        (cell / "request.json").write_text(json.dumps(source.request | named), encoding="utf-8")
        os.utime(cell / "proof.json")


def opening_seconds(page: Path, repeats: int = REPEATS) -> dict[str, Any] | None:
    """Medians: {"load": until all of it is there, "paint": until something is seen, "ready": until it answers after
    that}; None where there is no Chromium."""
    if find_chromium() is None:
        return None
    found = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, Browser(Path(profile)) as browser:
            browser.size(1400, 1000)
            browser.open(page)
            found.append(browser.run(PAINTED))
    return {name: round(median(one[key] for one in found) / 1000, 3)
            for name, key in (("load", "load"), ("paint", "paint"), ("ready", "now"))}  # fmt: skip


def measure_page(out: Path = OUT, count: int = CELLS, repeats: int = REPEATS) -> dict[str, Any] | None:
    """{"cells", "bytes", "first_seconds": with all pictures made small, "seconds": with those known, "open"}; None
    where no cell with pictures is built."""
    sources = [cell for cell in find_cells(out) if cell.proof and (cell.read("pictures.json") or {}).get("pictures")]
    if not sources:
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repeat_cells(sources, folder, count)
        taken = []
        for _ in range(2):
            start = time.monotonic()
            page = make_report(folder)
            taken.append(round(time.monotonic() - start, 2))
        return {"cells": count, "bytes": page.stat().st_size, "first_seconds": taken[0], "seconds": taken[1],
                "open": opening_seconds(page, repeats)}  # fmt: skip


def sentence(measured: dict[str, Any] | None) -> str:
    """What was measured, in one line."""
    if measured is None:
        return "report: no cell with pictures is built, so nothing was measured"
    opened = measured["open"]
    told = f"opened in {opened['ready']:.2f} s, first paint after {opened['paint']:.2f} s" if opened else (
        "not opened: no Chromium here")  # fmt: skip
    return (
        f"report of {measured['cells']} cells: {measured['bytes'] / 1e6:.0f} MB, made in {measured['seconds']:.1f} s "
        f"({measured['first_seconds']:.0f} s with all pictures new), {told}"
    )
