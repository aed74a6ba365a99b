"""Files given by mistake, recognised by their first bytes: so that the message names what the file is."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from common.basics.errors import UserError


class Kind(NamedTuple):
    """key: short name; start: the file's first bytes; words: what it is; hint: what to do when ONNX was wanted."""

    key: str
    start: bytes
    words: str
    hint: str


TO_ONNX = "export it to ONNX first, or give it as WEIGHTS=file.pth"
KINDS = [
    Kind("html", b"<", "an HTML or XML page", "the download was an error or login page: download the file itself"),
    Kind("lfs", b"version https://git-lfs", "a Git LFS pointer, not its file", "run `git lfs pull` where it came from"),
    Kind("zip", b"PK\x03\x04", "a zip archive, as torch.save writes", TO_ONNX),
    Kind("pickle", b"\x80\x02", "a Python pickle, as old torch.save wrote", TO_ONNX),
    Kind("hdf5", b"\x89HDF", "an HDF5 file, as Keras writes", "export the network from Keras"),
    Kind("param", b"7767517", "a .param file, compiled already", "give the file that it was made from"),
    Kind("json", b"{", "JSON text", "give the file of the network itself"),
    Kind("onnx", b"\x08", "perhaps an ONNX graph", "give it as ONNX=file.onnx SPEC=file.yaml"),
]
TFLITE_MARK = b"TFL3"  # at byte 4, FlatBuffers' file identifier


def refuse_other_kinds(path: Path, wanted: str, but: set[str]) -> None:
    """Raises UserError when the file is missing, empty, or recognised as another kind than those in `but`.

    wanted: what should have been given, for the message ("ONNX").
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist", "check the path")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty", "copy or download it again")
    with open(path, "rb") as file:
        head = file.read(64)
    if head[4:8] == TFLITE_MARK:
        raise UserError(
            f"{path} is a TensorFlow Lite file, not {wanted}", "give the float network that it was made from"
        )
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t")
    for kind in KINDS:
        if kind.key not in but and text.startswith(kind.start):
            raise UserError(f"{path} is {kind.words}, not {wanted}", kind.hint)
