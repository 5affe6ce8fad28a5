"""Records made by hand, of which nothing is known but what is given, and stores that keep them."""

from __future__ import annotations

import json
from contextlib import closing
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from callspan import open_store
from callspan.records import (
    Attempt,
    CallRecord,
    Cost,
    EventRecord,
    MessageRecord,
    Place,
    Record,
    Request,
    Response,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
    Timing,
    Usage,
    decode,
    encode,
)
from callspan.stores import Reader, Sink, find_store

START_NS = 1_760_000_000_000_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
EVERY_KIND = Path(__file__).with_name("every_kind.json")


def made(call_id: str = "call-1", *, at_ns: int = START_NS, took_ns: int | None = SECOND, **fields: Any) -> CallRecord:
    """A call of gpt-5 of which nothing else is known unless it is given."""
    timing = Timing(start_ns=at_ns, duration_ns=took_ns)
    return CallRecord(**({"call_id": call_id, "timing": timing, "request": Request(model="gpt-5")} | fields))


def session(session_id: str = "session-1", **fields: Any) -> SessionRecord:
    """A session of which nothing is known unless it is given."""
    return SessionRecord(**({"session_id": session_id, "seen_ns": 1} | fields))


def step(timestep_id: str = "t1", **fields: Any) -> TimestepRecord:
    """The first step of a session."""
    given = {"timestep_id": timestep_id, "session_id": "s1", "seen_ns": 1, "index": 0, "start_ns": START_NS}
    return TimestepRecord(**(given | fields))


def event(event_id: str = "e1", **fields: Any) -> EventRecord:
    """What an environment did."""
    return EventRecord(**({"event_id": event_id, "event_type": "environment", "time_ns": START_NS} | fields))


def reward(reward_id: str = "r1", value: float | None = 1.0, **fields: Any) -> RewardRecord:
    """A reward of whatever is named."""
    return RewardRecord(**({"reward_id": reward_id, "value": value, "time_ns": START_NS} | fields))


def message(message_id: str = "m1", content: object = None, **fields: Any) -> MessageRecord:
    given = {"message_id": message_id, "message_type": "observation", "time_ns": START_NS, "content": content}
    return MessageRecord(**(given | fields))


def raw(value: object) -> msgspec.Raw:
    """JSON as the SDKs send it."""
    return msgspec.Raw(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def keep(url: str, *records: Record) -> str:
    """Deliver records to a store as a shipper does; return its URL."""
    delivery = Delivery(url)
    delivery.write(*records)
    delivery.close()
    return url


def left(url: str) -> tuple[set[str], set[str]]:
    """The ids of the sessions and calls in a store."""
    with closing(open_store(url)) as reader:
        return {one.session.session_id for one in reader.sessions()}, {one.call_id for one in reader.calls()}


class Records:
    """Chats of which all is known that a provider states; every id is new unless given."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def new_id(self) -> str:
        return f"01990000-0000-7000-8000-{next(self._numbers):012x}"

    def call(
        self,
        messages: object = None,
        answer: str = "Hello there.",
        *,
        call_id: str | None = None,
        model: str = "gpt-5",
        session_id: str | None = None,
        at_s: float = 0,
        **fields: object,
    ) -> CallRecord:
        sent = [{"role": "user", "content": "Hi"}] if messages is None else messages
        request = {"model": model, "messages": sent, "temperature": 0.5}
        response = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": f"{model}-2025-08-07",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }
        given: dict[str, object] = {
            "provider": "openai",
            "api": "chat_completions",
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "span_id": f"{next(self._numbers):016x}",
            "place": Place(session_id=session_id),
            "request": Request(model=model, params={"temperature": 0.5}, message_count=1, body=raw(request)),
            "response": Response(
                id="chatcmpl-1", model=f"{model}-2025-08-07", finish_reasons=["stop"], body=raw(response)
            ),
            "usage": Usage(input_tokens=10, output_tokens=5, total_tokens=15, raw={"prompt_tokens": 10}),
            "cost": Cost(usd=Decimal("0.0000123"), source="table-1"),
            "timing": Timing(start_ns=START_NS + int(at_s * SECOND), duration_ns=SECOND, first_token_ns=SECOND // 4),
            "attempts": [Attempt(number=1, start_ns=5, status=200, request_id="req_1")],
            "retries": 0,
        }
        return made(call_id or self.new_id(), **(given | fields))

    def session(self, session_id: str = "s1", version: int = 1, **fields: object) -> SessionRecord:
        return session(session_id, seen_ns=version, **fields)

    def every_kind(self) -> list[Record]:
        """One record of each kind with every field that a store has a column for, and some it has not."""
        return [decode(msgspec.json.encode(one)) for one in json.loads(EVERY_KIND.read_text())]


class Delivery:
    """A store under test: its sink, fed as the shipper feeds it, and readers of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sink: Sink = find_store(url).sink()
        self.sink.open()
        self._readers: list[Reader] = []

    def write(self, *records: Record | bytes) -> None:
        self.sink.deliver([decode(one if isinstance(one, bytes) else encode(one)) for one in records])

    def read(self) -> Reader:
        self._readers.append(open_store(self.url))
        return self._readers[-1]

    def close(self) -> None:
        self.sink.close()
        for reader in self._readers:
            reader.close()
