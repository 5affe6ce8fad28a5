"""What readers make of few records: texts and ids that are found, sessions whose process is gone, rewards, sums."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import cache
from itertools import count
from typing import Any

import pytest

from callspan import open_store
from callspan.records import CallRecord, EventRecord, Record, Request, Response, RewardRecord, Stream, Usage
from callspan.stores import CallFilter, Reader
from tests.records import SECOND, START_NS, keep, made, raw, session

Holding = Callable[..., Reader]


@pytest.fixture(scope="module")
def holding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holding]:
    """Make a new store that holds these records, in this order of arrival; returns its reader."""
    place, numbers = tmp_path_factory.mktemp("stores"), count()
    with ExitStack() as opened:

        def make(*records: Record) -> Reader:
            url = keep(f"sqlite:///{place}/{next(numbers)}.db", *records)
            return opened.enter_context(closing(open_store(url)))

        yield make


def chat(call_id: str, messages: list[Any], answer: Any = "ok", **also: Any) -> CallRecord:
    """A chat completion with its bodies; `answer` is its message or only the text of it."""
    message = answer if isinstance(answer, dict) else {"role": "assistant", "content": answer}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return made(
        call_id,
        provider="openai",
        api="chat_completions",
        request=Request(body=raw({"model": "m", "messages": messages, **also})),
        response=Response(body=raw(body)),
    )


@pytest.fixture(scope="module")
def talking(holding: Holding) -> Reader:
    ask = {"role": "user", "content": "Where is the RED key?"}
    call = {"id": "k", "type": "function", "function": {"name": "open_door", "arguments": '{"door":"north"}'}}
    long = "x " * 3_000 + "needle at the end"
    return holding(
        chat("system", [{"role": "system", "content": "Speak like a pirate"}, ask], "Arr"),
        chat("first", [ask], "Under the mat"),
        chat("second", [ask, {"role": "assistant", "content": "Under the mat"}, {"role": "user", "content": "100%"}]),
        chat("tool", [{"role": "user", "content": "go"}], {"role": "assistant", "content": None, "tool_calls": [call]}),
        chat("wide", [{"role": "user", "content": "STRASSE\u00a0\u0130 Ünder_score"}]),
        chat("long", [{"role": "user", "content": long}]),
        chat("settings", [{"role": "user", "content": "q"}], user="hidden-field", tools=[{"name": "shovel"}]),
        made("empty"),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red key", {"system", "first", "second"}),
        ("RED KEY?", {"system", "first", "second"}),
        ("pirate", {"system"}),
        ("under the mat", {"first", "second"}),
        ("arr", {"system"}),
        ("100%", {"second"}),
        ("1%0", set()),
        ("_", {"tool", "wide"}),
        ("under_s", set()),
        ("ünder_s", {"wide"}),
        ("ÜNDER_S", {"wide"}),
        ("straße", {"wide"}),
        ("open_door(", {"tool"}),
        ("north", {"tool"}),
        ("needle at the END", {"long"}),
        ("hidden-field", set()),
        ("shovel", set()),
        ("assistant", set()),
        ("no such words", set()),
        ("'; DROP TABLE calls; --", set()),
    ],
)
def test_text_is_looked_for_in_messages_only(talking: Reader, text: str, expected: set[str]) -> None:
    assert {call.call_id for call in talking.calls(CallFilter(text=text))} == expected


@pytest.fixture(scope="module")
def named(holding: Holding) -> Reader:
    return holding(
        made("abc-1", outcome="in_progress"), made("abc-12", stream=Stream(end="cut_off")), made("abc-2"),
        made("abd", span_id="feedfacefeedface"), made("b", span_id="b" * 16),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("abc-1", "abc-1"),
        ("abc-12", "abc-12"),
        ("abc-2", "abc-2"),
        ("abc-", None),
        ("abd", "abd"),
        ("ab", None),
        ("z", None),
        ("", None),
        ("ABD", None),
        ("%", None),
        ("abc-3", None),
        ("feedfacefeedface", "abd"),
        ("feedface", None),
    ],
)
def test_a_call_is_known_by_its_whole_id_a_beginning_of_its_own_or_its_span(
    named: Reader, prefix: str, found: str | None
) -> None:
    record = named.call(prefix)
    assert (record.call_id if record else None) == found


@pytest.mark.parametrize(
    ("which", "found"),
    [
        ({"cut_off": True}, {"abc-12"}),
        ({"cut_off": False}, {"abc-1", "abc-2", "abd", "b"}),
        ({"outcome": "in_progress"}, {"abc-1"}),
        ({"session_id": ""}, set()),
        ({"limit": 0}, set()),
        ({"limit": 9, "offset": 5}, set()),
        ({"since_ns": 0, "until_ns": 0}, set()),
    ],
)
def test_calls_that_were_cut_off_that_run_or_that_cannot_be(
    named: Reader, which: dict[str, Any], found: set[str]
) -> None:
    assert {call.call_id for call in named.calls(CallFilter(**which))} == found


@cache
def gone_pid() -> int:
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    return ended.pid


@pytest.mark.parametrize(
    ("fields", "shown_as"),
    [
        ({"outcome": None}, "interrupted"),
        ({"outcome": "success"}, "success"),
        ({"outcome": "my own word"}, "my own word"),
        ({"end_ns": 5}, None),
        ({"host": "elsewhere"}, None),
        ({"host": None}, None),
        ({"pid": None}, None),
        ({"pid": os.getpid()}, None),
        ({"pid": -1}, None),
    ],
)
def test_only_a_session_whose_process_is_surely_gone_reads_interrupted(
    holding: Holding, fields: dict[str, Any], shown_as: str | None
) -> None:
    fields = {"host": socket.gethostname(), "pid": gone_pid()} | fields
    found = holding(session("s", **fields)).session("s")
    assert found is not None
    assert found.session.outcome == shown_as
    assert (found.session.end_ns, found.session.pid) == (fields.get("end_ns"), fields["pid"])


def event(event_id: str, **fields: Any) -> EventRecord:
    return EventRecord(event_id=event_id, session_id="s", event_type="x", time_ns=0, **fields)


def reward(reward_id: str, value: float | None, at: int = 0, **fields: Any) -> RewardRecord:
    return RewardRecord(reward_id=reward_id, session_id="s", value=value, time_ns=at, **fields)


@pytest.mark.parametrize(
    ("records", "total"),
    [
        ([], None),
        ([event("e", reward=0.0)], 0.0),
        ([event("e", reward=1.0), event("f", reward=-3.0)], -2.0),
        ([event("e", reward=1.0), reward("r", 5.0, event_id="e")], 1.0),
        ([event("e"), reward("r", 5.0, event_id="e")], 5.0),
        ([reward("r", 2.0), reward("q", 3.0)], 5.0),
        ([reward("r", 2.0), reward("q", 3.0, objective="style")], 2.0),
        ([reward("r", 2.0, scope="call", call_id="c")], None),
        ([event("e", reward=9.0), reward("r", 2.0, 1, scope="session"), reward("q", 3.0, 2, scope="session")], 3.0),
        ([reward("r", None, scope="session"), event("e", reward=9.0)], 9.0),
    ],
)
def test_the_reward_of_a_session(holding: Holding, records: list[Record], total: float | None) -> None:
    found = holding(session("s"), *records).session("s")
    assert found is not None
    assert found.reward == total


COUNTERS = ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens")


@pytest.mark.parametrize("counter", COUNTERS)
@pytest.mark.parametrize(
    ("counts", "total"),
    [
        ([None, None], None),
        ([0, None], 0),
        ([0, 0], 0),
        ([None, 7, None, 5], 12),
        ([2**40, None, 2**40], 2**41),
        ([2**40 + 1, 3], 3),
        ([2**62], None),
    ],
)
def test_unreported_tokens_are_unknown_and_reported_zero_is_zero(
    holding: Holding, counter: str, counts: list[int | None], total: int | None
) -> None:
    calls = [
        made(f"c{at}", at_ns=START_NS + at * SECOND, usage=None if tokens is None else Usage(**{counter: tokens}))
        for at, tokens in enumerate(counts)
    ]
    (summary,) = holding(*calls).summary("provider")
    assert {name: getattr(summary, name) for name in COUNTERS} == dict.fromkeys(COUNTERS) | {counter: total}
    assert summary.calls == len(counts)
