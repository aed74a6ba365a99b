"""Clips: reading one frame by frame, and writing one whole or not at all. Both by OpenCV; sound is not carried over."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Read by OpenCV's FFmpeg when the first clip is opened: what it says of a damaged one, we say in our own words.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import numpy as np

from common.basics.errors import USAGE_EXIT, UserError
from common.basics.files import replacing
from common.datasets.image_file import image_size, image_size_of

if TYPE_CHECKING:
    import cv2

USUAL_RATE = 25.0  # frames a second of a clip that does not say
MOST_RATE = 1000.0
ENCODERS = ((".mp4", "mp4v"), (".avi", "MJPG"))  # by preference; the second one is in every OpenCV
MISSING_SHARE = 0.05  # a header counts roughly: only a clip that ends this much earlier was cut off
KINDS_HINT = "OpenCV reads MP4, AVI, MOV, MKV and WebM; copy the clip again, or convert it"


class Clip:
    """An opened clip, read once from its beginning.

    rate: frames a second. total: how many frames there are, as its header says; where it does not, counted.
    """

    def __init__(self, path: Path):
        """Raises UserError: missing, empty, a picture, or no clip that OpenCV can read."""
        import cv2

        self.path = path
        check_is_clip(path)
        with opened(path) as capture:
            if capture is None or not capture.grab():
                raise UserError(f"{path} is no clip that can be read, or it has no frames", KINDS_HINT)
            rate = capture.get(cv2.CAP_PROP_FPS)
            self.known_rate = math.isfinite(rate) and 0 < rate <= MOST_RATE
            self.rate = rate if self.known_rate else USUAL_RATE
            self.total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            if self.total < 1:
                self.total = 1
                while capture.grab():
                    self.total += 1

    def frames(self, every: int = 1, limit: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """(number from 0 on, uint8 [h, w, 3] BGR) of the first frame and each `every`-th after it, `limit` of them.

        Raises UserError when a frame cannot be read or has another size than the first one. A clip that ends well
        before its header says is damaged or cut off: that is said on stderr, and what there is is used.
        """
        import cv2

        with opened(self.path) as capture:
            if capture is None:
                raise UserError(f"{self.path} can no longer be opened", KINDS_HINT)
            number, given, size = 0, 0, None
            check_sizes(self.path, int(capture.get(cv2.CAP_PROP_FOURCC)))
            while (limit is None or given < limit) and capture.grab():
                if number % every == 0:
                    done, image = capture.retrieve()
                    if not done or image is None:
                        raise UserError(f"{self.path}: frame {number} cannot be decoded", KINDS_HINT)
                    size = size or image.shape
                    if image.shape != size:
                        raise several_sizes(self.path, number, image.shape[1::-1], size[1::-1])
                    yield number, image
                    given += 1
                number += 1
            if (limit is None or given < limit) and number < self.total * (1 - MISSING_SHARE):
                print(f"warning: {self.path} ends after {number} of {self.total} frames: damaged or cut off",
                      file=sys.stderr)  # fmt: skip


def several_sizes(path: Path, number: int, found: tuple[int, ...], first: tuple[int, ...]) -> UserError:
    """The error for a frame of another size, (width, height), than the first one."""
    return UserError(
        f"{path}: frame {number} has {found[0]}x{found[1]} pixels, the first one {first[0]}x{first[1]}",
        "frames of several sizes make no clip: convert it to one size first",
    )


def check_sizes(path: Path, letters: int) -> None:
    """Raises UserError when a clip of JPEGs (webcams write them) has frames of several sizes: OpenCV would show the
    frame before in their place, and say nothing. letters: the codec's four, as a number."""
    import cv2

    if letters != cv2.VideoWriter_fourcc(*"MJPG"):
        return
    with opened(path) as capture:
        first = None
        capture.set(cv2.CAP_PROP_FORMAT, -1)  # the packets as they are stored
        for number in itertools.count():
            done, packet = capture.read()
            if not done:
                return
            try:
                size = image_size_of(packet.tobytes(), path, whole=False)
            except UserError:  # a damaged one: the decoder finds out
                continue
            first = first or size
            if size != first:
                raise several_sizes(path, number, size, first)


