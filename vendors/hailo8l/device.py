"""Run the artifact of a job folder on a Hailo-8L or Hailo-8, through HailoRT.

    python device.py JOB [SAMPLES.npz OUTPUTS.npz]        on the board, with hailort's Python package, numpy and tqdm

Needs only this folder and the job folder. Writes the outputs (float32 [N, ...] under the ONNX names) and, for the
job's own samples, device.json with the latency and the versions. Tested against a double of the documented API only
(hailo_platform of HailoRT 4.23: libhailort/bindings/python in hailo-ai/hailort). Runtimes before 4.17 have no
create_infer_model(): there the older streams are used.
"""

from __future__ import annotations

import atexit
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from failure import VendorError, run
from inference_loop import main_of
from job_file import Job, check_double
from output_map import EndPoint, LayerOutput, assign, same_shape, to_onnx

TIMEOUT_MS = 10_000
INSTALL = (
    "on a Raspberry Pi: sudo apt install hailo-all; elsewhere the hailort package and wheel of Hailo's Developer Zone"
)
MEND = (
    "`hailortcli fw-control identify` has to find the chip; driver, firmware and runtime have to be of one version, "
    "and of the row of the compiler in README.md, Versions"
)


class InferModel:
    """The artifact through create_infer_model() (HailoRT 4.17 and later)."""

    title = "InferModel"

    def __init__(self, platform: Any, path: Path, dtype: Any, stack: ExitStack):
        parameters = platform.VDevice.create_params()
        parameters.scheduling_algorithm = platform.HailoSchedulingAlgorithm.ROUND_ROBIN
        self.device = stack.enter_context(platform.VDevice(parameters))
        model = self.device.create_infer_model(str(path))
        model.set_batch_size(1)
        model.input().set_format_type(_format(platform, dtype))
        self.input_shape = tuple(model.input().shape)
        self.outputs = {}
        for name in model.output_names:
            model.output(name).set_format_type(platform.FormatType.FLOAT32)
            self.outputs[name] = tuple(model.output(name).shape)
        self._configured = stack.enter_context(model.configure())

    def run(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """[1, H, W, C] in, {name: [1, H, W, C]} out."""
        bindings = self._configured.create_bindings()
        bindings.input().set_buffer(array[0])
        buffers = {name: np.empty(shape, np.float32) for name, shape in self.outputs.items()}
        for name, buffer in buffers.items():
            bindings.output(name).set_buffer(buffer)
        self._configured.run([bindings], TIMEOUT_MS)
        return {name: buffer[None] for name, buffer in buffers.items()}


class Streams:
    """The artifact through virtual streams, as runtimes before 4.17 have it."""

    title = "InferVStreams"

    def __init__(self, platform: Any, path: Path, dtype: Any, stack: ExitStack):
        hef = platform.HEF(str(path))
        # Said, because runtimes differ in their default: with a scheduler a network group must not be activated.
        chosen = platform.VDevice.create_params()
        chosen.scheduling_algorithm = platform.HailoSchedulingAlgorithm.NONE
        self.device = stack.enter_context(platform.VDevice(chosen))
        parameters = platform.ConfigureParams.create_from_hef(hef, interface=platform.HailoStreamInterface.PCIe)
        group = self.device.configure(hef, parameters)[0]
        inputs = platform.InputVStreamParams.make(group, format_type=_format(platform, dtype))
        outputs = platform.OutputVStreamParams.make(group, format_type=platform.FormatType.FLOAT32)
        (info,) = hef.get_input_vstream_infos()
        self._name, self.input_shape = info.name, tuple(info.shape)
        self.outputs = {one.name: tuple(one.shape) for one in hef.get_output_vstream_infos()}
        self._pipeline = stack.enter_context(platform.InferVStreams(group, inputs, outputs))
        stack.enter_context(group.activate(group.create_params()))

    def run(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """[1, H, W, C] in, {name: [1, H, W, C]} out."""
        return self._pipeline.infer({self._name: array})


def _format(platform: Any, dtype: Any) -> Any:
    return platform.FormatType.UINT8 if dtype == np.uint8 else platform.FormatType.FLOAT32


class OnBoard:
    """The artifact on the chip."""

    simulated = False
    timed = True
    warm_up = 5  # the first ones load the network

    def __init__(self, job: Job, compiled: dict[str, Any]):
        try:
            import hailo_platform as platform
        except ImportError as error:
            raise VendorError(f"hailo_platform cannot be imported: {error}", INSTALL) from None
        check_double(job, platform)
        if job.batch != 1:
            raise VendorError(f"a batch of {job.batch} is not supported", "make it with a batch of 1")
        self._job = job
        self._dtype = np.uint8 if job.preprocessing is not None else np.float32
        path = job.folder / compiled["artifact"][0]
        kind = InferModel if hasattr(platform.VDevice, "create_infer_model") else Streams
        stack = ExitStack()
        atexit.register(stack.close)
        self._runtime = self._guarded(f"HailoRT cannot start {path}", kind, platform, path, self._dtype, stack)
        _, channels, height, width = job.inputs[0].shape
        # The runtime reads as much memory as its own shapes say, whatever it is given.
        if self._runtime.input_shape != (height, width, channels):
            raise VendorError(
                f"{path} takes {list(self._runtime.input_shape)}, and the network {[height, width, channels]}",
                "compile again: the artifact is not of this job",
            )
        self._ends = self._match(path, compiled, platform)
        version = getattr(platform, "__version__", "unknown")
        self.device = f"{job.chip}: {self._identity()}; HailoRT {version}, {kind.title}"
        print(self.device, file=sys.stderr)

    def _guarded(self, problem: str, call: Any, *arguments: Any) -> Any:
        """Call the runtime; what it throws (HailoRTException and its kin) becomes one message."""
        try:
            return call(*arguments)
        except VendorError:
            raise
        except Exception as error:
            told = " ".join(str(error).split())
            raise VendorError(f"{problem}: {type(error).__name__}: {told}", MEND) from None

    def _identity(self) -> str:
        """What the chip says it is; in words, as the runtime has them."""
        try:
            return " ".join(str(self._runtime.device.get_physical_devices()[0].control.identify()).split())
        except Exception as error:  # not worth a failure: it is told, not used
            return f"the chip does not tell what it is ({type(error).__name__})"

    def _match(self, path: Path, compiled: dict[str, Any], platform: Any) -> dict[str, EndPoint]:
        """{the runtime's output: the ONNX output that it is}: by the layer's name, then as output_map has it."""
        entries = compiled.get("outputs") or []
        ends = [EndPoint.from_json(entry) for entry in entries]
        by_layer = {entry["layer"]: EndPoint.from_json(entry) for entry in entries}
        names = list(self._runtime.outputs)
        found = {name: by_layer[name] for name in names if name in by_layer}
        if len(found) < len(names) or len(names) != len(ends):
            hef = self._guarded(f"{path} cannot be read", platform.HEF, str(path))
            told = getattr(hef, "get_original_names_from_vstream_name", lambda _name: [])
            outputs = [
                LayerOutput(name, tuple(map(str, told(name))), shape) for name, shape in self._runtime.outputs.items()
            ]
            found = {names[index]: end for index, end in enumerate(assign(outputs, ends))}
        for name, end in found.items():
            if not same_shape(self._runtime.outputs[name], end.shape):
                raise VendorError(
                    f"{name} is of shape {list(self._runtime.outputs[name])}, and {end.output} of {list(end.shape)}",
                    "compile again: the artifact is not of this job",
                )
        return found

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """float32 [1, C, H, W] by input name in, float32 [1, ...] by ONNX output name out."""
        array = inputs[self._job.inputs[0].name]
        if self._job.preprocessing is not None:
            array = self._job.preprocessing.pixels(array, "a sample")
        array = np.ascontiguousarray(array.transpose(0, 2, 3, 1), self._dtype)
        outputs = self._guarded("the chip's runtime failed", self._runtime.run, array)
        return {end.output: to_onnx(outputs[name], end) for name, end in self._ends.items()}


if __name__ == "__main__":
    run(main_of(OnBoard, "device.json", "device"))
