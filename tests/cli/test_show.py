"""`callspan show`: a session as a tree, a call in full, two side by side, and what it finds by which id."""

from __future__ import annotations

import re
import time
import tracemalloc
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from tests.support.commands import ask
from tests.support.records import MINUTE, SECOND, START_NS, keep, made, raw, session
from tests.support.scale import slowness
from tests.support.world import World

from callspan.records import (
    Attempt,
    Cost,
    ErrorInfo,
    EventRecord,
    Place,
    Record,
    Redaction,
    Request,
    Response,
    Stream,
    TimestepRecord,
    Totals,
    Usage,
)

Fields = dict[str, Any]
_SERVER = ErrorInfo(kind="server", type="server_error", status=500, message="it broke")


def step(index: int, **fields: Any) -> TimestepRecord:
    given = {"timestep_id": f"t{index}", "session_id": "s", "seen_ns": 1, "index": index}
    return TimestepRecord(**(given | {"start_ns": START_NS + index * MINUTE} | fields))


def event(event_type: str, at_ns: int = 0, **fields: Any) -> EventRecord:
    given = {"event_id": f"e{at_ns}", "session_id": "s", "event_type": event_type}
    return EventRecord(time_ns=START_NS + at_ns, **(given | fields))


def tree(store: str, *records: Record) -> list[str]:
    """The lines below a session's two own."""
    shown = ask("--store", keep(store, session("s", start_ns=START_NS), *records), "show", "s").out
    return [line.rstrip() for line in shown.splitlines()[2:] if line]


STEPS: list[tuple[Fields, str]] = [
    ({}, "\N{EN DASH}"),
    ({"name": "look\nup\x1b"}, "look up\ufffd  \N{EN DASH}"),
    ({"end_ns": START_NS + 2 * MINUTE + SECOND}, "1.00 s"),
    ({"outcome": "error", "truncated": True}, "\N{EN DASH}  error  truncated"),
    ({"terminated": True, "truncated": True}, "\N{EN DASH}  terminated"),
    ({"totals": Totals()}, "+0  \N{EN DASH}"),
    ({"totals": Totals()}, "-2  \N{EN DASH}"),
]
"""The last two have a reward."""


def test_step_is_one_line(store: str) -> None:
    steps = [step(index, **fields) for index, (fields, _) in enumerate(STEPS)]
    rewards = [event("environment", at, timestep_id=f"t{at}", reward=value) for at, value in ((5, 0.0), (6, -2.0))]
    lines = [line for line in tree(store, *steps, *rewards) if " step " in line]
    assert [re.sub(r"^.── step \d+ +", "", line) for line in lines] == [expected for _, expected in STEPS]


EVENTS: list[tuple[str, Fields, str]] = [
    ("tool", {"name": "look", "data": {"arguments": {"at": 1}, "result": None}}, 'tool look {"at":1} →'),
    ("tool", {"name": "look", "data": "odd", "duration_ns": SECOND}, "tool look  1.00 s"),
    ("tool", {"error": _SERVER}, "tool tool  it broke"),
    ("environment", {"reward": 0.0, "terminated": True}, "environment +0 terminated"),
    ("thought", {"name": "why", "data": {"x": None}, "error": _SERVER}, 'thought why {"x":null}  server_error'),
]


def test_event_is_one_line(store: str) -> None:
    events = [event(kind, at, **fields) for at, (kind, fields, _) in enumerate(EVENTS)]
    assert [line[4 + 13 :] for line in tree(store, *events)] == [expected for *_, expected in EVENTS]


def test_agent_precedes_its_calls_with_their_sums(store: str) -> None:
    priced = {"usage": Usage(input_tokens=3, output_tokens=2), "cost": Cost(usd=Decimal("0.5"), source="provider")}
    place = Place(session_id="s")
    found = tree(
        store,
        event("agent", -1, name="triage", span_id="a", duration_ns=9 * SECOND),
        event("tool", 1, name="look", span_id="b", parent_span_id="a"),
        made("c", span_id="c", parent_span_id="b", place=place, **priced),
        made("d", at_ns=START_NS + SECOND, span_id="d", place=place, **priced),
    )
    shown = [line[17:] for line in found]
    assert shown[0] == "agent triage  1 call  3→2  $0.50  9.00 s"
    assert [len(line) - len(line.lstrip()) for line in shown] == [0, 4, 8, 0]


