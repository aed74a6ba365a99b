"""Runs a compiled network on this machine, loaded once: the quantised graph (pymlir) or the BModel (the chip's model).

Both compute with the chip's own arithmetic. The quantised graph is many times quicker; compile.py records whether the
BModel gave the same bits. pymlir aborts the whole process over a missing weight, and reads weights relative to the
working directory: files are checked first, and loaded in their own folder.
"""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from bmodel_file import check_file
from failure import VendorError
from toolchain import INSTALL_AGAIN, THREADS, package

os.environ.setdefault("OMP_NUM_THREADS", THREADS)  # read when the libraries are loaded

Arrays = dict[str, np.ndarray]
_FOLDERS = ExitStack()
remove_folders = _FOLDERS.close  # for a process that ends without atexit
atexit.register(remove_folders)
SIMULATORS = {"bm1684": "libcmodel_bm1684.so", "bm1684x": "libcmodel_bm1684x.so"}


def _import(name: str):
    folder = str(package() / "python")
    if folder not in sys.path:
        sys.path.append(folder)  # behind our own folder: some of the vendor's modules have everyday names
    try:
        return __import__(name)
    except ImportError as error:
        raise VendorError(f"{name} of the wheel cannot be loaded: {error}", INSTALL_AGAIN) from None


@cache
def _runtime(chip: str):
    """pyruntime_bm with the chip's simulator.

    The runtime opens whatever "libcmodel.so" lies beside it, and the wheel has one such link, which the vendor's
    scripts turn from chip to chip: two builds at once would turn it for each other, and a wheel may be read-only. So
    the libraries are linked into a folder of this process, with a libcmodel.so of its own; they find each other there,
    because they look beside themselves ($ORIGIN).
    """
    folder = Path(_FOLDERS.enter_context(tempfile.TemporaryDirectory(prefix="tpu-")))
    libraries, modules = folder / "lib", folder / "python"
    libraries.mkdir()
    modules.mkdir()
    own = {"libcmodel.so": SIMULATORS[chip], "libbmlib.so.0": "libbmlib_bm1684x.so.0"}
    for path in (package() / "lib").iterdir():
        if path.name not in own:
            (libraries / path.name).symlink_to(path)
    for name, target in own.items():
        (libraries / name).symlink_to(package() / "lib" / target)
    for path in (package() / "python").glob("pyruntime_bm.*"):
        (modules / path.name).symlink_to(path)
    sys.path.insert(0, str(modules))
    try:
        return _import("pyruntime_bm")
    finally:
        sys.path.remove(str(modules))


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Work in `folder` for the time of the block."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


class GraphRunner:
    """A top or quantised graph (.mlir, its weights beside it), loaded once."""

    def __init__(self, graph: Path, keep_all: bool = False):
        """keep_all: keep every tensor of an inference for tensors(). Raises VendorError when a file is missing."""
        weights = weight_file(graph)
        if not weights.is_file():
            raise VendorError(f"{weights} is missing, the weights of {graph.name}", "compile again")
        pymlir = _import("pymlir")
        # "force_value_mem": no tensor shares its memory with another, so that all can be read after an inference.
        pymlir.set_mem_mode("force_value_mem" if keep_all else "value_mem")
        self.module = pymlir.module()
        self.folder = graph.resolve().parent
        with working_in(self.folder):
            self.module.load(graph.name)
        self.module.set_progress_silent(True)  # before load() it crashes

    @property
    def inputs(self) -> list[str]:
        return list(self.module.input_names)

    @property
    def outputs(self) -> list[str]:
        """The outputs' names in the order of the ONNX graph's outputs."""
        return list(self.module.output_names)

    def run(self, inputs: Arrays) -> Arrays:
        """One inference: float32 by input name in, float32 (dequantised) by output name out."""
        for name in self.inputs:
            value = np.ascontiguousarray(inputs[name], np.float32)
            self.module.set_tensor(name, value, list(value.shape))
        with working_in(self.folder):  # some weights are read here
            self.module.invoke()
        return {name: np.array(self.module.get_tensor(name), np.float32) for name in self.outputs}

    def tensors(self) -> Arrays:
        """Every tensor of the last inference by its name, dequantised to float32. Needs keep_all."""
        return self.module.get_all_tensor()


class BModelRunner:
    """A .bmodel in the vendor's instruction-level simulator of the chip, loaded once. One chip a process."""

    def __init__(self, bmodel: Path, chip: str):
        """Raises VendorError when the file is not a whole BModel for this chip."""
        check_file(bmodel, chip)
        self.model = _runtime(chip).Model(str(bmodel), 0, "")
        self.network = self.model.Net(self.model.networks[0])

    @property
    def inputs(self) -> list[str]:
        return [port.name for port in self.network.inputs]

    @property
    def outputs(self) -> list[str]:
        return [port.name for port in self.network.outputs]

    def run(self, inputs: Arrays) -> Arrays:
        """One inference: float32 by input name in, float32 by output name out."""
        shapes = []
        for port in self.network.inputs:
            port.data[:] = inputs[port.name]
            shapes.append(list(port.data.shape))
        self.network.forward_dynamic(shapes)
        return {port.name: np.array(port.data, np.float32) for port in self.network.outputs}


def weight_file(graph: Path) -> Path:
    """The weight file that a .mlir names in its first lines. Raises VendorError when it names none."""
    hint = "compile again"
    try:
        with graph.open(encoding="utf-8") as file:
            head = file.read(1 << 16)
    except FileNotFoundError:
        raise VendorError(f"{graph} is missing", hint) from None
    except UnicodeDecodeError:
        raise VendorError(f"{graph} is no graph of TPU-MLIR: it is not text", hint) from None
    _, found, rest = head.partition('module.weight_file = "')
    name, closed, _ = rest.partition('"')
    if not found or not closed or Path(name).name != name:
        raise VendorError(f"{graph} is no graph of TPU-MLIR: it names no weight file", hint)
    return graph.parent / name
