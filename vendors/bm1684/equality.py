"""Does the BModel give the same bits as the quantised graph? Shown on real samples of every build.

model_deploy runs its own comparison on the first sample, and its outputs serve here. The second sample is run here, on
both, beside that comparison, which leaves the other cores free; unless simulating the network is slow: work is counted,
never timed, so that the record does not depend on the machine.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from atomic_files import sha256_of
from bmodel_file import mode_left_out, remove_chance
from failure import VendorError
from graph_runner import Arrays, GraphRunner, weight_file
from graph_stages import Deployed
from parallel_bmodel import run_apart

# Above this, model_deploy's own sample is the whole proof. One simulated inference of a network of 15e9 operations
# takes the better part of a minute, and compiling may cost a tenth more than the vendor's bare commands.
MOST_OPERATIONS_FOR_SECOND_SAMPLE = 1.0e9
LARGEST = float(np.finfo(np.float64).max)


def operations_of(graph: Path) -> int:
    """Multiplications and additions of one inference of the whole batch, as the vendor counts them."""
    with graph.open(encoding="utf-8") as file:
        found = re.search(r"module\.FLOPs = (\d+)", file.read(1 << 16))
    return int(found[1]) if found else 0


class SecondSample:
    """Another input for both: float32 [batch, C, H, W] by name; None when the job has only one sample."""

    def __init__(self, chip: str, inputs: Arrays | None):
        self._chip, self._inputs = chip, inputs
        self._compared = ""  # the SHA-256 of the BModel and the graph that _largest is of
        self._largest = 0.0

    def is_wanted(self, graph: Path) -> bool:
        """Whether there is one, and simulating it costs little."""
        return self._inputs is not None and operations_of(graph) <= MOST_OPERATIONS_FOR_SECOND_SAMPLE

    def compare(self, bmodel: Path, graph: Path) -> None:
        """Run both where that is wanted, the BModel as it will be once remove_chance() has been over it; one that is
        made again is left alone. graph: the quantised graph, its weights beside it."""
        if not self.is_wanted(graph) or mode_left_out(bmodel):
            return
        final = bmodel.with_name("second_sample.bmodel")
        shutil.copyfile(bmodel, final)
        remove_chance(final)
        self._run(final, graph)
        final.unlink()

    def largest_difference(self, bmodel: Path, graph: Path) -> float:
        """Between the outputs of the finished two: known already if those were compared, byte for byte."""
        if self._compared != _sha256_of_both(bmodel, graph):
            self._run(bmodel, graph)
        return self._largest

    def _run(self, bmodel: Path, graph: Path) -> None:
        of_graph = GraphRunner(graph).run(self._inputs)
        self._largest = _largest_difference(of_graph, run_apart(bmodel, self._chip, self._inputs))
        self._compared = _sha256_of_both(bmodel, graph)


def _sha256_of_both(bmodel: Path, graph: Path) -> str:
    return sha256_of([bmodel, graph, weight_file(graph)])


def prove(deployed: Deployed, second: SecondSample) -> dict[str, Any]:
    """Compare the BModel's outputs with the quantised graph's: {"samples", "equal", "largest_difference", ...}."""
    largest = _largest_difference(_load(deployed.outputs_of_graph), _load(deployed.outputs_of_bmodel))
    samples = 1
    if largest == 0 and second.is_wanted(deployed.graph):
        largest = second.largest_difference(deployed.bmodel, deployed.graph)
        samples = 2
    operations = operations_of(deployed.graph)
    return {"samples": samples, "equal": largest == 0, "largest_difference": largest, "operations": operations}


def _largest_difference(of_graph: Arrays, of_bmodel: Arrays) -> float:
    """0.0 means the same bits in every output of the BModel."""
    missing = set(of_bmodel) - set(of_graph)
    if missing or not of_bmodel:
        raise VendorError(
            f"the BModel's outputs {sorted(missing)} are none of the quantised graph's", "see the log of model_deploy"
        )
    largest = 0.0
    for name, value in of_bmodel.items():
        other = of_graph[name].reshape(value.shape)
        if not np.array_equal(value, other, equal_nan=True):
            # Not finite on one side only: as different as can be.
            largest = max(largest, float(np.nan_to_num(np.abs(value.astype(np.float64) - other), nan=LARGEST).max()))
    return largest


def _load(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
