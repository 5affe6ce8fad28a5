"""Caller: one call of one API in one form, and the log of the server."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from callspan.records import CallRecord
from callspan.testing import Captured, ReceivedRequest, ScriptedProvider
from tests.intercept.mode import Mode
from tests.intercept.sdks import ANTHROPIC, OPENAI

QUESTION = [{"role": "user", "content": "How are you?"}]


class Caller:
    """Calls one API as a plain call, a stream read to its end, or a raw response that is parsed."""

    def __init__(self, mode: Mode, api: str, shape: str) -> None:
        self.mode = mode
        self.api = api
        self.shape = shape

    @property
    def provider(self) -> ScriptedProvider:
        return self.mode.provider

    @property
    def is_openai(self) -> bool:
        return self.api != "messages"

    def client(self, **options: Any) -> Any:
        return self.mode.openai(**options) if self.is_openai else self.mode.anthropic(**options)

    async def call(self, client: Any = None, *, question: str | None = None, **options: Any) -> Any:
        """Make the call with a client of these options and take all of its answer."""
        messages = QUESTION if question is None else [{"role": "user", "content": question}]
        made = client or self.client(**options)
        resource = made.chat.completions if self.is_openai else made.messages
        body = {"model": "gpt-5"} if self.is_openai else {"model": "claude-sonnet-5", "max_tokens": 64}
        if self.shape == "raw":
            raw = await self.mode.wait(resource.with_raw_response.create(messages=messages, **body))
            return await self.mode.wait(raw.parse())
        result = await self.mode.wait(resource.create(messages=messages, stream=self.shape == "stream", **body))
        return await self.mode.all(result) if self.shape == "stream" else result

    def script(self, *replies: dict[str, Any]) -> None:
        """Script replies whose request ids say which of them answered."""
        for number, reply in enumerate(replies, start=1):
            named = {"x-request-id": f"req_{number}", "request-id": f"req_{number}"}
            self.provider.reply(**{**reply, "headers": {**named, **reply.get("headers", {})}})


def the_record(seen: Captured) -> CallRecord:
    """The one record, which belongs to the one span."""
    (span,) = seen.spans
    (record,) = seen.records
    assert span.attributes is not None
    assert span.attributes["llm.item_id"] == record.call_id
    return record


def counts(record: CallRecord) -> bool:
    """Whether the SDK tells the server how often it has tried."""
    return OPENAI >= (1, 55) if record.api != "messages" else ANTHROPIC >= (0, 40)


def assert_log_agrees(record: CallRecord, log: Sequence[ReceivedRequest]) -> None:
    """The server saw each attempt between its start and its end, in order, and counts retries as we do.

    Our offsets count from the start of the call; one shift must bring all of them to the server's clock.
    """
    attempts = record.attempts
    assert [attempt.number for attempt in attempts] == list(range(1, len(log) + 1))
    counted = list(range(len(log))) if counts(record) else [None] * len(log)
    assert [request.retry_count for request in log] == counted
    assert record.retries == len(log) - 1
    pairs = list(zip(attempts, log, strict=True))
    at_least = max(request.time_ns - (attempt.end_ns or 0) for attempt, request in pairs)
    at_most = min(request.time_ns - attempt.start_ns for attempt, request in pairs)
    assert at_least <= at_most
    for (before, arrived), (after, arrived_next) in pairwise(pairs):
        assert before.end_ns is not None
        assert before.end_ns <= after.start_ns
        assert before.wait_s is not None
        assert before.planned_wait_s is not None
        assert before.wait_s == (after.start_ns - before.end_ns) / 1e9
        assert before.wait_s >= before.planned_wait_s
        assert (arrived_next.time_ns - arrived.time_ns) / 1e9 >= before.planned_wait_s
    assert attempts[-1].wait_s is None
