"""The list of sessions and calls: what has no session is there, too; its words, marks and numbers are the store's."""

from __future__ import annotations

import sqlite3
import subprocess
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import ask
from tests.support.identities import identity_of
from tests.support.records import SECOND, START_NS, Records, keep, raw, reward
from tests.view.conftest import Delivery, Open, Shown

from callspan.records import Cost, ErrorInfo, Response, Stream, Timing

ASKS = {"role": "user", "content": "Is it raining in Paris?"}
USES = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
USED = {"role": "assistant", "content": None, "tool_calls": [USES]}
RESULT = {"role": "tool", "tool_call_id": "t1", "content": "rain"}


def outside(records: Records, number: int, messages: object = None, answer: str = "Yes.", **fields: Any) -> Any:
    """A call outside of sessions, with a trace of its own."""
    given = {"call_id": f"out{number}", "at_s": number, "trace_id": f"{number:032x}"}
    return records.call(messages, answer, **(given | fields))


def answered(message: dict[str, Any], **fields: Any) -> Response:
    """A response with this message."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    body = {"object": "chat.completion", "choices": [choice | fields.pop("choice", {})]}
    finish = body["choices"][0]["finish_reason"]
    return Response(body=raw(body), finish_reasons=[finish], **fields)


def exited() -> str | None:
    """The identity of a process that has exited."""
    with subprocess.Popen(["sleep", "600"]) as process:
        identity = identity_of(process.pid)
        process.kill()
    return identity


def rows(page: Any) -> list[str]:
    return [" ".join(text.split()) for text in page.locator(".row.session").all_inner_texts()]


def test_only_call_is_open_below_its_row(store: Delivery, records: Records, tab: Open) -> None:
    store.write(outside(records, 1, [{"role": "user", "content": "Hi"}], "Hello! How can I help?"))
    page = tab(store.url, "", ".row.loose").tab
    assert "Hi → Hello! How can I help?" in page.inner_text(".row.loose")
    assert "Hello! How can I help?" in page.inner_text("[aria-label=Messages]")
    assert page.locator("form.filters").is_hidden(), "one row needs no filter"
    assert page.locator("section.band").count() == 0, "nothing was called in the last hour"


def test_calls_outside_of_sessions_are_rows_of_the_same_list(store: Delivery, records: Records, tab: Open) -> None:
    """Those of one trace are below one row, and those of one tool loop are a run."""
    asked = {"choices": [{"index": 0, "message": USED, "finish_reason": "tool_calls"}]}
    store.write(
        records.session("s1", start_ns=START_NS + 2 * SECOND, name="support", outcome="success"),
        records.call(call_id="in1", session_id="s1", at_s=2, messages=[{"role": "user", "content": "Where is it?"}]),
        outside(records, 1, [ASKS], response=Response(body=raw(asked), finish_reasons=["tool_calls"])),
        outside(records, 3, [ASKS, USED, RESULT], "Yes, it rains."),
        outside(records, 4, [{"role": "user", "content": "Hi"}], "Hello."),
        outside(records, 5, [{"role": "user", "content": "one"}], "1", trace_id="f" * 32),
        outside(records, 6, [{"role": "user", "content": "two"}], "2", trace_id="f" * 32),
    )
    one = tab(store.url, "", ".row.session")
    names = [" ".join(text.split()) for text in one.tab.locator(".row.session .words").all_inner_texts()]
    tags = [row.locator(".tag").all_inner_texts() for row in one.tab.locator(".row.session:not(.inside)").all()]
    assert tags == [["calls"], ["call"], [], []], "what is no session says so"
    assert names == [
        "▾ one → 2", "→ 1", "→ 2", "Hi → Hello.", "Where is it?", "Is it raining in Paris?",
    ]  # fmt: skip
    assert "2 sessions and 3 calls outside of sessions · 6 calls in all" in one.tab.inner_text(".day")
    one.tab.click(".row.run")
    assert one.tab.locator(".row.inside").count() == 0, "folded"
    one.tab.click("text=Hi")
    one.tab.wait_for_selector("main.call")


@pytest.mark.parametrize("order", ["start", "cost", "duration", "tokens", "score"])
def test_sessions_and_calls_share_one_order(records: Records, shown: Shown, order: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("callspan.view.sessions._FIRST", 2)
    monkeypatch.setattr("callspan.view.sessions._ROWS", 2)
    made: list[Any] = []
    for number in range(3):
        took = Timing(start_ns=START_NS + 2 * number * SECOND, duration_ns=(number + 1) * SECOND)
        made += [
            records.session(f"s{number}", start_ns=took.start_ns, end_ns=took.start_ns + took.duration_ns),
            records.call(call_id=f"in{number}", session_id=f"s{number}", timing=took),
            reward(f"r{number}", float(-number), session_id=f"s{number}", scope="session"),
            outside(
                records, number, at_s=2 * number + 1, timing=Timing(start_ns=took.start_ns + SECOND, duration_ns=1)
            ),
        ]
    page, after, found = shown(*made), "", list[str]()
    while after is not None:
        part = page.get(f"/api/sessions?q=sort:{order}&after={after}")
        found += [row.get("call_id") or row["session_id"] for row in part["rows"]]
        after = part["next"]
    assert sorted(found) == ["out0", "out1", "out2", "s0", "s1", "s2"], "each once"
    if order in ("start", "cost", "tokens"):
        assert found == ["out2", "s2", "out1", "s1", "out0", "s0"]
    else:
        assert found == ["s2", "s1", "s0", "out2", "out1", "out0"]


def test_costs_are_compared_to_the_picodollar(records: Records, shown: Shown) -> None:
    dearest, less = (Cost(usd=Decimal(usd), source="x") for usd in ("12000000.200000000001", "12000000.2"))
    page = shown(
        records.session("s", start_ns=START_NS), records.call(session_id="s", cost=dearest),
        outside(records, 1, at_s=1, cost=less),
    )  # fmt: skip
    rows = page.get("/api/sessions?q=sort:cost")["rows"]
    assert [row.get("call_id") or row["session_id"] for row in rows] == ["s", "out1"]


def test_chip_counts_its_rows_and_marks(store: Delivery, records: Records, tab: Open) -> None:
    """Also those that are not listed yet."""
    failed = {"outcome": "error", "error": ErrorInfo(kind="connection", type="E")}
    cut = {
        "stream": Stream(end="cut_off"),
        "response": answered({"content": "The beg"}, choice={"finish_reason": None}),
    }
    long = {"response": answered({"content": "The beg"}, choice={"finish_reason": "length"})}
    for number in range(116):
        session_id = f"s{number:03}"
        fields: dict[str, Any] = {"retries": 2} if number % 2 else {}
        store.write(
            records.session(session_id, start_ns=START_NS + number * SECOND, outcome="success", name="work"),
            records.call(session_id=session_id, at_s=number, **fields),
        )
    loose: list[dict[str, Any]] = [failed, cut, long, {"retries": 3}]
    store.write(*(outside(records, number, **fields) for number, fields in enumerate(loose, 1)))
    page = tab(store.url, "", ".row.session").tab

    def chips() -> dict[str, int]:
        texts = [text.split() for text in page.locator("form.filters .chips button").all_inner_texts()]
        return {" ".join(words[:-1]): int(words[-1]) for words in texts if words[-1].isdigit()}

    assert chips() == {"with failed calls": 1, "cut": 2, "retried": 59}
    assert page.locator(".day >> text=session").count() == 0, "of a day that goes on, no sum is known"
    page.click("form.filters .chips button:has-text('cut')")
    page.wait_for_selector("button[aria-pressed=true]:has-text('cut')")
    assert [row for row in rows(page) if "cut" not in row] == []
    assert len(rows(page)) == 2


WORDS = {
    "refused": {"response": answered({"content": None, "refusal": "No."}, refused=True)},
    "filtered": {"response": answered({"content": None}, choice={"finish_reason": "content_filter"}, refused=True)},
    "empty": {"response": answered({"content": ""})},
    "not kept": {"content_level": "metadata", "response": Response(finish_reasons=["stop"])},
    "interrupted": {"response": None, "outcome": "in_progress", "part": "started", "usage": None},
    "cancelled": {"response": answered({"content": ""}), "outcome": "cancelled"},
}


@pytest.mark.parametrize("word", WORDS)
def test_missing_answer_is_a_mark(word: str, store: Delivery, records: Records, tab: Open) -> None:
    fields = dict(WORDS[word])
    if word == "interrupted":
        fields |= {"process": exited(), "timing": Timing(start_ns=time.time_ns())}
    else:
        fields["timing"] = Timing(start_ns=time.time_ns(), duration_ns=SECOND)
    store.write(outside(records, 1, [ASKS], **fields), outside(records, 2, [ASKS], at_s=-9999))
    one = tab(store.url, "", ".row.loose")
    row = one.tab.inner_text(".row.loose >> nth=0")
    assert word in row
    assert ("success" in row) == (word == "not kept"), "content that is not kept says nothing of the outcome"
    if word != "not kept":
        assert word in one.tab.inner_text("section.band"), "worth a look"
    one.open("calls", ".row.call")
    assert word in one.tab.inner_text(".row.call .marks >> nth=0")
    one.open("call/out1", ".fact")
    said = one.tab.inner_text("[aria-label=Messages]") + one.tab.inner_text(".titlebar")
    assert word in said
    assert "chat" not in said.replace("Chat", "")
    assert ("success" in said) == (word == "not kept"), "as in lists"


def test_empty_answer_worth_a_look_has_its_question(store: Delivery, records: Records, tab: Open) -> None:
    store.write(outside(records, 1, [ASKS], **WORDS["empty"], timing=Timing(start_ns=time.time_ns(), duration_ns=1)))
    page = tab(store.url, "", "section.band").tab
    assert "Is it raining in Paris?" in page.inner_text("section.band")


def test_last_hour_without_failures_counts_none(store: Delivery, records: Records, tab: Open) -> None:
    store.write(outside(records, 1, timing=Timing(start_ns=time.time_ns(), duration_ns=SECOND)))
    page = tab(store.url, "", "section.band").tab
    assert page.inner_text("section.band").split() == ["Last", "hour", "1", "call", "$0.0000123"]


def test_call_without_a_response_has_none(store: Delivery, records: Records, tab: Open) -> None:
    """That is no response which was not kept."""
    error = ErrorInfo(kind="rate_limit", type="E", status=429)
    store.write(
        outside(records, 1, response=None, usage=None, cost=None, outcome="error", error=error),
        outside(records, 2, [ASKS], response=Response(finish_reasons=["stop"]), usage=None, cost=None),
    )
    one = tab(store.url, "call/out1", ".fact")
    assert "response: none" in one.tab.inner_text("[aria-label=Messages]")
    one.open("call/out2", "text=response: not kept")
    one.tab.click("details.exact summary")
    one.tab.wait_for_selector("details.exact pre:has-text('Is it raining in Paris?')")


def test_duration_of_interrupted_work_does_not_grow(store: Delivery, records: Records, tab: Open) -> None:
    started = Timing(start_ns=START_NS)
    gone = exited()
    store.write(
        records.session("s1", start_ns=START_NS, process=gone),
        records.call(
            call_id="c1", session_id="s1", timing=started, response=None, usage=None, cost=None, process=gone,
            outcome="in_progress", part="started",
        ),
    )  # fmt: skip
    page = tab(store.url, "session/s1", ".entry[data-id=c1]").tab
    assert page.inner_text(".entry[data-id=c1] .quiet >> nth=0") == ""
    assert " d " not in page.inner_text("[aria-label=Course]"), "started years ago"
    assert "interrupted" in page.inner_text(".entry[data-id=c1]")


def test_lists_of_the_command_have_question_and_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records()
    url = keep(
        f"sqlite:///{tmp_path}/calls.db",
        records.session("s1", start_ns=START_NS, task_id="riddle-7", outcome="success"),
        records.call([ASKS], "Yes, it rains.", session_id="s1", model="a-model-with-a-very-long-name"),
    )
    assert "Is it rain" in ask("--store", url, "calls").out
    for columns in ("40", "60", "80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        out = ask("--store", url, "calls").out
        assert "Yes, it" in out, columns
        assert max(map(len, out.splitlines())) <= int(columns)
        assert "riddle-7" in ask("--store", url, "sessions").out, columns
    assert "Is it raining in Paris?" in out
    (row,) = ask("--store", url, "--json", "calls").json
    assert (row["question"], row["output"]) == ("Is it raining in Paris?", "Yes, it rains.")
    assert ask("--store", url, "--json", "show", "s1").json["loose_calls"][0]["question"] == row["question"]
    assert "riddle-7 · Is it raining" in ask("--store", url, "sessions").out


def test_conversation_marks_an_interrupted_call(store: Delivery, records: Records, tab: Open) -> None:
    """Its answer was not recorded, which is another thing than none."""
    left: dict[str, Any] = {"response": None, "usage": None, "cost": None, "outcome": "in_progress", "part": "started"}
    store.write(
        records.session("s1", start_ns=START_NS, process=exited()),
        records.call(call_id="c1", session_id="s1", process=exited(), timing=Timing(start_ns=START_NS), **left),
    )
    page = tab(store.url, "session/s1", "[data-entry=c1]").tab
    assert "interrupted before its answer was recorded" in page.inner_text("[data-entry=c1]")


def test_failed_calls_and_unsuccessful_sessions_have_words_of_their_own(
    store: Delivery, records: Records, tab: Open
) -> None:
    failed: dict[str, Any] = {"outcome": "error", "error": ErrorInfo(kind="connection", type="E")}
    now = time.time_ns()
    for number in range(4):
        outcome = {"outcome": "failure" if number else "success", "group_id": "g1" if number < 3 else None}
        store.write(
            records.session(f"s{number}", start_ns=now + number, **outcome),
            records.call(session_id=f"s{number}", timing=Timing(start_ns=now, duration_ns=1), **failed),
        )
    one = tab(store.url, "", ".row.session")
    assert "4 calls failed" in one.tab.inner_text("section.band")
    alone, group = (row.inner_text() for row in one.tab.locator(".row.session").all())
    assert "no success" in alone
    assert group.split()[group.split().index("success") - 1 :][:4] == ["1", "success", "2", "no"]
    chips = " ".join(one.tab.inner_text("form.filters .chips").split())
    assert "with failed calls 4 no success 3" in chips
    for place, selector in (
        ("calls", ".row.call"),
        ("session/s3", ".titlebar:has-text('no success')"),
        ("compare?a=s0&b=s1", ".row.pair:has-text('no success')"),
        ("", ".row.session"),
    ):
        one.open(place, selector)
        assert "failure" not in one.tab.inner_text("main"), place


def test_label_stands_beside_its_score(store: Delivery, records: Records, tab: Open) -> None:
    """If all values of the score have it."""
    for number in range(3):
        store.write(records.session(f"s{number}", start_ns=START_NS, outcome="success"))
    rated = [
        ("s0", "feedback", 0.0, "thumbs_down"), ("s1", "feedback", 1.0, "thumbs_up"), ("s1", "feedback", 0.0, None),
        ("s2", "feedback", 1.0, "thumbs_up"), ("s2", "judge", 0.5, "in part"),
    ]  # fmt: skip
    for number, (session_id, objective, value, label) in enumerate(rated):
        fields = {"session_id": session_id, "scope": "session", "objective": objective, "label": label}
        store.write(reward(f"r{number}", value, **fields))
    one = tab(store.url, "", ".row.session")
    said = [one.tab.inner_text(f".row[data-id=s{number}] .scores") for number in range(3)]
    assert said == ["feedback 0 thumbs_down", "feedback 0.5 mean of 2", "feedback 1 judge 0.5"], "numbers have room"
    one.open("session/s2", ".titlebar .facts")
    assert "feedback 1 thumbs_up judge 0.5 in part" in one.tab.inner_text(".titlebar")


def test_vectors_are_an_answer(store: Delivery, records: Records, tab: Open) -> None:
    body = raw({"data": [{"index": 0, "embedding": [0.5, 0.25]}]})
    store.write(records.call(call_id="c1", api="embeddings", operation="embeddings", response=Response(body=body)))
    page = tab(store.url, "call/c1", ".fact").tab
    assert "vectors, not displayed" in page.inner_text("[aria-label=Messages]")


COPIES = """
INSERT INTO sessions ({names})
  WITH RECURSIVE copies (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copies WHERE n < 100000)
