"""The BModel in simulators of their own processes, several at once: a sample may take one of them seconds.

The vendor's simulator is one to a process, so each worker is a process that loads the BModel once. And from its first
inference until the process ends, the simulator's threads wait for more in a busy loop, at the expense of all else.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import util
from pathlib import Path

import numpy as np
from failure import VendorError, quiet
from graph_runner import Arrays, BModelRunner, remove_folders
from tqdm import tqdm

MOST_WORKERS = 8  # each holds the chip's memory: a gigabyte and more for a large network
_loaded: list[BModelRunner] = []  # in a worker: its own


def workers(batches: int) -> int:
    """How many simulators are worth starting for so many inferences: one a core that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, batches, MOST_WORKERS))


def _load(bmodel: str, chip: str) -> None:
    util.Finalize(None, _leave, exitpriority=0)
    _loaded.append(BModelRunner(Path(bmodel), chip))


def _leave() -> None:
    """End a worker without the vendor's own clean-up, which sleeps a second: memory and threads go with the process."""
    remove_folders()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _run(inputs: Arrays) -> Arrays:
    return _loaded[0].run(inputs)


@contextmanager
def _simulators(bmodel: Path, chip: str, count: int) -> Iterator[ProcessPoolExecutor]:
    """So many processes that have the BModel loaded. Raises VendorError when one dies."""
    # "spawn": the vendor's libraries start threads, which a forked process would lack.
    pool = ProcessPoolExecutor(
        count, multiprocessing.get_context("spawn"), initializer=_load, initargs=(str(bmodel), chip)
    )
    try:
        yield pool
    except BrokenProcessPool:
        raise VendorError(
            f"a simulator of {bmodel.name} died",
            "often a lack of memory: close other programs; its own words stand above",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def run_apart(bmodel: Path, chip: str, inputs: Arrays) -> Arrays:
    """One inference of a whole batch: float32 by input name in, float32 by the BModel's own output name out.

    Raises VendorError when the simulator dies.
    """
    with _simulators(bmodel, chip, 1) as pool:
        return pool.submit(_run, inputs).result()


def run_parallel(bmodel: Path, chip: str, inputs: Arrays, batch: int) -> Arrays:
    """All samples, float32 [N, C, H, W] by input name; outputs float32 [N, ...] by the BModel's own output names.

    The last batch is filled up with copies of its last sample. Raises VendorError when a simulator dies.
    """
    count = len(next(iter(inputs.values())))
    starts = range(0, count, batch)
    rows = [np.minimum(np.arange(start, start + batch), count - 1) for start in starts]
    tasks = [{name: np.ascontiguousarray(array[row]) for name, array in inputs.items()} for row in rows]
    with _simulators(bmodel, chip, workers(len(tasks))) as pool:
        done = list(tqdm(pool.map(_run, tasks), total=len(tasks), desc="infer", disable=quiet(), file=sys.stderr))
    return {name: np.concatenate([one[name] for one in done])[:count] for name in done[0]}
