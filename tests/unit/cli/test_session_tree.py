"""The tree of a session: entries below their step, in order of time."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from callspan.cli.session_tree import Page, session_tree
from callspan.records import (
    CallRecord,
    Conversation,
    Cost,
    ErrorInfo,
    EventRecord,
    Message,
    MessageRecord,
    Place,
    Request,
    RewardRecord,
    Text,
    TimestepRecord,
    Timing,
    Totals,
    Usage,
)
from callspan.stores import SessionSummary, read_records
from callspan.stores.base import Event
from callspan.stores.entries import when

from .conftest import MINUTE, SECOND, START_NS, drawn, made, session, summed

_SERVER = ErrorInfo(kind="server", type="server_error", status=500, message="it broke")


def step(index: int, **fields: Any) -> TimestepRecord:
    given = {"timestep_id": f"t{index}", "session_id": "session-1", "seen_ns": 1, "index": index}
    return TimestepRecord(**(given | {"start_ns": START_NS + index * MINUTE} | fields))


def event(event_type: str, **fields: Any) -> EventRecord:
    return EventRecord(**({"event_id": "e", "event_type": event_type, "time_ns": START_NS} | fields))


def lines(
    *calls: CallRecord,
    steps: tuple[TimestepRecord, ...] = (),
    events: tuple[Event, ...] = (),
    summary: SessionSummary | None = None,
) -> list[str]:
    items = sorted([*calls, *events], key=when)
    sums = next(read_records("test", lambda: calls).summary("session"), None)
    page = Page(summary or summed(session(start_ns=START_NS)), sums, dict(enumerate(steps)), items, 0, len(items))
    return [line.rstrip() for line in drawn(session_tree(page)).splitlines()]


def only(item: CallRecord | Event) -> str:
    """The one line below a session's two own, without its guide and waterfall."""
    found = lines(item) if isinstance(item, CallRecord) else lines(events=(item,))
    assert len(found) == 3
    return found[2][4 + 13 :]


def test_an_empty_session_shows_dashes_and_never_zero() -> None:
    assert lines(summary=summed()) == [
        "session  running  \N{EN DASH}  0 steps, 0 calls  \N{EN DASH} tokens  cost \N{EN DASH}  \N{EN DASH}",
        "session-1",
    ]


def test_a_session_without_content_says_so() -> None:
    assert lines(summary=summed(session(content_level="off")))[0].endswith("content is off")


def test_a_session_sums_what_is_known() -> None:
    record = session(name="run", outcome="success", start_ns=0, end_ns=90 * SECOND, metadata={"seed": 7, "x": None})
    summary = summed(
        record, timesteps=1, calls=1, reward=-1.5, input_tokens=1000, output_tokens=0, cost_usd=Decimal("0.25")
    )
    assert lines(summary=summary) == [
        "run  success  -1.5  1 step, 1 call  1,000→0 tokens  cost $0.25  1 min 30 s",
        "session-1  seed=7  x=null",
    ]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, "0 calls  \N{EN DASH}"),
        ({"retries": 0}, "0 calls  \N{EN DASH}"),
        ({"errors": 1}, "0 calls, 1 error  \N{EN DASH}"),
        ({"errors": 2, "retries": 1}, "0 calls, 2 errors, 1 retry  \N{EN DASH}"),
        ({"errors": 1, "cancelled": 1, "retries": 3}, "0 calls, 1 error, 1 cancelled, 3 retries  \N{EN DASH}"),
        ({"cut_by_length": 2, "cut_off": 1}, "0 calls, 2 cut by length, 1 cut off  \N{EN DASH}"),
    ],
)
def test_a_session_counts_what_went_wrong(counts: dict[str, int], expected: str) -> None:
    assert expected in lines(summary=summed(session(start_ns=START_NS), **counts))[0]


def test_events_are_below_their_step_in_order() -> None:
    def call(name: str, at_ns: int, step_id: str | None) -> CallRecord:
        return made(name, at_ns=at_ns, place=Place(timestep_id=step_id), request=Request(model=name))

    found = lines(
        call("late", START_NS + 3 * MINUTE, "t1"),
        call("early", START_NS, "t0"),
        call("loose", START_NS + 2 * MINUTE, None),
        call("lost", START_NS + 4 * MINUTE, "no-such-step"),
        steps=(step(1, name="answer"), step(0, name="look")),
    )
    found = [line for line in found if "idle" not in line]
    shown = [
        next(word for word in ("look", "answer", "late", "early", "loose", "lost") if f" {word}" in line)
        for line in found[2:]
    ]
    assert shown == ["look", "early", "answer", "late", "loose", "lost"]
    depths = [len(line) - len(line.lstrip("│ ├└─")) for line in found[2:]]
    assert depths[0] == depths[2] == 4
    assert depths[1] > 4
    assert depths[3] > 4
    assert found[6].startswith(("├", "└"))
    assert found[7].startswith("└")