SELECT {values} FROM copies, (SELECT * FROM sessions WHERE session_id = 'old')"""


@pytest.mark.parametrize("age_days", [0, 30])
def test_lists_of_a_store_with_very_many_sessions_begin_with_its_last_week(
    age_days: int, store: Delivery, records: Records, tab: Open
) -> None:
    now_ns = time.time_ns() - age_days * 86_400 * SECOND
    for name, ago_days in (("old", 20), ("new", 0.01)):
        start_ns = now_ns - int(ago_days * 86_400) * SECOND
        store.write(records.session(name, name=name, start_ns=start_ns))
        store.write(records.call(session_id=name, timing=Timing(start_ns=start_ns, duration_ns=SECOND)))
    with sqlite3.connect(store.url.removeprefix("sqlite:///")) as database:
        names = [row[1] for row in database.execute("PRAGMA table_info(sessions)")]
        values = ["'old' || n" if name == "session_id" else name for name in names]
        database.execute(COPIES.format(names=", ".join(names), values=", ".join(values)))
    opened = tab(store.url, "", ".row.session")
    page = opened.tab
    assert ["new" in row.split() for row in rows(page)] == [True]
    assert "of 100,002 sessions" in page.inner_text("form.filters")
    assert "since%3A" in page.url
    page.get_by_role("button", name="all", exact=True).click()
    page.wait_for_selector(".row.session:has-text('old')")
    assert "of 100,002 sessions" not in page.inner_text("form.filters")
    for place, shown in (("charts", "form.filters:has-text('of 100,002 sessions')"), ("calls", ".row")):
        opened.open(place, shown)
        assert "since%3A" in page.url
    opened.open("?q=until:2020-01-01", "p:has-text('No session or call has')")
    assert "since%3A" not in page.url
    # Who has gone on before the page knew its store stays where they went.
    held: list[Any] = []
    page.evaluate("history.replaceState(null, '', '#/')")
    page.route("**/api/store*", lambda route: held.append(route))  # noqa: PLW0108 - playwright looks for attributes of its own
    page.reload()
    page.wait_for_timeout(200)
    page.evaluate("location.hash = '#/find?q=walrus'")
    page.wait_for_timeout(200)
    for request in held:
        request.continue_()
    page.unroute("**/api/store*")
    page.wait_for_selector("p:has-text('walrus')")
    assert page.url.endswith("#/find?q=walrus")