def test_long_line_is_cut_before_measuring(store: str) -> None:
    keep(store, session("s"), event("tool", name="read", data={"result": "word " * 1_000_000}))
    tracemalloc.start()
    shown = ask("--store", store, "show", "s").out
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert shown.splitlines()[-1].endswith("word …")
    assert peak < 50_000_000


def test_show_names_the_shown_part(store: str) -> None:
    """Of three steps, the last within the second, each with a call and an event half a second later."""
    records: list[Record] = [session("s", start_ns=START_NS)]
    for at, parent in enumerate((None, None, "t1")):
        begun = START_NS + at * SECOND
        records += [
            step(at, start_ns=begun, parent_timestep_id=parent),
            made(f"call-{at}", at_ns=begun, place=Place(session_id="s", timestep_id=f"t{at}")),
            event("action", at * SECOND + SECOND // 2, timestep_id=f"t{at}"),
        ]
    assert "entries" not in ask("--store", keep(store, *records), "show").out
    output = ask("--store", store, "show", "s", "--limit", "3").out
    assert output.splitlines()[-1] == "the first 3 of 6 entries: --limit N shows more, --json all"
    assert re.findall(r"step (\d)", output) == ["0", "1"], "the steps that had begun"
    assert "3 calls" in output, "the head speaks of the whole session"
    assert len(ask("--store", store, "show", "s", "--json", "--limit", "2").json["steps"][0]["calls"]) == 1


def test_unended_steps_are_shown(store: str) -> None:
    """Each is within the one before."""
    above = (None, *(f"t{at}" for at in range(1200)))
    steps = (step(at, start_ns=START_NS + at, parent_timestep_id=parent) for at, parent in enumerate(above))
    assert ask("--store", keep(store, session("s", start_ns=START_NS), *steps), "show").code == 0


TRIES = [
    Attempt(number=1, start_ns=0, status=429, wait_s=0.5, request_id="req-1"),
    Attempt(number=2, start_ns=SECOND, error_type="ConnectError", wait_s=0.0),
    Attempt(number=3, start_ns=2 * SECOND),
    Attempt(number=4, start_ns=61 * SECOND, status=200),
]
USED = Usage(input_tokens=1234, cache_read_tokens=0, cache_write_tokens=5, reasoning_tokens=6)
GUESSED = Cost(usd=Decimal("0.00125"), source="mine v1", estimated=True, reason="tier")
CALLS: list[tuple[Fields, dict[str, str]]] = [
    ({"trace_id": "ab", "span_id": "cd"}, {"trace": "ab  span cd"}),
    ({"batch_id": "batch_1", "custom_id": "line-7"}, {"batch": "batch_1, line line-7"}),
    ({"provider": "openai", "api": "responses", "server_address": "h", "server_port": 443},
     {"provider": "openai", "api": "responses", "server address": "h:443"}),
    ({"usage": USED}, {
        "input tokens": "1,234", "cache read tokens": "0", "cache write tokens": "5", "reasoning tokens": "6",
    }),
    ({"cost": GUESSED}, {
        "cost": "$0.00125", "cost source": "mine v1", "cost estimated": "yes", "cost reason": "tier"
    }),
    ({"stream": Stream(end="closed", chunks=1000)}, {"stream end": "closed", "chunks": "1,000"}),
    ({"response": Response(finish_reasons=["stop", None, "length"])}, {"finish reason": "length"}),
    ({"response": Response(
        prompt_cache_miss="input_changed", prompt_cache_missed_tokens=4800, prompt_cache_reusable_tokens=128,
    )}, {
        "prompt cache miss": "input_changed",
        "prompt cache missed tokens": "4,800", "prompt cache reusable tokens": "128",
    }),
    ({"response": Response(unknown_finish=True, tools_unlisted=True)}, {
        "finish": "unknown: the finish reason may state an answer or a failure",
        "MCP": "the provider could not list the tools of a server",
    }),
    ({"redactions": [Redaction(what="request.body", why="content")]}, {"left out": "request.body (content)"}),
    ({"attempts": TRIES}, {
        "attempt 1": "429 at 0 ms, then waited 500 ms, request req-1",
        "attempt 2": "ConnectError at 1.00 s, then waited 0 ms",
        "attempt 3": "no answer at 2.00 s",
        "attempt 4": "200 at 1 min 01 s",
    }),
    ({"content_level": "metadata"}, {"": "", "content is metadata": ""}),
]  # fmt: skip


def test_call_field_is_one_line(store: str) -> None:
    keep(store, *(made(f"call-{number}.", **fields) for number, (fields, _) in enumerate(CALLS)))
    for number, (_, expected) in enumerate(CALLS):
        lines = [" ".join(line.split()) for line in ask("--store", store, "show", f"call-{number}.").out.splitlines()]
        assert {" ".join(f"{label} {value}".split()) for label, value in expected.items()} <= set(lines), lines


def test_long_error_is_wrapped_completely(store: str) -> None:
    message = "because " * 30 + "\x1b]0;owned\x07"
    keep(store, made("c", outcome="error", error=ErrorInfo(kind="k", type="t", status=500, message=message)))
    shown = ask("--store", store, "show", "c").out
    assert shown.splitlines()[0] == "chat gpt-5  error 500"
    assert shown.count("because") == 30
    assert not {"\x1b", "\x07"} & set(shown)


ASKED = [
    {"type": "image", "source": {"type": "url", "url": "http://h/p.png"}},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
    {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "x"}], "is_error": True},
]
SAID = [
    {"type": "text", "text": "a\nb\tc\rd"}, {"type": "thinking", "thinking": "hm"},
    {"type": "redacted_thinking", "data": "abc"}, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
    {"type": "hologram"}, {"type": "text", "text": "\x1b[2J\u202e[bold]"},
    {"type": "text", "text": "\u0645\u06cc\u200c\u062e \U0001f468\u200d\U0001f467 a\u200db\u200c \u061c\U000e0041"},
]  # fmt: skip
CUT = {"id": "1", "type": "function", "function": {"arguments": '{"a":'}}
PARTS = """
user
  (image  http://h/p.png)
  (image image/png b5d4045c3f466fa91fe2cc6abe79232a1a57cdf104f7a26e716e0a1e2789df78)
  (error) [{"type":"text","text":"x"}]

assistant answer
  a
  b cd
  (thinking) hm
  (thinking) sealed
  f({"a":1})
  {"type":"unknown","data":{"type":"hologram"}}
  \ufffd[2J\ufffd[bold]
  \u0645\u06cc\u200c\u062e \U0001f468\u200d\U0001f467 a\ufffdb\ufffd \ufffd\ufffd
"""


