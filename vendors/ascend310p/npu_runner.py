"""An artifact on the NPU of this machine, by ais_bench where it is installed, else by pyACL.

ais_bench is Huawei's own inference tool (ascend-tools on Gitee, msit); its InferSession is short to call and does the
device's memory by itself. It cannot take pixels of several sizes: its mode "dymhw" looks for the free height and width
at the places that NCHW has them, and the pixels of INPUT=u8 are NHWC. pyACL does those.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from acl_session import DEVICE, AclSession
from failure import VendorError
from job_file import Job, check_double
from om_json import output_name

INSTALL = (
    "on the board: source /usr/local/Ascend/ascend-toolkit/set_env.sh (it has acl), or install the wheels of ais_bench "
    "and aclruntime for your Python"
)
STATIC, BATCHES, SIZES = "static", "dymbatch", "dymhw"  # InferSession.infer's modes


class AisBenchSession:
    """An .om loaded by ais_bench."""

    def __init__(self, interface: Any, path: Path):
        try:
            self._session = interface.InferSession(DEVICE, str(path))
            self.output_names = [port.name for port in self._session.get_outputs()]
            ports = [f"{port.name} {port.datatype} {list(port.shape)}" for port in self._session.get_inputs()]
        except Exception as error:  # aclruntime raises what it likes
            raise VendorError(f"ais_bench cannot load {path.name}: {error}", INSTALL) from None
        print(f"the .om's inputs: {', '.join(ports)}", file=sys.stderr)

    def run(self, image: np.ndarray, batch: int | None = None, size: tuple[int, int] | None = None) -> list[np.ndarray]:
        """See AclSession.run."""
        mode = SIZES if size is not None else BATCHES if batch is not None else STATIC
        try:
            return list(self._session.infer([image], mode))
        except Exception as error:
            raise VendorError(
                f"ais_bench cannot run {image.dtype} {list(image.shape)} in mode {mode}: {error}",
                "the type, layout and size have to be the .om's own; python device.py tells what it has",
            ) from None

    def close(self) -> None:
        for name in ("free_resource", "finalize"):
            if hasattr(self._session, name):
                getattr(self._session, name)()


def open_session(job: Job, path: Path, pixels: bool, sizes: bool) -> tuple[Any, str]:
    """A session, and the runtime in words. Raises VendorError where neither runtime is installed."""
    problems = []
    if not (pixels and sizes):
        try:
            from ais_bench.infer import interface

            check_double(job, interface)
            return AisBenchSession(interface, path), "ais_bench"
        except ImportError as error:
            problems.append(f"ais_bench: {error}")
    try:
        import acl
    except ImportError as error:
        problems.append(f"acl: {error}")
        raise VendorError(f"no runtime of the NPU can be imported ({'; '.join(problems)})", INSTALL) from None
    check_double(job, acl)
    session = AclSession(acl, path)
    return session, f"pyACL on {session.soc}"


class OnBoard:
    """The artifact of a job on the NPU."""

    simulated = False
    timed = True
    warm_up = 5  # the first inferences load kernels, and the clock rises under load

    def __init__(self, job: Job, compiled: dict[str, Any]):
        profiles = compiled.get("profiles") or {}
        self.sizes = [tuple(size) for size in profiles.get("sizes") or []]
        self.batches = [int(batch) for batch in profiles.get("batches") or []]
        self.pixels = compiled.get("pixels") is True
        self._job = job
        if self.pixels and job.preprocessing is None:
            raise VendorError(
                "the artifact takes pixels, and job.json does not say how they were normalised", "make again"
            )
        self._session, runtime = open_session(job, job.folder / compiled["artifact"][0], self.pixels, bool(self.sizes))
        atexit.register(self._session.close)
        soc = getattr(self._session, "soc", None)
        if soc is not None and soc != compiled.get("soc_version"):
            raise VendorError(
                f"this board has an {soc}, and the artifact is for {compiled.get('soc_version')}",
                f"compile it with SOC={soc}",
            )
        self._order = self._output_order(self._session.output_names)
        self.device = f"{compiled.get('soc_version')} NPU by {runtime}; takes {compiled.get('input_kind')}"

    def _output_order(self, names: Sequence[str]) -> list[int]:
        """For each output of the job its place among the .om's: by name where the .om tells it, else in order."""
        wanted = [tensor.name for tensor in self._job.outputs]
        if len(names) != len(wanted):
            raise VendorError(
                f"the .om has {len(names)} outputs ({', '.join(map(str, names))}), the network {len(wanted)}",
                "compile again: job.json and the artifact do not belong together",
            )
        plain = [output_name(str(name)) or str(name) for name in names]
        return [plain.index(name) for name in wanted] if set(plain) == set(wanted) else list(range(len(wanted)))

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """float32 [batch, C, H, W] by input name in, float32 [batch, ...] by ONNX output name out.

        Height, width and batch may be any that the artifact takes. Raises VendorError for another one.
        """
        array = inputs[self._job.inputs[0].name]
        batch, size = len(array), (int(array.shape[2]), int(array.shape[3]))
        own = self._job.inputs[0].shape
        if size not in (self.sizes or [own[2:]]) or batch not in (self.batches or [own[0]]):
            taken = ", ".join(f"{height}x{width}" for height, width in self.sizes or [own[2:]])
            raise VendorError(
                f"the artifact takes {taken} in batches of {self.batches or own[0]}, and not {batch} of "
                f"{size[0]}x{size[1]}",
                "build with DYNAMIC=image_size or DYNAMIC=batch for more, or with SIZE= for another one",
            )
        found = self._session.run(
            self.feed(array), batch=batch if self.batches else None, size=size if self.sizes else None
        )
        outputs = {}
        for place, tensor in enumerate(self._job.outputs):
            given = np.asarray(found[self._order[place]])
            shape = self.output_shape(tensor.shape, batch, size)
            if given.size != int(np.prod(shape)):
                raise VendorError(
                    f"output {tensor.name} came as {list(given.shape)}, not {list(shape)}",
                    "compile again: job.json and the artifact do not belong together",
                )
            outputs[tensor.name] = given.reshape(shape).astype(np.float32)
        return outputs

    def feed(self, array: np.ndarray) -> np.ndarray:
        """float32 NCHW, normalised, as the artifact wants it."""
        if not self.pixels:
            return np.ascontiguousarray(array, np.float32)
        assert self._job.preprocessing is not None
        pixels = self._job.preprocessing.pixels(array, "the input")
        return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1).astype(np.uint8))

    def output_shape(self, shape: tuple[int, ...], batch: int, size: tuple[int, int]) -> tuple[int, ...]:
        """An output's shape when the input is of this batch and size; `shape` belongs to the job's own."""
        own = self._job.inputs[0].shape
        if len(shape) != 4:
            return (batch, *shape[1:])
        return (batch, shape[1], shape[2] * size[0] // own[2], shape[3] * size[1] // own[3])
