"""bench.json as a table and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.basics.files import replacing
from common.bench.images import image_lines
from common.bench.page import sentence

OURS, PLAIN, GREY = "#2a6f97", "#d08c60", "#8d99ae"


def table(content: dict[str, Any]) -> str:
    """What was measured, for a terminal."""
    machine, pipeline, grouping = content["machine"], content["pipeline"], content["grouping"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load_before']} before; onnxruntime "
        f"{machine['onnxruntime']} with {machine['threads']} threads",
        f"{content['network']}, {pipeline['people']} people in {pipeline['images']} images of {content['set']}; "
        f"medians of {content['repeats']} runs",
        "",
        f"{'milliseconds per person':<28}{'here':>10}{'straightforward':>18}",
    ]
    for part in pipeline["parts"]:
        plain = "the same" if part["plain"] is None else f"{part['plain']:.2f}"
        lines.append(f"{part['name']:<28}{part['ours']:>10.2f}{plain:>18}")
    lines += [
        f"{'all around inference':<28}{pipeline['around']:>10.2f}{_plain_sum(pipeline):>18.2f}",
        f"{'float inference':<28}{pipeline['inference']:>10.2f}",
        f"{'share of inference':<28}{100 * pipeline['share']:>9.1f} %"
        f"{100 * _plain_sum(pipeline) / pipeline['inference']:>16.1f} %",
        f"{'inference, with reading and decoding beside it':<46}{pipeline['overlapped']:>8.2f}",
        "",
        f"{grouping['people']} people in {grouping['width']}x{grouping['height']}, milliseconds per image: grouping "
        f"{grouping['ours']:.1f}, straightforward {grouping['plain']:.0f}; before it, adding up both stages "
        f"{grouping['merge']:.1f}",
        "",
        "a whole evaluation     people   seconds   a person    peak memory",
    ]
    for row in content["growth"]:
        lines.append(
            f"{row['images']:>6} images     {row['people']:>10}{row['seconds']:>10.1f}"
            f"{1000 * row['seconds'] / row['people']:>8.0f} ms{row['peak_bytes'] / 1e6:>12.0f} MB"
        )
    lines += ["", sentence(content["page"])] if content.get("page") else []
    return "\n".join(lines + _compilation_lines(content.get("compilation")) + image_lines(content.get("images")))


def _compilation_lines(compilation: dict[str, Any] | None) -> list[str]:
    if compilation is None:
        return []
    lines = [
        "",
        f"{compilation['network']}, random weights, {compilation['calibration_samples']} calibration samples; from the "
        f"fixed ONNX to the artifact, limit {compilation['limit']:.2f} of the bare commands",
        f"{'seconds':<20}{'here':>9}{'bare':>9}{'ratio':>7}{'peak GB':>10}{'bare':>7}{'a sample':>11}{'runner':>9}"
        f"{'faster':>8}",
    ]
    for row in compilation["chips"]:
        over = "  above the limit" if row["ratio"] > compilation["limit"] else ""
        runner = row["runner_seconds_per_sample"]
        told = f"{runner:>9.2f}{row['times_faster']:>7.1f}x" if runner else f"{'-':>9}{'-':>8}"
        lines.append(
            f"{row['chip'] + ' ' + row['precision']:<20}{row['seconds']:>9.1f}{row['bare_seconds']:>9.1f}"
            f"{row['ratio']:>7.2f}{row['peak_memory_bytes'] / 1e9:>10.2f}{row['bare_peak_memory_bytes'] / 1e9:>7.2f}"
            f"{row['infer_seconds_per_sample']:>11.2f}{told}{over}"
        )
    return lines + [f"left out: {row['chip']}: {row['why']}" for row in compilation["left_out"]]


def _plain_sum(pipeline: dict[str, Any]) -> float:
    return sum(part["ours"] if part["plain"] is None else part["plain"] for part in pipeline["parts"])


def draw(content: dict[str, Any], path: Path) -> None:
    """The parts beside each other, the grouping, time and memory over the number of images; below them, where chips
    were compiled for, npumake beside the vendors' bare commands."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    pipeline, grouping, growth = content["pipeline"], content["grouping"], content["growth"]
    compilation = content.get("compilation") or {"chips": []}
    rows = 2 if compilation["chips"] else 1
    figure = plt.figure(figsize=(14, 4.2 * rows), layout="constrained")
    above, *below = figure.subfigures(rows, 1, squeeze=False)[:, 0]
    left, middle, right = above.subplots(1, 3, width_ratios=(3, 1, 1.5))
    for part in below:
        _draw_compilation(compilation, part)
    names = [part["name"] for part in pipeline["parts"]]
    rows = range(len(names))
    left.barh([row - 0.2 for row in rows], [part["ours"] for part in pipeline["parts"]], 0.38, color=OURS, label="here")
    plain = [part["ours"] if part["plain"] is None else part["plain"] for part in pipeline["parts"]]
    left.barh([row + 0.2 for row in rows], plain, 0.38, color=PLAIN, label="straightforward, person by person")
    left.set_yticks(list(rows), names)
    left.invert_yaxis()
    left.set_xlabel("milliseconds per person")
    share = f"{pipeline['around']:.1f} ms of {pipeline['inference']:.0f} ms ({100 * pipeline['share']:.1f} %)"
    left.set_title(f"around inference: {share}")
    left.legend(loc="lower right", frameon=False)
    bars = middle.bar(["here", "straightforward"], [grouping["ours"], grouping["plain"]], color=[OURS, PLAIN])
    middle.bar_label(bars, fmt="%.0f")
    middle.set_ylabel("milliseconds per image")
    middle.set_title(f"grouping of {grouping['people']} people")
    images = [row["images"] for row in growth]
    right.plot(images, [row["seconds"] for row in growth], "o-", color=OURS, label="seconds")
    right.set_xlabel("images")
    right.set_ylabel("seconds", color=OURS)
    right.set_ylim(bottom=0)
    memory = right.twinx()
    memory.plot(images, [row["peak_bytes"] / 1e6 for row in growth], "s--", color=GREY)
    memory.set_ylabel("peak memory, MB", color=GREY)
    memory.set_ylim(bottom=0)
    right.set_title("a whole evaluation")
    machine = content["machine"]
    figure.suptitle(f"{content['network']} on {machine['processor']}, {machine['cores']} cores", fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


def _draw_compilation(compilation: dict[str, Any], figure: Any) -> None:
    """Seconds of both ways with their ratio, and seconds a sample of infer.py and of the vendor's runner."""
    chips = compilation["chips"]
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    rows, names = range(len(chips)), [f"{row['chip']} {row['precision']}" for row in chips]
    ours = left.barh([row - 0.2 for row in rows], [row["seconds"] for row in chips], 0.38, color=OURS, label="here")
    left.bar_label(ours, [f"{row['ratio']:.2f} x bare" for row in chips], label_type="center", color="white")
    left.barh(
        [row + 0.2 for row in rows],
        [row["bare_seconds"] for row in chips],
        0.38,
        color=PLAIN,
        label="the vendor's bare commands",
    )
    limits = [compilation["limit"] * row["bare_seconds"] for row in chips]
    tall = [row - 0.2 for row in rows]
    left.vlines(limits, [y - 0.22 for y in tall], [y + 0.22 for y in tall], color="black",
                label=f"limit, {compilation['limit']:.2f} x bare")  # fmt: skip
    left.set_xlabel("seconds from the fixed ONNX to the artifact")
    left.set_title(f"{compilation['network']}, {compilation['calibration_samples']} calibration samples")
    bars = right.barh([row - 0.2 for row in rows], [row["infer_seconds_per_sample"] for row in chips], 0.38, color=OURS)
    right.bar_label(bars, [f" {row['times_faster']:.1f} times" if row["times_faster"] else "" for row in chips])
    right.barh([row + 0.2 for row in rows], [row["runner_seconds_per_sample"] or 0 for row in chips], 0.38, color=PLAIN)
    right.set_xlabel("seconds a sample")
    right.set_title("infer.py, and the vendor's runner started for each sample")
    for axes, labels in ((left, names), (right, [""] * len(names))):
        axes.set_yticks(list(rows), labels)
        axes.set_ylim(len(chips) + 0.1, -0.6)  # room for the legend below
        axes.margins(x=0.2)
    left.legend(loc="lower right", frameon=False, ncols=3)
