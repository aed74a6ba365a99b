"""bench.json as a picture: a row for each subject, whatever was measured of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.basics.files import replacing
from common.bench.stages import VENDOR_STAGES

OURS, PLAIN, GREY, LIMIT = "#2a6f97", "#d08c60", "#8d99ae", "#111111"
CHIP_COLORS = (OURS, "#61a5c2", "#5f7a61", "#7d6b91", "#b5838d", "#6d6875")
SHOWN_STAGES = 15  # of the start-up's
WIDTH, ROW = 14, 4.2  # inches
DOTS = 110  # an inch


def draw(content: dict[str, Any], path: Path) -> None:
    """Evaluation and its growth; below, where they were measured: the stages of a build, compilations beside the
    vendors' bare commands, latencies, what make and the stages take to start."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    compilation = content.get("compilation") or {"chips": []}
    latency = (content.get("latency") or {"rows": []})["rows"]
    wanted = [(_draw_evaluation, ROW, True), (_draw_stages, 1.25 * ROW, compilation["chips"]),
              (_draw_compilation, 0.8 * ROW, compilation["chips"]),
              (_draw_everyday, ROW, latency or content.get("start_up") or content.get("make_graph"))]  # fmt: skip
    rows = [(function, height) for function, height, there in wanted if there]
    heights = [height for _, height in rows]
    figure = plt.figure(figsize=(WIDTH, sum(heights) + 0.9), layout="constrained")
    parts = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
    for (function, _), part in zip(rows, parts, strict=True):
        function(content, part)
    machine = content["machine"]
    figure.suptitle(
        f"make bench on {machine['processor']}, {machine['cores']} cores, load {machine['load_before']} before it."
        f" Wall time, medians of {content['repeats']} (compilations of up to 3, stages once), random weights.\n"
        "Memory is resident, of the largest process, at its peak.",
        fontsize=10,
    )
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DOTS)
    plt.close(figure)


def _draw_evaluation(content: dict[str, Any], figure: Any) -> None:
    """The parts of an evaluation, the grouping of people, and whole evaluations of more and more images."""
    pipeline, grouping = content["pipeline"], content["grouping"]
    left, middle, right = figure.subplots(1, 3, width_ratios=(2.6, 0.9, 1.9))
    names = [part["name"] for part in pipeline["parts"]]
    rows = range(len(names))
    left.barh([row - 0.2 for row in rows], [part["ours"] for part in pipeline["parts"]], 0.38, color=OURS, label="here")
    plain = [part["ours"] if part["plain"] is None else part["plain"] for part in pipeline["parts"]]
    left.barh([row + 0.2 for row in rows], plain, 0.38, color=PLAIN, label="straightforward, person by person")
    left.set_yticks(list(rows), names)
    left.invert_yaxis()
    left.set_xlabel("milliseconds per person")
    share = f"{pipeline['around']:.1f} ms beside {pipeline['inference']:.0f} ms ({100 * pipeline['share']:.1f} %)"
    left.set_title(f"around {content['network']}'s inference: {share}", fontsize=11)
    left.legend(loc="lower right", frameon=False)
    bars = middle.bar(["here", "straight-\nforward"], [grouping["ours"], grouping["plain"]], color=[OURS, PLAIN])
    middle.bar_label(bars, fmt="%.0f")
    middle.set_ylabel("milliseconds per image")
    middle.set_title(f"grouping {grouping['people']} people", fontsize=11)
    _draw_growth(content["growth"], right)


def _draw_growth(growth: dict[str, Any], axes: Any) -> None:
    """Seconds over images with the line through them, and memory; both axes are logarithmic but the memory's."""
    runs, fit = growth["runs"], growth["fit"]
    images = [row["images"] for row in runs]
    axes.plot(images, [row["seconds"] for row in runs], "o", color=OURS, label="whole evaluation")
    axes.plot(images, [row["inference_seconds"] for row in runs], "^", color=PLAIN, label="as many inferences alone")
    title = f"evaluation of {growth['network']}"
    if fit:
        line = [fit["start_seconds"] + fit["seconds_per_image"] * count for count in images]
        axes.plot(images, line, "-", color=OURS, linewidth=1)
        title += f": {fit['start_seconds']:.1f} s + {1000 * fit['seconds_per_image']:.1f} ms an image"
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(images, [str(count) for count in images])
    axes.minorticks_off()
    axes.set_xlabel("images")
    axes.set_ylabel("seconds", color=OURS)
    memory = axes.twinx()
    peaks = [row["peak_bytes"] / 1e6 for row in runs]
    memory.plot(images, peaks, "s--", color=GREY)
    for count, peak in zip(images, peaks, strict=True):
        memory.annotate(f"{peak:.0f} MB", (count, peak), (0, -14), textcoords="offset points", ha="center", color=GREY)
    memory.set_ylabel("peak memory, MB", color=GREY)
    memory.set_ylim(0, 4 * max(peaks))  # below the times
    axes.margins(x=0.15)
    axes.legend(loc="upper left", frameon=False)
    axes.set_title(title, fontsize=11)


