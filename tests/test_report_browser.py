"""The report's page in a real browser: no errors, nothing fetched, filter, sort and keyboard work, nothing too wide."""

import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

import common.declarations.spec
from common.basics.files import write_json
from common.bench.browser import Browser, find_chromium
from common.report import TEMPLATES, make_report
from tests.common.cell_fixture import CHIP
from tests.common.conftest import made_cells, own_verdicts, vendors  # noqa: F401  fixtures

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium here (Debian: apt-get install chromium)")
SHOWN = "[...document.querySelectorAll('.matrix tbody tr:not([hidden])')]"
NAMES = f"{SHOWN}.map(row => row.querySelector('a').getAttribute('aria-label'))"
FP32, INT8, LOST = (f"toy_pose/{CHIP}/fp32", f"toy_pose/{CHIP}/int8", f"lost_pose/{CHIP}/int8")
SKIPPED = "a_network_with_a_very_long_name_512x768/another_chip/int8"


@pytest.fixture(scope="module")
def page(made_cells, vendors, tmp_path_factory):  # noqa: F811
    """The page over the made cells and one that `make all` skipped."""
    root = tmp_path_factory.mktemp("browsed")
    shutil.copytree(made_cells / "out", root / "out", copy_function=shutil.copy2)
    why = "its SDK is not installed: " + "a_path_without_any_space/" * 8
    write_json(root / "out/all/summary.json", {"version": 1, "cells": [
        {"cell": SKIPPED, "state": "skipped", "why": why}]})  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common.declarations.spec, "VENDORS_FOLDER", vendors)
        return make_report(root / "out")


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def browser(started, page):
    """The page, freshly loaded in a window of a desk."""
    started.size(1400, 1000)
    started.prefer()
    started.open(page)
    return started


def choose(browser, name, value):
    """As a user would: set a field of the filter, and let it tell of it."""
    browser.run(f"""(() => {{ const field = document.getElementById("filter").elements["{name}"];
        field.value = "{value}"; field.dispatchEvent(new Event("input", {{bubbles: true}}));
        field.dispatchEvent(new Event("change", {{bubbles: true}})); }})()""")


def focused(browser):
    return browser.run("document.activeElement.textContent.trim() || document.activeElement.name")


def test_it_loads_without_an_error_and_asks_for_nothing(browser, page):
    assert browser.errors() == []
    assert browser.fetched() == [page.resolve().as_uri()]
    pictures = browser.run("""Promise.all([...document.images].map(image => { image.loading = "eager";
        return image.decode().then(() => image.naturalWidth, () => 0); }))""")
    assert len(pictures) >= 15 and min(pictures) > 100
    shared = browser.run("[...document.querySelectorAll('use')].map(use => use.getBoundingClientRect().width)")
    assert len(shared) == 2 and min(shared) > 100
    assert browser.run("document.querySelectorAll('[id]').length === new Set([...document.querySelectorAll('[id]')]"
                       ".map(one => one.id)).size")  # fmt: skip


