"""`make draw`: what a built network finds on the user's own pictures, float beside chip.

python -m common.draw_photo --model NAME --chip float|CHIP [--variant VARIANT] --image FILE|FOLDER|PATTERN
    [--detector NETWORK[/CHIP[/VARIANT]]|boxes.json] [--out picture.png|folder/]

Writes out/drawn/<picture>-<model>-<chip>-<variant>.png, or OUT=, one for each picture, and prints each path.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from common import plan
from common.basics.errors import USAGE_EXIT, UserError, run
from common.basics.progress import Progress
from common.datasets.user_pictures import picture_paths, read_picture, read_stored
from common.drawing.comparison import Style, agreement_in_words, compare_picture
from common.drawing.figure import save_picture
from common.drawing.networks import Frame, Sides, find_sides, mean_agreement
from common.drawing.person_boxes import FileBoxes, Finder, find_finder

DRAWN = "drawn"  # the folder below out/
LEAST_PANEL, MOST_PANEL = 640, 1280  # the longer side of a panel, in pixels
SUFFIX = ".png"


class Pictures:
    """The user's pictures as frames; one of several that cannot be read is left out and kept in `unreadable`."""

    def __init__(self, paths: Sequence[Path], finder: Finder):
        self.paths, self.finder = paths, finder
        self.unreadable: list[UserError] = []

    def frames(self) -> Iterator[Frame]:
        """Picture by picture. Raises UserError for a single picture that cannot be read."""
        for path in self.paths:
            try:
                yield Frame(path.name, self._image(path), path)
            except UserError as error:
                if len(self.paths) == 1:
                    raise
                self.unreadable.append(error)

    def _image(self, path: Path) -> np.ndarray:
        if not isinstance(self.finder, FileBoxes):
            return read_picture(path)
        image, stored = read_stored(path, self.finder.sizes.get(path.name))
        if stored:
            from tqdm import tqdm  # here: it takes a moment to import

            tqdm.write(f"{path}: drawn as it is stored and not upright: the boxes count stored pixels")
        return image


def output_paths(paths: Sequence[Path], words: str, out: str) -> dict[Path, Path]:
    """Where each picture's drawing goes. words: model-chip-variant.

    Raises UserError (exit 2): OUT= is no .png for one picture, no folder for several, or one of the pictures.
    """
    folder, single = plan.OUT / DRAWN, None
    if out:
        is_file = Path(out).suffix.lower() == SUFFIX and not Path(out).is_dir()
        if is_file and len(paths) == 1:
            single = Path(out)
        elif is_file:
            raise UserError(f"OUT={out} is one file, IMAGE= names {len(paths)} pictures",
                            "name a folder, or leave OUT= out", USAGE_EXIT)  # fmt: skip
        elif Path(out).suffix and not Path(out).is_dir():
            raise UserError(f"OUT={out} is no {SUFFIX} file and no folder", "OUT=picture.png", USAGE_EXIT)
        else:
            folder = Path(out)
    stems = [path.stem for path in paths]
    targets: dict[Path, Path] = {}
    for path in paths:  # a.jpg and a.png, or x/a.jpg and y/a.jpg, are two pictures
        name = path.stem if stems.count(path.stem) == 1 else path.name.replace(".", "_")
        number, target = 2, single or folder / f"{name}-{words}{SUFFIX}"
        while target in targets.values():
            target, number = folder / f"{name}-{number}-{words}{SUFFIX}", number + 1
        targets[path] = target
    taken = {path.resolve() for path in paths}
    for target in targets.values():
        if target.resolve() in taken:
            raise UserError(f"OUT={target} is the picture itself", "name another file", USAGE_EXIT)
        if target.is_dir():
            raise UserError(f"{target} is a folder", "remove it, or name another file", USAGE_EXIT)
    return targets


def draw_pictures(sides: Sides, finder: Finder, paths: Sequence[Path], out: str = "") -> list[Path]:
    """Draw every picture and print a line for each, and one for all; returns the files written.

    Raises UserError: a network failed; or, after the others were drawn, some pictures could not be read.
    """
    from tqdm import tqdm  # here: it takes a moment to import

    targets = output_paths(paths, sides.file_words, out)
    pictures, style = Pictures(paths, finder), Style(sides, finder, LEAST_PANEL, MOST_PANEL)
    progress = Progress("draw", len(paths), 0, "pictures")
    written, agreements = [], []
    try:
        for seen in sides.look(pictures.frames(), finder):
            target = targets[seen.frame.path]
            save_picture(target, compare_picture(style, seen))
            written.append(target)
            agreements.append(seen.agreement)
            tqdm.write(f"{target}: {agreement_in_words(style, seen)}")
            progress.advance(1)
    finally:
        progress.close()
    mean, compared = mean_agreement(agreements)
    if len(written) > 1:
        score = f", mean {sides.task.similarity} {mean:.4f} with float" if compared else ""
        print(f"{len(written)} pictures{score}; {finder.words or 'whole pictures shown'}")
    elif written and finder.words:
        print(finder.words)
    if pictures.unreadable:
        first = pictures.unreadable[0]
        raise UserError(f"{len(pictures.unreadable)} of {len(paths)} pictures could not be read; {first.message}",
                        first.hint)  # fmt: skip
    return written


def main() -> None:
    """See the head of this file; called by `make draw`, which passes every variable, set or not."""
    parser = argparse.ArgumentParser(description="draw what a built network finds on pictures")
    for name in ("model", "spec", "size", "chip", "variant", "image", "detector", "out"):
        parser.add_argument(f"--{name}", default="")
    asked = parser.parse_args()
    paths = picture_paths(asked.image)
    sides = find_sides(asked.model, asked.spec, asked.size, asked.chip, asked.variant)
    finder = find_finder(sides.task.spec, asked.detector, [path.name for path in paths])
    draw_pictures(sides, finder, paths, asked.out)


if __name__ == "__main__":
    run(main)
