"""The picture of `make layers`: what each layer loses, along the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.drawing.figure import BAD_COLOR, CHIP_COLOR, DPI, FLOAT_COLOR, INK, PALE_INK, figure_pixels, new_figure

NAMED = 12  # of the worst layers
NAME_CHARACTERS = 52
CHARACTER = 7.1  # pixels, of a name
NUMBER_PLACES = ((0, -15), (0, 9), (13, -4), (-13, -4), (13, 9), (-13, 9), (13, -15), (-13, -15))  # points from a ring
NUMBER_SIZE = np.array([16.0, 12.0])  # pixels that a number takes, with a little air
RING = 7  # pixels from a ring's centre to its line
OTHERS = (("#009E73", "D"), ("#E69F00", "v"), ("#CC79A7", "P"))  # Okabe and Ito (2008), for further precisions
WIDTH, HEIGHT = 1320, 520


def styles(precisions: Sequence[str]) -> dict[str, tuple[str, str, bool]]:
    """For each precision in order of appearance: (colour, marker, filled). Float ones are hollow squares."""
    found: dict[str, tuple[str, str, bool]] = {}
    rest = iter([(CHIP_COLOR, "o"), *OTHERS])
    for precision in dict.fromkeys(precisions):
        wide = precision.startswith(("float", "fp32", "f32"))
        found[precision] = (FLOAT_COLOR, "s", False) if wide else (*next(rest, ("#777777", "X")), True)
    return found


def short(name: str) -> str:
    """A long name by its end, which tells more than its beginning."""
    return name if len(name) <= NAME_CHARACTERS else "…" + name[1 - NAME_CHARACTERS :]


def number_offsets(rings: np.ndarray) -> list[tuple[int, int]]:
    """Where to write each ring's number so that it covers no other ring or number, as far as there is room.

    rings: [N, 2], the centres in pixels, y upwards. Returns one of NUMBER_PLACES, in points, for each.
    """
    taken: list[np.ndarray] = []
    found = []
    for ring in rings:

        def crowd(place: tuple[int, int], ring: np.ndarray = ring) -> int:
            middle = ring + np.array(place) * DPI / 72 + (0, NUMBER_SIZE[1] / 3)
            near_rings = np.abs(rings - middle) < NUMBER_SIZE / 2 + RING
            return int(near_rings.all(axis=1).sum()) + sum(
                (np.abs(other - middle) < NUMBER_SIZE).all() for other in taken
            )

        best = min(NUMBER_PLACES, key=crowd)  # the first of equal ones
        taken.append(ring + np.array(best) * DPI / 72 + (0, NUMBER_SIZE[1] / 3))
        found.append(best)
    return found


def layer_figure(layers: Sequence[dict[str, Any]], title: str, note: str) -> np.ndarray:
    """SQNR in dB over the layer's place in the graph, the worst ones numbered and named: uint8 [h, w, 3] BGR.

    layers: in the graph's order, [{"name", "operator", "precision", "sqnr_db": number, or None: no difference}]. Layers
    without a difference stand on the upper edge.
    """
    figure = new_figure(WIDTH, HEIGHT)
    figure.text(14 / WIDTH, 1 - 26 / HEIGHT, title, fontsize=13, fontweight="bold", color=INK, parse_math=False)
    figure.text(14 / WIDTH, 1 - 48 / HEIGHT, note, fontsize=9.5, color=PALE_INK, parse_math=False)
    values = np.array([np.nan if layer["sqnr_db"] is None else layer["sqnr_db"] for layer in layers])
    finite = values[np.isfinite(values)]
    worst = [index for index in np.argsort(values, kind="stable")[:NAMED] if np.isfinite(values[index])]
    longest = max([24, *(len(short(layers[index]["name"])) for index in worst)])  # 24: 'Convolution, int8, 23.6 dB'
    names = 1 - (20 + CHARACTER * longest) / WIDTH  # where the column of names begins
    axes = figure.add_axes((0.05, 0.11, names - 0.075, 0.72))
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    room = max(high - low, 1.0)
    edge = high + 0.12 * room
    places = np.arange(1, len(layers) + 1)
    axes.plot(places, values, color="#c8c8c8", linewidth=0.8, zorder=1)
    for precision, (color, marker, filled) in styles([layer["precision"] for layer in layers]).items():
        mine = np.array([layer["precision"] == precision for layer in layers])
        axes.scatter(places[mine], np.where(np.isnan(values), edge, values)[mine], s=30, marker=marker, zorder=2,
                     facecolors=color if filled else "none", edgecolors=color if not filled else "white",
                     linewidths=1.3 if not filled else 0.4, label=f"{precision} ({mine.sum()})")  # fmt: skip
    if len(finite) < len(values):
        axes.axhline(edge, color="#c8c8c8", linewidth=0.8, linestyle=":", zorder=0)
        axes.annotate("no difference", (1, edge), xytext=(0, 5), textcoords="offset points", fontsize=8, color=PALE_INK)
    axes.set_ylim(low - 0.14 * room, edge + 0.1 * room)
    axes.margins(x=0.02)
    axes.xaxis.get_major_locator().set_params(integer=True)  # a layer's place is a whole number
    rings = axes.transData.transform(np.column_stack([places[worst], values[worst]])) if worst else np.empty((0, 2))
    for number, (index, offset) in enumerate(zip(worst, number_offsets(rings), strict=True), 1):
        axes.scatter(places[index], values[index], s=110, facecolors="none", edgecolors=BAD_COLOR, zorder=3)
        axes.annotate(str(number), (places[index], values[index]), xytext=offset, textcoords="offset points",
                      ha="center", fontsize=8.5, color=BAD_COLOR, fontweight="bold")  # fmt: skip
        line = 1 - (94 + 30 * number) / HEIGHT
        layer = layers[index]
        figure.text(names - 0.008, line, str(number), fontsize=9.5, color=BAD_COLOR, fontweight="bold", ha="right")
        figure.text(names, line, short(layer["name"]), fontsize=9.5, color=INK, parse_math=False)
        told = f"{layer['operator']}, {layer['precision']}, {values[index]:.1f} dB"
        figure.text(names, line - 13 / HEIGHT, told, fontsize=8, color=PALE_INK, parse_math=False)
    figure.text(names - 0.018, 1 - 94 / HEIGHT, "the worst" if worst else "", fontsize=10, color=INK)
    axes.set_xlabel("layer, in the graph's order", fontsize=9.5)
    axes.set_title("signal to quantisation noise of the layer's output against float, dB", fontsize=10, loc="left",
                   color=INK)  # fmt: skip
    axes.grid(axis="y", color="#ececec")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, frameon=False, fontsize=9, handletextpad=0.2,
                borderaxespad=0.1)  # fmt: skip
    return figure_pixels(figure)
