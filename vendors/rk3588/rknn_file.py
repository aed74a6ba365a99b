"""What a .rknn file says of itself: for which chips, by which toolkit, its inputs and outputs.

The format is not published; this was read off files of RKNN-Toolkit2 2.5.0. All numbers are little-endian, of 64 bits:
"RKNN" and four zero bytes, the format's version, the length of the compiled part, padding up to byte 64; the compiled
part; the length of the description; the description, in JSON. Nothing follows.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from failure import VendorError

MAGIC = b"RKNN\0\0\0\0"
HEADER_BYTES = 64
COMPILE_AGAIN = "compile again: python compile.py JOB"


@dataclass(frozen=True)
class RknnFile:
    """targets: chips that it runs on (rk3588); inputs, outputs: (name, shape) in the order of the runtime."""

    targets: list[str]
    version: str
    inputs: list[tuple[str, list[int]]]
    outputs: list[tuple[str, list[int]]]


def read_rknn(path: Path) -> RknnFile:
    """Raises VendorError for a file that is missing, no .rknn, cut off, or damaged in its description."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise VendorError(f"{path} is missing", COMPILE_AGAIN) from None
    if data[: len(MAGIC)] != MAGIC:
        raise VendorError(f"{path} is no .rknn file: it does not begin with RKNN", COMPILE_AGAIN)
    try:
        (compiled,) = struct.unpack_from("<Q", data, 16)
        (described,) = struct.unpack_from("<Q", data, HEADER_BYTES + compiled)
    except struct.error:
        raise VendorError(f"{path} is truncated: {len(data)} bytes", COMPILE_AGAIN) from None
    start = HEADER_BYTES + compiled + 8
    if len(data) != start + described:
        raise VendorError(f"{path} is truncated: {len(data)} bytes, not {start + described}", COMPILE_AGAIN)
    try:
        content = json.loads(data[start:])
        tensors = {one["tensor_id"]: (str(one["url"]), list(one["size"])) for one in content["norm_tensor"]}
        sides: dict[str, list[tuple[str, list[int]]]] = {"input": [], "output": []}
        for one in sorted(content["graph"], key=lambda one: one["left_tensor_id"]):
            sides[one["left"]].append(tensors[one["right_tensor_id"]])
        targets = [str(name).lower() for name in content["target_platform"]]
        return RknnFile(targets, str(content["version"]), sides["input"], sides["output"])
    except (ValueError, KeyError, TypeError) as error:
        raise VendorError(f"{path} is damaged: its description cannot be read ({error!r})", COMPILE_AGAIN) from None


def check_target(path: Path, chip: str) -> RknnFile:
    """read_rknn(), and VendorError unless the file is for this chip."""
    found = read_rknn(path)
    if chip not in found.targets:
        raise VendorError(
            f"{path} is for {' and '.join(found.targets)}, not for {chip}", f"compile it for this chip: make {chip} ..."
        )
    return found
