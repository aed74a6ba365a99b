"""device.py against a strict double of Kneron PLUS, which reads the input back out of the NPU's layout."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.vendors.kl730.jobs import arrays_of, change_job, evaluated, failed, record_of, run_script


def on_device(folder, **setup):
    variables = {key: value for key, value in setup.items() if key.startswith("KNERON_")}
    double = {key: value for key, value in setup.items() if key not in variables}
    return run_script("device.py", folder, KP_DOUBLE=json.dumps(double), **variables)


def test_the_chip_gives_what_the_simulator_gave(compiled, copied):
    folder = copied(compiled())
    simulated = arrays_of(folder / "outputs.npz")
    done = on_device(folder)
    assert done.returncode == 0, done.stderr
    found = arrays_of(folder / "outputs.npz")
    for name, array in simulated.items():
        np.testing.assert_array_equal(found[name], array)
    result = record_of(folder, "device.json")
    assert result["simulated"] is False and result["samples"] == 3 and result["latency_ms"] > 0
    assert "kl730 at USB port 5" in result["device"] and "firmware 3.2.0.7" in result["device"]
    assert "layout RAW_8B" in done.stderr and "Kneron PLUS 3.2.0" in done.stderr


CHECK = """
import json
import numpy as np
from npu_layout import npu_buffer
from kp.layouts import descriptor, read_back
generator = np.random.default_rng(5)
errors = {}
for platform, layout, shape in CASES:
    values = generator.uniform(-1, 1, shape).astype(np.float32)
    node = descriptor(platform, "image", shape, 1.0, layout)
    back = read_back(npu_buffer(values, node, f"kl{platform}"), node, platform)
    errors[f"{platform} {layout}"] = float(np.abs(back - values).max())
print(json.dumps(errors))
"""


def test_every_layout_is_read_back_as_it_was():
    shape = (1, 18, 5, 7)
    cases = [("730", name, shape) for name in ("RAW_8B", "16W1C8B", "RAW_16B", "8W1C16B", "16W1C8BHL")]
    small = (1, 3, 5, 7)  # strides name one block of channels only
    cases += [("730", name, small) for name in ("4W4C8B", "1W16C8B", "4W4C8BHL", "1W16C8BHL")]
    for platform in ("720", "630", "530"):
        cases += [(platform, name, shape) for name in ("4W4C8B", "1W16C8B", "16W1C8B")]
    cases.append(("520", "4W4C8B", shape))
    errors = evaluated(CHECK.replace("CASES", repr(cases)))
    assert len(errors) == len(cases) == 19
    for name, error in errors.items():
        wide = "16" in name.split()[1].replace("1W16C", "").replace("16W1C", "") or "HL" in name
        assert error <= (1.51 / 32767 if wide else 0.51 / 127), name


def test_an_unknown_layout_is_named(compiled, copied):
    failed(on_device(copied(compiled()), layout="RAW_FLOAT"), "RAW_FLOAT", "4W4C8B")


def test_an_older_chip(compiled, copied):
    """Another layout, without strides; rows before channels."""
    folder = copied(compiled(chip="kl520"))
    simulated = arrays_of(folder / "outputs.npz")
    done = on_device(folder, devices=[[0x100, 1]])
    assert done.returncode == 0, done.stderr
    assert all((arrays_of(folder / "outputs.npz")[name] == array).all() for name, array in simulated.items())


def test_outputs_without_names_are_told_by_shape(compiled, copied):
    folder = copied(compiled())
    simulated = arrays_of(folder / "outputs.npz")
    assert on_device(folder, nameless=True).returncode == 0
    assert all((arrays_of(folder / "outputs.npz")[name] == array).all() for name, array in simulated.items())


def test_which_device(compiled, copied):
    folder = copied(compiled())
    failed(on_device(folder, devices=[[0x720, 3]]), "one kl730 (0x732) is needed", "0x720 at port 3")
    two = [[0x732, 5], [0x732, 9]]
    failed(on_device(folder, devices=two), "0x732 at port 5, 0x732 at port 9")
    done = on_device(folder, devices=two, KNERON_PORT="9")
    assert done.returncode == 0 and "USB port 9" in done.stderr


def test_a_device_that_needs_its_firmware(compiled, copied, tmp_path):
    folder = copied(compiled())
    failed(on_device(folder, usb_boot=True), "load_model_from_file", "firmware")
    failed(on_device(folder, usb_boot=True, KNERON_SCPU_FIRMWARE="/nowhere/kp_firmware.tar"), "/nowhere")
    (tmp_path / "kp_firmware.tar").write_bytes(b"firmware")
    done = on_device(folder, usb_boot=True, KNERON_SCPU_FIRMWARE=str(tmp_path / "kp_firmware.tar"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("call", ["connect_devices", "load_model_from_file", "receive"])
def test_a_failing_call(compiled, copied, call):
    folder = copied(compiled())
    failed(on_device(folder, fails=call), f"Kneron PLUS's {call} failed")
    assert not (folder / "device.json").exists()


def test_a_stand_in_is_not_taken_for_kneron_plus(compiled, copied):
    folder = copied(compiled())
    record = record_of(folder)
    (folder / "compile.json").write_text(json.dumps(record | {"double": False}))
    change_job(folder, double=False)
    failed(on_device(folder), "kp", "stand-in")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"milliseconds": 0}, "milliseconds 0"),
        ({"ports": [7]}, "no device"),
        ({"path": "model.onnx"}, "no .nef"),
        ({"buffer": bytearray(4)}, "bytes"),
        ({"buffer": b"short"}, "bytes, not"),
        ({"model": 1}, "no model 1"),
        ({"twice": True}, "nothing was sent"),
        ({"unloaded": True}, "no model is loaded"),
        ({"node": 5}, "no output node 5"),
    ],
)
def test_the_double_refuses(doubles, compiled, monkeypatch, change, error):
    """Each rule of the double of kp, broken once."""
    import kp

    monkeypatch.delenv("KP_DOUBLE", raising=False)

    def run():
        listed = kp.core.scan_devices().device_descriptor_list
        group = kp.core.connect_devices(usb_port_ids=change.get("ports", [listed[0].usb_port_id]))
        kp.core.set_timeout(device_group=group, milliseconds=change.get("milliseconds", 1000))
        path = change.get("path", str(compiled() / "net.double.nef"))
        if "unloaded" not in change:
            model = kp.core.load_model_from_file(device_group=group, file_path=path).models[0]
        buffer = change.get("buffer", bytes(3 * 16 * 12))
        given = kp.GenericDataInferenceDescriptor(
            model_id=change.get("model", 32769), input_node_data_list=[kp.GenericInputNodeData(buffer=buffer)]
        )
        kp.inference.generic_data_inference_send(device_group=group, generic_inference_input_descriptor=given)
        result = kp.inference.generic_data_inference_receive(device_group=group)
        if "twice" in change:
            kp.inference.generic_data_inference_receive(device_group=group)
        kp.inference.generic_inference_retrieve_float_node(
            node_idx=change.get("node", 0),
            generic_raw_result=result,
            channels_ordering=kp.ChannelOrdering.KP_CHANNEL_ORDERING_CHW,
        )
        return model

    with pytest.raises((kp.ApiKPException, TypeError)) as caught:
        run()
    assert error in str(caught.value)
