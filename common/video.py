"""`make video`: what a built network finds in a clip, frame by frame, float beside chip.

python -m common.video --model NAME --chip float|CHIP [--variant VARIANT] --video CLIP
    [--detector NETWORK[/CHIP[/VARIANT]]] [--every N] [--limit FRAMES] [--out clip.mp4]

Writes out/drawn/<clip>-<model>-<chip>-<variant>.mp4, or OUT=: whole, or not at all. Frames stream through in chunks, so
a clip of any length takes the same memory. EVERY=n takes each n-th frame; the clip lasts as long as before.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from common import plan
from common.basics.errors import USAGE_EXIT, UserError, run
from common.basics.progress import Progress
from common.datasets.video_file import Clip, clip_path, writing_clip
from common.declarations.asked import positive_number
from common.draw_photo import DRAWN
from common.drawing.comparison import Style, compare_picture, people_in_words
from common.drawing.networks import Frame, Sides, find_sides, mean_agreement, shown
from common.drawing.person_boxes import Finder, find_finder
from common.metrics.agreement import Agreement

LEAST_PANEL, MOST_PANEL = 480, 960  # the longer side of a panel, in pixels


def draw_clip(sides: Sides, finder: Finder, clip: Clip, target: Path, every: int = 1, limit: int | None = None) -> str:
    """Draw the clip's frames into `target`; returns the lines that sum it up.

    Raises UserError: a frame that cannot be read or has another size, a network that failed, a full disk.
    """
    if target.resolve() == clip.path.resolve():
        raise UserError(f"OUT={target} is the clip itself", "name another file", USAGE_EXIT)
    style = Style(sides, finder, LEAST_PANEL, MOST_PANEL)
    wanted = -(-clip.total // every)
    progress = Progress("video", min(wanted, limit or wanted), 0, "frames")
    agreements: list[Agreement | None] = []
    counts = [0] * len(sides.networks)
    try:
        with writing_clip(target, clip.rate / every) as writer:
            for seen in sides.look(frames_of(clip, every, limit), finder):
                writer.write(compare_picture(style, seen))
                agreements.append(seen.agreement)
                counts = [
                    count + len(shown(sides.task, found)) for count, found in zip(counts, seen.found, strict=True)
                ]
                progress.advance(1)
    finally:
        progress.close()
    return summary(style, clip, every, counts, agreements)


def frames_of(clip: Clip, every: int, limit: int | None) -> Iterator[Frame]:
    """The clip's frames by the clip's name and their number."""
    for number, image in clip.frames(every, limit):
        yield Frame(f"{clip.path.name}, frame {number}", image)


def summary(style: Style, clip: Clip, every: int, counts: list[int], agreements: list[Agreement | None]) -> str:
    """Frames, what was found, how well both sides agree, and how fast the simulator was; two or three lines."""
    sides, frames = style.sides, len(agreements)
    what = "objects" if sides.task.spec.keypoints is None else "people"
    found = f"{counts[0]} {what}" if what == "objects" else people_in_words(counts[0])
    if sides.chip and counts[1] != counts[0]:
        found += f" by float, {counts[1]} by the chip"
    mean, compared = mean_agreement(agreements)
    score = f", mean {sides.task.similarity} {mean:.4f} with float" if compared else ""
    rate = f"{clip.rate / every:.4g} frames a second" + ("" if clip.known_rate else " (the clip does not say its own)")
    lines = [f"{frames} frames, {found}{score}; {rate}, without sound"]
    if style.finder.words:
        lines.append(style.finder.words)
    if sides.chip:
        lines.append(
            f"{sides.titles[1]}: {frames / max(sides.seconds, 1e-9):.1f} frames a second in the vendor's simulator on "
            "this machine, its starts included; no speed of the chip"
        )
    return "\n".join(lines)


def main() -> None:
    """See the head of this file; called by `make video`, which passes every variable, set or not."""
    parser = argparse.ArgumentParser(description="draw what a built network finds in a clip")
    for name in ("model", "spec", "size", "chip", "variant", "video", "detector", "out", "every", "limit"):
        parser.add_argument(f"--{name}", default="")
    asked = parser.parse_args()
    every, limit = positive_number(asked.every, "EVERY") or 1, positive_number(asked.limit, "LIMIT")
    if not asked.video:
        raise UserError("which clip? VIDEO= is not set", "VIDEO=clip.mp4", USAGE_EXIT)
    clip = Clip(Path(asked.video))
    sides = find_sides(asked.model, asked.spec, asked.size, asked.chip, asked.variant)
    finder = find_finder(sides.task.spec, asked.detector, None)
    standard = plan.OUT / DRAWN / f"{clip.path.stem}-{sides.file_words}.mp4"
    target = clip_path(Path(asked.out) if asked.out else standard, chosen=bool(asked.out))
    lines = draw_clip(sides, finder, clip, target, every, limit)
    print(f"{target}: {lines}")


if __name__ == "__main__":
    run(main)
