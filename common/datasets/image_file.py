"""Is an image file whole? OpenCV fills the missing rest of a truncated JPEG with grey and says nothing."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from common.basics.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

# In JPEG's entropy-coded data a 0xFF byte is followed by 0x00 (stuffing), 0xD0-0xD7 (restart) or 0xFF (fill);
# anything else is the next marker (ITU-T T.81, B.1.1.2).
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_JPEG_START_OF_SCAN, _JPEG_END = 0xDA, 0xD9
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_READ_AGAIN = "copy or download that file again, or take it out of the folder"
_HEADER_BYTES = 1 << 16  # enough for the size, unless a camera's preview and colour profile come first


def image_size(path: str | Path, whole: bool = True) -> tuple[int, int]:
    """Read width and height from an image's header and check that the file is complete.

    Returns (width, height) in pixels, EXIF orientation ignored.
    whole: walk to the end marker as well; False looks at the header only.
    Raises UserError that names the file when it is unreadable, not an image of a known kind, or truncated.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            data = file.read(-1 if whole else _HEADER_BYTES)
            if not whole:
                try:
                    return image_size_of(data, path, whole)
                except UserError:
                    data += file.read()
    except OSError as error:
        raise UserError(f"image {path} cannot be read: {error.strerror}", _READ_AGAIN) from None
    return image_size_of(data, path, whole)


def image_size_of(data: bytes, name: str | Path, whole: bool = True) -> tuple[int, int]:
    """Like image_size(), for bytes that are read already; `name` is for the message."""
    reader = _reader(data)
    if reader is None:
        what = "is empty" if not data else "is not a JPEG, PNG, BMP or WebP file"
        raise UserError(f"image {name} {what}", _READ_AGAIN)
    try:
        width, height, complete = reader(data, whole)
    except (struct.error, IndexError):
        raise UserError(f"image {name} is truncated: its header ends after {len(data)} bytes", _READ_AGAIN) from None
    if whole and not complete:
        raise UserError(f"image {name} is truncated: {len(data)} bytes, the end of the image is missing", _READ_AGAIN)
    if width < 1 or height < 1:
        raise UserError(f"image {name} has no pixels ({width}x{height})", _READ_AGAIN)
    return width, height


def _reader(data: bytes):
    if data[:2] == b"\xff\xd8":
        return _jpeg
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _png
    if data[:2] == b"BM":
        return _bmp
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp
    return None


def _jpeg(data: bytes, whole: bool) -> tuple[int, int, bool]:
    position, size = 2, None
    while True:
        if data[position] != 0xFF:
            match = _JPEG_MARKER.search(data, position)  # garbage between segments: decoders skip it as well
            if match is None:
                break
            position = match.start()
        while data[position + 1] == 0xFF:
            position += 1
        marker = data[position + 1]
        if marker == _JPEG_END:
            return (*size, True) if size else (0, 0, True)
        if 0xD0 <= marker <= 0xD8 or marker == 0x01:  # markers without a length
            position += 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            size = (width, height)
            if not whole:
                return width, height, True
        position += 2 + length
        if marker == _JPEG_START_OF_SCAN:
            match = _JPEG_MARKER.search(data, position)
            if match is None:
                break
            position = match.start()
    if size is None:
        raise IndexError
    return (*size, False)


def _png(data: bytes, whole: bool) -> tuple[int, int, bool]:
    width, height = struct.unpack_from(">II", data, 16)
    position = 8
    while whole and position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        if data[position + 4 : position + 8] == b"IEND":
            return width, height, True
        position += 12 + length
    return width, height, False


def _bmp(data: bytes, whole: bool) -> tuple[int, int, bool]:
    offset, _, width, height = struct.unpack_from("<IIii", data, 10)
    (bits,) = struct.unpack_from("<H", data, 28)
    (compression,) = struct.unpack_from("<I", data, 30)
    rows = abs(height) * ((width * bits + 31) // 32 * 4)  # rows are padded to four bytes
    return width, abs(height), compression not in (0, 3) or len(data) >= offset + rows


def _webp(data: bytes, whole: bool) -> tuple[int, int, bool]:
    (size,) = struct.unpack_from("<I", data, 4)
    kind = data[12:16]
    if kind == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    return width, height, len(data) >= 8 + size
