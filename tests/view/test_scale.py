"""Pages of large sessions and stores keep to their bars of CPU, and come in parts."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import large_store
import large_view
from callspan.record.usage import Cost
from callspan.view.server import PAGES

from .conftest import Delivery, Records
from .test_browser import Tab, browser, tab

__all__ = ["browser", "tab"]
STEPS = 100_000
pytestmark = pytest.mark.slow


def test_an_episode_of_100000_steps_is_read_in_pages(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    large_store.deliver(path, large_store.episode(STEPS))
    source = large_view.source_of(path)
    began = time.process_time()
    large_view.cost_of(source, PAGES["session"], {"id": large_store.EPISODE})
    assert time.process_time() - began < 1.0


def test_charts_show_the_newest_calls_until_all_are_summed(
    store: Delivery, records: Records, tab: Callable[..., Tab], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callspan.view.charts._SOME", 5)
    paid = Cost(usd=Decimal("0.01"), source="table")
    store.write(*(records.call(at_s=number * 600, cost=paid) for number in range(12)))
    one, held = tab(store.url), list[Any]()
    one.tab.route(re.compile(r"/api/charts\?$"), lambda route: held.insert(0, route))
    one.open("charts", ".strips >> text=so far the newest calls")
    some = cost(one.tab.inner_text(".strips"))
    one.tab.wait_for_timeout(100)
    held[0].continue_()
    one.tab.wait_for_selector("section.sums")
    assert "so far" not in one.tab.inner_text(".strips")
    assert cost(one.tab.inner_text(".strips")) == pytest.approx(12 / 5 * some, rel=0.01)


def cost(text: str) -> float:
    """Return the sum that the strip of costs names."""
    return float(text.partition("$")[2].split()[0])
