"""Run the artifact of a job folder on the chip, through Kneron PLUS.

    python device.py JOB [SAMPLES.npz OUTPUTS.npz]        on the machine with the dongle or board; kp, numpy, tqdm

Needs only this folder and the job folder. Writes the outputs (float32 [N, ...] under the ONNX names) and, for the job's
own samples, device.json with the latency and the versions. A device in USB boot mode has no firmware of its own: name
it with KNERON_SCPU_FIRMWARE= (and KNERON_NCPU_FIRMWARE= for KL520, KL720). KNERON_PORT= picks one of several devices.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from failure import VendorError, run
from inference_loop import main_of
from job_file import Job, check_double
from npu_layout import layout_name, npu_buffer
from output_order import by_name_or_shape

TIMEOUT_MILLISECONDS = 30000
INSTALL = "pip install KneronPLUS-<version>-py3-none-any.whl, from Kneron's developer centre (CPython 3.5 to 3.9)"
MEND = "is the device plugged in, its udev rule installed, its firmware of Kneron PLUS's version?"


class OnDevice:
    """The artifact on the NPU."""

    simulated = False
    timed = True  # the whole of it: sending, computing, receiving
    warm_up = 3

    def __init__(self, job: Job, compiled: dict[str, Any]):
        try:
            import kp
        except ImportError as error:
            raise VendorError(f"Kneron PLUS (kp) cannot be imported: {error}", INSTALL) from None
        check_double(job, kp)
        self._kp, self._job = kp, job
        version = str(self._call("get_version", kp.core.get_version))
        print(f"Kneron PLUS {version}", file=sys.stderr)
        port = self._port()
        self._group = self._call("connect_devices", kp.core.connect_devices, usb_port_ids=[port])
        atexit.register(kp.core.disconnect_devices, device_group=self._group)
        self._call("set_timeout", kp.core.set_timeout, device_group=self._group, milliseconds=TIMEOUT_MILLISECONDS)
        self._load_firmware()
        artifact = str((job.folder / compiled["artifact"][0]).resolve())
        self._model = self._load_model(artifact)
        firmware = self._firmware_version(port)
        self.device = f"{job.chip} at USB port {port}, firmware {firmware}; Kneron PLUS {version}"
        print(self.device, file=sys.stderr)

    def _call(self, name: str, function: Callable[..., Any], **arguments: Any) -> Any:
        try:
            return function(**arguments)
        except self._kp.ApiKPException as error:
            raise VendorError(f"Kneron PLUS's {name} failed: {error}", MEND) from None
        except TypeError as error:  # another release with other argument names
            raise VendorError(f"Kneron PLUS's {name} takes other arguments: {error}", "device.py; README.md") from None

    def _port(self) -> int:
        """The USB port of the device to use. Raises VendorError when there is none of this chip, or several."""
        listed = self._call("scan_devices", self._kp.core.scan_devices).device_descriptor_list
        product = getattr(self._kp.ProductId, f"KP_DEVICE_{self._job.chip.upper()}", None)
        if product is None:
            raise VendorError(f"this Kneron PLUS does not know {self._job.chip}", INSTALL)
        wanted = int(product)
        asked = os.environ.get("KNERON_PORT", "")
        found = [one for one in listed if int(one.product_id) == wanted and asked in ("", str(one.usb_port_id))]
        if len(found) == 1:
            return int(found[0].usb_port_id)
        there = ", ".join(f"{int(one.product_id):#x} at port {one.usb_port_id}" for one in listed) or "none"
        which = "several of them: name one with KNERON_PORT=" if found else MEND
        raise VendorError(f"one {self._job.chip} ({wanted:#x}) is needed; devices found: {there}", which)

    def _load_firmware(self) -> None:
        paths = [os.environ.get(f"KNERON_{core}_FIRMWARE", "") for core in ("SCPU", "NCPU")]
        for path in paths:
            if path and not Path(path).is_file():
                raise VendorError(f"the firmware {path} is missing", "Kneron PLUS has it in res/firmware/<chip>")
        if paths[0]:
            load = self._kp.core.load_firmware_from_file
            names = {"scpu_fw_path": paths[0], "ncpu_fw_path": paths[1]}
            self._call("load_firmware_from_file", load, device_group=self._group, **names)

    def _load_model(self, artifact: str) -> Any:
        load = self._kp.core.load_model_from_file
        loaded = self._call("load_model_from_file", load, device_group=self._group, file_path=artifact)
        target = getattr(loaded.target_chip, "name", str(loaded.target_chip))
        if not target.endswith(self._job.chip.upper()):
            raise VendorError(f"{artifact} is for {target}, not for {self._job.chip}", f"make {self._job.chip} ...")
        if len(loaded.models) != 1:
            raise VendorError(f"{artifact} holds {len(loaded.models)} models, not one", "compile again")
        model = loaded.models[0]
        if len(model.input_nodes) != len(self._job.inputs):
            raise VendorError(
                f"{artifact} has {len(model.input_nodes)} inputs, not {len(self._job.inputs)}", "compile again"
            )
        for node in model.input_nodes:
            print(f"input {node.name}: layout {layout_name(node)}", file=sys.stderr)
        return model

    def _firmware_version(self, port: int) -> str:
        system = self._call(
            "get_system_info", self._kp.core.get_system_info, device_group=self._group, usb_port_id=port
        )
        version = system.firmware_version
        return ".".join(str(getattr(version, part, "?")) for part in ("major", "minor", "update", "build"))

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """float32 [1, C, H, W] by input name in, float32 [1, ...] by ONNX output name out."""
        kp, nodes = self._kp, self._model.input_nodes
        given = [inputs[tensor.name] for tensor in self._job.inputs]
        buffers = [npu_buffer(given[index], node, self._job.chip) for index, node in enumerate(nodes)]
        descriptor = kp.GenericDataInferenceDescriptor(
            model_id=self._model.id,
            inference_number=0,
            input_node_data_list=[kp.GenericInputNodeData(buffer=buffer) for buffer in buffers],
        )
        send, receive = kp.inference.generic_data_inference_send, kp.inference.generic_data_inference_receive
        self._call("send", send, device_group=self._group, generic_inference_input_descriptor=descriptor)
        result = self._call("receive", receive, device_group=self._group)
        found = [
            self._call(
                "generic_inference_retrieve_float_node",
                kp.inference.generic_inference_retrieve_float_node,
                node_idx=index,
                generic_raw_result=result,
                channels_ordering=kp.ChannelOrdering.KP_CHANNEL_ORDERING_CHW,
            )
            for index in range(result.header.num_output_node)
        ]
        names = [str(getattr(one, "name", "")) for one in found]
        arrays = [np.asarray(one.ndarray, np.float32) for one in found]
        return by_name_or_shape(arrays, names, self._job.outputs, "the NPU")


if __name__ == "__main__":
    run(main_of(OnDevice, "device.json", "device"))
