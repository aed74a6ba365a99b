"""acl.rt of the stand-in: the device and its memory."""

from __future__ import annotations

import ctypes

from acl.state import code_of, state


def set_device(device):
    assert state.initialised and device == 0, "acl.init() comes first"
    state.device = device
    return code_of("rt.set_device")


def reset_device(device):
    assert state.device == device and not state.memory, "memory that was not given back"
    state.device = None
    return 0


def malloc(size, policy):
    assert state.device is not None and size > 0 and policy in (0, 1, 2)
    return state.allocate(size), code_of("rt.malloc")


def free(pointer):
    del state.memory[pointer], state.keep[pointer]
    return 0


def memcpy(target, target_size, source, size, kind):
    """kind 1: to the device, 2: to the host. The device's side is memory that malloc gave."""
    assert kind in (1, 2) and 0 < size <= target_size
    assert state.memory[target if kind == 1 else source] >= size, "beyond the device's memory"
    if kind == 1:
        assert state.memory[target] == target_size
    ctypes.memmove(target, source, size)
    return code_of("rt.memcpy")
