"""What Kneron's documents say of arguments, as checks that raise; and how a test makes a call fail.

Where the real toolchain silently ignores something (knerex does, parameters that it does not know), the double raises.
Sources, in the Kneron document center (github.com/kneron/document_center, docs/toolchain), written in brackets below.

KTC_DOUBLE="analysis=raise" makes a call fail: raise (an exception), abort (the process dies), exit (it leaves with 0),
lie (it returns the path of a file that it did not write), empty (an empty file), memory (fails unless threads is 1),
unnamed (kneron_inference takes no output names), short (it
gives one output too few), rename (optimize changes the name of an output), slow (sleeps first).
"""

from __future__ import annotations

import os
import re
import sys
import time

PLATFORMS = ("520", "720", "530", "630", "730")  # [manual_3_onnx.md, 3.2]
DATAPATHS = ("int8", "int16", "mix balance", "mix light")  # [manual_3_onnx.md, evaluate]
WEIGHTS = (*DATAPATHS, "int4")
WIDTHS = ("int8", "int16")


def told_to(call: str) -> str:
    """What KTC_DOUBLE says of a call, "" for nothing; does what needs no help of the call itself."""
    asked = dict(one.split("=", 1) for one in os.environ.get("KTC_DOUBLE", "").split(",") if "=" in one)
    how = asked.get(call, "")
    if how == "raise":
        raise RuntimeError(f"the double was told that {call} fails")
    if how == "abort":
        os.abort()
    if how == "exit":
        sys.exit(0)
    if how == "slow":
        time.sleep(60)
    return how


def absolute_folder(name: str, value: str) -> None:
    """[manual_4_bie.md, FAQ 4.3.2.2]: absolute paths; [history.md]: no special characters in a path."""
    if type(value) is not str or not os.path.isabs(value) or not os.path.isdir(value):
        raise ValueError(f"{name} {value!r} is no absolute path of a folder")
    plain_path(name, value)


def plain_path(name: str, value: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_./-]+", value):
        raise ValueError(f"{name} {value!r} has special characters")


def one_of(name: str, value: object, choices: tuple) -> None:
    if value not in choices:
        raise ValueError(f"{name} {value!r} is none of {choices}")


def widths(platform: str, given: dict[str, str]) -> None:
    """[manual_4_bie.md, 4.1]: values of the bit widths, and what a chip lacks. All have to be given: their defaults
    are printed nowhere."""
    for name, choices in (
        ("datapath_bitwidth_mode", DATAPATHS),
        ("weight_bitwidth_mode", WEIGHTS),
        ("model_in_bitwidth_mode", WIDTHS),
        ("model_out_bitwidth_mode", WIDTHS),
        ("cpu_node_bitwidth_mode", WIDTHS),
    ):
        if given[name] is None:
            raise TypeError(f"{name} is not given, and its default is not documented")
        one_of(name, given[name], choices)
        if platform == "520" and given[name] != "int8":
            raise ValueError(f"{name} {given[name]!r} is not supported in kdp520")
        if platform == "720" and given[name] == "int4":
            raise ValueError("int4 is not supported in kdp720")


def number(name: str, value: object, low: float, high: float, kind: type = float) -> None:
    allowed = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or not low <= value <= high:
        raise ValueError(f"{name} {value!r} is no number of {low} to {high}")
