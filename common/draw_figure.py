"""Lettering and charts, by matplotlib (imported only when something is drawn: it costs half a second)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from common.files import replacing

DPI = 100
INK, PALE_INK, WARNING_INK = "#1b1b1b", "#5a5a5a", "#b00020"
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


def new_figure(width: int, height: int) -> Any:
    """An empty matplotlib Figure of this many pixels, drawn by Agg: no window, no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def letter(width: int, height: int, texts: Sequence[Text]) -> np.ndarray:
    """White paper with text on it: uint8 [height, width, 3] BGR, ready to paste pictures onto."""
    figure = new_figure(width, height)
    for text in texts:
        drawn = figure.text(text.x / width, 1 - text.y / height, text.words, fontsize=text.size, color=text.color,
                            fontweight="bold" if text.bold else "normal", parse_math=False)  # fmt: skip
        taken = drawn.get_window_extent().width if text.width else 0
        if text.width and taken > text.width:
            drawn.set_fontsize(text.size * text.width / taken)
    return _pixels(figure)


def _pixels(figure: Any) -> np.ndarray:
    figure.canvas.draw()
    return cv2.cvtColor(np.asarray(figure.canvas.buffer_rgba()), cv2.COLOR_RGBA2BGR)


def save_picture(path: Path, image: np.ndarray) -> None:
    """Write a PNG, whole or not at all. image: uint8 [h, w, 3] BGR. Raises OSError when it cannot be written."""
    done, data = cv2.imencode(".png", image)
    if not done:
        raise OSError(f"{path} could not be encoded")
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


def heatmap_tiles(float_map: np.ndarray, chip_map: np.ndarray, largest_difference: float) -> np.ndarray:
    """One joint: float, chip and their difference side by side, RGB uint8 [h, 3 * w + 2, 3].

    float_map, chip_map: [h, w]; both share one scale, from 0 to the larger of their maxima. The difference, chip
    minus float, runs from purple (-largest_difference) over white to orange.
    """
    from matplotlib import colormaps

    top = max(float(float_map.max()), float(chip_map.max()), 1e-6)
    share = (chip_map - float_map) / (2 * max(largest_difference, 1e-12)) + 0.5
    tiles = [colormaps["viridis"](np.clip(heat / top, 0, 1)) for heat in (float_map, chip_map)]
    tiles.append(colormaps["PuOr_r"](np.clip(share, 0, 1)))
    gap = np.ones((float_map.shape[0], 1, 4))
    row = np.concatenate([tiles[0], gap, tiles[1], gap, tiles[2]], axis=1)
    return np.rint(row[..., :3] * 255).astype(np.uint8)


def heatmap_figure(float_maps: np.ndarray, chip_maps: np.ndarray, names: Sequence[str], title: str, note: str,
                   columns: int = 4) -> np.ndarray:  # fmt: skip
    """Every joint's heatmap, float | chip | difference, with both peaks marked: uint8 [h, w, 3] BGR.

    float_maps, chip_maps: [K, h, w] of one person. names: K joint names.
    """
    joints, map_height, map_width = float_maps.shape
    cell_width, top = 1320 // columns, 76
    zoom = (cell_width - 16) / (3 * map_width + 2)
    cell_height = round(map_height * zoom) + 34
    texts = [Text(14, 26, title, 13, bold=True), Text(14, 48, note, 9.5, color=PALE_INK)]
    places = []
    for joint, name in enumerate(names):
        x, y = 14 + joint % columns * cell_width, top + joint // columns * cell_height
        places.append((x, y + 20))
        texts.append(Text(x, y + 15, name.replace("_", " "), 9.5))
    paper = letter(cell_width * columns + 20, top + -(-joints // columns) * cell_height + 8, texts)
    largest = float(np.abs(chip_maps - float_maps).max())
    for joint, (x, y) in enumerate(places):
        row = heatmap_tiles(float_maps[joint], chip_maps[joint], largest)[..., ::-1]
        row = cv2.resize(row, (cell_width - 16, cell_height - 34), interpolation=cv2.INTER_NEAREST)
        _mark_peaks(row, float_maps[joint], chip_maps[joint], zoom)
        paper[y : y + row.shape[0], x : x + row.shape[1]] = row
    return paper


def _mark_peaks(row: np.ndarray, float_map: np.ndarray, chip_map: np.ndarray, zoom: float) -> None:
    """A + at float's peak and an x at the chip's: white on their own tiles, black on the difference."""
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
    names = [channel["name"] for channel in channels]
    width, height = 1100, 118 + 27 * len(names)
    figure = new_figure(width, height)
    figure.text(14 / width, 1 - 26 / height, title, fontsize=13, fontweight="bold", color=INK, parse_math=False)
    figure.text(14 / width, 1 - 48 / height, note, fontsize=9.5, color=PALE_INK, parse_math=False)
    bottom, tall = 46 / height, (height - 46 - 84) / height
    places = np.arange(len(names))
    left = figure.add_axes((0.13, bottom, 0.41, tall))
    values = [channel.get("sqnr_db") for channel in channels]
    left.barh(places, [value or 0 for value in values], color=CHIP_COLOR, edgecolor=FLOAT_COLOR, height=0.7)
    finite = [value for value in values if value is not None]
    left.set_xlim(min([0, *finite]), max([1, *finite]) * 1.18)
    for place, value in zip(places, values, strict=True):
        words = "equal" if value is None else f"{value:.1f}"
        left.text(max(value or 0, 0), place, f" {words}", va="center", fontsize=8.5, color=INK)
    left.set_title("signal to quantisation noise of the heatmap, dB", fontsize=10, loc="left", color=INK)
    right = figure.add_axes((0.58, bottom, 0.40, tall))
    terms = [joint_oks.get(name) for name in names]
    colors = [BAD_COLOR if term is not None and term < gate else CHIP_COLOR for term in terms]
    right.barh(places, [term or 0 for term in terms], color=colors, edgecolor=FLOAT_COLOR, height=0.7)
    for place, term in zip(places, terms, strict=True):
        right.text(0.01, place, "" if term is None else f"{term:.4f}", va="center", fontsize=8.5, color=INK)
    right.axvline(gate, color=INK, linewidth=1, linestyle="--")
    right.set_xlim(0, 1)
    right.set_title(f"OKS of the joint's place against float (gate {gate:g})", fontsize=10, loc="left", color=INK)
    for axes, labels in ((left, [name.replace("_", " ") for name in names]), (right, [])):
        axes.set_yticks(places if labels else [], labels=labels, fontsize=9)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8.5)
    return _pixels(figure)
