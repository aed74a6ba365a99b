"""The rules of the stand-ins for pyACL and ais_bench that test_doubles.py does not break, each broken once."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

_spec = importlib.util.spec_from_file_location("ascend310p_conftest_runtime", Path(__file__).parent / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
SIZE, SMALL, LARGE = 3 * 16 * 12 * 4, 4 * 16 * 12 * 4, 5 * 32 * 24 * 4  # bytes of the input and of the outputs


@pytest.fixture
def fresh():
    """acl, not initialised."""
    with _conftest.importing(_conftest.DOUBLE):
        yield importlib.import_module("acl")


@pytest.fixture
def card(fresh, compiled):
    """acl with a network of one size, a network of several, their descriptions, memory, a data buffer, a dataset."""
    fresh.init()
    fresh.rt.set_device(0)
    found = SimpleNamespace(acl=fresh, mdl=fresh.mdl, rt=fresh.rt, paths={})
    for name, options in (("fixed", None), ("free", {"DYNAMIC": "image_size"}), ("batches", {"DYNAMIC": "batch"})):
        model, code = fresh.mdl.load_from_file(str(compiled("fp16", options) / "net.double.om"))
        description = fresh.mdl.create_desc()
        assert (code, fresh.mdl.get_desc(description, model)) == (0, 0)
        setattr(found, name, model)
        setattr(found, f"{name}_description", description)
    found.memory, _ = fresh.rt.malloc(1024, 0)
    found.buffer = fresh.create_data_buffer(found.memory, 1024)
    found.dataset = fresh.mdl.create_dataset()
    found.host = np.zeros(2048, np.uint8)
    return found


def dataset(card, *sizes):
    made = card.mdl.create_dataset()
    for size in sizes:
        card.mdl.add_dataset_buffer(made, card.acl.create_data_buffer(card.rt.malloc(size, 0)[0], size))
    return made


def copy(card, kind=1, size=1024, target_size=1024, beyond=0):
    device, host = card.memory + beyond, card.host.ctypes.data
    target, source = (device, host) if kind == 1 else (host, device)
    return card.rt.memcpy(target, target_size, source, size, kind)


def execute(card, inputs=(SIZE,), outputs=(SMALL, LARGE), model="fixed"):
    return card.mdl.execute(getattr(card, model), dataset(card, *inputs), dataset(card, *outputs))


def twice(call, *arguments):
    call(*arguments)
    call(*arguments)


def executed_twice(card):
    inputs, outputs = dataset(card, 32 * 24 * 3 * 4, 16), dataset(card, 4 * 32 * 24 * 4, 5 * 64 * 48 * 4)
    assert card.mdl.set_dynamic_hw_size(card.free, inputs, 1, 16, 12) == 0
    assert card.mdl.execute(card.free, inputs, outputs) == 0
    assert card.mdl.get_cur_output_dims(card.free_description, 0)[0]["dims"] == [1, 4, 16, 12]
    card.mdl.execute(card.free, inputs, outputs)


def freed(card):
    inputs, outputs = dataset(card, SIZE), dataset(card, SMALL, LARGE)
    for pointer in list(card.acl.state.memory):
        card.rt.free(pointer)
    card.mdl.execute(card.fixed, inputs, outputs)


def finalised(card):
    for pointer in list(card.acl.state.memory):
        card.rt.free(pointer)
    card.rt.reset_device(0)
    card.acl.finalize()


def described(call, index, description="fixed_description"):
    """That call on an output or input that there is not."""
    return lambda card: getattr(card.mdl, call)(getattr(card, description), index)


RULES = {
    "finalised before the device is reset": (lambda c: c.acl.finalize(), "reset_device"),
    "finalised with handles": (finalised, r"not given back: \['buffer', 'dataset', 'description', 'model'\]"),
    "buffer on memory that was not allocated": (lambda c: c.acl.create_data_buffer(c.memory + 8, 8), None),
    "buffer destroyed twice": (lambda c: twice(c.acl.destroy_data_buffer, c.buffer), "was destroyed"),
    "dataset as a buffer": (lambda c: c.acl.destroy_data_buffer(c.dataset), "is a dataset"),
    "no handle": (lambda c: c.acl.destroy_data_buffer(7), None),
    "another device reset": (lambda c: c.rt.reset_device(1), "device 1 is not set"),
    "another device": (lambda c: c.rt.set_device(1), "no device 1"),
    "no bytes": (lambda c: c.rt.malloc(0, 0), "a size of 0"),
    "policy": (lambda c: c.rt.malloc(8, 3), "a policy of 3"),
    "freed twice": (lambda c: twice(c.rt.free, c.memory), None),
    "kind of copy": (lambda c: copy(c, 3), "a kind of 3"),
    "copy of nothing": (lambda c: copy(c, size=0), "0 bytes into 1024"),
    "copy beyond the target": (lambda c: copy(c, size=1025), "1025 bytes into 1024"),
    "copy beyond the device's memory": (lambda c: copy(c, size=2048, target_size=2048), "beyond the device's"),
    "copy to the host beyond": (lambda c: copy(c, 2, 2048, 2048), "beyond the device's memory"),
    "copy with another size of the memory": (lambda c: copy(c, size=8, target_size=512), "size of the device's memory"),
    "copy from memory that was not allocated": (lambda c: copy(c, 2, 8, 8, beyond=8), None),
    "path of a model": (lambda c: c.mdl.load_from_file(Path("net.om")), "path is a str"),
    "model that is none": (lambda c: c.mdl.load_from_file(__file__), r"no \.om of a double"),
    "unloaded twice": (lambda c: twice(c.mdl.unload, c.fixed), "was destroyed"),
    "description destroyed twice": (lambda c: twice(c.mdl.destroy_desc, c.fixed_description), "was destroyed"),
    "description of a description": (
        lambda c: c.mdl.get_desc(c.fixed_description, c.fixed_description),
        "is a description",
    ),
    "described into a model": (lambda c: c.mdl.get_desc(c.fixed, c.fixed), "is a model"),
    "description that is empty": (lambda c: c.mdl.get_num_outputs(c.mdl.create_desc()), "om"),
    "input name": (described("get_input_name_by_index", 1), "index of 1, there are 1"),
    "input name before the first": (described("get_input_name_by_index", -1), "index of -1"),
    "input size": (described("get_input_size_by_index", 1), "index of 1, there are 1"),
    "input size of several": (described("get_input_size_by_index", 2, "free_description"), "index of 2, there are 2"),
    "output name": (described("get_output_name_by_index", 2), "index of 2, there are 2"),
    "output type": (described("get_output_data_type", 2), "index of 2, there are 2"),
    "output type before the first": (described("get_output_data_type", -1), "index of -1"),
    "output size": (described("get_output_size_by_index", 2), "index of 2, there are 2"),
    "output dimensions": (described("get_cur_output_dims", 2), "index of 2, there are 2"),
    "memory instead of a data buffer": (lambda c: c.mdl.add_dataset_buffer(c.dataset, c.memory), None),
    "dataset in a dataset": (lambda c: c.mdl.add_dataset_buffer(c.dataset, c.dataset), "is a dataset"),
    "buffer in a buffer": (lambda c: c.mdl.add_dataset_buffer(c.buffer, c.buffer), "is a buffer"),
    "size at another input": (
        lambda c: c.mdl.set_dynamic_hw_size(c.free, dataset(c, 8, 16), 0, 16, 12),
        "ascend_mbatch_shape_data",
    ),
    "batch at another input": (
        lambda c: c.mdl.set_dynamic_batch_size(c.batches, dataset(c, 8, 16), 0, 1),
        "ascend_mbatch_shape_data",
    ),
    "size before the buffers": (lambda c: c.mdl.set_dynamic_hw_size(c.free, c.dataset, 1, 16, 12), "come first"),
    "batch before the buffers": (lambda c: c.mdl.set_dynamic_batch_size(c.batches, c.dataset, 1, 1), "come first"),
    "batch not chosen": (lambda c: execute(c, (SIZE, 16), model="batches"), "comes before each execution"),
    "size chosen for one execution only": (executed_twice, "comes before each execution"),
    "no input": (lambda c: execute(c, ()), "0 inputs"),
    "two inputs": (lambda c: execute(c, (SIZE, 16)), "2 inputs"),
    "input too small": (lambda c: execute(c, (SIZE - 1,)), "2304 bytes in a buffer of 2303"),
    "one output": (lambda c: execute(c, outputs=(SMALL,)), "1 outputs, the network has 2"),
    "output too small": (lambda c: execute(c, outputs=(SMALL, SMALL)), "15360 bytes in a buffer of 3072"),
    "memory that was freed": (freed, "memory that was freed"),
}


@pytest.mark.parametrize("rule", RULES)
def test_pyacl_refuses(card, rule):
    broken, said = RULES[rule]
    # KeyError: a handle or an address that nobody gave out
    with pytest.raises((AssertionError, ValueError) if said not in (None, "om") else KeyError, match=said):
        broken(card)


def test_pyacl_takes_what_is_right(card):
    assert execute(card) == 0 and copy(card) == 0 and copy(card, 2) == 0
    assert card.mdl.set_dynamic_batch_size(card.batches, dataset(card, 8, 16), 1, 3) != 0  # no such profile
    assert card.mdl.set_dynamic_hw_size(card.batches, dataset(card, 8, 16), 1, 16, 12) != 0  # not that kind


def test_pyacl_refuses_before_it_is_started(fresh):
    for call in (fresh.finalize, fresh.get_soc_name):
        with pytest.raises(AssertionError, match="comes first"):
            call()
    with pytest.raises(AssertionError, match="no configuration file"):
        fresh.init("acl.json")
    fresh.init()
    with pytest.raises(AssertionError, match="set_device"):
        fresh.rt.malloc(8, 0)
    with pytest.raises(AssertionError, match="device 0 is not set"):
        fresh.rt.reset_device(0)
    with pytest.raises(AssertionError, match="device None is not set"):
        fresh.rt.reset_device(None)
    fresh.finalize()


@pytest.mark.parametrize(
    ("of_session", "of_run", "said"),
    [
        ({"device_id": 1}, {}, "no device 1"),
        ({"model_path": Path("net.om")}, {}, "path is a str"),
        ({"model_path": __file__}, {}, r"no \.om of a double"),
        ({"acl_json_path": "acl.json"}, {}, "not asked for"),
        ({"debug": True}, {}, "not asked for"),
        ({"loop": 2}, {}, "not asked for"),
        ({"batch": 1}, {}, "batch"),
        ({}, {"custom_sizes": 4}, "not asked for"),
        ({}, {"out_array": False}, "not asked for"),
        ({}, {"dtype": "float32"}, "dtype"),
        ({}, {"feeds": []}, "list of the one input"),
        ({}, {"feeds": [np.zeros((1, 3, 16, 12), np.float32)] * 2}, "list of the one input"),
        ({}, {"feeds": np.zeros((1, 3, 16, 12), np.float32)}, "list of the one input"),
        ({}, {"feeds": [[1.0]]}, "contiguous array"),
        ({}, {"mode": "dymbatch"}, "not a dymbatch model"),
    ],
)
def test_ais_bench_refuses(compiled, of_session, of_run, said):
    path = str(compiled("fp16") / "net.double.om")
    with _conftest.importing(_conftest.DOUBLE):
        interface = importlib.import_module("ais_bench.infer.interface")
        with pytest.raises((AssertionError, TypeError, RuntimeError, ValueError), match=said):
            session = interface.InferSession(**({"device_id": 0, "model_path": path} | of_session))
            session.infer(**({"feeds": [np.zeros((1, 3, 16, 12), np.float32)]} | of_run))


def test_ais_bench_refuses_what_was_freed_and_height_and_width_in_nhwc(compiled):
    eight = compiled("fp16", {"INPUT": "u8", "DYNAMIC": "image_size"}) / "net.double.om"
    with _conftest.importing(_conftest.DOUBLE):
        session = importlib.import_module("ais_bench.infer.interface").InferSession(0, str(eight))
        with pytest.raises(RuntimeError, match="not a dymhw model"):
            session.infer([np.zeros((1, 16, 12, 3), np.uint8)], "dymhw")
        session.free_resource()
        for call in (session.get_inputs, session.get_outputs):
            with pytest.raises(AssertionError, match="was freed"):
                call()
