"""The rules of the double of Kneron PLUS that test_device.py does not break, each broken once: it refuses."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

CHW = "KP_CHANNEL_ORDERING_CHW"


@pytest.fixture
def board(doubles, compiled, monkeypatch, tmp_path):
    """kp, a connected device with the network on it, and the .nef."""
    import kp

    monkeypatch.delenv("KP_DOUBLE", raising=False)
    path = compiled() / "net.double.nef"
    group = kp.core.connect_devices(usb_port_ids=[5])
    kp.core.load_model_from_file(device_group=group, file_path=str(path))
    return SimpleNamespace(kp=kp, group=group, path=path, folder=tmp_path, monkeypatch=monkeypatch)


def described(board, buffers=(bytes(3 * 16 * 12),), **change):
    nodes = [board.kp.GenericInputNodeData(buffer=buffer) for buffer in buffers]
    return board.kp.GenericDataInferenceDescriptor(**({"model_id": 32769, "input_node_data_list": nodes} | change))


def send(board, descriptor):
    board.kp.inference.generic_data_inference_send(board.group, descriptor)


def retrieve(board, **change):
    send(board, described(board))
    result = board.kp.inference.generic_data_inference_receive(board.group)
    ordering = board.kp.ChannelOrdering[change.pop("ordering", CHW)]
    given = {"node_idx": 0, "generic_raw_result": result, "channels_ordering": ordering}
    return board.kp.inference.generic_inference_retrieve_float_node(**(given | change))


def load(board, path, **setup):
    board.monkeypatch.setenv("KP_DOUBLE", json.dumps(setup))
    group = board.kp.core.connect_devices(usb_port_ids=[5])
    return board.kp.core.load_model_from_file(device_group=group, file_path=path)


def firmware(board, scpu="", ncpu="", boot=True):
    board.monkeypatch.setenv("KP_DOUBLE", json.dumps({"usb_boot": boot}))
    group = board.kp.core.connect_devices(usb_port_ids=[5])
    board.kp.core.load_firmware_from_file(group, scpu, ncpu)


def renamed(board, content):
    """Load something else under the name of a .nef."""
    other = board.folder / "other.nef"
    other.write_bytes(content)
    load(board, str(other))


RULES = {
    "port that is no list": (lambda b: b.kp.core.connect_devices(usb_port_ids=5), "no device at 5"),
    "two ports": (lambda b: b.kp.core.connect_devices(usb_port_ids=[5, 5]), "no device at"),
    "no port": (lambda b: b.kp.core.connect_devices(usb_port_ids=[]), "no device at"),
    "milliseconds as a float": (lambda b: b.kp.core.set_timeout(b.group, 1e3), "milliseconds 1000.0"),
    "firmware by a path": (lambda b: firmware(b, b.path), "paths are str"),
    "second firmware by a path": (lambda b: firmware(b, str(b.path), b.path), "paths are str"),
    "firmware of a running device": (lambda b: firmware(b, str(b.path), "", False), "not in USB boot mode"),
    "firmware of no name": (lambda b: firmware(b), "no firmware"),
    "firmware of no file": (lambda b: firmware(b, "/nowhere"), "no firmware '/nowhere'"),
    "port of the system": (lambda b: b.kp.core.get_system_info(b.group, 9), "port 9 is not connected"),
    "model before the firmware": (lambda b: load(b, str(b.path), usb_boot=True), "firmware is not loaded"),
    "model by a path": (lambda b: load(b, b.path), r"is no \.nef"),
    "model of no file": (lambda b: load(b, "/nowhere.nef"), "nowhere"),
    "model of another file": (lambda b: renamed(b, b"a real one"), "not written by this double"),
    "a .bie": (lambda b: renamed(b, b.path.with_suffix(".bie").read_bytes()), "is a bie"),
    "model for another chip": (lambda b: load(b, str(b.path), devices=[[0x720, 5]]), "INVALID_MODEL"),
    "model id by name": (lambda b: described(b, model_id="32769"), "are int"),
    "number of the inference": (lambda b: described(b, inference_number=None), "are int"),
    "inputs missing": (lambda b: described(b, input_node_data_list=None), "is a list of"),
    "inputs no list": (lambda b: described(b, input_node_data_list=()), "is a list of"),
    "inputs as bytes": (lambda b: described(b, input_node_data_list=[b""]), "is a list of"),
    "unknown argument": (lambda b: described(b, model=1), "model"),
    "input as an array": (lambda b: described(b, [np.zeros(576, np.int8)]), "buffer is bytes"),
    "no descriptor": (lambda b: send(b, {"model_id": 32769}), "GenericDataInferenceDescriptor is needed"),
    "two inputs": (lambda b: send(b, described(b, [bytes(576)] * 2)), "with 2 inputs"),
    "no inputs": (lambda b: send(b, described(b, [])), "with 0 inputs"),
    "input too long": (lambda b: send(b, described(b, [bytes(577)])), "577 bytes, not 576"),
    "channels last": (lambda b: retrieve(b, ordering="KP_CHANNEL_ORDERING_HCW"), "channels first"),
    "channels by default": (lambda b: retrieve(b, ordering="KP_CHANNEL_ORDERING_DEFAULT"), "channels first"),
    "output node by name": (lambda b: retrieve(b, node_idx="0"), "no output node 0"),
    "output node before the first": (lambda b: retrieve(b, node_idx=-1), "no output node -1"),
    "output node missing": (
        lambda b: b.kp.inference.generic_inference_retrieve_float_node(generic_raw_result=None, channels_ordering=None),
        "node_idx",
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_rule_is_refused(board, rule):
    broken, said = RULES[rule]
    # OSError, RuntimeError: of a file, which the real one tells in an exception of its own
    with pytest.raises((board.kp.ApiKPException, TypeError, OSError, RuntimeError), match=said):
        broken(board)


def test_what_is_right_is_taken(board, tmp_path):
    (tmp_path / "firmware.tar").write_bytes(b"firmware")
    firmware(board, str(tmp_path / "firmware.tar"))
    board.monkeypatch.delenv("KP_DOUBLE")
    assert retrieve(board).ndarray.dtype == np.float32
    board.kp.core.disconnect_devices(device_group=board.group)


CALLS = {
    "disconnect_devices": lambda kp, group: kp.core.disconnect_devices(group),
    "set_timeout": lambda kp, group: kp.core.set_timeout(group, 1000),
    "load_firmware_from_file": lambda kp, group: kp.core.load_firmware_from_file(group, "", ""),
    "get_system_info": lambda kp, group: kp.core.get_system_info(group, 5),
    "load_model_from_file": lambda kp, group: kp.core.load_model_from_file(group, "net.nef"),
    "send": lambda kp, group: kp.inference.generic_data_inference_send(group, None),
    "receive": lambda kp, group: kp.inference.generic_data_inference_receive(group),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_wants_a_connected_device(board, call):
    with pytest.raises(TypeError, match="what connect_devices returned"):
        CALLS[call](board.kp, 5)
    board.kp.core.disconnect_devices(board.group)
    with pytest.raises(board.kp.ApiKPException, match="is disconnected"):
        CALLS[call](board.kp, board.group)


@pytest.mark.parametrize(
    ("platform", "layout", "right"),
    [("730", "RAW_8B", 105), ("730", "8W1C16B", 240), ("730", "16W1C8BHL", 480), ("520", "4W4C8B", 320),
     ("720", "16W1C8B", 240), ("630", "1W16C8B", 560)],
)  # fmt: skip
def test_a_buffer_of_another_length_than_its_layout_needs(doubles, platform, layout, right):
    from kp.layouts import descriptor, read_back

    shape = (1, 3, 5, 7)
    node = descriptor(platform, "image", shape, 1.0, layout)
    assert read_back(bytes(right), node, platform).shape == shape
    for wrong in (right - 1, right + 1):
        with pytest.raises(ValueError, match=f"has {wrong} bytes, not {right}"):
            read_back(bytes(wrong), node, platform)


@pytest.mark.parametrize(
    "call", ["scan_devices", "connect_devices", "load_firmware_from_file", "load_model_from_file", "send", "receive"]
)
def test_each_call_fails_where_it_is_told_to(board, call):
    board.monkeypatch.setenv("KP_DOUBLE", json.dumps({"fails": call}))
    kp = board.kp
    others = {"scan_devices": kp.core.scan_devices, "connect_devices": lambda: kp.core.connect_devices([5])}
    with pytest.raises(kp.ApiKPException, match=f"in function: {call}"):
        others.get(call, lambda: CALLS[call](kp, board.group))()
