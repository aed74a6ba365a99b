"""Lettering and charts, by matplotlib (imported only when something is drawn: it costs half a second)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.basics.files import replacing

DPI = 100
INK, PALE_INK, WARNING_INK = "#1b1b1b", "#5a5a5a", "#b00020"
NOTE_CHARACTERS = 180  # of small lettering in a line of the widest pictures
FLOAT_COLOR, CHIP_COLOR, BAD_COLOR = "#0072B2", "#56B4E9", "#D55E00"  # Okabe and Ito (2008)


@dataclass(frozen=True)
class Text:
    """One line of lettering; x and y in pixels from the top left, at its left end and baseline.

    width: pixels that it may take; longer words are set smaller.
    """

    x: int
    y: int
    words: str
    size: float = 11
    bold: bool = False
    color: str = INK
    width: int | None = None


def new_figure(width: int, height: int, paper: str = "white") -> Any:
    """An empty matplotlib Figure of this many pixels, drawn by Agg: no window, no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A little more: matplotlib rounds down, and 1924 / 100 * 100 is less than 1924.
    figure = Figure(figsize=((width + 0.1) / DPI, (height + 0.1) / DPI), dpi=DPI, facecolor=paper)
    FigureCanvasAgg(figure)
    return figure


def letter(width: int, height: int, texts: Sequence[Text], paper: str = "white") -> np.ndarray:
    """Paper of this colour with text on it: uint8 [height, width, 3] BGR, ready to paste pictures onto."""
    figure = new_figure(width, height, paper)
    for text in texts:
        drawn = figure.text(text.x / width, 1 - text.y / height, text.words, fontsize=text.size, color=text.color,
                            fontweight="bold" if text.bold else "normal", parse_math=False)  # fmt: skip
        taken = drawn.get_window_extent().width if text.width else 0
        if text.width and taken > text.width:
            drawn.set_fontsize(text.size * text.width / taken)
    return figure_pixels(figure)


def figure_pixels(figure: Any) -> np.ndarray:
    """What is drawn on a figure of new_figure(): uint8 [h, w, 3] BGR."""
    import cv2

    figure.canvas.draw()
    return cv2.cvtColor(np.asarray(figure.canvas.buffer_rgba()), cv2.COLOR_RGBA2BGR)


def save_picture(path: Path, image: np.ndarray) -> None:
    """Write a PNG, whole or not at all. image: uint8 [h, w, 3] BGR. Raises OSError when it cannot be written."""
    import cv2

    done, data = cv2.imencode(".png", image)
    if not done:
        raise OSError(f"{path} could not be encoded")
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


def heatmap_tiles(
    float_map: np.ndarray, chip_map: np.ndarray, largest_difference: float, top: float | None = None
) -> np.ndarray:
    """One joint: float, chip and their difference side by side, RGB uint8 [h, 3 * w + 2, 3].

    float_map, chip_map: [h, w]; both share one scale, from 0 to `top`, else to the larger of their maxima. The
    difference, chip minus float, runs from purple (-largest_difference) over white to orange.
    """
    from matplotlib import colormaps

    top = max(top or max(float(float_map.max()), float(chip_map.max())), 1e-6)
    share = (chip_map - float_map) / (2 * max(largest_difference, 1e-12)) + 0.5
    tiles = [colormaps["viridis"](np.clip(heat / top, 0, 1)) for heat in (float_map, chip_map)]
    tiles.append(colormaps["PuOr_r"](np.clip(share, 0, 1)))
    gap = np.ones((float_map.shape[0], 1, 4))
    row = np.concatenate([tiles[0], gap, tiles[1], gap, tiles[2]], axis=1)
    return np.rint(row[..., :3] * 255).astype(np.uint8)


