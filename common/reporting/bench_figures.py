"""README's figures of speed, from what `make bench` measured (out/bench/bench.json)."""

from __future__ import annotations

from typing import Any

from common.basics.files import read_json
from common.basics.wording import size_in_words
from common.cells.cell_results import OUT

BENCH = OUT / "bench" / "bench.json"


def bench_table() -> str | None:
    """What npumake adds to the vendors' own tools, and what a whole evaluation takes; None before `make bench`."""
    return rows_of(read_json(BENCH)) if BENCH.exists() else None


def rows_of(content: dict[str, Any]) -> str:
    """The block of README, of bench.json's content."""
    machine = content["machine"]
    lines = ["| what | npumake | beside it |", "|---|---|---|"]
    compilation = content.get("compilation") or {"chips": [], "network": "", "calibration_samples": 0}
    for row in compilation["chips"]:
        what = f"{compilation['network']} for {row['chip']} in {row['precision']}"
        lines.append(
            f"| {what}: compile | {row['seconds']:.1f} s | the vendor's bare commands: {row['bare_seconds']:.1f} s |"
        )
        if row["runner_seconds_per_sample"]:
            ours, theirs = row["infer_seconds_per_sample"], row["runner_seconds_per_sample"]
            lines.append(f"| {what}: simulate one sample | {ours:.2f} s | the vendor's runner: {theirs:.2f} s |")
    pipeline = content["pipeline"]
    lines.append(
        f"| all around {content['network']} in float: read, crop, decode, match | {pipeline['around']:.1f} ms a person "
        f"| inference alone: {pipeline['inference']:.1f} ms |"
    )
    for row in content["growth"]:
        lines.append(
            f"| a whole evaluation, {row['images']} images, {row['people']} people | {row['seconds']:.1f} s | |"
        )
    if page := content.get("page"):
        opened = f"opens in {page['open']['ready']:.1f} s" if page["open"] else "not opened: no browser"
        made = f"{page['bytes'] / 1e6:.0f} MB, made in {page['seconds']:.1f} s"
        lines.append(f"| report of {page['cells']} cells | {made} | {opened} |")
    for row in (content.get("images") or {"images": []})["images"]:
        built = "" if row["build_seconds"] is None else f"built from nothing in {row['build_seconds']:.0f} s, "
        again = f"again, with nothing changed: {row['rebuild_seconds']:.1f} s"
        base = f"its base: {size_in_words(row['base_bytes'])}"
        lines.append(f"| container image of {row['vendor']} | {size_in_words(row['bytes'])}; {built}{again} | {base} |")
    where = f"{machine['processor']}, {machine['cores']} cores, load {machine['load_before']} before it"
    lines += [
        "",
        f"`make bench` on {where}; medians of {content['repeats']}, compilations once or twice.",
    ]
    return "\n".join(lines) + "\n"
