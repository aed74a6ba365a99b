"""One picture or frame with what was found in it: float left, chip right, and a thin bar that says how well they agree.

+-------------------+-------------------+
| float             | chip variant      |
|    (skeletons)    |    (skeletons)    |
+-------------------+-------------------+
| network on chip: OKS 0.9934 ...       |   under a red band for the stand-in of an SDK
| people found by ...; left: blue ...   |
+---------------------------------------+
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from common.declarations.keypoints import keypoint_set
from common.draw import BOX_LEGEND, DOUBLE_WORDS, SKELETON_LEGEND, under_band
from common.drawing.figure import Text, letter
from common.drawing.image import MOST_SHOWN, best_of, counts_in_words, draw_found, fit_panel, shown_score
from common.drawing.networks import Finder, Seen, Sides, shown
from common.drawing.skeleton import CASING, FAINT

GROUND, PAPER_INK, PALE, WARNING = (27, 27, 27), "#ffffff", "#b8b8b8", "#ff8a80"
GROUND_NAME = "#1b1b1b"
GAP = 4
LEAST_WIDTH = 520  # a narrow picture stands on a ground of this width: its caption wants room
BASE_WIDTH = 1100  # of the whole, where letters have their plain size
OUTLINE = (255, 255, 255)
PLAIN_PANEL = 330  # side in pixels of a square panel where lines have their plain width


@dataclass(frozen=True)
class Style:
    """What is the same on every picture of a call. longest: the panels' longer side in pixels, by the image's own."""

    sides: Sides
    finder: Finder
    least: int
    most: int

    def longest(self, image: np.ndarray) -> int:
        """The longer side of this image's panels."""
        return int(np.clip(max(image.shape[:2]), self.least, self.most))

    @property
    def warning(self) -> str:
        """What has to be known before the figures are believed; the stand-in's band comes on top of it."""
        return "random weights: what is drawn means nothing, only how well both sides agree" * self.sides.random_weights

    @property
    def legend(self) -> str:
        """How to read the drawing, and who found the people."""
        lines = SKELETON_LEGEND if self.sides.task.spec.keypoints else BOX_LEGEND
        return "; ".join(filter(None, (self.finder.words, lines)))


def compare_picture(style: Style, seen: Seen) -> np.ndarray:
    """The whole picture, uint8 [h, w, 3] BGR, both sides even, as video encoders want them.

    Frames of one size give pictures of one size.
    """
    sides = style.sides
    panels = draw_panels(style, seen)
    height, width = panels[0].shape[:2]
    used = len(panels) * width + (len(panels) - 1) * GAP
    total = max(used, LEAST_WIDTH)
    total += total % 2
    unit = float(np.clip(total / BASE_WIDTH, 0.8, 1.8))
    for panel, title in zip(panels, sides.titles, strict=True):
        lettered = tag(title, unit, width)[: panel.shape[0]]
        panel[: lettered.shape[0], : lettered.shape[1]] = lettered
    headline = Text(round(12 * unit), round(21 * unit), caption(style, seen), 10.5 * unit, True, PAPER_INK,
                    total - 2 * round(12 * unit))  # fmt: skip
    bar = letter(total, round(29 * unit), [headline], GROUND_NAME)
    notes = fixed_notes(total, unit, style.warning, style.legend)
    paper = np.concatenate([np.full((height, total, 3), GROUND, np.uint8), bar, notes])
    left = (total - used) // 2
    for panel in panels:
        paper[:height, left : left + width] = panel
        left += width + GAP
    if sides.double:
        paper = under_band(paper, DOUBLE_WORDS)
    return paper[: len(paper) - len(paper) % 2]


def draw_panels(style: Style, seen: Seen) -> list[np.ndarray]:
    """One panel a side, with what that network found."""
    task, image = style.sides.task, seen.frame.image
    panel = fit_panel(image, style.longest(image))
    zoom = panel.shape[1] / image.shape[1], panel.shape[0] / image.shape[0]
    weight = math.sqrt(panel.shape[0] * panel.shape[1]) / PLAIN_PANEL
    if style.finder.outlined:
        outline(panel, [instance.box for instance in seen.instances], zoom, max(1, round(weight / 2)))
    keypoints = keypoint_set(task.spec.keypoints) if task.spec.keypoints else None
    labels = task.labels() if task.spec.task == "detection" else None
    return [draw_found(panel, best_of(shown(task, found)), zoom, keypoints, labels, weight) for found in seen.found]


