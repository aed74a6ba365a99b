"""bench.json as a table and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.files import replacing

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
    return "\n".join(lines)


def _plain_sum(pipeline: dict[str, Any]) -> float:
    return sum(part["ours"] if part["plain"] is None else part["plain"] for part in pipeline["parts"])


def draw(content: dict[str, Any], path: Path) -> None:
    """The parts beside each other, the 15 % line, the grouping, and time and memory over the number of images."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    pipeline, grouping, growth = content["pipeline"], content["grouping"], content["growth"]
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(14, 4.2), width_ratios=(3, 1, 1.5), layout="constrained"
    )
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
