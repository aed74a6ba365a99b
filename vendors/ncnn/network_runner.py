"""Run an ncnn model with the ncnn wheel: exact float, or int8 as the file says; every blob can be looked at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

# OpenMP's threads wait for each other hundreds of times in an inference. If they only spin, an inference on a busy
# machine takes a thousand times as long; if they only sleep, being woken takes most of its time: twenty times as long
# on a virtual machine. So they spin for some microseconds (libgomp's own variable, which counts before the other), then
# sleep. Both are read when the library is loaded, so they must be said before the import.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import ncnn
import numpy as np
from failure import VendorError

THREADS = 2


class Runner:
    """One loaded model. Not for several threads of Python at once."""

    def __init__(self, param: Path, weights: Path, threads: int = THREADS):
        """Load both files. Raises VendorError when ncnn refuses them."""
        self.net = ncnn.Net()
        options = self.net.opt
        options.num_threads = threads
        options.use_vulkan_compute = False
        # A proof must not depend on which half-precision instructions the host has: float means float32.
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_packed = options.use_bf16_storage = False
        if self.net.load_param(str(param)) != 0:
            raise VendorError(f"ncnn refuses {param}", "look at ncnn's message above; compile again")
        if self.net.load_model(str(weights)) != 0:
            raise VendorError(f"ncnn refuses {weights}", "look at ncnn's message above; compile again")

    def extractor(self, inputs: dict[str, np.ndarray], keep_blobs: bool = False) -> ncnn.Extractor:
        """An inference that is about to start: inputs {blob: float32 [1, C, H, W] or [C, H, W]}.

        keep_blobs: needed to look at blobs in the middle of the network without computing them again.
        """
        extractor = self.net.create_extractor()
        extractor.set_light_mode(not keep_blobs)
        for name, value in inputs.items():
            array = np.ascontiguousarray(value, np.float32)
            # A copy that ncnn owns: a layer that works in place must not touch, or outlive, numpy's memory.
            extractor.input(name, ncnn.Mat(array[0] if array.ndim == 4 else array).clone())
        return extractor

    def extract(self, extractor: ncnn.Extractor, name: str) -> ncnn.Mat:
        """One blob of it. Raises VendorError when ncnn cannot compute it."""
        code, blob = extractor.extract(name)
        if code != 0:
            raise VendorError(f"ncnn cannot compute blob {name} (code {code})", "look at ncnn's message above")
        return blob

    def run(self, inputs: dict[str, np.ndarray], outputs: Sequence[str], keep_blobs: bool = False) -> list[np.ndarray]:
        """One inference: inputs {blob: float32 [1, C, H, W] or [C, H, W]}; gives float32 arrays without batch.

        keep_blobs: see extractor(). Raises VendorError when ncnn cannot compute an output.
        """
        extractor = self.extractor(inputs, keep_blobs)
        return [np.array(self.extract(extractor, name)) for name in outputs]
