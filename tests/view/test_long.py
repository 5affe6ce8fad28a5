"""A long session: its steps are folded with the store's sums, and the notable ones are one key away."""

from __future__ import annotations

from decimal import Decimal

import pytest
from tests.support.records import MINUTE, SECOND, START_NS, Records, event, step
from tests.view.conftest import Delivery, Open, Shown

from callspan.records import Cost, ErrorInfo, Place, Record, Timing, Usage

STEPS = 80
BROKEN = ErrorInfo(kind="other", type="E", message="down")


def long_session(records: Records, *, steps: int = STEPS) -> list[Record]:
    """Steps of a second, with an idle minute in the middle; 52 is dear, 44 slow, 37 fails, 66 has a broken tool."""
    made: list[Record] = [records.session("s1", start_ns=START_NS, end_ns=START_NS + 3 * MINUTE, outcome="success")]
    for number in range(steps):
        start_ns = START_NS + number * SECOND + (MINUTE if number > steps // 2 else 0)
        place = Place(session_id="s1", timestep_id=f"t{number}", timestep=number)
        took_ns = 3 * SECOND if number == 44 else SECOND // 2
        failed = {"outcome": "error", "error": ErrorInfo(kind="server", type="E", status=500)} if number == 37 else {}
        made += [
            step(f"t{number}", index=number, start_ns=start_ns, end_ns=start_ns + took_ns),
            records.call(
                call_id=f"c{number}", place=place, answer=f"answer {number}",
                timing=Timing(start_ns=start_ns, duration_ns=took_ns),
                usage=Usage(input_tokens=1000 * (number + 1), output_tokens=5),
                cost=Cost(usd=Decimal(9 if number == 52 else 1) / 100, source="t"), **failed,
            ),
            event(
                f"e{number}", session_id="s1", timestep_id=f"t{number}", event_type="tool", name="look",
                time_ns=start_ns, duration_ns=9, error=BROKEN if number == 66 else None,
            ),
        ]  # fmt: skip
    return made


def test_long_session_folds_steps_with_sums_without_idle_time(store: Delivery, records: Records, tab: Open) -> None:
    store.write(*long_session(records))
    page = tab(store.url, "session/s1", ".stepstrip").tab
    assert page.locator("[role=treeitem]").count() == STEPS, "no row but those of steps"
    assert "\N{EN DASH}" not in page.inner_text(".titlebar"), "nothing stands for scores where there are none"
    row = page.inner_text("[data-id=t9]")
    for said in ("10,000 tokens in", "answer 9", "$0.01", "500 ms"):
        assert said in row
    assert "1 failed" in page.inner_text("[data-id=t37]")
    assert "1 tool failed" in page.inner_text("[data-id=t66]")
    assert "1 min" in page.inner_text(".axisline"), "idle time is cut out"
    page.click("[data-id=t9] button")
    assert page.locator("[role=treeitem]").count() == STEPS + 2


@pytest.mark.parametrize(("key", "number"), [("d", 52), ("s", 44), ("e", 37)])
def test_key_jumps_to_a_notable_step(store: Delivery, records: Records, tab: Open, key: str, number: int) -> None:
    store.write(*long_session(records))
    one = tab(store.url, "session/s1", ".stepstrip")
    one.press(key)
    assert one.tab.get_attribute("[role=treeitem][aria-selected=true]", "data-id") == f"t{number}"
    assert one.tab.locator(f".stepline[data-entry=t{number}].picked").count() == 1
    one.press("e")
    expected = "t66" if key == "e" else "t37"
    assert one.tab.get_attribute("[role=treeitem][aria-selected=true]", "data-id") == expected
    one.tab.click(f".stepstrip button:has-text('step {number}')")
    assert one.tab.get_attribute("[role=treeitem][aria-selected=true]", "data-id") == f"t{number}"


def test_short_session_is_unfolded(store: Delivery, records: Records, tab: Open) -> None:
    store.write(*long_session(records, steps=20))
    page = tab(store.url, "session/s1", "[role=treeitem]").tab
    assert page.locator("[role=treeitem]").count() == 60
    assert page.locator(".stepstrip").count() == 0


def test_step_sums_equal_the_store(records: Records, shown: Shown) -> None:
    """Also of entries that are on another page."""
    page = shown(*long_session(records, steps=600))
    first = page.get("/api/session?id=s1")
    assert first["next"] is not None
    assert [step["calls"] for step in first["steps"]] == [1] * 600
    assert first["steps"][599]["context_tokens"] == 600_000
