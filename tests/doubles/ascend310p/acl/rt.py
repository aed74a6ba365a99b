"""acl.rt of the stand-in: the device and its memory."""

from __future__ import annotations

import ctypes

from acl.state import code_of, state


def set_device(device):
    assert state.initialised, "acl.init() comes first"
    assert device == 0, f"there is no device {device}"
    state.device = device
    return code_of("rt.set_device")


def reset_device(device):
    assert state.device is not None and state.device == device, f"device {device} is not set"
    assert not state.memory, "memory that was not given back"
    state.device = None
    return 0


def malloc(size, policy):
    assert state.device is not None, "rt.set_device() comes first"
    assert size > 0, f"a size of {size}"
    assert policy in (0, 1, 2), f"a policy of {policy}"
    return state.allocate(size), code_of("rt.malloc")


def free(pointer):
    del state.memory[pointer], state.keep[pointer]
    return 0


def memcpy(target, target_size, source, size, kind):
    """kind 1: to the device, 2: to the host. The device's side is memory that malloc gave."""
    assert kind in (1, 2), f"a kind of {kind}"
    assert 0 < size <= target_size, f"{size} bytes into {target_size}"
    assert state.memory[target if kind == 1 else source] >= size, "beyond the device's memory"
    if kind == 1:
        assert state.memory[target] == target_size, "the size of the device's memory"
    ctypes.memmove(target, source, size)
    return code_of("rt.memcpy")