def test_a_nested_step_is_below_its_parent_or_below_the_session_if_that_is_unknown() -> None:
    found = lines(steps=(step(0), step(1, parent_timestep_id="t0"), step(2, parent_timestep_id="ghost")))
    assert [line.index("step") for line in found[2:]] == [4, 8, 4]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "step 0  \N{EN DASH}"),
        ({"start_ns": None}, "step 0  \N{EN DASH}"),
        ({"name": "look\x1b"}, "step 0 look\ufffd  \N{EN DASH}"),
        ({"end_ns": START_NS + SECOND}, "step 0  1.00 s"),
        ({"outcome": "success"}, "step 0  \N{EN DASH}"),
        ({"outcome": "error", "truncated": True}, "step 0  \N{EN DASH}  error  truncated"),
        ({"terminated": True, "truncated": True}, "step 0  \N{EN DASH}  terminated"),
        ({"terminated": False, "truncated": False}, "step 0  \N{EN DASH}"),
        ({"totals": Totals()}, "step 0  \N{EN DASH}"),
        ({"totals": Totals(reward=0.0)}, "step 0  +0  \N{EN DASH}"),
        ({"totals": Totals(reward=-2.0)}, "step 0  -2  \N{EN DASH}"),
    ],
)
def test_the_line_of_a_step(fields: dict[str, Any], expected: str) -> None:
    assert lines(steps=(step(0, **fields),))[2] == f"└── {expected}"


def test_a_step_sums_the_calls_within_and_no_others() -> None:
    inside = Place(timestep_id="t0")
    calls = [
        made("a", place=inside, usage=Usage(input_tokens=10), cost=Cost(usd=Decimal("0.1"), source="x")),
        made("b", place=inside),
        made("c", place=inside, usage=Usage(input_tokens=5), cost=Cost(usd=Decimal("0.2"), source="x")),
        made("d", usage=Usage(input_tokens=99, output_tokens=99)),
    ]
    assert any(
        line.endswith("step 0  15→\N{EN DASH} tokens  $0.30  \N{EN DASH}") for line in lines(*calls, steps=(step(0),))
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"took_ns": None, "request": Request()}, "chat \N{EN DASH}  \N{EN DASH}  \N{EN DASH}"),
        ({"usage": Usage()}, "chat gpt-5  \N{EN DASH}  1.00 s"),
        ({"usage": Usage(input_tokens=1, output_tokens=0)}, "chat gpt-5  1→0  1.00 s"),
        ({"cost": Cost(usd=Decimal(0), source="x")}, "chat gpt-5  \N{EN DASH}  $0.00  1.00 s"),
        ({"operation": "embeddings"}, "embeddings gpt-5  \N{EN DASH}  1.00 s"),
        ({"retries": 2}, "chat gpt-5  \N{EN DASH}  1.00 s  success, 2 retries"),
        ({"retries": 1, "outcome": "timeout"}, "chat gpt-5  \N{EN DASH}  1.00 s  timeout, 1 retry"),
        ({"outcome": "error", "error": _SERVER}, "chat gpt-5  \N{EN DASH}  1.00 s  error 500  it broke"),
        (
            {"conversation": Conversation(output=[Message(role="assistant", parts=[Text(text="a\nb\x1b[2J")])])},
            "chat gpt-5  \N{EN DASH}  1.00 s  a b\ufffd[2J",
        ),
        (
            {
                "request": Request(model="m", stream=True),
                "timing": Timing(start_ns=START_NS, duration_ns=SECOND, first_token_ns=0),
            },
            "chat m  \N{EN DASH}  1.00 s (first token 0 ms)",
        ),
        (
            {"timing": Timing(start_ns=START_NS, duration_ns=SECOND, first_token_ns=0)},
            "chat gpt-5  \N{EN DASH}  1.00 s",
        ),
    ],
)
def test_a_call_in_one_line(fields: dict[str, Any], expected: str) -> None:
    assert only(made(**fields)) == expected


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (event("tool"), "tool tool"),
        (event("tool", name="look", data={"arguments": {"at": 1}, "result": None}), 'tool look {"at":1} →'),
        (event("tool", name="look", data={"arguments": None, "result": 0}), "tool look → 0"),
        (event("tool", name="look", data="odd", duration_ns=SECOND), "tool look  1.00 s"),
        (event("tool", error=_SERVER), "tool tool  it broke"),
        (event("tool", error=ErrorInfo(kind="unknown", type="KeyError")), "tool tool  KeyError"),
        (event("environment", reward=0.0, terminated=True), "environment +0  terminated"),
        (event("environment", truncated=True, data={"after": "lost"}), "environment  truncated lost"),
        (event("environment", data=[1, 2]), "environment  [1,2]"),
        (event("environment", data={"before": 1}), 'environment  {"before":1}'),
        (event("thought", name="why", data={"x": None}, error=_SERVER), 'thought why {"x":null}  server_error'),
        (event("thought"), "thought"),
    ],
)
def test_an_event_in_one_line(item: EventRecord, expected: str) -> None:
    assert only(item) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "observation ? → ?"),
        (
            {"sender": "world", "receiver": "agent", "content": "you see\na door"},
            "observation world → agent  you see a door",
        ),
        ({"sender": "a", "content": {"n": 0}}, 'observation a → ?  {"n":0}'),
    ],
)
def test_a_message_in_one_line(fields: dict[str, Any], expected: str) -> None:
    assert only(MessageRecord(message_id="m", message_type="observation", time_ns=START_NS, **fields)) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "reward \N{EN DASH} of the event"),
        ({"value": 0.0, "scope": "session"}, "reward +0 of the session"),
        (
            {"value": -1.0, "objective": "taste", "label": "bad", "annotation": "too salty", "scope": "call"},
            "score of taste -1 of the call  bad  too salty",
        ),
        ({"source": "human"}, "reward \N{EN DASH} of the event  human"),
    ],
)
def test_a_reward_in_one_line(fields: dict[str, Any], expected: str) -> None:
    assert only(RewardRecord(reward_id="r", time_ns=START_NS, **fields)) == expected