def heatmap_figure(float_maps: Sequence[np.ndarray], chip_maps: Sequence[np.ndarray], names: Sequence[str],
                   largest_difference: float, title: str, note: str,
                   brightest: float | None = None) -> np.ndarray:  # fmt: skip
    """Every map of one sample, float | chip | difference, with both peaks marked: uint8 [h, w, 3] BGR.

    float_maps, chip_maps: K maps [h, w], which may be of several sizes. names: their K names. brightest: see
    heatmap_tiles(), top.
    """
    import cv2

    columns = min(4, len(names))
    cell_width = 1320 // columns
    lines = textwrap.wrap(note, NOTE_CHARACTERS)
    top = 60 + 16 * len(lines)
    zooms = [(cell_width - 16) / (3 * heat.shape[1] + 2) for heat in float_maps]
    cell_height = max(round(heat.shape[0] * zoom) for heat, zoom in zip(float_maps, zooms, strict=True)) + 34
    texts = [Text(14, 26, title, 13, bold=True)]
    texts += [Text(14, 48 + 16 * number, line, 9.5, color=PALE_INK) for number, line in enumerate(lines)]
    places = []
    for number, name in enumerate(names):
        x, y = 14 + number % columns * cell_width, top + number // columns * cell_height
        places.append((x, y + 20))
        texts.append(Text(x, y + 15, name.replace("_", " "), 9.5))
    paper = letter(cell_width * columns + 20, top + -(-len(names) // columns) * cell_height + 8, texts)
    for number, (x, y) in enumerate(places):
        heat, zoom = float_maps[number], zooms[number]
        row = heatmap_tiles(heat, chip_maps[number], largest_difference, brightest)[..., ::-1]
        size = cell_width - 16, max(1, round(heat.shape[0] * zoom))
        row = cv2.resize(row, size, interpolation=cv2.INTER_NEAREST if zoom >= 1 else cv2.INTER_AREA)
        _mark_peaks(row, heat, chip_maps[number], zoom)
        paper[y : y + row.shape[0], x : x + row.shape[1]] = row
    return paper


def _mark_peaks(row: np.ndarray, float_map: np.ndarray, chip_map: np.ndarray, zoom: float) -> None:
    """A + at float's peak and an x at the chip's: white on their own tiles, black on the difference."""
    import cv2

    white, black = (255, 255, 255), (0, 0, 0)
    for number, (heat, marker) in enumerate(((float_map, cv2.MARKER_CROSS), (chip_map, cv2.MARKER_TILTED_CROSS))):
        peak_y, peak_x = np.unravel_index(int(heat.argmax()), heat.shape)
        for tile, color in ((number, white), (2, black)):
            x = (peak_x + 0.5 + tile * (heat.shape[1] + 1)) * zoom
            cv2.drawMarker(row, (int(x), int((peak_y + 0.5) * zoom)), color, marker, 9, 1, cv2.LINE_AA)


def channel_figure(channels: Sequence[dict[str, Any]], joint_oks: dict[str, float], gate: float, title: str,
                   note: str) -> np.ndarray:  # fmt: skip
    """Bars per joint: SQNR of its heatmaps in dB, and how well its place agrees with float (mean OKS term).

    channels: [{"name", "sqnr_db", "cosine"}]; joint_oks: joint name -> mean OKS term, 0..1; gate: the cell's least
    OKS, drawn as a line. A missing SQNR (no noise at all, or no signal) is written, not drawn.
    Returns uint8 [h, w, 3] BGR.
    """
    terms = [joint_oks.get(channel["name"]) for channel in channels]
    figure, right = _bars(channels, terms, gate, 27, title, note, "signal to quantisation noise of the heatmap, dB")
    right.axvline(gate, color=INK, linewidth=1, linestyle="--")
    right.set_title(f"OKS of the joint's place against float (gate {gate:g})", fontsize=10, loc="left", color=INK)
    return figure_pixels(figure)


def output_figure(rows: Sequence[dict[str, Any]], title: str, note: str) -> np.ndarray:
    """Bars per output, or per channel where there are many: SQNR in dB, and cosine similarity with float.

    rows: [{"name", "sqnr_db", "cosine"}]; SQNR None: equal. Returns uint8 [h, w, 3] BGR.
    """
    cosines = [row["cosine"] for row in rows]
    figure, right = _bars(rows, cosines, 0.0, 27 if len(rows) < 20 else 20, title, note,
                          "signal to quantisation noise, dB", digits=6)  # fmt: skip
    right.set_title("cosine similarity with float", fontsize=10, loc="left", color=INK)
    return figure_pixels(figure)


def _bars(rows: Sequence[dict[str, Any]], shares: Sequence[float | None], limit: float, pitch: int, title: str,
          note: str, left_title: str, digits: int = 4) -> tuple[Any, Any]:  # fmt: skip
    """Two columns of bars: each row's SQNR, and a share of 0..1 that is another colour below `limit`.

    pitch: pixels from row to row. Returns (figure, the axes on the right).
    """
    width, height = 1100, 118 + pitch * len(rows)
    figure = new_figure(width, height)
    figure.text(14 / width, 1 - 26 / height, title, fontsize=13, fontweight="bold", color=INK, parse_math=False)
    figure.text(14 / width, 1 - 48 / height, note, fontsize=9.5, color=PALE_INK, parse_math=False)
    bottom, tall = 46 / height, (height - 46 - 84) / height
    places = np.arange(len(rows))
    start = 0.13 if max(len(row["name"]) for row in rows) < 18 else 0.19
    left = figure.add_axes((start, bottom, 0.54 - start, tall))
    values = [row.get("sqnr_db") for row in rows]
    left.barh(places, [value or 0 for value in values], color=CHIP_COLOR, edgecolor=FLOAT_COLOR, height=0.7)
    finite = [value for value in values if value is not None]
    left.set_xlim(min([0, *finite]), max([1, *finite]) * 1.18)
    for place, value in zip(places, values, strict=True):
        words = "equal" if value is None else f"{value:.1f}"
        left.text(max(value or 0, 0), place, f" {words}", va="center", fontsize=8.5, color=INK)
    left.set_title(left_title, fontsize=10, loc="left", color=INK)
    right = figure.add_axes((0.58, bottom, 0.40, tall))
    colors = [BAD_COLOR if share is not None and share < limit else CHIP_COLOR for share in shares]
    right.barh(places, [share or 0 for share in shares], color=colors, edgecolor=FLOAT_COLOR, height=0.7)
    for place, share in zip(places, shares, strict=True):
        right.text(0.01, place, "" if share is None else f"{share:.{digits}f}", va="center", fontsize=8.5, color=INK)
    right.set_xlim(0, 1)
    for axes, labels in ((left, [row["name"].replace("_", " ") for row in rows]), (right, [])):
        axes.set_yticks(places if labels else [], labels=labels, fontsize=9)
        axes.margins(y=0.05 if len(rows) < 20 else 0.01)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8.5)
    return figure, right
