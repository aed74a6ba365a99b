"""Pictures of the float network beside the chip: what a number such as OKS 0.97 looks like on a person.

    python -m common.draw out/<model>/<chip>/<variant>     writes *.png and, last, pictures.json

pictures.json: {"version": 1, "pictures": [{"file", "title", "caption", "wide"}], "preview": file}
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.compare import SQNR_LIMIT_DB, person_areas
from common.decode import decode_people
from common.draw_figure import (
    PALE_INK,
    WARNING_INK,
    Text,
    channel_figure,
    heatmap_figure,
    letter,
    save_picture,
)
from common.draw_skeleton import draw_skeleton, panel_size, person_panel, points_on_panel
from common.errors import UserError, run
from common.files import read_json, write_json
from common.job import Cell
from common.keypoints import KeypointSet, keypoint_set
from common.oks import oks
from common.predictions import heatmaps_of
from common.preprocess import read_image
from common.samples import load_arrays

PANEL, SMALL_PANEL = 620, 400  # the longest side of a person's region, in pixels
MARGIN, GAP = 14, 12
NAMED_JOINTS = 3
MOVED_PIXELS = 0.5  # a joint that moved less is not worth naming
FURTHER_RANKS = (0.05, 0.25, 0.75, 1.0)  # of the samples in rising order of OKS
RANDOM_WEIGHTS = "random weights: the skeletons mean nothing, only how well the two sides agree"


@dataclass(frozen=True)
class Sample:
    """One person, float against chip. points: [K, 3] in image pixels and score; terms: [K], each joint's OKS."""

    index: int
    file: str
    center: list[float]
    scale: list[float]
    float_points: np.ndarray
    chip_points: np.ndarray
    terms: np.ndarray
    oks: float


@dataclass(frozen=True)
class Evidence:
    """All that is drawn from, checked to fit together. float_maps, chip_maps: [N, K, h, w]."""

    cell: Cell
    title: str
    keypoints: KeypointSet
    image_folder: Path
    instances: list[dict[str, Any]]
    float_maps: np.ndarray
    chip_maps: np.ndarray
    compared: dict[str, Any]

    @property
    def count(self) -> int:
        return len(self.instances)

    @property
    def random_weights(self) -> bool:
        return self.cell.weights == "random"


def load_evidence(cell: Cell) -> Evidence:
    """Read what a cell's pictures need. Raises UserError when its files do not belong together."""
    keypoints = keypoint_set(cell.spec.decode.keypoints)
    described = read_json(cell.float_folder / "samples.json")
    compared = read_json(cell.folder / "compare.json")
    maps = [
        heatmaps_of(load_arrays(folder / "outputs.npz"), keypoints, str(folder / "outputs.npz"))
        for folder in (cell.float_folder, cell.folder)
    ]
    instances = described["instances"]
    if not maps[0].shape == maps[1].shape or not len(maps[0]) == len(instances) == len(compared["oks_instances"]):
        raise UserError(f"{cell.name}: outputs, samples and compare.json are of different runs", "remove the cell's "
                        "outputs.npz and run the same make again")  # fmt: skip
    title = f"{cell.chip_spec.title} {cell.variant}"
    folder = Path(described.get("image_folder") or described["set"])
    return Evidence(cell, title, keypoints, folder, instances, *maps, compared)


def load_sample(evidence: Evidence, index: int) -> Sample:
    """Decode one person from both heatmaps."""
    instance = evidence.instances[index]
    refine = evidence.cell.spec.decode.refine
    center, scale = np.array([instance["center"]]), np.array([instance["scale"]])
    people = [
        decode_people(maps[index : index + 1], center, scale, refine)
        for maps in (evidence.float_maps, evidence.chip_maps)
    ]
    _, terms = oks(people[1], people[0], person_areas([instance]), evidence.keypoints.sigmas)
    return Sample(index, instance["file"], instance["center"], instance["scale"], people[0][0], people[1][0], terms[0],
                  evidence.compared["oks_instances"][index])  # fmt: skip


def further_indices(oks_instances: Sequence[float], taken: Sequence[int]) -> list[int]:
    """Samples at fixed ranks of agreement (5 %, 25 %, 75 %, best), without those that are shown already."""
    order = [int(index) for index in np.argsort(oks_instances, kind="stable") if index not in taken]
    ranks = [round(rank * (len(order) - 1)) for rank in FURTHER_RANKS] if order else []
    return [order[rank] for rank in dict.fromkeys(ranks)]


