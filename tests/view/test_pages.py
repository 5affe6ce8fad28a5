"""The data of the pages: what is new in a call, pages of entries, filters, and what was found."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest

from callspan.records import ErrorInfo, EventRecord, RewardRecord, Timing
from tests.support.records import SECOND, START_NS

from .conftest import Page, Records, Shown, arguments, chosen

SYSTEM = {"role": "system", "content": "Be short."}
ASK = {"role": "user", "content": "Where is my parcel?"}
ANSWER = {"role": "assistant", "content": "In Leipzig."}
AGAIN = {"role": "user", "content": "And tomorrow?"}
CALLED = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"order": 7}'}}
USES_TOOL = {"role": "assistant", "content": None, "tool_calls": [CALLED]}
RESULT = {"role": "tool", "tool_call_id": "t1", "content": "delivered"}


def texts(messages: list[dict[str, Any]]) -> list[str]:
    return [part.get("text") or part["type"] for message in messages for part in message["parts"]]


@pytest.fixture
def conversation(records: Records, shown: Shown) -> Page:
    """Two calls, the second with the first and its answer; then one that asks for a tool, and one with its result."""
    helpful = {"reward_id": "r1", "scope": "session", "objective": "helpful", "value": 1.0}
    return shown(
        records.session("s1", start_ns=START_NS, end_ns=START_NS + 9 * SECOND, name="support", user_id="mara"),
        records.call(call_id="c1", session_id="s1", messages=[SYSTEM, ASK], answer="In Leipzig."),
        records.call(call_id="c2", session_id="s1", at_s=2, messages=[SYSTEM, ASK, ANSWER, AGAIN], answer="In Jena."),
        records.call(call_id="c3", session_id="s1", at_s=4, messages=[SYSTEM, ASK, ANSWER, AGAIN, USES_TOOL, RESULT]),
        RewardRecord(session_id="s1", time_ns=START_NS + 99 * SECOND, **helpful),
    )


def test_a_session_is_one_conversation_without_repetition(conversation: Page) -> None:
    page = conversation.get("/api/session?id=s1")
    calls = [row for row in page["rows"] if row["kind"] == "call"]
    assert [texts(row["turn"]["new"]) for row in calls] == [
        ["Where is my parcel?"],
        ["And tomorrow?"],
        ["tool_call", "tool_result"],
    ]
    assert [texts(row["turn"]["answer"]) for row in calls[:2]] == [["In Leipzig."], ["In Jena."]]
    assert {row["turn"]["instructions"] for row in calls} == set(page["instructions"])
    assert texts([{"parts": next(iter(page["instructions"].values()))["parts"]}]) == ["Be short."]
    assert page["session"]["title"] == "Where is my parcel?"
    assert page["session"]["scores"]["helpful"]["mean"] == 1.0


@pytest.mark.parametrize(("mime", "data"), [("image/png", "YSBi"), ("image/svg+xml", None)])
def test_a_picture_that_was_kept_inline_is_shown_unless_it_may_hold_a_script(
    records: Records, shown: Shown, mime: str, data: str | None
) -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:{mime};base64,YSBi"}}
    page = shown(records.call(call_id="c1", messages=[{"role": "user", "content": [picture]}]))
    (part,) = page.get("/api/call?id=c1")["turn"]["new"][0]["parts"]
    assert (part["mime"], part.get("data")) == (mime, data)


@pytest.mark.parametrize("name", ["sessions", "calls"])
def test_pages_behind_the_first_one_are_longer(
    records: Records, shown: Shown, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for limit, rows in (("_FIRST", 2), ("_ROWS", 4), ("_AT_ONCE", 3)):
        monkeypatch.setattr(f"callspan.view.{name}.{limit}", rows, raising=name == "sessions" or limit != "_AT_ONCE")
    page = shown(*(records.call(session_id=f"s{number}", at_s=number) for number in range(6)))
    first = page.get(f"/api/{name}?q=sort:duration")
    following = page.get(f"/api/{name}?q=sort:duration&after={first['next']}")
    assert [len(first["rows"]), len(following["rows"]), following["next"]] == [2, 4, None]
    assert isinstance(first["next"], str), "a browser would round its numbers"
    assert len({row["id"] for row in (*first["rows"], *following["rows"])}) == 6


def test_a_call_says_what_is_new_and_which_call_had_the_rest(conversation: Page) -> None:
    page = conversation.get("/api/call?id=c2")
    assert texts(page["turn"]["new"]) == ["And tomorrow?"]
    assert texts(page["earlier"]) == ["In Leipzig.", "Where is my parcel?"], "the last one first"
    assert page["earlier_in"] == {"id": "c1", "number": 1}
    assert (page["number"], page["of"], page["before"]["id"], page["after"]["id"]) == (2, 3, "c1", "c3")
    assert conversation.get("/api/call?id=c1")["earlier"] == []
    bodies = conversation.get("/api/bodies?id=c1")
    assert '"Where is my parcel?"' in bodies["request"]
    assert "In Leipzig." in bodies["response"]


def test_a_long_session_comes_in_pages_without_gap_or_repetition(records: Records, shown: Shown) -> None:
    made = [
        EventRecord(event_id=f"e{number:04}", session_id="s1", event_type="note", time_ns=START_NS + number // 7)
        for number in range(2100)
    ]
    page, after, found = shown(records.session("s1", start_ns=START_NS), *made), "", list[str]()
    while after is not None:
        part = page.get(f"/api/session?id=s1&after={quote(after)}")
        assert len(part["rows"]) == (98 if part["next"] is None else 1001), "what began at one time is not divided"
        assert (part["session"] is None) == (part["record"] is None) == (after != ""), "of the whole session once"
        found += [row["id"] for row in part["rows"]]
        after = part["next"]
    assert found == [one.event_id for one in made]


@pytest.mark.parametrize(
    ("line", "options"),
    [
        (
            "user:mara failed retries:1 meta:k=v cut-off",
            ["--user=mara", "--failed", "--retries=1", "--meta=k=v", "--cut-off"],
        ),
        ('http://x text:"a b" c d', ["--text=a b", "--text=http://x c d"]),
        ('failed user:mara don\'t "error"', ["--failed", "--user=mara", "--text=don't error"]),
        (r'user:"Mara \"S\" O\'Brien"', ['--user=Mara "S" O\'Brien']),
    ],
)
def test_a_filter_line_is_the_options_of_the_command(line: str, options: list[str]) -> None:
    assert arguments(line) == options


def test_a_filter_line_chooses_sessions(conversation: Page) -> None:
    def ids(line: str) -> list[str]:
        return [row["id"] for row in conversation.get(f"/api/sessions?q={quote(line)}")["rows"]]

    assert ids("user:mara") == ids("leipzig") == ids("objective:helpful min-score:0.5") == ["s1"]
    assert ids("user:nobody") == ids("failed") == ids("objective:helpful min-score:2") == []
    which, _ = chosen("min-cost:0.5 session-status:in_progress failure sort:cost")
    assert (str(which.min_cost_usd), which.session_outcome, which.success, which.sort) == (
        "0.5", "in_progress", False, "cost",
    )  # fmt: skip
    for line in ("since:never", "sort:age", '"open', "retries:x", 'user:"mara'):
        assert conversation.ask(f"/api/sessions?q={quote(line)}").status == 400, line


def test_what_is_found_counts_once_and_not_in_instructions(conversation: Page) -> None:
    found = conversation.get("/api/find?q=parcel")
    (session,) = found["rows"]
    (hit,) = session["hits"]
    assert (hit["where"], hit["call_id"], hit["text"][hit["at"] :][: hit["length"]]) == ("user", "c1", "parcel")
    assert conversation.get("/api/find?q=short")["rows"] == []
    assert conversation.get("/api/find?q=short&scope=instructions")["rows"][0]["hits"][0]["where"] == "instructions"
    assert conversation.get("/api/find?q=mara")["exact"] == [{"kind": "user", "id": "mara"}]


def test_errors_are_found_by_their_type_or_message(records: Records, shown: Shown) -> None:
    error = ErrorInfo(kind="rate_limit", type="slow_down", message="Too many requests")
    failed = {"session_id": "s1", "outcome": "error", "error": error}
    made = [records.call(**failed), records.call(at_s=1, **failed), records.call(session_id="s1", answer="Too many")]
    page = shown(records.session("s1", start_ns=START_NS), *made)
    for line in ("slow_down", "many%20REQ"):
        found = page.get(f"/api/find?q={line}&scope=errors")
        (session,) = found["rows"]
        assert [(one["where"], one["call_id"]) for one in session["hits"]] == [("error", c.call_id) for c in made[:2]]
    assert found["arguments"] == ["--error-text=many REQ"]
    assert page.get("/api/calls?q=error-text:slow")["rows"][0]["id"] == made[1].call_id


def test_the_start_says_what_runs_and_what_is_worth_a_look(records: Records, shown: Shown) -> None:
    at_ns = time.time_ns()
    error = ErrorInfo(kind="rate_limit", type="E", status=429)
    failed = records.call(call_id="bad", outcome="error", error=error, timing=Timing(start_ns=at_ns))
    calls = []
    for ago_min, retries, duration_ms in ((10, None, 20), (10, 2, 40), (70, 7, 900)):
        at = Timing(start_ns=at_ns - ago_min * 60 * SECOND, duration_ns=duration_ms * 1_000_000)
        calls.append(records.call(timing=at, retries=retries))
    page = shown(records.session("s1", start_ns=at_ns, name="open"), failed, *calls).get("/api/now")
    assert [row["id"] for row in page["running"]] == ["s1"]
    assert [(row["id"], row["error_kind"], row["status"]) for row in page["worth"]] == [("bad", "rate_limit", 429)]
    hour = page["hour"]
    assert (hour["calls"], hour["retries"], hour["p50_ms"]) == (3, 2, 30.0)
    at = [place for place, calls in enumerate(hour["minutes"]) if calls]
    assert (at[1] - at[0], hour["minutes"][at[0]], len(hour["minutes"])) == (10, 2, 60)
    assert (hour["cost_usd"], hour["calls_without_cost"]) == (str(3 * Decimal("0.0000123")), 0)