def test_show_prints_every_kind_of_part(store: str) -> None:
    sent = Request(model="m", body=raw({"model": "m", "messages": [{"role": "user", "content": ASKED}]}))
    answer = Response(body=raw({"role": "assistant", "content": SAID}))
    message = {"role": "assistant", "refusal": "never", "tool_calls": [{**CUT, "incomplete": True}]}
    refused = Response(body=raw({"choices": [{"index": 0, "message": message}]}))
    keep(store, made("a", provider="anthropic", api="messages", request=sent, response=answer))
    keep(store, made("b", provider="openai", api="chat_completions", response=refused))
    assert ask("--store", store, "show", "a").out.endswith(PARTS)
    assert ask("--store", store, "show", "b").out.endswith('answer\n  (refused) never\n  tool({"a":) (cut off)\n')


@pytest.mark.parametrize("ident", ["x", "", "%", "_", "\x1b[2J"])
def test_show_of_unknown_id_exits_with_1(store: str, ident: str) -> None:
    answer = ask("--store", keep(store, session("s"), made("c")), "show", ident)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"Nothing in {store} has an id that begins with ")
    assert "\x1b" not in answer.err


def test_show_names_ambiguous_sessions_and_missing_parts(store: str) -> None:
    keep(store)
    for arguments in (["show"], ["show", "last"], ["show", "last", "x"], ["calls", "--session", "last"]):
        assert ask("--store", store, *arguments) == (1, "", f"There is nothing in {store} yet.\n")
    keep(store, *map(session, ("run-0", "run-1", "run-2", "run-3")), made(place=Place(session_id="run-4")))
    answer = ask("--store", store, "show", "run-")
    assert (answer.code, answer.err) == (1, "5 sessions begin with 'run-': run-4, run-3, run-2 and 2 more.\n")


