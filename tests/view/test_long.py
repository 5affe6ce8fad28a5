"""A long session: its steps are folded with the store's sums, and the notable ones are one key away."""

from __future__ import annotations

import pytest
from tests.support.records import Records
from tests.view.conftest import STEPS, Delivery, Open, Shown, long_session


def test_long_session_folds_steps_with_sums_without_idle_time(store: Delivery, records: Records, tab: Open) -> None:
    store.write(*long_session(records))
    page = tab(store.url, "session/s1", ".stepstrip").tab
    assert page.locator("[role=treeitem]").count() == STEPS, "no row but those of steps"
    assert "\N{EN DASH}" not in page.inner_text(".titlebar"), "nothing stands for scores where there are none"
    row = page.inner_text("[data-id=t9]")
    for said in ("10,000 tokens in", "answer 9", "$0.01", "500 ms"):
        assert said in row
    assert "1 call failed" in page.inner_text("[data-id=t37]")
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


IN_MIDDLE = """([selector, pane]) => {
  const [row, box] = [selector, pane].map(one => document.querySelector(one).getBoundingClientRect());
  const middle = (row.top + row.bottom) / 2 - box.top;
  return middle > box.height / 4 && middle < box.height * 3 / 4;
}"""


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1280, 600)])
def test_notable_step_is_named_and_in_the_middle(
    store: Delivery, records: Records, tab: Open, width: int, height: int
) -> None:
    """Also if it is above, where the line of its step sticks to the top of the conversation."""
    store.write(*long_session(records))
    one = tab(store.url, "session/s1", ".stepstrip", viewport={"width": width, "height": height})
    for key, number in (("d", 52), ("e", 37), ("s", 44)):
        one.press(key)
        assert one.tab.evaluate(IN_MIDDLE, [f".entry[data-id=t{number}]", ".panes > *"])
        assert one.tab.evaluate(IN_MIDDLE, [f"[data-entry=c{number}]", "[aria-label=Conversation]"])
    named = [row.get_attribute("data-id") for row in one.tab.locator(".entry:has(.tag)").all()]
    assert named == ["t44", "t52"]
    assert "dearest" in one.tab.inner_text("[data-id=t52]")
    colours = "all => all.map(one => getComputedStyle(one).backgroundColor)"
    assert len(set(one.tab.locator("[data-id=t44], [data-id=t52]").evaluate_all(colours))) == 2, "the chosen one"


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