def _draw_stages(content: dict[str, Any], figure: Any) -> None:
    """Wall time and peak memory of each stage; dashed, the vendor's bare commands."""
    compilation = content["compilation"]
    chips = compilation["chips"]
    seconds, memory = figure.subplots(1, 2, sharey=True)
    stages = list(dict.fromkeys(row["stage"] for chip in chips for row in chip["build"]["stages"]))
    height = 0.8 / len(chips)
    panels = ((seconds, "seconds", "bare_seconds", 1.0, "%.1f"),
              (memory, "peak_memory_bytes", "bare_peak_memory_bytes", 1e6, "%.0f"))  # fmt: skip
    for number, chip in enumerate(chips):
        color = CHIP_COLORS[number % len(CHIP_COLORS)]
        rows = chip["build"]["stages"]
        places = [stages.index(row["stage"]) - 0.4 + (number + 0.5) * height for row in rows]
        for axes, key, bare, unit, form in panels:
            label = f"{chip['chip']} {chip['precision']}"
            bars = axes.barh(places, [row[key] / unit for row in rows], height, color=color, label=label)
            axes.bar_label(bars, fmt=form, fontsize=8, padding=2)
            axes.axvline(chip[bare] / unit, color=color, linestyle="--", linewidth=1,
                         label=f"{chip['chip']}: the vendor's bare commands")  # fmt: skip
    marked = [f"{stage} (vendor's tools)" if stage in VENDOR_STAGES else stage for stage in stages]
    seconds.set_yticks(range(len(stages)), marked)
    seconds.invert_yaxis()
    seconds.set_xscale("log")
    seconds.xaxis.set_major_formatter("{x:g}")
    for axes in (seconds, memory):
        axes.margins(x=0.12)
    seconds.set_xlabel("seconds, each stage in a process of its own")
    memory.set_xlabel("peak memory, MB")
    told = "; ".join(
        f"{chip['chip']} {chip['build']['own_seconds']:.1f} of {chip['build']['seconds']:.1f} s" for chip in chips
    )
    seconds.set_title(f"stages of {compilation['network']}; all but the vendor's tools: {told}", fontsize=11)
    memory.legend(loc="lower right", frameon=False, fontsize=9)


def _draw_compilation(content: dict[str, Any], figure: Any) -> None:
    """Seconds of both ways with their ratio, and seconds a sample of infer.py and of the vendor's runner."""
    compilation = content["compilation"]
    chips = compilation["chips"]
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    rows, names = range(len(chips)), [f"{row['chip']} {row['precision']}" for row in chips]
    ours = left.barh([row - 0.2 for row in rows], [row["seconds"] for row in chips], 0.38, color=OURS, label="here")
    left.bar_label(ours, [f" {row['seconds']:.1f} s, {row['ratio']:.2f} x bare" for row in chips])
    bare = [row["bare_seconds"] for row in chips]
    bars = left.barh([row + 0.2 for row in rows], bare, 0.38, color=PLAIN, label="the vendor's bare commands")
    left.bar_label(bars, [f" {seconds:.1f} s" for seconds in bare])
    limits = [compilation["limit"] * seconds for seconds in bare]
    tall = [row - 0.2 for row in rows]
    left.vlines(limits, [y - 0.22 for y in tall], [y + 0.22 for y in tall], color=LIMIT,
                label=f"limit, {compilation['limit']:.2f} x bare")  # fmt: skip
    left.set_xlabel("seconds from the fixed ONNX to the artifact")
    left.set_title(f"{compilation['network']}, {compilation['calibration_samples']} calibration samples", fontsize=11)
    bars = right.barh([row - 0.2 for row in rows], [row["infer_seconds_per_sample"] for row in chips], 0.38, color=OURS)
    times = [f", {row['times_faster']:.1f} times faster" if row["times_faster"] else "" for row in chips]
    labels = [f" {row['infer_seconds_per_sample']:.2f} s{more}" for row, more in zip(chips, times, strict=True)]
    right.bar_label(bars, labels)
    runner = [row["runner_seconds_per_sample"] or 0 for row in chips]
    bars = right.barh([row + 0.2 for row in rows], runner, 0.38, color=PLAIN)
    right.bar_label(bars, [f" {seconds:.2f} s" if seconds else " (has no runner)" for seconds in runner])
    right.set_xlabel("seconds a sample")
    right.set_title("infer.py, and the vendor's runner started for each sample", fontsize=11)
    for axes, labels in ((left, names), (right, [""] * len(names))):
        axes.set_yticks(list(rows), labels)
        axes.set_ylim(len(chips) + 0.1, -0.6)  # room for the legend below
        axes.margins(x=0.3)
    left.legend(loc="lower right", frameon=False, ncols=3)


