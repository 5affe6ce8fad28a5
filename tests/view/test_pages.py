"""The data of the pages: calls, entries, filters, what was found, compared, summed and rated; and the first sight."""

from __future__ import annotations

import json
import re
import time
from contextlib import closing
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest
from tests.support.commands import run
from tests.support.records import SECOND, START_NS, event, reward
from tests.view.conftest import Delivery, Open, Page, Records, Shown, arguments, parse_filter

from callspan import open_store
from callspan.records import ErrorInfo, Record, Redaction, Response, Timing
from callspan.stores import CallFilter

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
    return shown(
        records.session("s1", start_ns=START_NS, end_ns=START_NS + 9 * SECOND, name="support", user_id="mara"),
        records.call(call_id="c1", session_id="s1", messages=[SYSTEM, ASK], answer="In Leipzig."),
        records.call(call_id="c2", session_id="s1", at_s=2, messages=[SYSTEM, ASK, ANSWER, AGAIN], answer="In Jena."),
        records.call(call_id="c3", session_id="s1", at_s=4, messages=[SYSTEM, ASK, ANSWER, AGAIN, USES_TOOL, RESULT]),
        reward(session_id="s1", scope="session", objective="helpful", time_ns=START_NS + 99 * SECOND),
    )


def test_session_is_one_conversation_without_repetition(conversation: Page) -> None:
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
def test_inline_images_are_displayed_without_scripts(
    records: Records, shown: Shown, mime: str, data: str | None
) -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:{mime};base64,YSBi"}}
    page = shown(records.call(call_id="c1", messages=[{"role": "user", "content": [picture]}]))
    (part,) = page.get("/api/call?id=c1")["turn"]["new"][0]["parts"]
    assert (part["mime"], part.get("data")) == (mime, data)


