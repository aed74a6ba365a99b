"""The charts over all cells. They show trained networks only, and nothing that a stand-in of an SDK computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

ROWS = 40  # of the chart of rungs: the networks that agree least
WIDTH, LINE = 1100, 24  # pixels
SERIES = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#7a5195",
    "#444444",
)  # Okabe and Ito (2008)
MARKERS = "osD^vPX*"
LEAST_LOSS = 5e-5  # of 1 - agreement: what is nearer to float, or equal, stands on the edge


def tried_rungs(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry a cell of a quantised precision, lowest agreement first: {"name", "gate", "tried": [(number, agreement,
    taken)]}. A cell without rungs counts as one try."""
    found = []
    for row in rows:
        facts, rungs = row["facts"], row["rungs"]
        if not _counts(facts) or row["calibration"] is None:
            continue
        tried = [(entry["number"], entry["agreement"], entry["number"] == rungs["chosen"])
                 for entry in (rungs["tried"] if rungs else []) if entry["agreement"] is not None]  # fmt: skip
        gate = (row["gate"] or {}).get("oks")
        found.append({"name": facts["cell"], "gate": gate, "tried": tried or [(None, facts["agreement"], True)]})
    return sorted(found, key=lambda entry: min(agreement for _, agreement, _ in entry["tried"]))


def sizes(rows: Sequence[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """chip -> [(artifact in MB, agreement)]"""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        facts = row["facts"]
        if _counts(facts) and facts["artifact_bytes"]:
            found.setdefault(facts["chip"], []).append((facts["artifact_bytes"] / 1e6, facts["agreement"]))
    return found


def _counts(facts: dict[str, Any]) -> bool:
    return facts["agreement"] is not None and facts["weights"] != "random" and not facts["double"]


def rung_chart(entries: Sequence[dict[str, Any]]) -> np.ndarray:
    """Agreement with float of every rung that was tried, a line a cell: uint8 [h, w, 3] BGR."""
    from common.drawing.figure import BAD_COLOR, CHIP_COLOR, INK, PALE_INK, figure_pixels, new_figure

    height = 70 + LINE * len(entries)
    figure = new_figure(WIDTH, height)
    axes = figure.add_axes((0.33, 46 / height, 0.64, 1 - 70 / height))
    for place, entry in enumerate(reversed(entries)):
        values = [1 - agreement for _, agreement, _ in entry["tried"]]
        axes.plot([_shown(value) for value in values], [place] * len(values), color="#c8c8c8", linewidth=1, zorder=1)
        for (number, _, taken), value in zip(entry["tried"], values, strict=True):
            axes.scatter(_shown(value), place, s=44, zorder=3, marker="o", facecolors=CHIP_COLOR if taken else "white",
                         edgecolors=INK if taken else PALE_INK, linewidths=1)  # fmt: skip
            if len(values) > 1:
                axes.annotate(str(number), (_shown(value), place), xytext=(0, 6), textcoords="offset points",
                              ha="center", fontsize=7.5, color=PALE_INK)  # fmt: skip
        if entry["gate"] is not None:
            limit = _shown(1 - entry["gate"])
            axes.plot([limit, limit], [place - 0.4, place + 0.4], color=BAD_COLOR, linewidth=1.6, zorder=2)
    axes.set_yticks(range(len(entries)), [entry["name"] for entry in reversed(entries)], fontsize=9, parse_math=False)
    axes.set_ylim(-0.7, len(entries) - 0.3)
    axes.set_xscale("log")
    axes.set_xlim(1.0, LEAST_LOSS)
    ticks = [0.5, 0.1, 0.02, 0.01, 0.001, 0.0001]
    axes.set_xticks(ticks, [f"{1 - tick:g}" for tick in ticks], fontsize=8.5)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("agreement with float (logarithmic in what is missing to 1)", fontsize=9, color=PALE_INK)
    _plain(axes)
    return figure_pixels(figure)


def _shown(loss: float) -> float:
    """What is missing to 1, kept on the paper."""
    return min(max(loss, LEAST_LOSS * 1.15), 0.93)


def size_chart(series: dict[str, list[tuple[float, float]]]) -> np.ndarray:
    """Size of the artifact against agreement, a colour and a shape a chip: uint8 [h, w, 3] BGR."""
    from matplotlib.ticker import LogLocator, NullLocator

    from common.drawing.figure import PALE_INK, figure_pixels, new_figure

    height = 440
    figure = new_figure(WIDTH, height)
    axes = figure.add_axes((0.075, 0.13, 0.70, 0.82))
    for number, (chip, points) in enumerate(sorted(series.items())):
        color = SERIES[(number + number // len(MARKERS)) % len(SERIES)]  # no pair comes twice among 64 chips
        axes.scatter([size for size, _ in points], [_shown(1 - agreement) for _, agreement in points], s=52,
                     color=color, marker=MARKERS[number % len(MARKERS)], label=chip, edgecolors="white",
                     linewidths=0.6, clip_on=False)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(1.0, LEAST_LOSS)
    ticks = [0.5, 0.1, 0.02, 0.01, 0.001, 0.0001]
    axes.set_yticks(ticks, [f"{1 - tick:g}" for tick in ticks], fontsize=8.5)
    axes.set_yticks([], minor=True)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("size of the artifact, MB", fontsize=9, color=PALE_INK)
    axes.set_ylabel("agreement with float", fontsize=9, color=PALE_INK)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9, handletextpad=0.3)
    _plain(axes)
    return figure_pixels(figure)


def _plain(axes: Any) -> None:
    axes.grid(color="#ececec")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=8.5)
