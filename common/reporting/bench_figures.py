"""README's figures of speed, from what `make bench` measured (out/bench/bench.json)."""

from __future__ import annotations

from typing import Any

from common.basics.files import read_json
from common.basics.wording import size_in_words
from common.cells.cell_results import OUT

VERSION = 2  # of bench.json; an older one leaves README as it is
BENCH = OUT / "bench" / "bench.json"
Row = tuple[str, str, str]  # what, npumake's figure, what to set beside it


def bench_table() -> str | None:
    """What npumake adds to the vendors' own tools, and what a whole evaluation takes; None before `make bench`."""
    content = read_json(BENCH) if BENCH.exists() else {}
    return rows_of(content) if content.get("version") == VERSION else None


def rows_of(content: dict[str, Any]) -> str:
    """The block of README, of bench.json's content."""
    compilation = content.get("compilation") or {"chips": [], "network": ""}
    rows = [row for chip in compilation["chips"] for row in _of_chip(compilation["network"], chip)]
    rows += _of_latency((content.get("latency") or {"rows": []})["rows"])
    rows += _of_evaluation(content)
    rows += _of_everyday(content)
    rows += _of_images((content.get("images") or {"images": []})["images"])
    machine = content["machine"]
    lines = ["| what | npumake | beside it |", "|---|---|---|"]
    lines += [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows]
    where = f"{machine['processor']}, {machine['cores']} cores, load {machine['load_before']} before it"
    measured = f"medians of {content['repeats']}, compilations once to three times, memory of the largest process"
    return "\n".join([*lines, "", f"`make bench` on {where}; {measured}."]) + "\n"


def _of_chip(network: str, chip: dict[str, Any]) -> list[Row]:
    """Compiling, simulating, and all stages of a build, beside the vendor's own commands."""
    what = f"{network} for {chip['chip']} in {chip['precision']}"
    build = chip["build"]
    rows = [
        (
            f"{what}: compile",
            f"{chip['seconds']:.1f} s, {size_in_words(chip['peak_memory_bytes'])} of memory",
            f"the vendor's bare commands: {chip['bare_seconds']:.1f} s, "
            f"{size_in_words(chip['bare_peak_memory_bytes'])}",
        ),
        (
            f"{what}: the {len(build['stages']) - 2} stages around compile and simulate",
            f"{build['own_seconds']:.1f} s, {size_in_words(build['own_peak_memory_bytes'])}",
            f"those two: {build['vendor_seconds']:.1f} s",
        ),
    ]
    if chip["runner_seconds_per_sample"]:
        ours, theirs = chip["infer_seconds_per_sample"], chip["runner_seconds_per_sample"]
        rows.append((f"{what}: simulate one sample", f"{ours:.2f} s", f"the vendor's runner: {theirs:.2f} s"))
    return rows


def _of_latency(measured: list[dict[str, Any]]) -> list[Row]:
    return [
        (
            f"{row['network']} on {row['chip']}: latency in {row['quantised']}",
            f"{row['quantised_ms']:.1f} ms",
            f"in {row['float']}: {row['float_ms']:.1f} ms",
        )
        for row in measured
    ]


def _of_evaluation(content: dict[str, Any]) -> list[Row]:
    """Work around inference, and whole evaluations: speed, and growth with the number of images."""
    pipeline, growth = content["pipeline"], content["growth"]
    rows = [
        (
            f"all around {content['network']} in float: read, crop, decode, match",
            f"{pipeline['around']:.1f} ms a person",
            f"inference alone: {pipeline['inference']:.1f} ms",
        )
    ]
    for row in growth["runs"]:
        speed, alone = row["images"] / row["seconds"], row["images"] / row["inference_seconds"]
        rows.append(
            (
                f"evaluation of {growth['network']} in float, {row['images']} images, {row['people']} people",
                f"{row['seconds']:.1f} s: {speed:.0f} images/s, {size_in_words(row['peak_bytes'])}",
                f"inference alone: {alone:.0f} images/s",
            )
        )
    if fitted := growth["fit"]:
        memory = f"{max(0, fitted['bytes_per_image']) / 1e3:.0f} kB (annotations and matches; no pixels are kept)"
        told = f"{1e3 * fitted['seconds_per_image']:.1f} ms, {memory}"
        straight = f"a straight line through the times misses by {100 * fitted['largest_deviation']:.0f} % at most"
        rows.append(("each image more of it", told, straight))
    return rows


def _of_everyday(content: dict[str, Any]) -> list[Row]:
    """The report, make with nothing to do, the start of a stage."""
    rows = []
    if page := content.get("page"):
        opened = f"opens in {page['open']['ready']:.1f} s" if page["open"] else "not opened: no browser"
        made = f"{page['bytes'] / 1e6:.0f} MB, made in {page['seconds']:.1f} s"
        rows.append((f"report of {page['cells']} cells", made, opened))
    if graph := content.get("make_graph"):
        for goal in [goal for goal in graph["goals"] if goal["command"] in ("make all", "make -n all")]:
            what = f"`{goal['command']}` with nothing to do, {graph['cells']} cells"
            rows.append((what, f"{goal['seconds']:.2f} s", f"limit: {graph['limit']:g} s"))
    if started := content.get("start_up"):
        stages = [row for row in started["stages"] if not row["torch"]]
        slowest = max(stages, key=lambda row: row["seconds"])
        what = f"start of the slowest of {len(stages)} stages that need no torch ({slowest['stage']})"
        rows.append((what, f"{slowest['seconds']:.2f} s", f"limit: {started['limit']:g} s"))
    return rows


def _of_images(images: list[dict[str, Any]]) -> list[Row]:
    rows = []
    for row in images:
        built = "" if row["build_seconds"] is None else f"built from nothing in {row['build_seconds']:.0f} s, "
        again = f"again, with nothing changed: {row['rebuild_seconds']:.1f} s"
        what = f"container image of {row['vendor']}"
        told = f"{size_in_words(row['bytes'])}; {built}{again}"
        rows.append((what, told, f"its base: {size_in_words(row['base_bytes'])}"))
    return rows
