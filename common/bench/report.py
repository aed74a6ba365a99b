"""bench.json as a table."""

from __future__ import annotations

from typing import Any

from common.bench.images import image_lines
from common.bench.make_graph import make_graph_lines
from common.bench.page import sentence
from common.bench.start_up import start_up_lines


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
    ]
    lines += _growth_lines(content["growth"])
    lines += ["", sentence(content["page"])] if content.get("page") else []
    lines += make_graph_lines(content.get("make_graph")) + start_up_lines(content.get("start_up"))
    lines += _compilation_lines(content.get("compilation")) + _latency_lines(content.get("latency"))
    return "\n".join(lines + image_lines(content.get("images")))


def _growth_lines(growth: dict[str, Any]) -> list[str]:
    lines = [
        f"a whole evaluation of {growth['network']}",
        f"{'images':>8}{'people':>8}{'seconds':>10}{'inference alone':>17}{'images/s':>10}{'peak memory':>14}",
    ]
    for row in growth["runs"]:
        lines.append(
            f"{row['images']:>8}{row['people']:>8}{row['seconds']:>10.1f}{row['inference_seconds']:>17.1f}"
            f"{row['images'] / row['seconds']:>10.1f}{row['peak_bytes'] / 1e6:>11.0f} MB"
        )
    if fit := growth["fit"]:
        lines.append(
            f"a line: {fit['start_seconds']:.2f} s and {1000 * fit['seconds_per_image']:.1f} ms an image, no run is "
            f"more than {100 * fit['largest_deviation']:.0f} % off it; "
            f"{fit['bytes_per_image'] / 1000:.1f} kB of memory an image"
        )
    return lines


def _latency_lines(latency: dict[str, Any] | None) -> list[str]:
    if latency is None:
        return []
    lines = []
    if latency["rows"]:
        lines = ["", f"{'milliseconds of one inference':<40}{'float':>9}{'quantised':>11}{'times':>8}"]
    for row in latency["rows"]:
        name = f"{row['network']} on {row['chip']}, {row['float']}, {row['quantised']}"
        lines.append(f"{name:<40}{row['float_ms']:>9.1f}{row['quantised_ms']:>11.1f}{row['times_faster']:>8.2f}")
    return lines + [f"left out: latency on {row['chip']}: {row['why']}" for row in latency["left_out"]]


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
    for row in compilation["chips"]:
        lines += _stage_lines(compilation["network"], row)
    return lines + [f"left out: {row['chip']}: {row['why']}" for row in compilation["left_out"]]


def _stage_lines(network: str, row: dict[str, Any]) -> list[str]:
    """Each stage of a whole build, and the sums, beside the bare commands."""
    build = row["build"]
    title = f"{network} for {row['chip']} {row['precision']}, by stage"
    lines = ["", f"{title:<44}{'seconds':>9}{'peak MB':>9}"]
    told = [(line["stage"], line["seconds"], line["peak_memory_bytes"]) for line in build["stages"]]
    told += [
        ("all", build["seconds"], build["peak_memory_bytes"]),
        ("all but compile and simulate", build["own_seconds"], build["own_peak_memory_bytes"]),
        ("the vendor's bare commands of compile", row["bare_seconds"], row["bare_peak_memory_bytes"]),
    ]
    return lines + [f"  {name:<42}{seconds:>9.1f}{peak / 1e6:>9.0f}" for name, seconds, peak in told]


def _plain_sum(pipeline: dict[str, Any]) -> float:
    return sum(part["ours"] if part["plain"] is None else part["plain"] for part in pipeline["parts"])
