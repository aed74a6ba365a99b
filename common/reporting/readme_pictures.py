"""README's pictures: a sample of the demo, float beside chip, and the report itself as a browser shows it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from common.basics.errors import UserError
from common.basics.files import replacing

if TYPE_CHECKING:
    import numpy as np

MOST_BYTES = 200_000  # of a picture in docs/
QUALITIES = range(90, 29, -5)  # of WebP, the best first
DEMO_WIDTH = 760  # pixels: what a page of README shows
WINDOW = (1280, 900)  # pixels: a little more than the width from which the cells stand as a table
LEAST_ROWS = 2  # of a table worth showing
# The quantised networks that are proven, and below them the chart of their rungs; the height that both take.
ARRANGE = """(async () => {
  const form = document.getElementById("filter");
  const choose = (name, value) => {
    const field = form.elements[name];
    if ([...field.options].some(option => option.value === value)) field.value = value;
  };
  choose("precision", "int8"); choose("state", "proven");
  form.dispatchEvent(new Event("input", {bubbles: true}));
  const rows = document.querySelectorAll(".matrix tbody tr:not([hidden])").length;
  document.querySelectorAll(".charts figure").forEach((one, place) => { one.hidden = place > 0; });
  for (const image of document.querySelectorAll(".charts img")) { image.loading = "eager"; await image.decode(); }
  const chart = document.querySelector(".charts");
  const end = (chart || document.getElementById("cells")).getBoundingClientRect().bottom + scrollY;
  return [rows, Math.ceil(end) + 10];
})()"""


def save_small(image: np.ndarray, path: Path, width: int) -> None:
    """Write a WebP of at most this width and MOST_BYTES, as good as fits. image: uint8 [h, w, 3] BGR.

    Raises UserError when even the poorest is larger.
    """
    import cv2  # here: it takes a moment

    height, wide = image.shape[:2]
    if wide > width:
        image = cv2.resize(image, (width, round(height * width / wide)), interpolation=cv2.INTER_AREA)
    for quality in QUALITIES:
        data = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
        if len(data) <= MOST_BYTES:
            with replacing(path) as temporary:
                temporary.write_bytes(data)
            return
    raise UserError(f"{path} cannot be made smaller than {MOST_BYTES} bytes", "show less on it")


def demo_picture(drawn: Path, path: Path) -> None:
    """A picture that a build drew, small enough for README. Raises UserError when it cannot be read."""
    import cv2

    image = cv2.imread(str(drawn), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"{drawn} is missing or is no picture", "remove pictures.json beside it, then make again")
    save_small(image, path, DEMO_WIDTH)


def report_picture(page: Path, path: Path) -> str | None:
    """The report's upper part, by headless Chromium; None, or why `path` was left as it is."""
    import cv2

    from common.bench.browser import Browser, find_chromium

    if find_chromium() is None:
        return "no Chromium here"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, Browser(Path(profile)) as browser:
        browser.size(*WINDOW)
        browser.prefer(prefers_color_scheme="light")
        browser.open(page)
        rows, height = browser.run(ARRANGE)
        if rows < LEAST_ROWS:
            return f"only {rows} proven cells of int8 in {page}"
        browser.size(WINDOW[0], height)
        shown = Path(profile) / "page.png"
        browser.picture(shown)
        image = cv2.imread(str(shown), cv2.IMREAD_COLOR)
    save_small(image, path, WINDOW[0])
    return None
