"""All that the public documents leave open about Kneron's SDK, in one place; README.md lists the same.

Nothing of this was run against the real one. Each point is looked at when it is used: what the installed SDK has is
printed (version, signature, file name, text), and what does not fit ends in a message that shows it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The release whose documents the scripts were written for, and where an image says which it is.
WRITTEN_FOR = "v0.33.1"
VERSION_FILE = Path("/workspace/version.txt")

# Arguments that some release lacks, by call. They are left out then, and compile.json says so. All others are needed.
# const_in_bitwidth_mode: in the change log of 0.31.1, not in the manual. evaluate: its bit widths only change the
# estimate. reordering: the output order is then told by shape.
MAY_BE_MISSING = {
    "analysis": ("const_in_bitwidth_mode", "percentage_16b", "compiler_tiling"),
    "evaluate": (
        "datapath_bitwidth_mode",
        "weight_bitwidth_mode",
        "model_in_bitwidth_mode",
        "model_out_bitwidth_mode",
        "cpu_node_bitwidth_mode",
        "compiler_tiling",
    ),
    "compile": ("compiler_tiling",),
    "kneron_inference": ("reordering",),
}

# The evaluator's text is not specified. Seen (v0.23): "kdp520/ip_eval/fps: 21.352", "kdp520/ip_eval/ITC(ms): 46.8341
# ms", "kdp520/cpu_node: N/A", and a table of lines "34, up_sampling2d_1, up_sampling2d_1, CPU, cpu_fusion_node_...".
FPS = re.compile(r"\bfps:\s*([0-9]+(?:\.[0-9]+)?)", re.IGNORECASE)
MILLISECONDS = re.compile(r"\bITC(?:\s*\(ms\))?:\s*([0-9]+(?:\.[0-9]+)?)\s*(?:ms)?", re.IGNORECASE)
CPU_NODES = re.compile(r"^.*\bcpu[_ ]node:[ \t]*(.*)$", re.IGNORECASE | re.MULTILINE)
CPU_ROW = re.compile(r"^\s*\d+\s*,\s*([^,\n]+?)\s*,[^,\n]*,\s*CPU\s*,.*$", re.MULTILINE)
NO_CPU_NODES = ("", "n/a", "na", "none", "-", "[]", "{}")
# Since 0.32.1 an operator that the chip lacks is a line like these, and no exception.
UNSUPPORTED = ("hw not support", "hardware not support", "hardwarenotsupport", "not supported", "unsupported")

# Memory of one thread of the analysis. One report: 8 threads with 200 images of 640x640 in a mixed mode took 30 GB.
THREAD_BYTES = 700e6
THREAD_BYTES_PER_PIXEL = {False: 2500.0, True: 7500.0}  # by whether activations may be of 16 bits
# How a step ends that ran out of memory (manual, "died with <Signals.SIGABRT: 6>"); the same words have other causes.
MEMORY_WORDS = ("SIGABRT", "SIGKILL", "bad_alloc", "MemoryError", "Cannot allocate memory")


def installed_version(path: Path = VERSION_FILE) -> str:
    """The image's release, like "v0.33.1"; "unknown" where there is no such file. Seen: "kneron/toolchain:v0.33.1"; the
    form is not documented, and the first thing that looks like a version counts."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown"
    found = re.search(r"v?(\d+\.\d+(?:\.\d+)*)", text)
    return f"v{found[1]}" if found else text.strip()[:40] or "unknown"


_shown: set[str] = set()  # calls whose signature was printed


class SignatureError(Exception):
    """The installed function does not take what this script gives it."""


def fitting(name: str, function: Callable[..., Any], arguments: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The arguments that the installed function takes, and the names of those that are left out.

    Prints the signature. Raises SignatureError when it lacks one that is needed. A function that takes anything
    (**keywords) or cannot be looked at gets all.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        print(f"{name}: its signature cannot be read")
        return arguments, []
    if name not in _shown:
        _shown.add(name)
        print(f"{name}{signature}")
    parameters = signature.parameters.values()
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        return arguments, []
    unknown = [key for key in arguments if key not in signature.parameters]
    needed = [key for key in unknown if key not in MAY_BE_MISSING.get(name, ())]
    if needed:
        raise SignatureError(f"{name} takes no {', '.join(needed)}; it is {name}{signature}")
    return {key: value for key, value in arguments.items() if key not in unknown}, unknown
