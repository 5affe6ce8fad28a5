"""The pages that compare and sum: their data, by the server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from callspan.records import Record, RewardRecord

from .conftest import Delivery, Page, Records

DAY_NS = 86_400_000_000_000
START_NS = 1_767_225_600_000_000_000
"""2026-01-01, UTC."""
PER_VERSION = 6


@pytest.fixture
def page(store: Delivery, records: Records, show: Callable[[str], Page]) -> Page:
    """Twelve sessions over four days, of which those of v2 succeed, with a call each."""
    found: list[Record] = []
    for number in range(2 * PER_VERSION):
        is_new, start_ns = number % 2 == 1, START_NS + (number % 4) * DAY_NS
        about = {"user_id": "mara", "metadata": {"prompt_version": f"v{1 + is_new}", "seed": number * 100}}
        outcome, answer = ("success", "East.") if is_new else ("failure", "West.")
        session_id, end_ns = f"s{number:02}", start_ns + 10**9
        found += [
            records.session(session_id, start_ns=start_ns, end_ns=end_ns, outcome=outcome, **about),
            records.call(
                [{"role": "user", "content": "Where?"}], answer, call_id=f"c{number:02}", session_id=session_id
            ),
            RewardRecord(reward_id=f"r{number}", session_id=session_id, time_ns=end_ns, value=number / 10),
        ]
    store.write(*found)
    return show(store.url)


def test_sums_by_day_and_model_say_what_the_calls_cost(page: Page) -> None:
    charts = page.get("/api/charts")
    assert charts["unit"] == "minute", "all calls are of one minute"
    (only,) = charts["sums"]
    assert (only["calls"], only["errors"], only["input_tokens"]) == (12, 0, 120)
    assert only["cost_usd"] == "0.0001476"
    assert [row["keys"][1] for row in charts["by_model"]] == ["gpt-5"]
    none = {"unit": "day", "sums": [], "by_model": [], "span": None}
    assert page.get("/api/charts?q=model:nothing") == none


def test_tables_are_by_one_key(page: Page) -> None:
    table = page.get("/api/table?by=user")
    assert [(row["keys"], row["calls"], row["p50_ms"]) for row in table["rows"]] == [(["mara"], 12, 1000.0)]
    assert page.ask("/api/table?by=secret").status == 400
    assert page.ask("/api/table").status == 400


def test_scores_by_day(page: Page) -> None:
    scores = page.get("/api/scores")
    assert (scores["unit"], scores["objective"], scores["more"]) == ("day", "reward", False)
    assert scores["means"] == {"2026-01-01": 0.4, "2026-01-02": 0.5, "2026-01-03": 0.6, "2026-01-04": 0.7}
    assert len(scores["points"]) == 2 * PER_VERSION


@pytest.mark.parametrize(("a", "b", "kind"), [("s00", "s01", "session"), ("c00", "c01", "call")])
def test_two_are_compared_and_the_first_difference_is_named(page: Page, a: str, b: str, kind: str) -> None:
    found = page.get(f"/api/compare?a={a}&b={b}")
    assert (found["kind"], found["ids"]) == (kind, [a, b])
    assert found["first"] == "First difference: message 2, assistant."
    assert [(row["status"], row["text"]) for row in found["messages"]] == [("same", "Where?"), ("differs", "")]
    assert found["messages"][1]["changes"] == [["a", "West"], ["b", "East"], ["both", "."]]
    facts = {row["name"]: row for row in found["facts"]}
    if kind == "session":
        assert (facts["outcome"]["a"], facts["outcome"]["b"], facts["calls"]["against"]) == (
            "failure",
            "success",
            "same",
        )
        assert facts["meta:prompt_version"]["against"] == "differs"


def test_what_cannot_be_compared_is_said(page: Page) -> None:
    mixed = page.ask("/api/compare?a=s00&b=c00")
    assert (mixed.status, "choose two calls or two sessions" in mixed.json["error"]) == (400, True)
    missing = page.ask("/api/compare?a=s00&b=nobody")
    assert (missing.status, "nobody" in missing.json["error"]) == (404, True)
    assert page.ask("/api/compare?a=s00").status == 400


def test_sessions_that_are_compared_in_part_are_not_called_equal(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callspan.view.compare._CALLS", 0)
    found = page.get("/api/compare?a=s00&b=s01")
    assert (found["first"], found["cut"], found["messages"]) == ("", 0, [])
