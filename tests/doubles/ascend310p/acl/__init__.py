"""A strict stand-in for pyACL: the calls that load and run an .om, in the documented order, with documented returns.

"pyACL API reference" of CANN 8.5 (hiascend.com, appdevg): init, rt.set_device, mdl.load_from_file, mdl.create_desc,
mdl.get_desc, buffers, mdl.execute, and back. Device memory is a ctypes buffer of this process, so that a wrong pointer
or size shows. ACL_DOUBLE_FAILS names a call that returns an error, as in "mdl.execute". ACL_DOUBLE_SOC: the chip.
"""

from __future__ import annotations

import os

from acl import mdl, rt
from acl.state import code_of, state

__all__ = [
    "NPUMAKE_DOUBLE",
    "create_data_buffer",
    "destroy_data_buffer",
    "finalize",
    "get_soc_name",
    "init",
    "mdl",
    "rt",
]
NPUMAKE_DOUBLE = True


def init(config_path=None):
    assert config_path is None, "no configuration file is asked for here"
    assert not state.initialised, "acl.init() is for once in a process"
    state.initialised = True
    return code_of("init")


def finalize():
    assert state.initialised, "acl.init() comes first"
    assert state.device is None, "rt.reset_device() comes first"
    kept = sorted({kind for kind, value in state.handles.values() if value is not None})
    assert not kept, f"not given back: {kept}"
    state.initialised = False
    return 0


def get_soc_name():
    assert state.initialised, "acl.init() comes first"
    return os.environ.get("ACL_DOUBLE_SOC", "Ascend310P3")


def create_data_buffer(pointer, size):
    assert state.memory[pointer] == size, "the size of the memory"
    return state.handle("buffer", (pointer, size))


def destroy_data_buffer(buffer):
    state.take("buffer", buffer)
    return 0