@pytest.mark.parametrize(
    ("at_ns", "place", "shown"),
    [
        (START_NS + SECOND, Place(), "call               c"),
        (START_NS - SECOND, Place(), "s-1"),
        (START_NS + SECOND, Place(session_id="s-1"), "s-1"),
    ],
)
def test_show_last_is_the_newest_call_or_session(store: str, at_ns: int, place: Place, shown: str) -> None:
    keep(store, session("s-1", start_ns=START_NS), made("c", at_ns=at_ns, place=place))
    for arguments in (["show"], ["show", "last"]):
        assert shown in ask("--store", store, *arguments).out


DIFFERENCES = """
parameters   A    B    B against A
n            3    1    -2
temperature  0.1  0.3  +0.2
stream       yes  no   differs
top p        \N{EN DASH}    2    only in B

1 message the same

user  only in A
  [-Here.-]

user  only in A
  [-There.-]

1 message the same

First difference: parameter n.
"""


def test_diff_of_calls_shows_parameters_and_messages(store: str) -> None:
    one: Fields = {"n": 3, "temperature": 0.1, "stream": True, "top_p": None}
    other: Fields = {"n": 1, "temperature": 0.3, "stream": False, "top_p": 2}
    for call_id, params, texts in (("a", one, ["Where?", "Here.", "There.", "Go."]), ("b", other, ["Where?", "Go."])):
        body = {"model": "m", "messages": [{"role": "user", "content": text} for text in texts], **params}
        sent = Request(model="m", params=params, body=raw(body))
        keep(store, made(call_id, provider="openai", api="chat_completions", request=sent))
    assert ask("--store", store, "show", "a", "b").out.endswith(DIFFERENCES)


def test_diff_of_long_repetitive_conversations_is_fast(store: str) -> None:
    """As two episodes in a grid, whose observations are few."""
    for call_id in "ab":
        texts = [text for number in range(1_000) for text in (f"{call_id}{number}", "wall")]
        body = {"model": "m", "messages": [{"role": "user", "content": text} for text in texts]}
        keep(store, made(call_id, provider="openai", api="chat_completions", request=Request(body=raw(body))))
    allowed_s, began_s = 10 * slowness(), time.process_time()
    pairs = ask("--store", store, "--json", "show", "a", "b").json["messages"]
    assert Counter(pair["status"] for pair in pairs) == {"differs": 1_000, "same": 1_000}
    assert time.process_time() - began_s < allowed_s


@pytest.fixture
def rollouts(store: str) -> str:
    """Two sessions that differ in their last answer."""
    world = World()
    for name, last in (("a", "East."), ("b", "West.")):
        world.session(f"rollout-{name}", metadata={"prompt": name})
        messages: list[Fields] = [{"role": "user", "content": "Where to?"}]
        for answer in ("North.", last):
            messages += [world.chat(messages, answer, f"rollout-{name}"), {"role": "user", "content": "?"}]
    return keep(store, *world.records)


def test_diff_of_two_sessions(rollouts: str) -> None:
    answer = ask("--store", rollouts, "--json", "show", "rollout-a", "rollout-b")
    assert answer.json["first_difference"] == {"section": "messages", "place": 3}
    assert answer.json["messages"][3] == {
        "role": "assistant", "status": "differs", "a": 3, "b": 3,
        "changes": [["a", "East"], ["b", "West"], ["both", "."]],
    }  # fmt: skip
    facts = {fact["name"]: (fact["status"], fact["a"]) for fact in answer.json["facts"]}
    assert facts["meta:prompt"] == ("differs", "a")
    assert facts["calls"] == ("same", 2)
    shown = ask("--store", rollouts, "show", "rollout-a", "rollout-b")
    assert shown.code == 0
    assert "[-East-]{+West+}." in shown.out
    assert "3 messages the same" in shown.out
    assert shown.out.endswith("First difference: message 4, assistant.\n")
    part = ask("--store", rollouts, "show", "rollout-a", "rollout-b", "--limit", "1")
    assert "only its first 1 call of 2" in part.err


def test_diff_of_two_calls_and_incomparable_records(rollouts: str) -> None:
    calls = [row["call_id"] for row in ask("--store", rollouts, "--json", "calls").json]
    same = ask("--store", rollouts, "show", calls[0], calls[0])
    assert "Parameters, tools and messages are equal." in same.out
    mixed = ask("--store", rollouts, "show", calls[0], "rollout-a")
    assert mixed.code == 2
    assert "A is a call and B a session" in mixed.err
    assert ask("--store", rollouts, "show", calls[0], "nothing").code == 1
