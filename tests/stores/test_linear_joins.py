"""What it costs to deliver a call does not depend on what is stored: steps of SQLite and its statements, by shape."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, NamedTuple, cast

import pytest
from tests.support.records import SECOND, START_NS, Delivery, made, raw
from tests.support.scale import FULL, scaled, slowness

from callspan.records import CallRecord, Request, Response

USER, SUNNY = {"role": "user", "content": "Plan."}, {"role": "assistant", "content": "Sunny."}
BATCH, EARLY = 10, 100
LATE: int = scaled(1_000, 100_000)
MOST_S = 0.1
"""Of one transaction of 100 records on a quiet machine."""


def asked(*idents: str) -> dict[str, Any]:
    function = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    calls = [{"id": ident, "type": "function", "function": function} for ident in idents]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def brought(ident: str, content: str = "sunny") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": ident, "content": content}


def chat(number: int, messages: list[Any], answer: dict[str, Any], **fields: Any) -> CallRecord:
    body = {"choices": [{"index": 0, "message": answer}]}
    return of(number, "chat_completions", {"messages": messages}, body, **fields)


def of(number: int, api: str, request: dict[str, Any], response: dict[str, Any], **fields: Any) -> CallRecord:
    return made(
        f"c{number}", at_ns=START_NS + number * SECOND, took_ns=SECOND // 2, api=api,
        request=Request(body=raw(request), conversation_id=request.get("conversation")),
        response=Response(body=raw(response)), **fields,
    )  # fmt: skip


def of_one_run(number: int) -> CallRecord:
    """A loop that cuts its history: each request has the last tool call and its result."""
    return chat(number, [USER, asked(f"call_n{number}"), brought(f"call_n{number}")], asked(f"call_n{number + 1}"),
                metadata={"user_id": "ann"})  # fmt: skip


def of_one_anonymous_run(number: int) -> CallRecord:
    return chat(number, [USER, asked(f"call_n{number}"), brought(f"call_n{number}")], asked(f"call_n{number + 1}"))


def of_one_conversation(number: int) -> CallRecord:
    answer = {"id": f"resp_{number}", "output": [{"type": "message", "role": "assistant", "content": []}]}
    return of(number, "responses", {"conversation": "conv_1", "input": f"Question {number}"}, answer)


def of_one_container(number: int) -> CallRecord:
    answer = {"content": [{"type": "text", "text": f"Answer {number}"}], "container": {"id": "container_1"}}
    asks = [{"role": "user", "content": f"Question {number}"}]
    return of(number, "messages", {"container": "container_1", "messages": asks}, answer)


def of_one_tool_id(number: int) -> CallRecord:
    """Many calls bring the result of one tool call, each with words of its own."""
    if number == 0:
        return chat(0, [USER], asked("call_first"))
    said = {"role": "assistant", "content": f"It is sunny, number {number} of many."}
    return chat(number, [USER, asked("call_first"), brought("call_first", f"sunny {number}")], said)


def twins(number: int) -> CallRecord:
    """Requests and answers that say the same."""
    return chat(number, [USER], SUNNY)


SHAPES: tuple[Callable[[int], CallRecord], ...] = (
    of_one_run, of_one_anonymous_run, of_one_conversation, of_one_container, of_one_tool_id, twins,
)  # fmt: skip


class Work(NamedTuple):
    """What a delivery took."""

    statements: int
    steps: int
    """Of SQLite's machine, in hundreds."""


class Counting:
    """Counts the work of a store's connection."""

    def __init__(self, store: Delivery) -> None:
        connection = cast("Any", store.sink)._database.connection
        self.statements = self.steps = 0
        connection.set_trace_callback(self._state)
        connection.set_progress_handler(self._step, 100)
        self._store = store

    def _state(self, _: str) -> None:
        self.statements += 1

    def _step(self) -> int:
        self.steps += 1
        return 0

    def deliver(self, *records: CallRecord) -> Work:
        before = Work(self.statements, self.steps)
        self._store.write(*records)
        return Work(self.statements - before.statements, self.steps - before.steps)


def batches(calls: Iterator[CallRecord], size: int = BATCH) -> Iterator[list[CallRecord]]:
    while batch := list(islice(calls, size)):
        yield batch


@pytest.mark.parametrize("shape", SHAPES)
def test_late_call_costs_no_more_than_twice_an_early_one(shape: Callable[[int], CallRecord], sqlite_url: str) -> None:
    with closing(Delivery(sqlite_url)) as store:
        counting = Counting(store)
        works = [counting.deliver(*batch) for batch in batches(map(shape, range(LATE)))]
    early, late = (mean(works[first:last]) for first, last in ((2, EARLY // BATCH), (-len(works) // 2, None)))
    assert early.statements > BATCH
    assert late.statements <= 2 * early.statements
    assert late.steps <= 2 * early.steps


def mean(works: Sequence[Work]) -> Work:
    """What a delivery takes; now and then one reads a window of a session's contents again."""
    return Work(*(sum(parts) // len(works) for parts in zip(*works, strict=True)))


@pytest.mark.parametrize("shape", SHAPES)
def test_no_transaction_is_long(shape: Callable[[int], CallRecord], sqlite_url: str) -> None:
    """Whatever was stored; the first call, which all others of one shape continue, comes last."""
    calls, number = [shape(number) for number in range(scaled(501, 5_001))], 0
    longest_s = 0.0
    with closing(Delivery(sqlite_url)) as store:
        connection = cast("Any", store.sink)._database.connection
        began_s = time.thread_time()

        def note(statement: str) -> None:
            nonlocal began_s, longest_s, number
            if statement.startswith("BEGIN"):
                began_s, number = time.thread_time(), number + 1
            elif statement == "COMMIT":
                longest_s = max(longest_s, time.thread_time() - began_s)

        connection.set_trace_callback(note)
        for batch in batches(iter(calls[1:]), 100):
            store.write(*batch)
        store.write(calls[0])
    assert number > len(calls) // 100
    assert longest_s <= MOST_S * slowness() * (1 if FULL else 2)
