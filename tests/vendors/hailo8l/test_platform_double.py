"""The double of HailoRT's Python package refuses each rule that is broken; all else about each run is right."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

_spec = importlib.util.spec_from_file_location("hailo8l_conftest_platform", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
SHAPE = (16, 12, 3)
REFUSED = (AssertionError, TypeError)


def imported(patch: pytest.MonkeyPatch, **variables: str) -> ModuleType:
    """The double, imported anew with these variables; `patch` undone, nothing of it is left."""
    for name in ("HAILORT_DOUBLE_OLD", "HAILORT_DOUBLE_FAILS", "HAILORT_DOUBLE_RENAMES"):
        patch.delenv(name, raising=False)
    for name, value in variables.items():
        patch.setenv(name, value)
    for folder in reversed(_conftest.PATHS.split(":")):
        patch.syspath_prepend(folder)
    for name in [name for name in sys.modules if name.split(".")[0] == "hailo_platform"]:
        patch.delitem(sys.modules, name)
    found = importlib.import_module("hailo_platform")
    assert found.NPUMAKE_DOUBLE
    return found


@pytest.fixture(scope="module")
def platform() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        yield imported(patch)
        for name in [name for name in sys.modules if name.split(".")[0] == "hailo_platform"]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def hef(compiled: Path) -> str:
    return str(compiled / "net.double.hef")


def image(shape: tuple = SHAPE, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, shape).astype(dtype)


def transposed(shape: tuple, dtype: type) -> np.ndarray:
    """Of this shape, and not contiguous."""
    return np.zeros(shape[::-1], dtype).T


def run_model(hp: ModuleType, path: str, **change) -> dict[str, np.ndarray]:
    """One image through create_infer_model(), with one thing changed."""
    parameters = hp.VDevice.create_params()
    parameters.scheduling_algorithm = change.get("scheduler", hp.HailoSchedulingAlgorithm.ROUND_ROBIN)
    if "parameter" in change:
        parameters.multi_process_service = True
    device = hp.VDevice(change.get("params", parameters), **change.get("of_device", {}))
    if "never entered" in change:
        device.create_infer_model(path)
    with device:
        if "entered twice" in change:
            device.__enter__()
        model = device.create_infer_model(change.get("file", path), **change.get("of_model", {}))
        model.set_batch_size(change.get("batch", 1))
        model.input(change.get("input", "")).set_format_type(change.get("format", hp.FormatType.UINT8))
        for name in model.output_names:
            model.output(change.get("output", name)).set_format_type(change.get("out", hp.FormatType.FLOAT32))
        configured = model.configure()
        if "format late" in change:
            model.input().set_format_type(hp.FormatType.FLOAT32)
        if "batch late" in change:
            model.set_batch_size(1)
        if "not in with" in change:
            configured.create_bindings()
        with configured:
            bindings = configured.create_bindings(**change.get("of_bindings", {}))
            if "no input" not in change:
                bindings.input(change.get("bound", "")).set_buffer(change.get("image", image()))
            buffers = {n: np.empty(model.output(n).shape, np.float32) for n in model.output_names}
            for name, buffer in buffers.items():
                given = change["buffer"](buffer) if "buffer" in change else buffer
                if given is not None:
                    bindings.output(change.get("bound output", name)).set_buffer(given)
            if "foreign bindings" in change:
                other = device.create_infer_model(path)
                other.input().set_format_type(hp.FormatType.UINT8)
                for name in other.output_names:
                    other.output(name).set_format_type(hp.FormatType.FLOAT32)
                with other.configure() as another:
                    bindings = another.create_bindings()
            if "device closed" in change:
                device.__exit__(None, None, None)
            configured.run(change.get("list", [bindings]), change.get("timeout", 10_000))
        if "model closed" in change:
            configured.run([bindings], 10_000)
    if "reopened" in change:
        device.__enter__()
    if "device gone" in change:
        model.configure()
    return buffers


def run_streams(hp: ModuleType, path: str, **change) -> dict[str, np.ndarray]:
    """A batch of two images through InferVStreams, with one thing changed."""
    hef = hp.HEF(change.get("file", path))
    parameters = hp.VDevice.create_params()
    parameters.scheduling_algorithm = change.get("scheduler", hp.HailoSchedulingAlgorithm.NONE)
    device = hp.VDevice(parameters)
    configure = change.get("parameters")
    configure = configure or hp.ConfigureParams.create_from_hef(
        change.get("hef", hef), interface=change.get("interface", hp.HailoStreamInterface.PCIe)
    )
    if "never entered" in change:
        device.configure(hef, configure)
    with device:
        (group,) = device.configure(change.get("of_configure", hef), configure)
        made = change.get("group", group)
        inputs = hp.InputVStreamParams.make(made, format_type=change.get("format", hp.FormatType.UINT8))
        outputs = hp.OutputVStreamParams.make(group, format_type=change.get("out", hp.FormatType.FLOAT32))
        pair = (outputs, inputs) if "swapped" in change else (inputs, inputs) if "inputs only" in change else None
        streams = hp.InferVStreams(change.get("streamed", group), *(pair or (inputs, outputs)))
        data = {change.get("name", hef.get_input_vstream_infos()[0].name): change.get("image", image((2, *SHAPE)))}
        if "list" in change:
            data = list(data.values())
        if "not activated" in change:
            with streams as pipeline:
                pipeline.infer(data)
        with group.activate(change.get("activation", group.create_params())):
            if "not in with" in change:
                streams.infer(data)
            with streams as pipeline:
                if "device closed" in change:
                    device.__exit__(None, None, None)
                found = pipeline.infer(data)
            if "streams closed" in change:
                pipeline.infer(data)
    if "entered late" in change:
        streams.__enter__()
    if "activated late" in change:
        group.activate(group.create_params()).__enter__()
    return found


def test_both_ways_take_what_is_right_and_agree(platform, hef):
    new, old = run_model(platform, hef), run_streams(platform, hef, image=image()[None])
    assert {name: array.shape for name, array in new.items()} == {name: one.shape[1:] for name, one in old.items()}
    assert len(new) == 2
    for name, array in new.items():
        np.testing.assert_array_equal(array, old[name][0])
        assert np.ptp(array) > 0


MODEL_RULES = {
    "unknown argument of VDevice": ({"of_device": {"devices": 1}}, "devices"),
    "unknown parameter": ({"parameter": True}, "no parameter multi_process_service"),
    "scheduler": ({"scheduler": "ROUND_ROBIN"}, "HailoSchedulingAlgorithm is needed"),
    "parameters": ({"params": {}}, "create_params"),
    "model before the device is open": ({"never entered": True}, "VDevice is not open"),
    "device entered twice": ({"entered twice": True}, "entered once"),
    "device entered again": ({"reopened": True}, "entered once"),
    "path": ({"file": Path("net.hef")}, "is a str"),
    "unknown argument of a model": ({"of_model": {"name": "net"}}, "name"),
    "batch": ({"batch": 2}, "one image"),
    "batch by another type": ({"batch": 1.0}, "one image"),
    "format by number": ({"format": 1}, "FormatType is needed"),
    "format by dtype": ({"format": np.uint8}, "FormatType is needed"),
    "format of the input not set": ("AUTO", "format of the input is not set"),
    "format of the input": ("UINT16", "format of the input is not set"),
    "format of the outputs": ("out AUTO", "FLOAT32"),
    "format after configure": ({"format late": True}, "set before configure"),
    "batch after configure": ({"batch late": True}, "set before configure"),
    "configured after the device is closed": ({"device gone": True}, "VDevice is not open"),
    "bindings before the model is open": ({"not in with": True}, "network is not open"),
    "unknown argument of bindings": ({"of_bindings": {"buffers": {}}}, "buffers"),
    "input NCHW": ({"image": image((3, 16, 12))}, "read past"),
    "input with a batch": ({"image": image((1, *SHAPE))}, "read past"),
    "input as a list": ({"image": image().tolist()}, "read past"),
    "input dtype": ({"image": image(dtype=np.float32)}, "uint8 is needed, not of float32"),
    "input not contiguous": ({"image": transposed(SHAPE, np.uint8)}, "not contiguous"),
    "no input": ({"no input": True}, "input has to be a uint8 array"),
    "output shape": ({"buffer": lambda buffer: buffer[:1]}, "read past"),
    "output as a list": ({"buffer": lambda buffer: buffer.tolist()}, "read past"),
    "output dtype": ({"buffer": lambda buffer: np.zeros(buffer.shape)}, "float32 is needed, not of float64"),
    "output not contiguous": ({"buffer": lambda buffer: transposed(buffer.shape, np.float32)}, "not contiguous"),
    "an output without a buffer": ({"buffer": lambda buffer: buffer if len(buffer) == 16 else None}, "every output"),
    "bindings not in a list": ({"list": ()}, "list of one set"),
    "two bindings": ({"list": [None, None]}, "list of one set"),
    "something else than bindings": ({"list": [{}]}, "those of create_bindings"),
    "bindings of another model": ({"foreign bindings": True}, "those of create_bindings"),
    "timeout in seconds": ({"timeout": 10}, "milliseconds"),
    "timeout by another type": ({"timeout": 10_000.0}, "milliseconds"),
    "run after the model is closed": ({"model closed": True}, "network is not open"),
    "run after the device is closed": ({"device closed": True}, "network is not open"),
}
NAMES = {
    "input by another name": ("input", "no input 'image'"),
    "output by another name": ("output", "no output 'image'"),
    "input of the bindings by another name": ("bound", "no input 'image'"),
    "output of the bindings by another name": ("bound output", "no output 'image'"),
}


@pytest.mark.parametrize("rule", MODEL_RULES)
def test_create_infer_model_refuses(platform, hef, rule):
    change, said = MODEL_RULES[rule]
    if isinstance(change, str):
        key, _, name = change.rpartition(" ")
        change = {key or "format": platform.FormatType[name]}
    with pytest.raises(REFUSED, match=said):
        run_model(platform, hef, **change)


@pytest.mark.parametrize("rule", NAMES)
def test_names_that_the_network_does_not_have(platform, hef, rule):
    key, said = NAMES[rule]
    with pytest.raises(platform.HailoRTException, match=said):
        run_model(platform, hef, **{key: "image"})


STREAM_RULES = {
    "path": ({"file": Path("net.hef")}, "is a str"),
    "file instead of a HEF": ({"hef": "net.hef"}, "HEF is needed"),
    "interface by name": ({"interface": "PCIe"}, "HailoStreamInterface is needed"),
    "configured before the device is open": ({"never entered": True}, "VDevice is not open"),
    "configured by file": ({"of_configure": "net.hef"}, "HEF is needed"),
    "other parameters": ({"parameters": {"net": None}}, "create_from_hef"),
    "parameters of no group": ({"group": "net"}, "configured network group"),
    "format by number": ({"format": 1}, "FormatType is needed"),
    "format of the outputs by number": ({"out": 3}, "FormatType is needed"),
    "format of the input": ("AUTO", "format of the input"),
    "format of the outputs": ("out UINT8", "as FLOAT32"),
    "streams of no group": ({"streamed": "net"}, "configured network group"),
    "inputs after outputs": ({"swapped": True}, "inputs come first"),
    "inputs twice": ({"inputs only": True}, "the outputs"),
    "activation by a dict": ({"activation": {}}, "those of create_params"),
    "not activated": ({"not activated": True}, "not activated"),
    "streams not open": ({"not in with": True}, "streams are not open"),
    "streams closed": ({"streams closed": True}, "streams are not open"),
    "device closed": ({"device closed": True}, "streams are not open"),
    "streams entered after the device": ({"entered late": True}, "VDevice is not open"),
    "activated after the device": ({"activated late": True}, "VDevice is not open"),
    "name of the input": ({"name": "image"}, "name of the input"),
    "input without its name": ({"list": True}, "name of the input"),
    "no batch": ({"image": image()}, "N, H, W, C"),
    "empty batch": ({"image": image((0, *SHAPE))}, "N, H, W, C"),
    "list of images": ({"image": [image()]}, "N, H, W, C"),
    "NCHW": ({"image": image((1, 3, 16, 12))}, "is not"),
    "dtype": ({"image": image((1, *SHAPE), np.float32)}, "has to be a uint8 array"),
}


@pytest.mark.parametrize("rule", STREAM_RULES)
def test_virtual_streams_refuse(platform, hef, rule):
    change, said = STREAM_RULES[rule]
    if isinstance(change, str):
        key, _, name = change.rpartition(" ")
        change = {key or "format": platform.FormatType[name]}
    with pytest.raises(REFUSED, match=said):
        run_streams(platform, hef, **change)


def test_the_scheduler_and_activation_exclude_each_other(platform, hef):
    algorithm = platform.HailoSchedulingAlgorithm
    with pytest.raises(platform.HailoRTException, match="not activated"):
        run_model(platform, hef, scheduler=algorithm.NONE)
    with pytest.raises(platform.HailoRTException, match="scheduler is active"):
        run_streams(platform, hef, scheduler=algorithm.ROUND_ROBIN)