def outline(panel: np.ndarray, boxes: Sequence[Sequence[float]], zoom: tuple[float, float], line: int) -> None:
    """Faint rectangles around the regions that a top-down network was asked about; boxes: [x, y, w, h] each."""
    import cv2

    drawn = panel.copy()
    for color, thickness in ((CASING, line + 2), (OUTLINE, line)):  # dark below, so that they show on any ground
        for x, y, width, height in boxes:
            low, high = (x * zoom[0], y * zoom[1]), ((x + width) * zoom[0], (y + height) * zoom[1])
            cv2.rectangle(drawn, *(tuple(round(value) for value in corner) for corner in (low, high)), color, thickness)
    cv2.addWeighted(drawn, FAINT, panel, 1 - FAINT, 0, dst=panel)


@lru_cache(maxsize=8)
def tag(words: str, unit: float, most: int) -> np.ndarray:
    """A side's name on a dark ground, for its panel's upper left corner: uint8 [h, w, 3] BGR, w at most `most`."""
    width = min(round((16 + 8.2 * len(words)) * unit), most)
    text = Text(round(8 * unit), round(18 * unit), words, 10 * unit, True, PAPER_INK,
                max(1, width - round(12 * unit)))  # fmt: skip
    return letter(width, round(26 * unit), [text], GROUND_NAME)


@lru_cache(maxsize=8)
def fixed_notes(width: int, unit: float, warning: str, legend: str) -> np.ndarray:
    """The lines below the headline, the same on every frame of a clip: uint8 [h, width, 3] BGR."""
    margin, size, step = round(12 * unit), 8.5 * unit, round(16 * unit)
    characters = max(20, int((width - 2 * margin) / (0.78 * size)))
    lines = [(line, WARNING) for line in textwrap.wrap(warning, characters)]
    lines += [(line, PALE) for line in textwrap.wrap(legend, characters)]
    texts = [
        Text(margin, round(11 * unit) + step * number, line, size, False, color, width - 2 * margin)
        for number, (line, color) in enumerate(lines)
    ]
    return letter(width, round(4 * unit) + step * len(lines), texts, GROUND_NAME)


def caption(style: Style, seen: Seen) -> str:
    """'network on chip variant: OKS 0.9934 with float, 3 people, lowest 0.9810'."""
    sides = style.sides
    name = sides.model + (f" on {sides.titles[1]}" if sides.chip else ", float")
    return f"{name}: {agreement_in_words(style, seen)}"


def agreement_in_words(style: Style, seen: Seen) -> str:
    """How many were found in one frame, and how well both sides agree on them."""
    sides, task = style.sides, style.sides.task
    score = "" if seen.agreement is None else f"{task.similarity} {seen.agreement.overall:.4f} with float, "
    if task.spec.task == "topdown_pose":
        count = len(seen.instances)
        if not count:
            return "nobody found here" if style.finder.outlined else "nobody"
        lowest = f", lowest {seen.agreement.per_instance.min():.4f}" if score and count > 1 else ""
        return f"{score}{people_in_words(count)}{lowest}"
    counts = [len(shown(task, found)) for found in seen.found]
    what = "people" if task.spec.keypoints else "objects"
    limit = shown_score(task.spec)
    if not max(counts):
        return f"no {what} with a score of {limit:g} or more" + (" on either side" if sides.chip else "")
    if sides.chip:
        return score + counts_in_words(counts, limit, what)
    words = f"{counts[0]} {what} with a score of {limit:g} or more"
    return words + (f"; the best {MOST_SHOWN} are drawn" if counts[0] > MOST_SHOWN else "")


def people_in_words(count: int) -> str:
    """'1 person', '3 people'."""
    return "1 person" if count == 1 else f"{count} people"
