"""kp.core [api_document/V3.2.0/kp/core.md]."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import onnxruntime
from ktc import double_file
from ktc.graph_rules import input_shapes

from kp.layouts import descriptor
from kp.values import ApiKPException, ModelTargetChip, ProductId, setup, told_to


class DeviceGroup:
    """A connected device, and what was loaded onto it."""

    def __init__(self, product: int, port: int):
        self.product, self.port = product, port
        self.booted = not setup().usb_boot
        self.loaded = None
        self.waiting = []
        self.connected = True


def get_version():
    return "3.2.0 (double)"


def scan_devices():
    told_to("scan_devices")
    listed = [SimpleNamespace(product_id=product, usb_port_id=port) for product, port in setup().devices]
    return SimpleNamespace(device_descriptor_list=listed, device_descriptor_number=len(listed))


def connect_devices(usb_port_ids):
    told_to("connect_devices")
    ports = {port: product for product, port in setup().devices}
    if not isinstance(usb_port_ids, list) or len(usb_port_ids) != 1 or usb_port_ids[0] not in ports:
        raise ApiKPException(f"no device at {usb_port_ids}")
    return DeviceGroup(ports[usb_port_ids[0]], usb_port_ids[0])


def disconnect_devices(device_group):
    check_group(device_group)
    device_group.connected = False


def set_timeout(device_group, milliseconds):
    check_group(device_group)
    if type(milliseconds) is not int or milliseconds <= 0:
        raise ApiKPException(f"milliseconds {milliseconds!r}")


def load_firmware_from_file(device_group, scpu_fw_path, ncpu_fw_path):
    told_to("load_firmware_from_file")
    check_group(device_group)
    for path in (scpu_fw_path, ncpu_fw_path):
        if type(path) is not str:
            raise TypeError("firmware paths are str")
    if not setup().usb_boot:  # "only available when device is on USB Boot Mode" [introduction/run_examples.md]
        raise ApiKPException("the device is not in USB boot mode")
    if not scpu_fw_path or not Path(scpu_fw_path).is_file():
        raise ApiKPException(f"no firmware {scpu_fw_path!r}")
    device_group.booted = True


def get_system_info(device_group, usb_port_id):
    check_group(device_group)
    if usb_port_id != device_group.port:
        raise ApiKPException(f"port {usb_port_id} is not connected")
    return SimpleNamespace(firmware_version=SimpleNamespace(major=3, minor=2, update=0, build=7))


def load_model_from_file(device_group, file_path):
    told_to("load_model_from_file")
    check_group(device_group)
    if not device_group.booted:
        raise ApiKPException("the firmware is not loaded")
    if type(file_path) is not str or not file_path.endswith(".nef"):
        raise ApiKPException(f"{file_path!r} is no .nef")
    header, model = double_file.read(Path(file_path))
    if header["kind"] != "nef":
        raise ApiKPException(f"{file_path} is a {header['kind']}")
    platform = header["platform"]
    if device_group.product != ProductId[f"KP_DEVICE_KL{platform}"]:
        raise ApiKPException("Error code: 21 (KP_ERROR_INVALID_MODEL_21)")
    nodes = [
        descriptor(platform, name, shape, header["largest"][name], setup().layout)
        for name, shape in input_shapes(model).items()
    ]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = [SimpleNamespace(name=value.name) for value in session.get_outputs()]
    single = SimpleNamespace(id=header["id"], input_nodes=nodes, output_nodes=outputs)
    device_group.loaded = SimpleNamespace(platform=platform, model=single, session=session)
    chip = ModelTargetChip[f"KP_MODEL_TARGET_CHIP_KL{platform}"]
    return SimpleNamespace(target_chip=chip, models=[single])


def check_group(device_group):
    if not isinstance(device_group, DeviceGroup):
        raise TypeError("device_group is what connect_devices returned")
    if not device_group.connected:
        raise ApiKPException("the device group is disconnected")
