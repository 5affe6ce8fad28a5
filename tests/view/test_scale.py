"""Pages of large sessions and stores keep to their bars of CPU, and come in parts."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path
from typing import Any

import pytest

from callspan.view.server import PAGES
from callspan.view.source import StoreSource
from tests.support.large_file import make_sessions
from tests.support.records import START_NS
from tests.support.scale import slowness

from .conftest import Delivery, Records, access_to
from .tabs import Open, browser, event, tab

__all__ = ["browser", "tab"]
CALLS = 1_000_000
FIRST_NS = START_NS + 1
LINES = ("", "user:user-7", "failed", "min-cost:0.0001", "sort:cost", "sort:duration", "sort:tokens")
PAGES_AND_BARS = (
    ("now", {}, 1.0),
    *((page, {"q": line}, 1.5) for page in ("sessions", "calls") for line in LINES),
    ("charts", {"q": ""}, 5.0),
    ("table", {"q": "", "by": "user"}, 5.0),
    ("table", {"q": "", "by": "model"}, 5.0),
    ("scores", {"q": ""}, 5.0),
)
"""Each with the seconds of CPU that it may take with so many calls."""


def read(source: StoreSource, page: str, query: dict[str, Any], at_most_s: float) -> Any:
    """The JSON of a page that takes no more CPU than this."""
    began = time.process_time()
    body = source.answer(PAGES[page], query)
    took_s = time.process_time() - began
    print(f"| {page} {query} | {took_s:.2f} s CPU, {len(body):,} bytes |")
    assert took_s < at_most_s * slowness(), (page, query)
    return json.loads(body)


@pytest.mark.timeout(1800)
def test_the_pages_of_a_million_calls(tmp_path: Path) -> None:
    make_sessions(tmp_path / "calls.db", CALLS)
    source = StoreSource(access_to(f"sqlite:///{tmp_path}/calls.db"))
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for page, query, at_most_s in PAGES_AND_BARS:
        following = read(source, page, query, at_most_s).get("next")
        if following is not None:
            read(source, page, {**query, "after": following}, at_most_s)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 200_000


def test_a_long_course_comes_in_by_scrolling_and_by_keys(store: Delivery, records: Records, tab: Open) -> None:
    made = [event("s1", 0, "note", event_id=f"e{number:04}", time_ns=FIRST_NS + number) for number in range(2500)]
    store.write(records.session("s1", start_ns=FIRST_NS), *made)
    one = tab(store.url, "session/s1", ".entry[data-id=e0999]")
    one.press("j", "End")
    one.tab.wait_for_selector(".entry[data-id=e1999]")
    one.tab.evaluate("document.querySelector('[aria-label=Conversation]').scrollTop = 1e9")
    one.tab.wait_for_selector(".entry[data-id=e2499]")
    found = one.tab.evaluate("[...document.querySelectorAll('.entry[data-id]')].map(row => row.dataset.id)")
    assert found == [record.event_id for record in made]
    assert one.tab.evaluate("document.activeElement.dataset.id") == "e0999"
    store.write(event("s1", 0, "note", event_id="live", time_ns=FIRST_NS + 9999))
    one.tab.wait_for_selector(".entry[data-id=live]")