@pytest.mark.parametrize("name", ["sessions", "calls"])
def test_later_pages_are_longer(records: Records, shown: Shown, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for limit, rows in (("_FIRST", 2), ("_ROWS", 4), ("_AT_ONCE", 3)):
        monkeypatch.setattr(f"callspan.view.{name}.{limit}", rows, raising=name == "sessions" or limit != "_AT_ONCE")
    page = shown(*(records.call(session_id=f"s{number}", at_s=number) for number in range(6)))
    first = page.get(f"/api/{name}?q=sort:duration")
    following = page.get(f"/api/{name}?q=sort:duration&after={first['next']}")
    assert [len(first["rows"]), len(following["rows"]), following["next"]] == [2, 4, None]
    assert isinstance(first["next"], str), "a browser would round its numbers"
    ids = {row[f"{name[:-1]}_id"] for row in (*first["rows"], *following["rows"])}
    assert len(ids) == 6


def test_call_shows_new_messages_and_their_predecessor(conversation: Page) -> None:
    page = conversation.get("/api/call?id=c2")
    assert texts(page["turn"]["new"]) == ["And tomorrow?"]
    assert texts(page["earlier"]) == ["In Leipzig.", "Where is my parcel?"], "the last one first"
    assert page["earlier_in"] == {"id": "c1", "number": 1}
    assert (page["number"], page["of"], page["before"]["id"], page["after"]["id"]) == (2, 3, "c1", "c3")
    assert conversation.get("/api/call?id=c1")["earlier"] == []
    bodies = conversation.get("/api/bodies?id=c1")
    assert '"Where is my parcel?"' in bodies["request"]
    assert "In Leipzig." in bodies["response"]


def test_long_session_is_paged_without_gap_or_repetition(records: Records, shown: Shown) -> None:
    made = [
        event(f"e{number:04}", session_id="s1", event_type="note", time_ns=START_NS + number // 7)
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
        ('http://x text:"a b" c d', ["--text=http://x a b c d"]),
        ('failed user:mara don\'t "error"', ["--failed", "--user=mara", "--text=don't error"]),
        (r'user:"Mara \"S\" O\'Brien"', ['--user=Mara "S" O\'Brien']),
    ],
)
def test_filter_line_equals_the_command_options(line: str, options: list[str]) -> None:
    assert arguments(line) == options


def test_filter_line_selects_sessions(conversation: Page) -> None:
    def ids(line: str) -> list[str]:
        return [row["session_id"] for row in conversation.get(f"/api/sessions?q={quote(line)}")["rows"]]

    assert ids("user:mara") == ids("user_id:mara") == ids("leipzig") == ids("objective:helpful min-score:0.5") == ["s1"]
    assert ids("user:nobody") == ids("failed") == ids("objective:helpful min-score:2") == []
    selection = parse_filter("min-cost:0.5 session-status:in_progress failure sort:cost")
    assert (str(selection.min_cost_usd), selection.session_outcome, selection.success, selection.sort) == (
        "0.5", "in_progress", False, "cost_usd",
    )  # fmt: skip
    for line in ("since:never", "sort:age", '"open', "retries:x", 'user:"mara'):
        assert conversation.ask(f"/api/sessions?q={quote(line)}").status == 400, line


def test_search_counts_matches_once_outside_instructions(conversation: Page) -> None:
    (session,) = conversation.get("/api/find?q=parcel")["rows"]
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
    assert page.get("/api/calls?q=error-text:slow")["rows"][0]["call_id"] == made[1].call_id


def test_calls_waiting_for_approval_are_marked_and_found(records: Records, shown: Shown) -> None:
    waiting = Response(finish_reasons=["waiting for approval"], tools_unlisted=True)
    unknown = Response(finish_reasons=["a_new_one"], unknown_finish=True)
    made = [records.call(response=waiting), records.call(at_s=1, response=unknown), records.call(at_s=2)]
    page = shown(*made)
    marks = ("waits_for_approval", "tools_unlisted", "unknown_finish")
    shown_marks = {row["call_id"]: [mark for mark in marks if row[mark]] for row in page.get("/api/calls")["rows"]}
    assert [shown_marks[call.call_id] for call in made] == [list(marks[:2]), [marks[2]], []]
    for line in ("finish:waiting_for_approval", 'finish:"waiting for approval"'):
        assert [row["call_id"] for row in page.get(f"/api/calls?q={quote(line)}")["rows"]] == [made[0].call_id]


def test_start_page_lists_running_and_failed_work(records: Records, shown: Shown) -> None:
    at_ns = time.time_ns()
    error = ErrorInfo(kind="rate_limit", type="E", status=429)
    failed = records.call(call_id="bad", outcome="error", error=error, timing=Timing(start_ns=at_ns))
    calls = []
    for ago_min, retries, duration_ms in ((10, None, 20), (10, 2, 40), (70, 7, 900)):
        at = Timing(start_ns=at_ns - ago_min * 60 * SECOND, duration_ns=duration_ms * 1_000_000)
        calls.append(records.call(timing=at, retries=retries))
    page = shown(records.session("s1", start_ns=at_ns, name="open"), failed, *calls).get("/api/now")
    assert [row["session_id"] for row in page["running"]] == ["s1"]
    assert [(row["call_id"], row["error_kind"], row["http_status"]) for row in page["worth"]] == [
        ("bad", "rate_limit", 429)
    ]
    hour = page["hour"]
    assert (hour["calls"], hour["retries"], hour["duration_p50_ns"]) == (3, 2, 30e6)
    at = [place for place, calls in enumerate(hour["minutes"]) if calls]
    assert (at[1] - at[0], hour["minutes"][at[0]], len(hour["minutes"])) == (10, 2, 60)
    assert (hour["cost_usd"], hour["calls_without_cost"]) == (str(3 * Decimal("0.0000123")), 0)


DAY_NS = 86_400_000_000_000
JANUARY_NS = 1_767_225_600_000_000_000
"""2026-01-01, UTC."""
PER_VERSION = 6


@pytest.fixture
def page(records: Records, shown: Shown) -> Page:
    """Twelve sessions over four days, of which those of v2 succeed, with a call each."""
    found: list[Record] = []
    for number in range(2 * PER_VERSION):
        is_new, start_ns = number % 2 == 1, JANUARY_NS + (number % 4) * DAY_NS
        about = {"user_id": "mara", "metadata": {"prompt_version": f"v{1 + is_new}", "seed": number * 100}}
        outcome, answer = ("success", "East.") if is_new else ("failure", "West.")
        session_id, end_ns = f"s{number:02}", start_ns + 10**9
        found += [
            records.session(session_id, start_ns=start_ns, end_ns=end_ns, outcome=outcome, **about),
            records.call(
                [{"role": "user", "content": "Where?"}], answer, call_id=f"c{number:02}", session_id=session_id
            ),
            reward(f"r{number}", number / 10, session_id=session_id, time_ns=end_ns),
        ]
    return shown(*found)


def test_sums_by_day_and_model_show_costs(page: Page) -> None:
    charts = page.get("/api/charts")
    assert charts["unit"] == "day", "calls are of one minute, but sessions of other days share the axis"
    (only,) = charts["sums"]
    assert (only["calls"], only["errors"], only["input_tokens"]) == (12, 0, 120)
    assert only["cost_usd"] == "0.0001476"
    assert [row["keys"][1] for row in charts["by_model"]] == ["gpt-5"]
    assert page.get("/api/charts?q=model:nothing") == {"unit": "day", "sums": [], "by_model": [], "span": None}


def test_tables_group_by_one_key(page: Page) -> None:
    table = page.get("/api/table?by=user")
    assert [(row["keys"], row["calls"], row["duration_p50_ns"]) for row in table["rows"]] == [(["mara"], 12, 1e9)]
    assert page.ask("/api/table?by=secret").status == 400
    assert page.ask("/api/table").status == 400


@pytest.mark.parametrize(("a", "b", "kind"), [("s00", "s01", "session"), ("c00", "c01", "call")])
def test_compare_names_the_first_difference(page: Page, a: str, b: str, kind: str) -> None:
    found = page.get(f"/api/compare?a={a}&b={b}")
    assert (found["kind"], found["ids"]) == (kind, [a, b])
    assert found["first"] == "First difference: message 2, assistant."
    assert [(row["status"], row["text"]) for row in found["messages"]] == [("same", "Where?"), ("differs", "")]
    assert found["messages"][1]["changes"] == [["a", "West"], ["b", "East"], ["both", "."]]
    facts = {row["name"]: row for row in found["facts"]}
    if kind == "session":
        assert (facts["outcome"]["a"], facts["outcome"]["b"]) == ("failure", "success")
        assert facts["calls"]["against"] == "same"
        assert facts["meta:prompt_version"]["against"] == "differs"


def test_incomparable_selections_are_errors(page: Page) -> None:
    mixed = page.ask("/api/compare?a=s00&b=c00")
    assert (mixed.status, "choose two calls or two sessions" in mixed.json["error"]) == (400, True)
    missing = page.ask("/api/compare?a=s00&b=nobody")
    assert (missing.status, "nobody" in missing.json["error"]) == (404, True)
    assert page.ask("/api/compare?a=s00").status == 400


def rated(page: Page, **given: Any) -> Any:
    answer = page.ask("/api/rate", "POST", json.dumps(given))
    return answer.json if answer.status == 200 else (answer.status, answer.json["error"])


def test_rating_is_filterable_and_comparable(page: Page, store: Delivery) -> None:
    up, down = rated(page, call="c00", label="thumbs_up"), rated(page, call="c01", label="thumbs_down", note="too long")
    assert [(one["value"], one["label"], one["objective"], one["source"]) for one in (up, down)] == [
        (1.0, "thumbs_up", "feedback", "human"), (0.0, "thumbs_down", "feedback", "human"),
    ]  # fmt: skip
    assert rated(page, session="s02", value=0.5)["scope"] == "session"
    found = page.get("/api/sessions?q=label:thumbs_up")["rows"]
    assert [(row["session_id"], row["scores"]["feedback"]["mean"]) for row in found] == [("s00", 1.0)]
    assert [row["call_id"] for row in page.get("/api/calls?q=label:thumbs_down")["rows"]] == ["c01"]
    assert [one["annotation"] for one in page.get("/api/call?id=c01")["rewards"]] == ["too long"]
    compared = json.loads(
        run(store.url, "--json", "compare", "meta:prompt_version=v1", "=v2", "--objective", "feedback")
    )
    (feedback,) = [one for one in compared["measures"] if one["measure"] == "feedback"]
    assert (feedback["a"], feedback["b"], feedback["n"]) == (0.75, 0.0, [2, 1])


def test_rating_a_call_without_content_keeps_no_text(records: Records, shown: Shown) -> None:
    page = shown(records.call(call_id="secret", content_level="off"))
    assert rated(page, call="secret", note="their words")[0] == 400


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"call": "nobody", "value": 1}, 404),
        ({"session": "nobody", "value": 1}, 404),
        ({"call": "c00"}, 400),
        ({"call": "c00", "label": "  "}, 400),
        ({"call": "c00", "value": "1e999"}, 400),
        ({"call": "c00", "note": "x" * 70_000}, 413),
    ],
)
def test_invalid_rating_is_named(page: Page, given: dict[str, object], status: int) -> None:
    assert rated(page, **given)[0] == status
    assert page.get("/api/call?id=c00")["rewards"] == []


