"""A .bmodel file: whole or cut off, for which chip, with which inputs and outputs; and what no build repeats taken out.

    offset 0   magic ff55aaee, header size, size of the flatbuffer, size of the binary part: uint32 little-endian each
    64         the flatbuffer, whose root table has: 2 time of making, 3 chip, 6 kernel module (0 file name, 1 place and
               size in the binary part, 2 mode); then the binary part

Facts: the files of TPU-MLIR 1.30.2 themselves, and flatbuffers.dev, "FlatBuffers internals".
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from failure import VendorError
from job_file import Job

MAGIC, HEADER_BYTES = 0xFF55AAEE, 64
TIME, CHIP, KERNEL_MODULE = 2, 3, 6
CHIP_NAMES = {"bm1684": "BM1684", "bm1684x": "BM1684X"}
NO_TIME = b"Thu Jan  1 00:00:00 1970\n"  # as asctime() writes it: always 25 characters
COMPILE_AGAIN = "compile again: python compile.py JOB"


class _Flatbuffer:
    """Just enough of a flatbuffer to find a field. Positions are those in `data`; struct.error where it is damaged."""

    def __init__(self, data: bytes):
        self.data = data
        self.root = self.number("<I", 0)

    def number(self, kind: str, position: int) -> int:
        return struct.unpack_from(kind, self.data, position)[0]

    def field(self, table: int, index: int) -> int | None:
        """Where the table's field lies; None when it is not stored."""
        layout = table - self.number("<i", table)
        if 4 + 2 * index >= self.number("<H", layout):
            return None
        offset = self.number("<H", layout + 4 + 2 * index)
        return table + offset if offset else None

    def target(self, table: int, index: int) -> int | None:
        """Where the table or string lies that the field points at."""
        field = self.field(table, index)
        return None if field is None else field + self.number("<I", field)

    def text(self, position: int | None) -> bytes:
        if position is None:
            return b""
        start = position + 4
        return self.data[start : start + self.number("<I", position)]


@dataclass(frozen=True)
class Port:
    """An input or an output of a BModel, as `model_tool --info` prints it."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Description:
    """chip: in the file's own words (BM1684). memory: bytes on the device; keys weight, instruct, runtime, ..."""

    chip: str
    inputs: list[Port]
    outputs: list[Port]
    memory: dict[str, int]


def _read(path: Path) -> _Flatbuffer:
    """The flatbuffer of a BModel. Raises VendorError unless the file is whole."""
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
            size = path.stat().st_size
            sizes = struct.unpack("<4I", header[:16]) if len(header) == HEADER_BYTES else (0, 0, 0, 0)
            flatbuffer = file.read(sizes[2])
    except FileNotFoundError:
        raise VendorError(f"{path} is missing", COMPILE_AGAIN) from None
    magic, header_size, flatbuffer_size, binary_size = sizes
    if magic != MAGIC or header_size != HEADER_BYTES:
        raise VendorError(f"{path} is no BModel: its header is not one", COMPILE_AGAIN)
    whole = header_size + flatbuffer_size + binary_size
    if size != whole:
        raise VendorError(f"{path} is truncated or damaged: {size} bytes, and its header says {whole}", COMPILE_AGAIN)
    return _Flatbuffer(flatbuffer)


def check_file(path: Path, chip: str) -> None:
    """VendorError unless the file is a whole BModel for `chip`: what the runtime is given may crash it otherwise."""
    flatbuffer = _read(path)
    try:
        found = flatbuffer.text(flatbuffer.target(flatbuffer.root, CHIP)).decode(errors="replace")
    except struct.error:
        raise VendorError(f"{path} is damaged: its table of contents cannot be read", COMPILE_AGAIN) from None
    if found != CHIP_NAMES[chip]:
        raise VendorError(
            f"{path} is for {found or 'no chip'}, not for {CHIP_NAMES[chip]}",
            f"compile for {chip}, or give the job folder of the chip that it is for",
        )