def check_is_clip(path: Path) -> None:
    """Raises UserError for what is no file, empty, or a picture (which OpenCV would take for a clip of one frame)."""
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a clip", "VIDEO=clip.mp4; a folder's pictures: make draw IMAGE=", 2)
    if not path.is_file():
        raise UserError(f"clip {path} does not exist", "check the path")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty", "copy it again")
    if is_picture(path):
        raise UserError(f"{path} is a picture, not a clip", f"make draw IMAGE={path}", USAGE_EXIT)


def is_picture(path: Path) -> bool:
    """Whether the file begins as a picture does; many JPEGs in a row, .mjpeg, are a clip."""
    if path.suffix.lower() in (".mjpeg", ".mjpg"):
        return False
    try:
        image_size(path, whole=False)
    except UserError:
        return False
    return True


@contextlib.contextmanager
def opened(path: Path) -> Iterator[cv2.VideoCapture | None]:
    """The capture of a clip, released at the end; None when it cannot be opened."""
    import cv2

    capture = cv2.VideoCapture(str(path))
    try:
        yield capture if capture.isOpened() else None
    finally:
        capture.release()


def usable_encoders() -> list[tuple[str, str]]:
    """Those of ENCODERS that this OpenCV has: (suffix, four letters), found by trying each."""
    import cv2

    usable = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix, letters in ENCODERS:
            path = Path(folder) / f"trial{suffix}"
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*letters), 25.0, (64, 64))
            works = writer.isOpened()
            writer.release()
            if works:
                usable.append((suffix, letters))
    return usable


def clip_path(path: Path, chosen: bool) -> Path:
    """Where a clip can be written: `path`, or, where the user has not chosen it, its like with a suffix that works.

    Raises UserError: no encoder for it, or (exit 2) a suffix that is none of a clip's.
    """
    known = [suffix for suffix, _ in ENCODERS]
    usable = [suffix for suffix, _ in usable_encoders()]
    suffix = path.suffix.lower()
    if suffix not in known:
        raise UserError(f"OUT={path} is no {' or '.join(known)} file", "OUT=clip.mp4", USAGE_EXIT)
    if suffix in usable:
        return path
    if chosen or not usable:
        listed = f"OUT={path.with_suffix(usable[0])}" if usable else "install another build of opencv-python"
        raise UserError(f"this OpenCV has no encoder for {suffix}", listed)
    return path.with_suffix(usable[0])


@contextlib.contextmanager
def writing_clip(path: Path, rate: float) -> Iterator[ClipWriter]:
    """A writer for frames of one size; `path` appears when the block ends well, checked to be whole, else not at all.

    Raises UserError when the encoder fails, or what it wrote cannot be read again (a full disk).
    """
    with replacing(path) as temporary:
        writer = ClipWriter(temporary, dict(ENCODERS)[path.suffix.lower()], rate)
        try:
            yield writer
        finally:
            writer.close()
        writer.check(path)


class ClipWriter:
    """Encodes frame after frame; opened with the first one, whose size all have."""

    def __init__(self, path: Path, letters: str, rate: float):
        self.path, self.letters, self.rate = path, letters, rate
        self.count = 0
        self._writer: cv2.VideoWriter | None = None
        self._size: tuple[int, int] | None = None

    def write(self, image: np.ndarray) -> None:
        """One more frame, uint8 [h, w, 3] BGR, both sides even. Raises UserError, or ValueError for another size."""
        import cv2

        size = image.shape[1], image.shape[0]
        if self._writer is None:
            self._size = size
            self._writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter_fourcc(*self.letters), self.rate, size)
            if not self._writer.isOpened():
                raise UserError(f"OpenCV cannot encode a clip of {size[0]}x{size[1]} pixels", "is the disk full?")
        if size != self._size:  # OpenCV would leave the frame out and say nothing
            raise ValueError(f"a frame of {size} in a clip of {self._size}")
        self._writer.write(image)
        self.count += 1

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()

    def check(self, path: Path) -> None:
        """Raises UserError unless the file holds all frames; path: its name to be, for the message."""
        import cv2

        with opened(self.path) as capture:
            found = 0
            if capture is not None and capture.grab():
                found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if found != self.count or not self.count:
            raise UserError(f"{path}: only {found} of {self.count} frames were written", "is the disk full?")