def test_only_the_page_may_rate(page: Page) -> None:
    body = json.dumps({"call": "c00", "value": 1})
    for headers in ({"x_callspan_key": ""}, {"cookie": ""}, {"origin": "https://attacker.example"}):
        assert page.ask("/api/rate", "POST", body, **headers).status == 403, headers
    assert page.ask("/api/rate").status == 403
    assert page.get("/api/call?id=c00")["rewards"] == []


ERROR = ErrorInfo(kind="rate_limit", type="RateLimitError", status=429)


def test_number_of_a_group_is_that_of_the_store_or_absent(
    store: Delivery, records: Records, shown: Shown, tab: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = shown(
        *(records.session(f"s{number}", start_ns=START_NS + number * SECOND, group_id="trial") for number in range(5)),
        *(records.call(session_id=f"s{number}", outcome="error", error=ERROR) for number in range(4)),
    )
    assert page.get("/api/sessions?q=failed")["groups"] == {"trial": 4}
    with closing(open_store(store.url)) as reader:
        some = CallFilter(errors=True, ids=("s1", "s2"))
        assert reader.count_grouped_sessions(["trial", "other"], some) == {"trial": 2}
    monkeypatch.setattr("callspan.view.sessions._MAX_COUNTED", 3)
    assert page.get("/api/sessions?q=failed")["groups"] == {}
    text = tab(store.url, "", ".row.group").tab.inner_text(".row.group")
    assert "rollouts of trial" in text
    assert "5 rollouts" not in text


def test_rollouts_are_one_row_from_the_first_page_on(
    store: Delivery, records: Records, tab: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two groups, of which the first page has two rollouts each, and the next one the others."""
    monkeypatch.setattr("callspan.view.sessions._FIRST", 4)
    for number, group_id in enumerate("abababab"):
        store.write(records.session(f"s{number}", start_ns=START_NS + number * SECOND, group_id=group_id))
    page = tab(store.url, "", ".row.group >> nth=1")
    page.tab.wait_for_selector(".row.group:has-text('4 rollouts of b')")
    assert page.tab.locator(".row.session:not(.group)").count() == 0
    more = page.tab.get_by_role("button", name="more", exact=True)
    more.click()
    more.wait_for(state="detached")
    assert page.tab.locator(".row.session").count() == 2


def test_group_has_name_versions_and_errors(store: Delivery, records: Records, tab: Open) -> None:
    for number in range(5):
        at_ns, name = START_NS + number * SECOND, f"s{number}"
        about = {"group_id": "trial", "metadata": {"prompt_version": "v2"}, "user_id": f"u{number % 2}"}
        store.write(records.session(name, start_ns=at_ns, outcome="success" if number else "failure", **about))
    store.write(records.call(call_id="bad", session_id="s1", outcome="error", error=ERROR))
    store.write(records.call(call_id="other", session_id="s3", model="gpt-5-mini"))
    one = tab(store.url, "", ".row.group")
    row = one.tab.inner_text(".row.group")
    for said in ("5 rollouts of trial", "prompt v2", "rate limit 429", "2 users"):
        assert said in row
    assert one.tab.get_attribute(".row.group .mark.bad >> nth=0", "class") == "mark bad"
    one.tab.wait_for_selector(".state:has-text('5 sessions, 2 calls')")
    assert re.search(r"last record \d+ d \d+ h ago", one.tab.inner_text(".state"))
    assert one.tab.inner_text(".chip:has-text('with failed calls') .soft") == "1"
    one.tab.select_option("select[aria-label=user]", "user:u1")
    one.tab.wait_for_selector(".sums-line:has-text('2 rows')")
    one.tab.select_option("select[aria-label=model]", "model:gpt-5")
    one.tab.wait_for_selector(".sums-line:has-text('1 row')")
    one.press("j", "Escape")
    assert "user%3Au1" in one.tab.url, "Esc keeps the filter"
    one.tab.click("a.marked")
    one.tab.wait_for_selector("h1:has-text('call 1 of 1')")
    one.press("Escape")
    one.tab.wait_for_selector("[role=treeitem]")
    one.press("Escape")
    one.tab.wait_for_selector(".row.session")
    assert "user%3Au1" in one.tab.url


def test_content_off_is_stated(store: Delivery, records: Records, tab: Open) -> None:
    left = [Redaction(what=f"{side}.body", why="content") for side in ("request", "response")]
    off: dict[str, Any] = {"content_level": "off", "response": Response(), "redactions": left}
    store.write(records.call(call_id="c1", session_id="s1", **off))
    one = tab(store.url, "session/s1", "text=content is off")
    assert one.tab.locator("[aria-label=Conversation] .gone").count() == 0, "one line says it"


def test_instructions_of_the_only_call_are_not_of_all(store: Delivery, records: Records, tab: Open) -> None:
    sent = [SYSTEM, {"role": "user", "content": "Hi"}]
    store.write(records.call(sent, session_id="s1"), *(records.call(sent, session_id="s2", at_s=at) for at in (1, 2)))
    one = tab(store.url, "session/s1", ".turn:has-text('Be short.')")
    assert "all" not in one.tab.inner_text(".turn >> nth=0").split()
    one.open("session/s2", ".turn:has-text('Be short.')")
    assert "all 2 calls" in one.tab.inner_text(".turn >> nth=0")


def test_call_rating_is_separate(store: Delivery, records: Records, tab: Open) -> None:
    store.write(records.call(call_id="c1", session_id="s1"))
    one = tab(store.url, "call/c1", ".rating")
    one.tab.click(".rating summary")
    one.tab.fill("form.rate [aria-label=Note]", "polite")
    one.tab.click(".rating button[title='thumbs up']")
    one.tab.wait_for_selector("[aria-label=Messages] >> text=polite")
    assert one.tab.input_value("form.rate [aria-label=Note]") == ""