def bars(*calls: CallRecord, events: tuple[Event, ...] = (), summary: SessionSummary | None = None) -> list[str]:
    return [line[4 : 4 + 12] for line in lines(*calls, events=events, summary=summary)[2:]]


def test_the_waterfall_shows_when_and_how_long() -> None:
    assert bars(
        made("all", took_ns=12 * SECOND),
        made("begin", at_ns=START_NS + 1, took_ns=2 * SECOND),
        made("late", at_ns=START_NS + 6 * SECOND, took_ns=SECOND),
        made("last", at_ns=START_NS + 12 * SECOND, took_ns=None),
    ) == ["━" * 12, "━━━" + " " * 9, "      ━━    ", " " * 11 + "·"]


def test_idle_time_is_folded_to_a_line() -> None:
    later = START_NS + 192 * MINUTE + 10 * SECOND
    found = lines(
        made("a", took_ns=10 * SECOND, place=Place(timestep_id="t0")),
        made("b", at_ns=later, took_ns=10 * SECOND, place=Place(timestep_id="t1")),
        made("c", at_ns=later + 70 * SECOND, took_ns=10 * SECOND, place=Place(timestep_id="t1")),
        steps=(step(0), step(1)),
    )[2:]
    assert ["step 0" in found[0], "step 1" in found[2], "… 3 h 12 min idle …" in found[3]] == [True] * 3
    assert sum("idle" in line for line in found) == 1
    # Of 90 seconds, a minute of them idle.
    assert [line.count("━") for line in found if "━" in line] == [2, 2, 2]


@pytest.mark.parametrize(
    "calls",
    [
        [made(took_ns=0)],
        [made(took_ns=None)],
        [made("a", took_ns=0), made("b", at_ns=START_NS - MINUTE, took_ns=None)],
        [made("a", at_ns=0), made("b", at_ns=2**62)],
    ],
)
def test_no_times_break_the_waterfall(calls: list[CallRecord]) -> None:
    assert all(bar.strip() for bar in bars(*calls))
    assert all(bar.strip() for bar in bars(*calls, summary=summed(session())))