def worst_joints(sample: Sample, keypoints: KeypointSet) -> list[tuple[str, float]]:
    """The joints that moved furthest for their kind: (name, pixels), by distance over sigma, those worth naming."""
    distance = np.linalg.norm(sample.chip_points[:, :2] - sample.float_points[:, :2], axis=1)
    order = np.argsort(-distance / keypoints.sigmas, kind="stable")[:NAMED_JOINTS]
    return [(keypoints.names[joint], float(distance[joint])) for joint in order if distance[joint] > MOVED_PIXELS]


def joints_in_words(sample: Sample, keypoints: KeypointSet) -> str:
    """The worst joints as one line of text, in pixels of the photograph."""
    worst = worst_joints(sample, keypoints)
    if not worst:
        return f"no joint moved by more than {MOVED_PIXELS} px"
    named = [f"{name.replace('_', ' ')} {distance:.1f} px" for name, distance in worst]
    return f"furthest off: {', '.join(named)}"


def panels(evidence: Evidence, sample: Sample, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Float's and the chip's skeleton on the person's region: two uint8 [h, w, 3] BGR of the same size."""
    declared = evidence.cell.spec.input
    size = panel_size(declared.width, declared.height, longest)
    panel = person_panel(read_image(evidence.image_folder / sample.file), sample.center, sample.scale, size)
    return tuple(
        draw_skeleton(
            panel, points_on_panel(points, sample.center, sample.scale, size), points[:, 2], evidence.keypoints
        )
        for points in (sample.float_points, sample.chip_points)
    )


def pair_picture(evidence: Evidence, sample: Sample, what: str) -> np.ndarray:
    """One person large: float left, chip right, labelled. uint8 [h, w, 3] BGR."""
    left, right = panels(evidence, sample, PANEL)
    height, width = left.shape[:2]
    top = 92
    second = MARGIN + width + GAP
    texts = [
        Text(MARGIN, 28, f"{evidence.cell.model}: {what}", 14, bold=True, width=2 * width),
        Text(MARGIN, 52, f"OKS {sample.oks:.4f} against float; {joints_in_words(sample, evidence.keypoints)}", 10.5,
             width=2 * width),
        Text(MARGIN, top - 10, "float", 12, bold=True),
        Text(second, top - 10, evidence.title, 12, bold=True, width=width),
        Text(MARGIN, top + height + 20, f"{sample.file}, sample {sample.index}", 9, color=PALE_INK, width=width),
        Text(second, top + height + 20, "left: blue, round; right: orange, square; hollow: low score", 9,
             color=PALE_INK, width=width),
    ]  # fmt: skip
    bottom = 32
    if evidence.random_weights:
        texts.append(Text(MARGIN, top + height + 40, RANDOM_WEIGHTS, 10.5, bold=True, color=WARNING_INK))
        bottom += 20
    paper = letter(second + width + MARGIN, top + height + bottom, texts)
    paper[top : top + height, MARGIN : MARGIN + width] = left
    paper[top : top + height, second : second + width] = right
    return paper


def sheet_picture(evidence: Evidence, samples: Sequence[Sample], title: str) -> np.ndarray:
    """Several people, two pairs a row, each float left and chip right. uint8 [h, w, 3] BGR."""
    drawn = [panels(evidence, sample, SMALL_PANEL) for sample in samples]
    height, width = drawn[0][0].shape[:2]
    pair_width, row_height, top = 2 * width + 4 + 2 * MARGIN, height + 52, 44
    texts = [Text(MARGIN, 28, title, 14, bold=True)]
    places = []
    for number, sample in enumerate(samples):
        x, y = MARGIN + number % 2 * pair_width, top + number // 2 * row_height + 22
        places.append((x, y))
        texts.append(Text(x, y - 7, "float", 10.5, bold=True))
        texts.append(
            Text(x + width + 4, y - 7, f"{evidence.title}, OKS {sample.oks:.4f}", 10.5, bold=True, width=width)
        )
        texts.append(Text(x, y + height + 15, joints_in_words(sample, evidence.keypoints), 8.5, width=2 * width))
    total = top + -(-len(samples) // 2) * row_height
    if evidence.random_weights:
        texts.append(Text(MARGIN, total + 14, RANDOM_WEIGHTS, 10.5, bold=True, color=WARNING_INK))
        total += 26
    columns = min(2, len(samples))
    paper = letter(max(columns * pair_width, 700) + GAP - 4, total, texts)
    for (x, y), (left, right) in zip(places, drawn, strict=True):
        paper[y : y + height, x : x + width] = left
        paper[y : y + height, x + width + 4 : x + 2 * width + 4] = right
    return paper


def heatmap_channels(evidence: Evidence) -> list[dict[str, Any]]:
    """compare.json's channels of the heatmap output; equal ones (SQNR at its limit) have SQNR None."""
    outputs = evidence.compared["outputs"].values()
    names = list(evidence.keypoints.names)
    fitting = [output["channels"] for output in outputs if [item["name"] for item in output["channels"]] == names]
    return [
        channel | {"sqnr_db": None if channel["sqnr_db"] >= SQNR_LIMIT_DB else channel["sqnr_db"]}
        for channel in fitting[-1]
    ]


def draw_cell(cell: Cell) -> None:
    """Draw all pictures of a cell; pictures.json last, so that make trusts only a complete set."""
    evidence = load_evidence(cell)
    compared, name = evidence.compared, f"{cell.model} on {evidence.title}"
    note = f"{RANDOM_WEIGHTS}. " if evidence.random_weights else ""
    pictures: list[dict[str, Any]] = []

    def add(file: str, image: np.ndarray, title: str, caption: str) -> None:
        save_picture(cell.folder / file, image)
        wide = not file.startswith(("skeletons_worst", "skeletons_median"))  # these two fit side by side
        pictures.append({"file": file, "title": title, "caption": note + caption, "wide": wide})

    worst = load_sample(evidence, compared["worst_instance"])
    median = load_sample(evidence, compared["median_instance"])
    for file, sample, what in (("skeletons_worst", worst, "worst"), ("skeletons_median", median, "median")):
        title = f"{what} of {evidence.count} samples"
        add(f"{file}.png", pair_picture(evidence, sample, title), title.capitalize(),
            f"Float left, {evidence.title} right. OKS {sample.oks:.4f} against float; "
            f"{joints_in_words(sample, evidence.keypoints)}.")  # fmt: skip
    further = further_indices(compared["oks_instances"], [worst.index, median.index])
    if further:
        samples = [load_sample(evidence, index) for index in further]
        listed = ", ".join(f"{sample.oks:.4f}" for sample in samples)
        add("skeletons_further.png", sheet_picture(evidence, samples, f"{name}: further samples"),
            "Further samples", f"From low to high agreement: OKS {listed}.")  # fmt: skip
    maps = evidence.float_maps[worst.index], evidence.chip_maps[worst.index]
    legend = (f"each joint: float (+) | chip (x) | difference, purple: the chip is lower, orange: higher, by "
              f"{float(np.abs(maps[1] - maps[0]).max()):.2g} at most")  # fmt: skip
    add(
        "heatmaps_worst.png",
        heatmap_figure(*maps, evidence.keypoints.names, f"{name}: heatmaps of the worst sample",
                       note + legend),
        "Heatmaps of the worst sample",
        f"For {legend}.",
    )  # fmt: skip
    gate = cell.spec.gate_for(cell.precision).oks
    add(
        "channels.png",
        channel_figure(heatmap_channels(evidence), compared["joints"], gate, f"{name}: agreement joint by joint",
                       f"{note}over {evidence.count} samples; mean OKS {compared['oks']:.4f}"),
        "Agreement joint by joint",
        f"SQNR of each joint's heatmap, and the OKS of its place, over {evidence.count} samples.",
    )  # fmt: skip
    for stale in set(cell.folder.glob("skeletons_*.png")) - {cell.folder / picture["file"] for picture in pictures}:
        stale.unlink()
    write_json(cell.folder / "pictures.json", {"version": 1, "pictures": pictures, "preview": "skeletons_median.png"})


def main() -> None:
    """python -m common.draw CELL"""
    draw_cell(Cell(sys.argv[1]))


if __name__ == "__main__":
    run(main)
