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


def entries(page: str) -> dict[str, list[Any]]:
    """The entries of each session of a report; those outside of sessions by ""."""
    read = data(page)
    found = {session_id: [one for page in pages for one in page["rows"]] for session_id, pages in read["pages"]}
    return found | {"": read["outside"]["rows"]}