def _draw_everyday(content: dict[str, Any], figure: Any) -> None:
    """Latency in float and int8; make with nothing to do; the start-up of each stage."""
    left, middle, right = figure.subplots(1, 3)
    _draw_latency((content.get("latency") or {"rows": []})["rows"], left)
    if graph := content.get("make_graph"):
        _bars(middle, [row["command"] for row in graph["goals"]], [row["seconds"] for row in graph["goals"]])
        _limit(middle, graph["limit"])
        middle.set_xlabel("seconds")
        middle.set_title(f"make with nothing to do, {graph['cells']} cells built", fontsize=11)
    else:
        middle.set_axis_off()
    if started := content.get("start_up"):
        stages = sorted(started["stages"], key=lambda row: -row["seconds"])[:SHOWN_STAGES]
        colors = [PLAIN if row["torch"] else OURS for row in stages]
        bars = right.barh(range(len(stages)), [row["seconds"] for row in stages], color=colors)
        right.bar_label(bars, fmt="%.2f ", fontsize=8, label_type="center", color="white")
        right.set_yticks(range(len(stages)), [row["stage"].removeprefix("common.") for row in stages], fontsize=8)
        right.invert_yaxis()
        _limit(right, started["limit"])
        right.set_xlabel("processor seconds (orange: with torch)")
        right.set_title(f"start-up, the slowest of {len(started['stages'])} stages", fontsize=11)
    else:
        right.set_axis_off()


def _draw_latency(rows: list[dict[str, Any]], axes: Any) -> None:
    if not rows:
        axes.set_axis_off()
        return
    places = range(len(rows))
    for offset, kind, color in ((-0.2, "float", PLAIN), (0.2, "quantised", OURS)):
        values = [row[f"{kind}_ms"] for row in rows]
        bars = axes.barh([place + offset for place in places], values, 0.38, color=color, label=rows[0][kind])
        axes.bar_label(bars, fmt=" %.1f ms")
    axes.set_yticks(list(places), [f"{row['network']}\n{row['chip']}: {row['times_faster']:.2f} times" for row in rows])
    axes.set_ylim(len(rows) + 0.1, -0.6)
    axes.set_xlim(0, 1.35 * max(max(row["float_ms"], row["quantised_ms"]) for row in rows))
    axes.set_xlabel("milliseconds of one inference")
    axes.set_title(rows[0]["device"], fontsize=11)
    axes.legend(loc="lower right", frameon=False, ncols=2)


def _bars(axes: Any, names: list[str], values: list[float]) -> None:
    bars = axes.barh(range(len(names)), values, 0.6, color=OURS)
    axes.bar_label(bars, fmt=" %.2f")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.margins(x=0.2)


def _limit(axes: Any, seconds: float) -> None:
    axes.axvline(seconds, color=LIMIT, linewidth=1)
    axes.annotate(f"limit {seconds:g} s", (seconds, 0), (-3, 4), xycoords=("data", "axes fraction"), ha="right",
                  textcoords="offset points", fontsize=9)  # fmt: skip