def test_an_error_would_be_seen(browser, page, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text(page.read_text().replace("const table =", "const table = missing.thing ||"))
    browser.open(broken)
    assert any("Content Security Policy" in error for error in browser.errors())  # the script is not the page's own
    broken.write_text("<script>missing.thing</script><img src='http://127.0.0.1:9/a.png'>")
    browser.open(broken)
    assert any("missing" in error for error in browser.errors())
    assert "http://127.0.0.1:9/a.png" in browser.fetched()


def test_the_filter_hides_rows_and_their_evidence(browser):
    assert browser.run(NAMES) == [SKIPPED, LOST, FP32, INT8]
    choose(browser, "model", "toy_pose")
    assert browser.run(NAMES) == [FP32, INT8]
    choose(browser, "words", "INT8 toy")
    assert browser.run(NAMES) == [INT8]
    assert browser.run("document.querySelector('#filter output').value") == "1 of 4 cells shown"
    visible = "[...document.querySelectorAll('section.cell:not([hidden])')].map(one => one.id)"
    assert browser.run(visible) == [INT8.replace("/", "--")]
    leading = "[...document.querySelectorAll('.overview a:not([hidden])')].map(one => one.hash.slice(1))"
    assert browser.run(leading) == browser.run(visible)
    choose(browser, "state", "proven")
    assert browser.run(NAMES) == []
    browser.run("document.querySelector('#filter button[type=reset]').click()")
    browser.run("new Promise(done => setTimeout(done, 50))")
    assert browser.run(NAMES) == [SKIPPED, LOST, FP32, INT8]
    assert browser.run(visible + ".length") == browser.run(leading + ".length") == 4
    choose(browser, "words", "not installed")
    assert browser.run(NAMES) == [SKIPPED]


def test_sorting_by_numbers_keeps_the_unknown_last(browser):
    def sort(title):
        browser.run(f"""[...document.querySelectorAll(".matrix thead button")]
            .find(button => button.textContent === "{title}").click()""")
        return browser.run(NAMES)

    def sorted_by():
        return browser.run("""[...document.querySelectorAll("[aria-sort]")]
            .map(head => [head.textContent, head.getAttribute("aria-sort")])""")

    numbers = f"{SHOWN}.filter(row => row.cells[7]).map(row => Number(row.cells[7].dataset.value))"
    assert sort("OKS")[-1] == SKIPPED
    assert sorted_by() == [["OKS", "ascending"]]
    rising = browser.run(numbers)
    assert len(rising) == 3 and rising == sorted(rising) and rising[0] < rising[-1]
    assert sort("OKS")[-1] == SKIPPED
    assert sorted_by() == [["OKS", "descending"]]
    assert browser.run(numbers) == rising[::-1]
    assert sort("Size")[:3] == [LOST, INT8, FP32]  # 31 kB before 120 kB, equal ones by name
    assert sort("Model")[0] == SKIPPED
    choose(browser, "sort", "8 descending")
    assert browser.run(NAMES)[0] == FP32 and sorted_by() == [["Size", "descending"]]


def test_the_keyboard_reaches_and_works_everything(browser):
    browser.key("Tab")
    assert focused(browser) == "Skip to the table of cells"
    reached = []
    for _ in range(40):
        browser.key("Tab")
        reached.append(focused(browser))
        if reached[-1] == "Latency":
            break
    for name in ("words", "model", "chip", "precision", "state", "Show all", "Model", "OKS", "Size"):
        assert any(one == name or one.startswith("all") for one in reached), name
    browser.run("document.querySelectorAll('.matrix thead button')[6].focus()")
    browser.key("Enter")
    assert browser.run("document.querySelector('[aria-sort]').textContent") == "Drop"
    style = "getComputedStyle(document.activeElement)"
    assert browser.run(f"{style}.outlineStyle + {style}.outlineWidth") == "solid2px"
    browser.run(f"document.querySelector('a[aria-label=\"{INT8}\"]').focus()")
    browser.key("Enter")
    assert browser.run("location.hash") == "#" + INT8.replace("/", "--")
    browser.run("document.querySelector('section.cell:target .zoom').focus()")
    browser.key("Enter")
    assert browser.run("document.querySelector('dialog').open")
    assert browser.run("document.querySelector('dialog .picture').alt.length") > 9
    browser.key("Escape")
    assert not browser.run("document.querySelector('dialog').open")
    assert browser.run("document.activeElement.className") == "zoom"  # back where it was


WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.parametrize(("width", "phone"), [(1400, False), (1200, False), (1000, False), (820, False), (390, True)])
def test_the_page_does_not_scroll_sideways(browser, width, phone):
    browser.size(width, 900, phone)
    assert browser.run(WIDER) == 0
    assert browser.run("visualViewport.width") == width
    browser.run("document.querySelectorAll('details').forEach(part => part.open = true)")
    browser.run("document.querySelectorAll('section.cell').forEach(part => part.style.contentVisibility = 'visible')")
    assert browser.run(WIDER) == 0
    outside = browser.run(f"""[...document.querySelectorAll('.matrix *')].filter(part => part.tagName !== 'WBR'
        && !part.closest('thead') && part.getBoundingClientRect().right > {width}).map(part => part.outerHTML)""")
    assert outside == []


def test_without_scripts_everything_is_there(browser, page):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        assert browser.run("document.getElementById('filter').offsetHeight") == 0  # no control that does nothing
        assert browser.run("document.querySelectorAll('.matrix thead button').length") == 0
        assert browser.run(f"{SHOWN}.every(row => row.offsetHeight > 0)")
        assert browser.run("[...document.querySelectorAll('section.cell')].every(part => part.offsetHeight > 0)")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_paper_has_what_matters(browser, tmp_path):
    browser.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    browser.prefer("print")
    assert browser.run("document.getElementById('filter').offsetHeight") == 0
    assert browser.run("[...document.querySelectorAll('details.matters')].every(part => part.open)")
    assert browser.run(f"{SHOWN}.every(row => getComputedStyle(row).display === 'table-row')")
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert not browser.run("document.querySelector('details.matters').open")


LABELS = """[...document.querySelectorAll("input, select, button, a, summary")].filter(one => one.offsetParent)
    .filter(one => !(one.labels && one.labels.length) && !one.textContent.trim() && !one.getAttribute("aria-label"))"""


def test_a_screen_reader_finds_tables_names_and_words(browser):
    assert browser.run(f"{LABELS}.length") == 0
    assert browser.run("document.documentElement.lang") == "en"
    assert browser.run("[...document.querySelectorAll('.matrix, .ladder')].every(one => one.caption)")
    assert browser.run("[...document.querySelectorAll('thead th')].every(one => one.scope === 'col')")
    assert browser.run("[...document.querySelectorAll('tbody th')].every(one => one.scope === 'row')")
    assert browser.run("[...document.images].every(one => one.alt)")
    levels = browser.run("[...document.querySelectorAll('h1, h2, h3')].map(one => Number(one.tagName[1]))")
    assert levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))
    browser.size(390, 844, True)  # the table is laid out as cards there, and stays a table to a screen reader
    tree = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles = [node.get("role", {}).get("value") for node in tree]
    assert roles.count("rowheader") >= 4 and "columnheader" in roles and "table" in roles and "cell" in roles


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_of_text_stands_out(browser, scheme):
    assert contrast("#ffffff", "#000000") == pytest.approx(21) and contrast("#777777", "#ffffff") < 4.5
    browser.prefer(prefers_color_scheme=scheme)
    names = sorted(set(re.findall(r"--[a-z-]+(?=:)", Path(TEMPLATES / "report.css").read_text())))
    of = {name[2:]: browser.run(f"getComputedStyle(document.documentElement).getPropertyValue('{name}').trim()")
          for name in names}  # fmt: skip
    pairs = [(ink, paper) for ink in ("ink", "pale", "link", "bad") for paper in ("paper", "band")]
    pairs += [(kind, f"{kind}-paper") for kind in ("good", "bad", "open", "none")]
    assert {pair: value for pair in pairs if (value := contrast(of[pair[0]], of[pair[1]])) < 4.5} == {}
    painted = browser.run("getComputedStyle(document.body).backgroundColor")
    assert painted == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 23, 26)")


def test_motion_is_left_out_where_it_is_not_wanted(browser):
    style = "getComputedStyle(document.documentElement).scrollBehavior"
    assert browser.run(style) == "smooth"
    browser.prefer(prefers_reduced_motion="reduce")
    assert browser.run(style) == "auto"
