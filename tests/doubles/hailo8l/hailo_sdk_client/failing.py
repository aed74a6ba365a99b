"""HAILO_DOUBLE_FAILS=<call>[:<how>]: the call that fails, and how."""

import os


def fail(call: str) -> str:
    """Fail here if asked to; returns "empty" where the call is to claim success and leave nothing, else ""."""
    name, _, how = os.environ.get("HAILO_DOUBLE_FAILS", "").partition(":")
    if name != call:
        return ""
    if how == "abort":
        os.abort()
    if how == "exit":
        os._exit(0)
    if how == "quit":
        raise SystemExit(0)
    if how == "empty":
        return how
    raise RuntimeError(how or f"{call} fails")
