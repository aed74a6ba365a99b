"""The report's page, read as a browser would."""

from __future__ import annotations

from html.parser import HTMLParser

import common.report
from common.reporting.pictures import Pictures

VOID = {"meta", "link", "img", "br", "wbr", "input"}


def without_pictures(patch):
    """Pictures are not encoded, and no chart is drawn, to save time: patch is pytest's monkeypatch."""
    patch.setattr(Pictures, "_encoded", lambda self, path: (str(path).encode(), 1, int(path.exists())))
    patch.setattr(common.report, "charts", lambda rows, pictures: [])


class Page(HTMLParser):
    """Collects what a browser would fetch, the table of cells, and tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.crossed, self.urls, self.ids, self.rows, self.alts = [], [], [], [], [], []
        self.words = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.urls += [given[key] for key in ("src", "href") if key in given]
        self.ids += [given["id"]] if "id" in given else []
        if tag == "img":
            self.alts.append(given.get("alt"))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.crossed.append(tag)

    def handle_data(self, data):
        self.words.append(data)
        if {"td", "th"} & set(self.stack) and self.rows:
            self.rows[-1][-1] += data
