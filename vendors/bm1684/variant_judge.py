"""Judges int8 variants of one network by what they do to its outputs, on the quantised graph: no BModel is built.

The work is counted, never timed: a slower machine takes longer and makes the same bytes.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from atomic_files import scratch_folder
from failure import VendorError
from graph_runner import GraphRunner, weight_file
from graph_stages import REFERENCE, SAMPLE, TOP, TopGraph, lower

HOLD_OUT = 4  # every fourth sample judges, the others make statistics


@dataclass(frozen=True)
class Effort:
    """How many samples and trials a network is worth, by its operations in one inference (FLOPs, as the graph says)."""

    statistics: int  # samples
    rounding: int  # samples that weights are rounded for
    compensated: int  # variants that are tried with compensated rounding, too
    judging: int  # samples of a whole int8 network
    isolating: int  # samples of one layer, or one group of neighbours, alone in int8
    groups: int
    refined: int  # layers of the worst groups that are looked at alone


SMALL, MEDIUM, LARGE = (
    Effort(48, 16, 3, 12, 4, 1000, 0),
    Effort(48, 16, 2, 6, 3, 32, 40),
    Effort(32, 8, 1, 3, 2, 24, 24),
)


def effort(graph: Path, batch: int) -> Effort:
    """By the FLOPs that the top graph's first lines name, of one sample."""
    with graph.open(encoding="utf-8") as file:
        found = re.search(r"module\.FLOPs = (\d+)", file.read(1 << 16))
    flops = int(found[1]) / batch if found else np.inf
    return SMALL if flops < 2e9 else MEDIUM if flops < 8e9 else LARGE


def split(samples: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(samples for statistics, samples that judge); with fewer than eight, all serve both."""
    if len(samples) < 2 * HOLD_OUT:
        return list(samples), list(samples)
    judging = [sample for index, sample in enumerate(samples) if index % HOLD_OUT == HOLD_OUT - 1]
    return [sample for index, sample in enumerate(samples) if index % HOLD_OUT != HOLD_OUT - 1], judging


def batches(samples: Sequence[np.ndarray], batch: int) -> list[np.ndarray]:
    """float32 [batch, C, H, W] each; the last one is filled up with its last sample."""
    found = []
    for start in range(0, len(samples), batch):
        part = list(samples[start : start + batch])
        found.append(np.concatenate(part + [part[-1]] * (batch - len(part))))
    return found


def relative_error(found: Sequence[Sequence[np.ndarray]], reference: Sequence[Sequence[np.ndarray]]) -> float:
    """How far int8 outputs are from the float ones: found[batch][output] against reference[batch][output].

    Squared error over squared reference of each output, then their geometric mean (0: equal): in decibels the mean
    SQNR. A plain mean is decided by the single worst sample, which on a few samples is a matter of chance.
    """
    ratios = []
    for outputs, exact in zip(found, reference, strict=True):
        for a, b in zip(outputs, exact, strict=True):
            power = max(float((b.astype(np.float64) ** 2).sum()), 1e-30)
            ratios.append(float(((a.astype(np.float64) - b) ** 2).sum()) / power)
    return float(np.exp(np.log(np.maximum(ratios, 1e-12)).mean()))


def decibels(error: float) -> float:
    return round(-10 * float(np.log10(max(error, 1e-12))), 2)


@dataclass(frozen=True)
class Variant:
    """A float graph (the one that was given, or one with scaled channels), a calibration table, and rounded weights.

    rounded: {operation: (name of its weights, float32 whole steps)}; used where the operation is int8.
    """

    graph: TopGraph
    table: Path
    rounded: dict[str, tuple[str, np.ndarray]] = field(default_factory=dict)

    def with_weights(self, wider: Collection[str], folder: Path) -> TopGraph:
        """The float graph to lower when the operations `wider` are not int8; in `folder`, if it is another one."""
        used = dict(value for name, value in self.rounded.items() if name not in wider)
        if not used:
            return self.graph
        folder.mkdir()
        source = weight_file(self.graph.folder / TOP)
        with np.load(source, allow_pickle=False) as archive:
            np.savez(folder / source.name, **{name: used.get(name, archive[name]) for name in archive.files})
        for name in (TOP, SAMPLE, REFERENCE):
            shutil.copyfile(self.graph.folder / name, folder / name)
        return TopGraph(folder, {}, 0.0)


class Judge:
    """Compares variants with the float graph `top` on the same batches.

    chip: for which they are lowered. folder: for scratch files. judging: float32 [B, C, H, W] each.
    """

    def __init__(self, top: TopGraph, chip: str, folder: Path, judging: Sequence[np.ndarray]):
        self.chip, self.folder, self.judging = chip, folder, list(judging)
        self.references = self._outputs(GraphRunner(top.folder / TOP), self.judging)

    def error(self, variant: Variant, wider: dict[str, str], count: int | None = None, name: str = "") -> float:
        """The relative error of a variant on the first `count` batches; infinity when it gives NaN.

        wider: {operation: type} of those that are not int8. name: for the log.
        Raises VendorError when TPU-MLIR cannot make the variant.
        """
        used = self.judging[:count]
        log = io.StringIO()
        try:
            with scratch_folder(self.folder) as scratch, contextlib.redirect_stdout(log):
                qtable = write_quantize_table(wider, scratch / "qtable") if wider else None
                graph = variant.with_weights(wider, scratch / "graph")
                runner = GraphRunner(lower(graph, self.chip, "INT8", scratch, variant.table, qtable))
                found = self._outputs(runner, used)
        except VendorError:
            print(log.getvalue(), flush=True)
            raise
        error = relative_error(found, self.references[: len(used)])
        error = error if np.isfinite(error) else float("inf")
        if name:
            print(f"quantise: {name}: {decibels(error)} dB from float", flush=True)
        return error

    @staticmethod
    def _outputs(runner: GraphRunner, inputs: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        return [list(runner.run({runner.inputs[0]: batch}).values()) for batch in inputs]


def write_quantize_table(wider: dict[str, str], path: Path) -> Path:
    """The vendor's quantize table: "<operation> <type>" for each operation that is not int8; returns `path`."""
    path.write_text("".join(f"{name} {kind}\n" for name, kind in wider.items()), encoding="utf-8")
    return path
