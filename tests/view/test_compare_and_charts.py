"""The pages that compare, sum and rate: their data, by the server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callspan.records import Record, RewardRecord
from tests.support.commands import run

from .conftest import Delivery, Page, Records, Shown

DAY_NS = 86_400_000_000_000
START_NS = 1_767_225_600_000_000_000
"""2026-01-01, UTC."""
PER_VERSION = 6


@pytest.fixture
def page(records: Records, shown: Shown) -> Page:
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
    return shown(*found)


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


def rated(page: Page, **given: Any) -> Any:
    answer = page.ask("/api/rate", "POST", json.dumps(given))
    return answer.json if answer.status == 200 else (answer.status, answer.json["error"])


def test_a_rating_is_found_by_a_filter_and_counted_by_a_comparison(page: Page, store: Delivery) -> None:
    up, down = rated(page, call="c00", label="thumbs_up"), rated(page, call="c01", label="thumbs_down", note="too long")
    assert [(one["value"], one["label"], one["objective"], one["source"]) for one in (up, down)] == [
        (1.0, "thumbs_up", "feedback", "human"), (0.0, "thumbs_down", "feedback", "human"),
    ]  # fmt: skip
    assert rated(page, session="s02", value=0.5)["scope"] == "session"
    found = page.get("/api/sessions?q=label:thumbs_up")["rows"]
    assert [(row["id"], row["scores"]["feedback"]["mean"]) for row in found] == [("s00", 1.0)]
    assert [row["id"] for row in page.get("/api/calls?q=label:thumbs_down")["rows"]] == ["c01"]
    assert [one["annotation"] for one in page.get("/api/call?id=c01")["rewards"]] == ["too long"]
    compared = json.loads(
        run(store.url, "--json", "compare", "meta:prompt_version=v1", "=v2", "--objective", "feedback")
    )
    (feedback,) = [one for one in compared["measures"] if one["measure"] == "feedback"]
    assert (feedback["a"], feedback["b"], feedback["n"]) == (0.75, 0.0, [2, 1])


def test_no_words_are_kept_of_a_call_without_content(records: Records, shown: Shown) -> None:
    page = shown(records.call(call_id="secret", content_level="off"))
    assert rated(page, call="secret", note="their words")[0] == 400


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"call": "nobody", "value": 1}, 404),
        ({"session": "nobody", "value": 1}, 404),
        ({"call": "c00"}, 400),
        ({"call": "c00", "label": "great"}, 400),
        ({"call": "c00", "value": "1e999"}, 400),
        ({"call": "c00", "note": "x" * 70_000}, 413),
    ],
)
def test_what_is_no_rating_is_said(page: Page, given: dict[str, object], status: int) -> None:
    assert rated(page, **given)[0] == status
    assert page.get("/api/call?id=c00")["rewards"] == []


def test_only_the_page_itself_may_rate(page: Page) -> None:
    body = json.dumps({"call": "c00", "value": 1})
    for headers in ({"x_callspan_key": ""}, {"cookie": ""}, {"origin": "https://attacker.example"}):
        assert page.ask("/api/rate", "POST", body, **headers).status == 403, headers
    assert page.ask("/api/rate").status == 403
    assert page.get("/api/call?id=c00")["rewards"] == []
