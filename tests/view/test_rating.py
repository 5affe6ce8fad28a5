"""Ratings given on the page: kept as feedback, found by filters, counted by comparisons."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.stores.conftest import START_NS, run

from .conftest import Delivery, Page, Records


@pytest.fixture
def page(store: Delivery, records: Records, show: Callable[[str], Page]) -> Page:
    for number in range(4):
        version = {"prompt_version": f"v{number % 2}"}
        store.write(
            records.session(f"s{number}", start_ns=START_NS + number, metadata=version),
            records.call(call_id=f"c{number}", session_id=f"s{number}"),
        )
    store.write(records.call(call_id="secret", session_id=None, content_level="off"))
    return show(store.url)


def rated(page: Page, **given: Any) -> Any:
    answer = page.ask("/api/rate", "POST", json.dumps(given))
    return answer.json if answer.status == 200 else (answer.status, answer.json["error"])


def test_a_rating_is_found_by_a_filter_and_counted_by_a_comparison(page: Page, store: Delivery) -> None:
    up, down = rated(page, call="c0", label="thumbs_up"), rated(page, call="c1", label="thumbs_down", note="too long")
    assert [(one["value"], one["label"], one["objective"], one["source"]) for one in (up, down)] == [
        (1.0, "thumbs_up", "feedback", "human"), (0.0, "thumbs_down", "feedback", "human"),
    ]  # fmt: skip
    assert rated(page, session="s2", value=0.5)["scope"] == "session"
    found = page.get("/api/sessions?q=label:thumbs_up")["rows"]
    assert [(row["id"], row["scores"]["feedback"]["mean"]) for row in found] == [("s0", 1.0)]
    assert [row["id"] for row in page.get("/api/calls?q=label:thumbs_down")["rows"]] == ["c1"]
    assert [one["annotation"] for one in page.get("/api/call?id=c1")["rewards"]] == ["too long"]
    compared = json.loads(
        run(store.url, "--json", "compare", "meta:prompt_version=v0", "=v1", "--objective", "feedback")
    )
    (feedback,) = [one for one in compared["measures"] if one["measure"] == "feedback"]
    assert (feedback["a"], feedback["b"], feedback["n"]) == (0.75, 0.0, [2, 1])


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"call": "nobody", "value": 1}, 404),
        ({"session": "nobody", "value": 1}, 404),
        ({"call": "c0"}, 400),
        ({"call": "c0", "label": "great"}, 400),
        ({"call": "c0", "value": "1e999"}, 400),
        ({"call": "secret", "note": "their words"}, 400),
        ({"call": "c0", "note": "x" * 70_000}, 413),
    ],
)
def test_what_is_no_rating_is_said(page: Page, given: dict[str, object], status: int) -> None:
    assert rated(page, **given)[0] == status
    assert page.get("/api/call?id=c0")["rewards"] == []


def test_only_the_page_itself_may_rate(page: Page) -> None:
    body = json.dumps({"call": "c0", "value": 1})
    for headers in ({"x_callspan_key": ""}, {"cookie": ""}, {"origin": "https://attacker.example"}):
        assert page.ask("/api/rate", "POST", body, **headers).status == 403, headers
    assert [page.ask(path, "POST", body).status for path in ("/", "/api/sessions", "/api/live")] == [403] * 3
    assert page.ask("/api/rate").status == 403
    assert page.get("/api/call?id=c0")["rewards"] == []
