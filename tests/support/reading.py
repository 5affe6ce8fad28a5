"""What a report has in it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any


class Reading(HTMLParser):
    """Reads a page: its elements with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def data(page: str) -> Any:
    """The data that the script of a report reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def sessions(page: str) -> list[Any]:
    """The rows of the sessions of a report."""
    return [pages[0]["session"] for pages in data(page)["sessions"]]


def entries(page: str) -> dict[str, list[Any]]:
    """The entries of each session of a report; those outside of sessions by ""."""
    read = data(page)
    found = {pages[0]["session"]["id"]: [one for some in pages for one in some["rows"]] for pages in read["sessions"]}
    return found | {"": read["outside"]["rows"]}
