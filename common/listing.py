"""`make list`: what there is, found by looking at folders."""

from __future__ import annotations

from pathlib import Path

from common.basics.errors import run
from common.declarations.open_places import open_places
from common.declarations.spec import MODELS_FOLDER, chip_names, load_chip, load_model, read_yaml


def model_lines() -> list[tuple[str, ...]]:
    """One row a model: name, aliases, task, input, whether its weights are here."""
    rows = []
    for path in sorted(MODELS_FOLDER.glob("*/model.yaml")):
        if places := open_places(path):
            rows.append((path.parent.name, "-", "-", "-", f"{len(places)} places to fill in: {path}"))
            continue
        spec = load_model(path.parent.name)
        if spec.weights is None:
            weights = "no published weights"
        elif (path.parent / "weights" / spec.weights.file).exists():
            weights = "weights are here"
        else:
            weights = f"make weights MODEL={spec.name}"
        size = "x".join(map(str, spec.input.shape))
        more = [other for other in spec.input.sizes if other != spec.input.shape[2:]]
        if more:
            size += f" and {len(more)} other sizes"
        rows.append((spec.name, ", ".join(spec.aliases) or "-", spec.task, size, weights))
    return rows


def chip_lines() -> list[tuple[str, ...]]:
    """One row a chip: name, precisions, artifact, how far it is proven."""
    rows = []
    for name in chip_names():
        chip = load_chip(name)
        rows.append((name, ", ".join(chip.precisions), chip.artifact, chip.proven))
    return rows


def set_lines() -> list[tuple[str, ...]]:
    """One row an image set under calib/: folder, what it is for."""
    sets = sorted(Path("calib").glob("*/set.yaml"))
    return [(str(path.parent), str(read_yaml(path).get("purpose", ""))) for path in sets]


def print_table(title: str, rows: list[tuple[str, ...]]) -> None:
    """Print rows in columns as wide as their widest word."""
    print(title)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    for row in rows:
        print("  " + "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())
    print()


def main() -> None:
    """python -m common.listing"""
    print_table("Models (MODEL=name or alias)", model_lines())
    print_table("Chips (make CHIP MODEL=name PRECISION=...)", chip_lines())
    print_table("Image sets (CALIB=folder, EVAL=folder; any folder of images will do)", set_lines())
    print("Your own network: make CHIP ONNX=file.onnx SPEC=file.yaml CALIB=folder EVAL=folder")


if __name__ == "__main__":
    run(main)
