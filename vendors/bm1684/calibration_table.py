"""The calibration table of TPU-MLIR: for each tensor the value that stands for the largest int8.

Written by the vendor's run_calibration, or from statistics of our own (activation_statistics).
Format: "# ..." lines, then "<tensor> <threshold> <smallest> <largest>", seven decimals (CalibrationTable in the
wheel's calibration/utils.py). A smallest value of 0 or more makes the tensor uint8 instead of int8.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from activation_statistics import METHODS, TensorStatistics
from atomic_files import replacing, scratch_folder
from failure import VendorError
from graph_stages import TOP, TopGraph, place
from toolchain import run_tool

VENDOR_SAMPLES = 32  # thresholds hardly move beyond it, and the vendor's calibration takes its time for each


def spread(items: Sequence, count: int) -> list:
    """At most `count` items, evenly over the sequence."""
    if len(items) <= count:
        return list(items)
    return [items[int(index)] for index in np.linspace(0, len(items) - 1, count).round()]


def vendor_samples(samples: Sequence[np.ndarray], batch: int) -> list[np.ndarray]:
    """What run_calibration is given: at most VENDOR_SAMPLES of the calibration tensors, and at least one batch."""
    chosen = spread(samples, VENDOR_SAMPLES)
    return chosen + [chosen[-1]] * (-len(chosen) % batch)


def vendor_arguments(method: str, count: int) -> list[object]:
    """run_calibration's arguments behind the graph: `count` files of the folder "samples", the table to "table"."""
    return ["--dataset", "samples", "--input_num", count, "--cali_method", method, "-o", "table"]


def vendor_table(
    top: TopGraph, input_name: str, samples: Sequence[np.ndarray], batch: int, method: str, chip: str, table: Path
) -> None:
    """Write `table` by the vendor's own run_calibration.

    samples: float32 [1, C, H, W] each. method: one of its --cali_method. Raises VendorError when the tool fails or
    its table lacks a tensor or holds a value that is no threshold.
    """
    with scratch_folder(table.parent) as folder:
        place(top, folder)
        chosen = vendor_samples(samples, batch)
        (folder / "samples").mkdir()
        for index, sample in enumerate(chosen):
            np.savez(folder / "samples" / f"{index:04d}.npz", **{input_name: sample})
        arguments = [TOP, *vendor_arguments(method, len(chosen)), "--processor", chip]
        run_tool("run_calibration", arguments, folder, ["table"])
        read_table(folder / "table")
        (folder / "table").replace(table)


def write_table(statistics: dict[str, TensorStatistics], method: str, table: Path) -> None:
    """Write `table` with the thresholds that `method` of METHODS finds in our statistics."""
    lines = [f"# thresholds by {method}", "# op_name threshold min max"]
    for name, found in statistics.items():
        threshold = METHODS[method](found)
        lines.append(f"{name} {threshold:.7f} {found.minimum:.7f} {found.maximum:.7f}")
    with replacing(table) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_table(table: Path) -> dict[str, tuple[float, float, float]]:
    """{tensor: (threshold, smallest, largest)}. Raises VendorError for a line that is none, or an empty table."""
    found = {}
    for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, *numbers = line.split()
        try:
            threshold, smallest, largest = map(float, numbers)
        except ValueError:
            threshold, smallest, largest = np.nan, 0.0, 0.0
        if not threshold > 0 or not np.isfinite([smallest, largest]).all():
            raise VendorError(f"calibration table {table.name}: {line!r} holds no thresholds", "compile again")
        found[name] = (threshold, smallest, largest)
    if not found:
        raise VendorError(f"calibration table {table.name} is empty", "compile again; see the log of run_calibration")
    return found
