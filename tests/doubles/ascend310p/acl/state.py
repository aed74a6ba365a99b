"""What the stand-in for pyACL remembers between calls."""

from __future__ import annotations

import ctypes
import os
from typing import Any


class State:
    """Handles by kind, and the memory that was handed out: {address: bytes}."""

    def __init__(self) -> None:
        self.initialised = False
        self.device: int | None = None
        self.memory: dict[int, int] = {}
        self.keep: dict[int, Any] = {}
        self.handles: dict[int, tuple[str, Any]] = {}

    def handle(self, kind: str, value: Any) -> int:
        number = 1000 + len(self.handles)
        self.handles[number] = (kind, value)
        return number

    def get(self, kind: str, number: int) -> Any:
        found, value = self.handles[number]
        assert found == kind and value is not None, f"{number} is a {found}, or was destroyed"
        return value

    def take(self, kind: str, number: int) -> Any:
        value = self.get(kind, number)
        self.handles[number] = (kind, None)
        return value

    def allocate(self, size: int) -> int:
        block = ctypes.create_string_buffer(size)
        address = ctypes.addressof(block)
        self.memory[address], self.keep[address] = size, block
        return address


state = State()


def code_of(call: str) -> int:
    """0, or an error where ACL_DOUBLE_FAILS says so."""
    return 507899 if os.environ.get("ACL_DOUBLE_FAILS") == call else 0
