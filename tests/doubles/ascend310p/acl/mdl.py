"""acl.mdl of the stand-in: the model, its description, its datasets, its execution."""

from __future__ import annotations

import ctypes

import numpy as np
from om_file import output_shapes, read_om

from acl.state import code_of, state

GEARS = "ascend_mbatch_shape_data"
_chosen: dict[int, tuple[int, tuple[int, int]]] = {}  # for the execution to come
_executed: dict[int, tuple[int, tuple[int, int]]] = {}  # of the last one


def _om(description):
    return state.get("description", description)["om"]


def _check_index(index, count):
    assert type(index) is int and 0 <= index < count, f"an index of {index}, there are {count}"


def _check_gears(index, dataset):
    """The index is that of ascend_mbatch_shape_data; both inputs have their buffers."""
    assert index == 1, "the index of ascend_mbatch_shape_data"
    assert len(state.get("dataset", dataset)) == 2, "the buffers of both inputs come first"


def _largest(om):
    return max((om.shape(batch, size) for batch in om.batches() for size in om.sizes()), key=np.prod)


def load_from_file(path):
    assert state.device is not None, "rt.set_device() comes first"
    assert isinstance(path, str), "the path is a str"
    if code_of("mdl.load_from_file"):
        return 0, 145000
    return state.handle("model", {"om": read_om(path)}), 0


def unload(model):
    state.take("model", model)
    return 0


def create_desc():
    return state.handle("description", {})


def destroy_desc(description):
    state.take("description", description)
    return 0


def get_desc(description, model):
    state.get("description", description).update(om=state.get("model", model)["om"])
    return code_of("mdl.get_desc")


def get_num_inputs(description):
    header = _om(description).header
    return 2 if header["sizes"] or header["batches"] else 1


def get_num_outputs(description):
    return len(_om(description).output_names())


def get_input_name_by_index(description, index):
    _check_index(index, get_num_inputs(description))
    return [_om(description).header["input"]["name"], GEARS][index]


def get_input_index_by_name(description, name):
    names = [get_input_name_by_index(description, index) for index in range(get_num_inputs(description))]
    return (names.index(name), 0) if name in names else (0, 100000)


def get_input_size_by_index(description, index):
    om = _om(description)
    _check_index(index, get_num_inputs(description))
    if index == 1:
        return 16
    return int(np.prod(_largest(om))) * (1 if om.header["input"]["pixels"] else 4)


def get_output_name_by_index(description, index):
    _check_index(index, get_num_outputs(description))
    return _om(description).output_names()[index]


def get_output_data_type(description, index):
    _check_index(index, get_num_outputs(description))
    return 0  # ACL_FLOAT


def get_output_size_by_index(description, index):
    om = _om(description)
    _check_index(index, get_num_outputs(description))
    shape = output_shapes(om.model, om.header["input"]["name"], _largest(om))[index]
    return int(np.prod(shape)) * 4


def get_cur_output_dims(description, index):
    om = _om(description)
    _check_index(index, get_num_outputs(description))
    batch, size = _executed.get(id(om), (om.batches()[0], om.sizes()[0]))
    shape = output_shapes(om.model, om.header["input"]["name"], om.shape(batch, size))[index]
    return {"name": "out", "dimCount": len(shape), "dims": shape}, 0


def create_dataset():
    return state.handle("dataset", [])


def destroy_dataset(dataset):
    state.take("dataset", dataset)
    return 0


def add_dataset_buffer(dataset, buffer):
    state.get("buffer", buffer)
    state.get("dataset", dataset).append(buffer)
    return dataset, code_of("mdl.add_dataset_buffer")


def set_dynamic_hw_size(model, dataset, index, height, width):
    """The height and the width are one of the .om's profiles."""
    om = state.get("model", model)["om"]
    _check_gears(index, dataset)
    if not om.header["sizes"] or (height, width) not in om.sizes():
        return 145008
    _chosen[id(om)] = (om.batches()[0], (height, width))
    return code_of("mdl.set_dynamic_hw_size")


def set_dynamic_batch_size(model, dataset, index, batch):
    om = state.get("model", model)["om"]
    _check_gears(index, dataset)
    if not om.header["batches"] or batch not in om.batches():
        return 145008
    _chosen[id(om)] = (batch, om.sizes()[0])
    return code_of("mdl.set_dynamic_batch_size")


def execute(model, inputs, outputs):
    """Reads the input's memory, computes, writes the outputs' memory. A choice holds for one execution."""
    if code_of("mdl.execute"):
        return 507011
    om = state.get("model", model)["om"]
    free = bool(om.header["sizes"] or om.header["batches"])
    assert not free or id(om) in _chosen, "set_dynamic_hw_size or set_dynamic_batch_size comes before each execution"
    given = state.get("dataset", inputs)
    assert len(given) == (2 if free else 1), f"{len(given)} inputs"
    batch, size = _executed[id(om)] = _chosen.pop(id(om), (om.batches()[0], om.sizes()[0]))
    shape = om.shape(batch, size)
    kind = np.float32
    if om.header["input"]["pixels"]:
        shape, kind = (shape[0], *shape[2:], shape[1]), np.uint8
    length = int(np.prod(shape)) * np.dtype(kind).itemsize
    image = np.frombuffer(ctypes.string_at(_memory(given[0], length), length), kind).reshape(shape)
    found = om.compute(image)
    targets = state.get("dataset", outputs)
    assert len(targets) == len(found), f"{len(targets)} outputs, the network has {len(found)}"
    for buffer, array in zip(targets, found, strict=True):
        data = np.ascontiguousarray(array).tobytes()
        ctypes.memmove(_memory(buffer, len(data)), data, len(data))
    return 0


def _memory(buffer, length):
    """The address behind a data buffer: memory that was not freed, with room for so many bytes."""
    pointer, room = state.get("buffer", buffer)
    assert state.memory.get(pointer) == room, "memory that was freed"
    assert length <= room, f"{length} bytes in a buffer of {room}"
    return pointer
