"""Pictures inside the page, as data: URLs. Each is made small once and kept in out/report/pictures; those that no cell
shows any more are removed. A picture that several cells show (the sheet of one calibration set) is in the page once.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.basics.errors import UserError
from common.basics.files import replacing

if TYPE_CHECKING:
    import numpy as np

FEW_CELLS = 50
CHART_QUALITY = 88
WORKERS = 2  # OpenCV encodes outside of Python's lock


@dataclass
class Picture:
    """One picture of the page. data: the URL; width, height: pixels; shown: how often the page shows it."""

    name: str
    data: str
    width: int
    height: int
    shown: int = 0


@dataclass(frozen=True)
class PictureSize:
    """How large pictures are. further: whether more than the worst and the median sample is shown."""

    width: int
    quality: int
    further: bool

    @classmethod
    def for_cells(cls, count: int) -> PictureSize:
        """So that a page of 200 cells stays below 30 MB, which a browser opens in little more than a second."""
        return cls(1200, 70, True) if count <= FEW_CELLS else cls(640, 55, False)


class Pictures:
    """The pictures of one page, from the cache in `folder` or made now."""

    def __init__(self, folder: Path, size: PictureSize):
        self.folder, self.size = folder, size
        self._kept = {path.name.split("-")[0]: path for path in folder.glob("*.webp")}
        self._used: set[str] = set()
        self._by_name: dict[str, Picture] = {}

    def add(self, paths: list[Path]) -> list[Picture]:
        """The pictures in these files, counted as shown once more. Raises UserError when one is missing or damaged."""
        with ThreadPoolExecutor(WORKERS) as pool:
            encoded = list(pool.map(self._encoded, paths))
        return [self._picture(*one) for one in encoded]

    def add_drawn(self, draw: Callable[[Any], np.ndarray], data: Any) -> Picture:
        """draw(data), a chart: uint8 [h, w, 3] BGR. Drawn again only when the data, or what draws it, is another."""
        source = Path(draw.__code__.co_filename).read_bytes()
        key = hashlib.sha256(source + json.dumps([draw.__name__, data]).encode()).hexdigest()[:24]
        return self._picture(*self._cached(key, lambda: draw(data), CHART_QUALITY))

    def shared(self) -> list[Picture]:
        """Those that are shown more than once."""
        return [picture for picture in self._by_name.values() if picture.shown > 1]

    def prune(self) -> None:
        """Remove from the cache what this page does not show."""
        for path in self.folder.glob("*.webp"):
            if path.name not in self._used:
                path.unlink(missing_ok=True)

    def _picture(self, data: bytes, width: int, height: int) -> Picture:
        name = hashlib.sha256(data).hexdigest()[:16]
        if name not in self._by_name:
            url = f"data:image/webp;base64,{base64.b64encode(data).decode('ascii')}"
            self._by_name[name] = Picture(name, url, width, height)
        self._by_name[name].shown += 1
        return self._by_name[name]

    def _encoded(self, path: Path) -> tuple[bytes, int, int]:
        """(WebP, width, height) of a file, made small. The cache goes by the file's path, size and time."""
        damaged = UserError(f"{path} is missing or is no picture", "remove pictures.json beside it, then make again")
        if not path.is_file():
            raise damaged
        state = path.stat()
        asked = f"{path}\0{state.st_size}\0{state.st_mtime_ns}\0{self.size.width}\0{self.size.quality}"
        key = hashlib.sha256(asked.encode()).hexdigest()[:24]

        def small() -> np.ndarray:
            import cv2  # where the cache has everything, nothing needs it

            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is None:
                raise damaged
            height, width = image.shape[:2]
            if width > self.size.width:
                size = self.size.width, max(1, round(height * self.size.width / width))
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            return image

        return self._cached(key, small, self.size.quality)

    def _cached(self, key: str, make: Callable[[], np.ndarray], quality: int) -> tuple[bytes, int, int]:
        """(WebP, width, height) of what make() gives, from the cache if it has that key."""
        if kept := self._kept.get(key):
            self._used.add(kept.name)
            width, height = map(int, kept.stem.split("-")[1].split("x"))
            return kept.read_bytes(), width, height
        image = make()
        height, width = image.shape[:2]
        data = _encode(image, quality)
        made = self.folder / f"{key}-{width}x{height}.webp"
        with replacing(made) as temporary:
            temporary.write_bytes(data)
        self._used.add(made.name)
        return data, width, height


def _encode(image: np.ndarray, quality: int) -> bytes:
    import cv2

    done, data = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise OSError("a picture of the report could not be encoded as WebP")
    return data.tobytes()
