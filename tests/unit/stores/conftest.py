"""Stores that are files, both kinds, and calls with few fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from callspan.record.call import NO_BODY
from callspan.records import CallRecord, Cost, Place, Record, Request, Response, Timing, Usage, decode, encode
from callspan.stores import Reader
from callspan.stores.urls import find_store, open_store

MIDNIGHT_NS = 1_760_054_400_000_000_000
"""The first moment of 2025-10-10, UTC."""
SECOND = 1_000_000_000


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def made(call_id: str, at_s: float = 0, **fields: Any) -> CallRecord:
    """A call of which nothing is known but what is given."""
    place = Place(**{name: fields.pop(name) for name in ("session_id", "timestep_id", "timestep") if name in fields})
    tokens = {name: fields.pop(name) for name in list(fields) if name.endswith("_tokens")}
    times = {name: fields.pop(name) for name in ("duration_ns", "first_token_ns") if name in fields}
    request = {"model": fields.pop("model", None), "body": fields.pop("body", NO_BODY)}
    response = fields.pop("response_model", None)
    cost = fields.pop("usd", None)
    return CallRecord(
        call_id=call_id,
        place=place,
        request=Request(**request),
        response=Response(model=response) if response is not None else fields.pop("response", None),
        usage=Usage(**tokens) if tokens else None,
        cost=None if cost is None else Cost(usd=Decimal(cost), source="t"),
        timing=Timing(start_ns=MIDNIGHT_NS + round(at_s * SECOND), **times),
        **fields,
    )


def chat(call_id: str, messages: list[Any], answer: Any = "ok", **fields: Any) -> CallRecord:
    """A chat completion with its bodies; `answer` is its message or only the text of it."""
    message = answer if isinstance(answer, dict) else {"role": "assistant", "content": answer}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return made(
        call_id,
        provider="openai",
        api="chat_completions",
        body=raw({"model": "m", "messages": messages, **fields.pop("also", {})}),
        response=Response(body=raw(body)),
        **fields,
    )


def deliver(url: str, records: Iterable[Record]) -> Reader:
    """Write records as the shipper does, one batch, and open what they became."""
    sink = find_store(url).sink()
    sink.open()
    sink.deliver([decode(encode(record)) for record in records])
    sink.close()
    return open_store(url)


Holding = Callable[..., Reader]


@pytest.fixture(scope="module")
def holding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holding]:
    """Make a new store that holds these records, in this order of arrival; returns its reader."""
    tmp_path = tmp_path_factory.mktemp("stores")
    opened: list[Reader] = []

    def make(*records: Record) -> Reader:
        opened.append(deliver(f"sqlite:///{tmp_path}/{len(opened)}.db", records))
        return opened[-1]

    yield make
    for reader in opened:
        reader.close()