def test_no_recorded_text_reaches_the_terminal_raw() -> None:
    bad = "\x1b[2J\x9b1m\u202e"
    call = made(
        request=Request(model=bad), operation=bad, outcome="error",
        error=ErrorInfo(kind="k", type=bad, message=bad),
    )  # fmt: skip
    events = (
        event(bad, name=bad, data=bad),
        event("tool", name=bad, data={"arguments": bad, "result": bad}),
        event("environment", data={"after": bad}),
        MessageRecord(message_id="m", message_type=bad, sender=bad, receiver=bad, content=bad, time_ns=START_NS),
        RewardRecord(reward_id="r", objective=bad, label=bad, source=bad, annotation=bad, time_ns=START_NS),
    )
    record = session(f"id{bad}", name=bad, outcome=bad, metadata={bad: bad})
    shown = "\n".join(lines(call, steps=(step(0, name=bad, outcome=bad),), events=events, summary=summed(record)))
    assert not set(shown) & set(bad[0] + bad[4] + "\u202e")


def test_entries_are_below_their_step_regardless_of_their_times() -> None:
    """A call older than its step, a step older than its parent, an event older than all: each below its own."""
    inner = step(1, name="inner", start_ns=START_NS - MINUTE, parent_timestep_id="t0")
    found = lines(
        made("c", at_ns=START_NS - 2 * MINUTE, place=Place(timestep_id="t1"), request=Request(model="inside")),
        steps=(step(0, name="outer"), inner),
        events=(event("look", event_id="a", timestep_id="t0", time_ns=START_NS - 9 * MINUTE),),
    )
    shown = [(line[: len(line) - len(line.lstrip("│ ├└─"))], line) for line in found[2:] if " idle " not in line]
    assert ["outer" in shown[0][1], "look" in shown[1][1], "inner" in shown[2][1], "inside" in shown[3][1]] == [
        True
    ] * 4
    assert [len(guide) // 4 for guide, _ in (shown[0], shown[2])] == [1, 2]


def test_steps_in_a_cycle_of_parents_are_shown_once() -> None:
    steps = (
        step(0, name="one", parent_timestep_id="t1"),
        step(1, name="two", parent_timestep_id="t0"),
        step(2, name="own", parent_timestep_id="t2"),
    )
    found = lines(steps=steps)
    assert [sum(f" {name}" in line for line in found) for name in ("one", "two", "own")] == [1, 1, 1]


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (event("handoff", name="billing", system="triage"), "handoff triage → billing"),
        (event("handoff", name=None, data={"input": "x"}), 'handoff ? → ?  {"input":"x"}'),
        (event("guardrail", name="pii", metadata={"triggered": True}), "guardrail pii triggered"),
        (event("guardrail", name="pii", metadata={"triggered": False}, data=1), "guardrail pii 1"),
        (event("agent", name="triage"), "agent triage"),
    ],
)
def test_parts_of_several_agents_are_reported_in_a_line(record: EventRecord, line: str) -> None:
    assert only(record) == line


def test_an_agent_is_shown_with_the_sums_of_its_calls_and_what_ran_in_it_below() -> None:
    priced = {"usage": Usage(input_tokens=3, output_tokens=2), "cost": Cost(usd=Decimal("0.5"), source="provider")}
    agent = event(
        "agent", name="triage", span_id="a", duration_ns=9 * SECOND, time_ns=START_NS - 1,
        metadata={"outcome": "step_limit"},
    )  # fmt: skip
    tool = event("tool", event_id="t", name="look", span_id="b", parent_span_id="a", time_ns=START_NS + 1)
    inside = made("c", span_id="c", parent_span_id="b", **priced)
    outside = made("d", at_ns=START_NS + SECOND, span_id="d", **priced)
    found = [line[17:].rstrip() for line in lines(inside, outside, events=(agent, tool))[2:]]
    assert found[0] == "agent triage  1 call  3→2  $0.50  9.00 s  step_limit"
    assert [len(line) - len(line.lstrip()) for line in found] == [0, 4, 4, 0]


def test_a_reward_of_a_step_is_not_reported_as_of_an_event() -> None:
    given = {"reward_id": "r", "time_ns": START_NS, "timestep_id": "t0", "value": 1.0}
    found = lines(steps=(step(0),), events=(RewardRecord(**given), RewardRecord(**given, event_id="e")))
    assert [line.endswith(("of the step", "of the event")) for line in found[3:]] == [True, True]
    assert "of the step" in found[3]
    assert "of the event" in found[4]