def mode_left_out(path: Path) -> bool:
    """Whether a new BModel lacks the number that remove_chance() makes 0: it happened to be 0, flatbuffers do not store
    that, and everything behind it has moved. VendorError for a damaged file."""
    flatbuffer = _read(path)
    try:
        kernel = flatbuffer.target(flatbuffer.root, KERNEL_MODULE)
        if kernel is None or flatbuffer.text(flatbuffer.target(kernel, 0)):
            return False
        return flatbuffer.field(kernel, 2) is None
    except struct.error:
        raise VendorError(f"{path} is damaged: its table of contents cannot be read", COMPILE_AGAIN) from None


def remove_chance(path: Path) -> None:
    """Take out of a new BModel what differs from build to build: the same job then gives the same bytes.

    The time of making becomes 1970. The kernel module's mode becomes 0 where there is no kernel module: the compiler
    leaves that number uninitialised. Neither stands under a check sum. Raises VendorError when they are not found.
    """
    flatbuffer = _read(path)
    changes: dict[int, bytes] = {}
    try:
        time = flatbuffer.target(flatbuffer.root, TIME)
        kernel = flatbuffer.target(flatbuffer.root, KERNEL_MODULE)
        if len(flatbuffer.text(time)) != len(NO_TIME):
            raise VendorError(f"{path.name} does not say when it was made", "it is from another TPU-MLIR")
        changes[time + 4] = NO_TIME
        if kernel is not None and not flatbuffer.text(flatbuffer.target(kernel, 0)):
            mode = flatbuffer.field(kernel, 2)
            if mode is not None:
                changes[mode] = bytes(4)
    except struct.error:
        raise VendorError(f"{path} is damaged: its table of contents cannot be read", COMPILE_AGAIN) from None
    with path.open("r+b") as file:
        for position, value in changes.items():
            file.seek(HEADER_BYTES + position)
            file.write(value)


def parse_info(text: str) -> Description:
    """What `model_tool --info` printed. Raises VendorError when it is not that."""
    chip = re.search(r"^chip: (\S+)$", text, re.MULTILINE)
    ports: dict[str, list[Port]] = {"input": [], "output": []}
    for match in re.finditer(r"^(input|output): (.+), \[([\d, ]*)\], (\w+), scale:", text, re.MULTILINE):
        ports[match[1]].append(Port(match[2], tuple(int(size) for size in match[3].split(",")), match[4]))
    memory = re.search(r"^device mem size: \d+ \((.+)\)$", text, re.MULTILINE)
    if not chip or not memory or not ports["input"] or not ports["output"] or len(re.findall("^net ", text, re.M)) != 1:
        raise VendorError("model_tool --info does not describe the BModel", "see its output in the log")
    sizes = {key: int(value) for key, value in re.findall(r"(\w+): (\d+)", memory[1])}
    return Description(chip[1], ports["input"], ports["output"], sizes)


def check_description(job: Job, described: Description, output_names: dict[str, str]) -> None:
    """VendorError unless the BModel is for the job's chip, with the job's inputs and outputs in float32.

    output_names: {ONNX output: its name in the BModel}.
    """
    wanted = CHIP_NAMES[job.chip]
    if described.chip != wanted:
        raise VendorError(f"model_deploy made a BModel for {described.chip}, not for {wanted}", COMPILE_AGAIN)
    expected_inputs = {(tensor.name, tensor.shape, "float32") for tensor in job.inputs}
    expected_outputs = {(output_names[tensor.name], tensor.shape, "float32") for tensor in job.outputs}
    for kind, ports, expected in (
        ("inputs", described.inputs, expected_inputs),
        ("outputs", described.outputs, expected_outputs),
    ):
        found = {(port.name, port.shape, port.dtype) for port in ports}
        if found != expected:
            raise VendorError(
                f"the BModel's {kind} are {sorted(found)}, and the network's {sorted(expected)}",
                "TPU-MLIR changed a shape: see the log of model_transform, and cut the graph before that operator",
            )
