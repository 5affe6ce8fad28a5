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
from tests.support.delivery import START_NS
from tests.support.large_file import EPISODE, EPISODE_START_NS, episode, make_sessions
from tests.support.machine import slowness
from tests.support.records import SECOND

from .conftest import Delivery, Records, access_to
from .tabs import Open, Tab, browser, event, tab

__all__ = ["browser", "tab"]
STEPS = 100_000
CALLS = 1_000_000
FIRST_NS = EPISODE_START_NS + 1
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
ROW = ".episode .row:has-text('{}')"


def read(source: StoreSource, page: str, query: dict[str, Any], at_most_s: float) -> Any:
    """The JSON of a page that takes no more CPU than this."""
    began = time.process_time()
    body = source.answer(PAGES[page], query)
    took_s = time.process_time() - began
    print(f"| {page} {query} | {took_s:.2f} s CPU, {len(body):,} bytes |")
    assert took_s < at_most_s * slowness(), (page, query)
    return json.loads(body)


def test_an_episode_of_100000_steps_is_read_in_pages(store: Delivery) -> None:
    store.write(*episode(STEPS))
    read(StoreSource(access_to(store.url)), "session", {"id": EPISODE}, 1.0)


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


def test_a_page_that_comes_in_leaves_the_others_as_they_are(
    store: Delivery, records: Records, tab: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callspan.view.session._ROWS", 4)
    spans = [{"trace_id": "a" * 32, "span_id": f"{number:016x}"} for number in range(1, 9)]
    agent = event("s1", 0, "agent", name="planner", duration_ns=9 * SECOND, parent_span_id=None, **spans[0])
    tool = event("s1", 0.5, "tool", name="ask", duration_ns=8 * SECOND, parent_span_id="1".zfill(16), **spans[1])
    inside = [
        records.call(call_id=f"c{number}", session_id="s1", at_s=number, **spans[number + 1], parent_span_id=above)
        for number, above in enumerate(["1".zfill(16), "2".zfill(16), "1".zfill(16), "2".zfill(16)], start=1)
    ]
    store.write(records.session("s1", start_ns=START_NS, end_ns=START_NS + 99 * SECOND), agent, tool, *inside)
    store.write(records.call(call_id="c5", session_id="s1", at_s=60))
    one = tab(store.url, "session/s1", ".entry[data-id=c1]")
    one.tab.eval_on_selector(".entry[data-id=c1]", "row => { row.isTheSame = true; }")
    bar = one.tab.get_attribute(".entry[data-id=c1] .model", "style")
    one.tab.dispatch_event("text=the next entries", "click")
    one.tab.wait_for_selector(".entry[data-id=c5]")
    assert one.tab.eval_on_selector(".entry[data-id=c1]", "row => row.isTheSame")
    assert one.tab.get_attribute(".entry[data-id=c1] .model", "style") == bar
    levels = one.tab.eval_on_selector_all("[role=treeitem]", "rows => rows.map(row => row.ariaLevel)")
    assert levels == ["2", "3", "3", "3", "3", "3", "2"], "an agent of the first page has what ran in it on the second"
    assert len(one.tab.query_selector_all(".entry.axisline")) == 2


def test_equal_steps_are_one_row_across_pages(store: Delivery, tab: Open) -> None:
    store.write(*episode(700))
    # The first page ends within step 495.
    notes = [event(EPISODE, 0, "note", event_id=f"n{number}", time_ns=FIRST_NS) for number in range(9)]
    store.write(*notes)
    one = tab(store.url, f"session/{EPISODE}", ROW.format(run(480)))
    assert rows(one) == [run(at) for at in range(0, 490, 10)], "the run that goes on is not there yet"
    one.tab.dispatch_event("text=the next steps", "click")
    one.tab.wait_for_selector(ROW.format(run(690)))
    assert rows(one) == [run(at) for at in range(0, 700, 10)]
    assert one.tab.is_hidden("text=the next steps")


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


def run(first: int) -> str:
    """Return how ten equal steps are named."""
    return f"{first}\N{EN DASH}{first + 9}"


def rows(one: Tab) -> list[str]:
    """Return the numbers of the steps in each row."""
    found: list[str] = one.tab.evaluate(
        "[...document.querySelectorAll('.episode [data-id]')].map(row => row.children[0].textContent)"
    )
    return found
