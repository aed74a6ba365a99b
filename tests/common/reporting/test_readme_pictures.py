"""README's pictures are small, and the report's is a photograph of the page itself."""

import cv2
import numpy as np
import pytest

from common.basics.errors import UserError
from common.bench.browser import find_chromium
from common.reporting import readme_pictures
from common.reporting.readme_pictures import DEMO_WIDTH, WINDOW, demo_picture, report_picture, save_small

PAGE = """<style>body {{ margin: 0; background: #123456; }} tr, figure {{ height: 50px; margin: 0; }}</style>
<form id="filter"><select name="precision"><option value="">all</option><option>int8</option></select>
<select name="state"><option value="">all</option><option>proven</option></select></form>
<table id="cells" class="matrix"><tbody>{rows}</tbody></table>
<section class="charts"><figure>one</figure><figure style="height: 900px">two</figure></section>
<script>document.getElementById("filter").addEventListener("input", () => {{
  for (const row of document.querySelectorAll("tbody tr")) row.hidden = row.textContent !== "proven"; }});</script>"""


def test_a_large_picture_becomes_a_small_file_that_looks_the_same(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8)
    image = cv2.GaussianBlur(cv2.resize(noise, (1800, 1200)), (0, 0), 12)
    cv2.imwrite(str(tmp_path / "drawn.png"), image)
    demo_picture(tmp_path / "drawn.png", tmp_path / "demo.webp")
    shown = cv2.imread(str(tmp_path / "demo.webp"))
    assert shown.shape[1] == DEMO_WIDTH and (tmp_path / "demo.webp").stat().st_size <= readme_pictures.MOST_BYTES
    small = cv2.resize(image, shown.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(shown.astype(int) - small).mean() < 5
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_quality_gives_way_to_size_and_what_cannot_be_small_is_refused(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    save_small(noise, tmp_path / "a.webp", 300)
    best = (tmp_path / "a.webp").stat().st_size
    monkeypatch.setattr(readme_pictures, "MOST_BYTES", best * 3 // 4)
    save_small(noise, tmp_path / "a.webp", 300)
    assert (tmp_path / "a.webp").stat().st_size <= best * 3 // 4
    monkeypatch.setattr(readme_pictures, "MOST_BYTES", 50)
    with pytest.raises(UserError, match="smaller than 50 bytes"):
        save_small(noise, tmp_path / "a.webp", 300)
    with pytest.raises(UserError, match="is no picture"):
        demo_picture(tmp_path / "missing.png", tmp_path / "a.webp")
    assert (tmp_path / "a.webp").stat().st_size <= best * 3 // 4  # the last good one


def test_without_a_browser_the_report_s_picture_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("common.bench.browser.find_chromium", lambda: None)
    assert report_picture(tmp_path / "index.html", tmp_path / "report.webp") == "no Chromium here"
    assert not (tmp_path / "report.webp").exists()


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium here (Debian: apt-get install chromium)")
def test_the_report_s_picture_is_of_the_proven_rows_and_the_first_chart(tmp_path):
    page, picture = tmp_path / "index.html", tmp_path / "report.webp"

    def taken(*states):
        page.write_text(PAGE.format(rows="".join(f"<tr><td>{state}</td></tr>" for state in states)))
        return report_picture(page, picture)

    assert "only 1 proven" in taken("proven", "failed", "failed") and not picture.exists()
    heights = []
    for rows in (2, 6):
        assert taken(*["proven"] * rows, "failed") is None
        image = cv2.imread(str(picture))
        assert image.shape[1] == WINDOW[0]
        assert np.abs(image[-1, -1].astype(int) - (0x56, 0x34, 0x12)).max() < 8
        heights.append(image.shape[0])
    assert 180 <= heights[1] - heights[0] <= 260 and heights[0] < 400  # rows of 50 pixels; no second chart
