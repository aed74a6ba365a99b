"""Run the compiled network on the board itself, with Sophon's own runtime (sophon.sail).

    python3 device.py JOB [SAMPLES.npz OUTPUTS.npz]

On an SE5, SC5 (BM1684) or SE7, SC7 (BM1684X) with driver and sophon.sail installed. Needs of this folder the scripts
without TPU-MLIR, and of the job: job.json, compile.json with the files that it lists, samples.npz. Writes outputs.npz
and device.json. TPU_ID=n in the environment chooses the processor of a card with several.

compile.py leaves inputs and outputs float32. sophon.sail's documentation leaves open whether it scales float arrays for
integer ones: so it is asked for the types, and what is not float32 is scaled here.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from bmodel_file import CHIP_NAMES, check_file
from failure import VendorError, run
from inference_loop import main_of
from job_file import Job

Arrays = dict[str, np.ndarray]
WARM_UP = 3  # the first inferences load instructions and weights
INPUT_TYPES = {"BM_FLOAT32": np.float32, "BM_INT8": np.int8, "BM_UINT8": np.uint8}


def _load_sail():
    try:
        from sophon import sail
    except ImportError as error:
        raise VendorError(
            f"sophon.sail cannot be loaded: {error}",
            "device.py runs on the board: install SOPHONSDK's driver and sophon-sail there (README.md)",
        ) from None
    return sail


class Board:
    """The job's BModel on the chip (inference_loop.Runner)."""

    simulated, warm_up, timed = False, WARM_UP, True

    def __init__(self, job: Job, compiled: dict[str, Any]):
        """Raises VendorError when the runtime, the device or the BModel is not what the job needs."""
        sail = _load_sail()
        bmodel = job.folder / compiled["artifact"][0]
        check_file(bmodel, job.chip)
        text = os.environ.get("TPU_ID", "0")
        if not text.isdecimal():
            raise VendorError(f"TPU_ID={text} is no number", "0 is the first processor; bm-smi lists them")
        number = int(text)
        try:
            self.engine = sail.Engine(str(bmodel), number, sail.IOMode.SYSIO)
        except RuntimeError as error:
            raise VendorError(
                f"sophon.sail refuses {bmodel} on processor {number}: {error}",
                "bm-smi lists the processors: is the driver loaded, and the board of the BModel's chip?",
            ) from None
        graphs = self.engine.get_graph_names()
        if len(graphs) != 1:
            raise VendorError(f"{bmodel} holds {len(graphs)} networks, not one", "compile again: python compile.py JOB")
        self.graph = graphs[0]
        self.names = compiled.get("outputs")
        if not isinstance(self.names, dict):
            raise VendorError(f"{job.folder / 'compile.json'} names no outputs", "compile again: python compile.py JOB")
        found = {
            name: tuple(self.engine.get_input_shape(self.graph, name))
            for name in self.engine.get_input_names(self.graph)
        }
        expected = {tensor.name: tensor.shape for tensor in job.inputs}
        if found != expected:
            raise VendorError(f"the BModel's inputs are {found}, and the job's {expected}", "copy the whole job folder")
        missing = set(self.names.values()) - set(self.engine.get_output_names(self.graph))
        if missing:
            raise VendorError(f"the BModel has no output {', '.join(sorted(missing))}", "copy the whole job folder")
        self.input_types = {name: self._input_type(name) for name in found}
        self.device = f"{CHIP_NAMES[job.chip]}, processor {number}, sophon.sail"

    def _input_type(self, name: str) -> np.dtype:
        # The documentation names no values of the type: what it prints as ("Dtype.BM_FLOAT32") is compared.
        text = str(self.engine.get_input_dtype(self.graph, name))
        kind = INPUT_TYPES.get(text.rpartition(".")[2].upper())
        if kind is None:
            raise VendorError(
                f"input {name} of the BModel is of type {text}", f"one of {', '.join(INPUT_TYPES)} is known"
            )
        return np.dtype(kind)

    def run(self, inputs: Arrays) -> Arrays:
        found = self.engine.process(self.graph, {name: self._lowered(name, value) for name, value in inputs.items()})
        return {output: self._raised(name, found[name]) for output, name in self.names.items() if name in found}

    def _lowered(self, name: str, value: np.ndarray) -> np.ndarray:
        """float32 as the runtime wants it; for an integer input times its scale, rounded to nearest."""
        kind = self.input_types[name]
        if kind.kind == "f":
            return np.ascontiguousarray(value, kind)
        limits = np.iinfo(kind)
        scaled = np.rint(value * np.float32(self.engine.get_input_scale(self.graph, name)))
        return np.ascontiguousarray(np.clip(scaled, limits.min, limits.max).astype(kind))

    def _raised(self, name: str, value: np.ndarray) -> np.ndarray:
        """float32: an output that comes as integers, times its scale."""
        if value.dtype.kind == "f":
            return np.array(value, np.float32)
        return value.astype(np.float32) * np.float32(self.engine.get_output_scale(self.graph, name))


if __name__ == "__main__":
    run(main_of(Board, "device.json", "device"))
