"""Pictures of the float network beside the chip: what a number such as OKS 0.97 looks like on a person.

    python -m common.draw out/<model>/<chip>/<variant>     writes *.png and, last, pictures.json

pictures.json: {"version": 1, "pictures": [{"file", "title", "caption", "wide"}], "preview": file}
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from common.basics.errors import run
from common.basics.files import write_json
from common.basics.progress import Progress
from common.drawing.evidence import Evidence, Pair, load_evidence
from common.drawing.figure import (
    PALE_INK,
    WARNING_INK,
    Text,
    channel_figure,
    heatmap_figure,
    letter,
    output_figure,
    save_picture,
)
from common.drawing.image import image_pair
from common.drawing.maps import heatmap_channels, maps_of, output_rows
from common.drawing.person import person_pair
from common.job import Cell

PANEL = 620  # the longest side of a large panel, in pixels
SMALL_PANEL = {True: 400, False: 320}  # of a sheet's panels; for a person's region, for a whole photograph
MARGIN, GAP = 14, 12
FURTHER_RANKS = (0.05, 0.25, 0.75, 1.0)  # of the samples in rising order of agreement
SKELETON_LEGEND = "left: blue, round; right: orange, square; hollow: low score"
AGAINST = " against float"
BOX_LEGEND = "each box: class and score"
DOUBLE_WORDS = "DOUBLE: the chip's side was computed by a stand-in of the vendor's SDK; no result of the chip"


def under_band(image: np.ndarray, words: str) -> np.ndarray:
    """The picture under a band of warning colour with these words. uint8 [h, w, 3] BGR in, [h + 36, w, 3] out."""
    width = image.shape[1]
    band = letter(width, 36, [Text(MARGIN, 24, words, 13, True, "#ffffff", width - 2 * MARGIN)], WARNING_INK)
    return np.concatenate([band, image])


def is_person(evidence: Evidence) -> bool:
    """Whether a sample is one person's region; else it is a whole photograph."""
    return evidence.cell.spec.task == "topdown_pose"


def draw_pair(evidence: Evidence, index: int, longest: int) -> Pair:
    """One sample, float and chip; longest: the panels' longer side in pixels."""
    return (person_pair if is_person(evidence) else image_pair)(evidence, index, longest)


def further_indices(agreements: Sequence[float], taken: Sequence[int]) -> list[int]:
    """Samples at fixed ranks of agreement (5 %, 25 %, 75 %, best), without those that are shown already."""
    order = [int(index) for index in np.argsort(agreements, kind="stable") if index not in taken]
    ranks = [round(rank * (len(order) - 1)) for rank in FURTHER_RANKS] if order else []
    return [order[rank] for rank in dict.fromkeys(ranks)]


def agreement_in_words(evidence: Evidence, pair: Pair, with_what: str = "") -> str:
    """'OKS 0.9876', with_what (" against float") behind it; or that there was nothing to compare in any sample."""
    if evidence.compared["compared"] == 0:
        return "nothing found on either side"
    return f"{evidence.task.similarity} {pair.agreement:.4f}{with_what}"


def pair_picture(evidence: Evidence, pair: Pair, what: str) -> np.ndarray:
    """One sample large: float left, chip right, labelled. uint8 [h, w, 3] BGR."""
    height, width = pair.left.shape[:2]
    top = 92
    legend = SKELETON_LEGEND if evidence.cell.spec.keypoints else BOX_LEGEND
    column = max(width, 200)  # a very tall photograph leaves no room for words otherwise
    second = MARGIN + column + GAP
    texts = [
        Text(MARGIN, 28, f"{evidence.cell.model}: {what}", 14, bold=True, width=2 * column),
        Text(MARGIN, 52, f"{agreement_in_words(evidence, pair, AGAINST)}; {pair.words}", 10.5, width=2 * column),
        Text(MARGIN, top - 10, "float", 12, bold=True),
        Text(second, top - 10, evidence.title, 12, bold=True, width=column),
        Text(MARGIN, top + height + 20, f"{pair.file}, sample {pair.index}", 9, color=PALE_INK, width=column),
        Text(second, top + height + 20, legend, 9, color=PALE_INK, width=column),
    ]
    bottom = 32
    if evidence.warning:
        texts.append(Text(MARGIN, top + height + 40, evidence.warning, 10.5, True, WARNING_INK, 2 * column + GAP))
        bottom += 20
    paper = letter(second + column + MARGIN, top + height + bottom, texts)
    paper[top : top + height, MARGIN : MARGIN + width] = pair.left
    paper[top : top + height, second : second + width] = pair.right
    return paper


