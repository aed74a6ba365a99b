"""`python -m calib.renderer FOLDER`: draw the image set that FOLDER/set.yaml describes."""

from __future__ import annotations

import argparse
from pathlib import Path

from calib.renderer.image_set import render_set
from common.basics.errors import run


def main() -> int:
    """Draw the set; exit code 0, or a UserError for a wrong set.yaml."""
    parser = argparse.ArgumentParser(prog="python -m calib.renderer", description=__doc__)
    parser.add_argument("folder", type=Path, help="e.g. calib/people_evaluation")
    folder = parser.parse_args().folder
    count = render_set(folder)
    print(f"{folder}: {count} images")
    return 0


if __name__ == "__main__":
    run(main)