def sheet_picture(evidence: Evidence, pairs: Sequence[Pair], title: str) -> np.ndarray:
    """Several samples, two pairs a row, each float left and chip right. uint8 [h, w, 3] BGR."""
    height, width = (max(pair.left.shape[axis] for pair in pairs) for axis in (0, 1))
    pair_width, row_height, top = 2 * width + 4 + 2 * MARGIN, height + 52, 44
    texts = [Text(MARGIN, 28, title, 14, bold=True)]
    places = []
    for number, pair in enumerate(pairs):
        x, y = MARGIN + number % 2 * pair_width, top + number // 2 * row_height + 22
        second = x + pair.left.shape[1] + 4
        places.append((x, second, y))
        texts.append(Text(x, y - 7, "float", 10.5, bold=True))
        texts.append(Text(second, y - 7, f"{evidence.title}, {agreement_in_words(evidence, pair)}", 10.5, bold=True,
                          width=x + 2 * width + 4 - second))  # fmt: skip
        texts.append(Text(x, y + pair.left.shape[0] + 15, pair.words, 8.5, width=2 * width))
    total = top + -(-len(pairs) // 2) * row_height
    if evidence.warning:
        texts.append(Text(MARGIN, total + 14, evidence.warning, 10.5, bold=True, color=WARNING_INK))
        total += 26
    columns = min(2, len(pairs))
    paper = letter(max(columns * pair_width, 700) + GAP - 4, total, texts)
    for (x, second, y), pair in zip(places, pairs, strict=True):
        for left, panel in ((x, pair.left), (second, pair.right)):
            paper[y : y + panel.shape[0], left : left + panel.shape[1]] = panel
    return paper


def channels_picture(evidence: Evidence, title: str, note: str) -> tuple[np.ndarray, str, str]:
    """Where the numbers differ: (picture, title, caption). A top-down network joint by joint, else by outputs."""
    compared, count = evidence.compared, evidence.count
    mean = f"mean {evidence.task.similarity} {compared['agreement']:.4f}"
    note += f"over {count} samples; {mean if compared['compared'] else 'nothing found on either side'}"
    if is_person(evidence):
        gate = evidence.cell.spec.gate_for(evidence.cell.precision).oks
        picture = channel_figure(heatmap_channels(evidence), compared["joints"], gate,
                                 f"{title}: agreement joint by joint", note)  # fmt: skip
        return picture, "Agreement joint by joint", (
            f"SQNR of each joint's heatmap, and the OKS of its place, over {count} samples."
        )  # fmt: skip
    rows = output_rows(evidence)
    what = "output by output" if evidence.cell.spec.task == "detection" else "channel by channel"
    picture = output_figure(rows, f"{title}: agreement {what}", note)
    return picture, f"Agreement {what}", f"SQNR and cosine similarity with float, over {count} samples."


def draw_cell(cell: Cell) -> None:
    """Draw all pictures of a cell; pictures.json last, so that make trusts only a complete set."""
    if not cell.simulated:  # nothing of the chip's to draw, and float's own pictures would look like it
        write_json(cell.folder / "pictures.json", {"version": 1, "pictures": [], "preview": None})
        return
    evidence = load_evidence(cell)
    compared, name = evidence.compared, f"{cell.model} on {evidence.title}"
    note = f"{evidence.warning}; " if evidence.warning else ""
    warnings = [DOUBLE_WORDS] * cell.double + [evidence.warning] * bool(evidence.warning)
    said = f"{'; '.join(warnings)}. " if warnings else ""
    drawn = "skeletons" if cell.spec.keypoints else "boxes"
    pictures: list[dict[str, Any]] = []

    def add(file: str, image: np.ndarray, title: str, caption: str, wide: bool = True) -> None:
        save_picture(cell.folder / file, under_band(image, DOUBLE_WORDS) if cell.double else image)
        pictures.append({"file": file, "title": title, "caption": said + caption, "wide": wide})

    shown = [compared["worst_instance"], compared["median_instance"]]
    for what, index in zip(("worst", "median"), shown, strict=True):
        pair, title = draw_pair(evidence, index, PANEL), f"{what} of {evidence.count} samples"
        add(f"{drawn}_{what}.png", pair_picture(evidence, pair, title), title.capitalize(),
            f"Float left, {evidence.title} right: {agreement_in_words(evidence, pair, AGAINST)}; {pair.words}.",
            wide=not is_person(evidence))  # fmt: skip  # two persons fit side by side
    further = further_indices(compared["agreement_instances"], shown)
    if further:
        pairs = [draw_pair(evidence, index, SMALL_PANEL[is_person(evidence)]) for index in further]
        listed = ", ".join(f"{pair.agreement:.4f}" for pair in pairs)
        add(f"{drawn}_further.png", sheet_picture(evidence, pairs, f"{name}: further samples"), "Further samples",
            f"From low to high agreement: {evidence.task.similarity} {listed}.")  # fmt: skip
    for what, index in zip(("worst", "median"), shown, strict=True):
        maps = maps_of(evidence, index)
        largest = maps.largest_difference
        legend = (f"{maps.each}: float (+) | chip (x) | difference, purple: the chip is lower, orange: higher, by "
                  f"{largest:.2g} at most")  # fmt: skip
        add(f"heatmaps_{what}.png",
            heatmap_figure(maps.float_maps, maps.chip_maps, maps.names, largest,
                           f"{name}: {maps.title} of the {what} sample", note + legend, maps.top),
            f"{maps.title.capitalize()} of the {what} sample", f"For {legend}.")  # fmt: skip
    add("channels.png", *channels_picture(evidence, name, note))
    made = {cell.folder / picture["file"] for picture in pictures}
    for stale in {*cell.folder.glob("skeletons_*.png"), *cell.folder.glob("boxes_*.png")} - made:
        stale.unlink()
    write_json(cell.folder / "pictures.json", {"version": 1, "pictures": pictures, "preview": pictures[1]["file"]})


def main() -> None:
    """python -m common.draw CELL"""
    cell = Cell(sys.argv[1])
    with Progress(f"draw {cell.name}"):
        draw_cell(cell)


if __name__ == "__main__":
    run(main)
