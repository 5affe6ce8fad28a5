"""Recorded exchanges as chat messages: nothing raises, and trainers accept the export."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec

from callspan.datasets.chat_messages import called_tools, chat_call, flaw, tool_name
from callspan.providers import registry
from callspan.records import CallRecord, Timing
from tests.support.formats import check_fine_tuning
from tests.support.records import raw
from tests.wire import corpus
from tests.wire.sse import chunks

_MESSAGE_KEYS = ("role", "content", "tool_calls", "tool_call_id")


def call_of(exchange: corpus.Exchange) -> CallRecord | None:
    """The record of an exchange that was answered; None of any other."""
    endpoint = registry.by_api(exchange.endpoint)
    if endpoint is None or exchange.request is None or exchange.status != 200 or exchange.endpoint == "embeddings":
        return None
    accumulator = endpoint.accumulator()
    if "event-stream" in exchange.mime:
        for chunk in chunks(exchange.body):
            accumulator.add(chunk)
    elif not exchange.body.lstrip().startswith("{"):
        return None
    body = accumulator.body() if "event-stream" in exchange.mime else json.loads(exchange.body)
    response = msgspec.structs.replace(endpoint.response_info(body).response, body=raw(body))
    request = msgspec.structs.replace(endpoint.request(exchange.request), body=raw(exchange.request))
    timing = Timing(start_ns=1)
    return registry.with_conversation(
        CallRecord(call_id=exchange.id, api=exchange.endpoint, request=request, response=response, timing=timing)
    )


def test_every_recorded_call_becomes_a_row_or_has_a_reason() -> None:
    outcomes: Counter[str] = Counter()
    for exchange in corpus.select(lambda one: one.inference):
        call = call_of(exchange)
        row = None if call is None else chat_call(call, Counter())
        if row is None:
            continue
        messages = [*row.prompt, row.answer]
        reason = flaw(messages)
        outcomes[reason or "row"] += 1
        called = {name for message in messages for name in called_tools(message)}
        if reason is None and called <= {tool_name(tool) for tool in row.tools}:
            check_fine_tuning({"messages": messages, **({"tools": row.tools} if row.tools else {})})
    assert outcomes["row"] > 0.9 * outcomes.total()


def test_chat_messages_come_back_as_they_were_sent_unless_something_is_reported_as_dropped() -> None:
    same: Counter[bool] = Counter()
    for exchange in corpus.select(lambda one: one.inference and one.endpoint == "chat_completions"):
        dropped: Counter[str] = Counter()
        call = call_of(exchange)
        row = None if call is None else chat_call(call, dropped)
        if row is None or dropped or exchange.request is None:
            continue
        sent: Any = exchange.request.get("messages")
        messages = [_plain(message) for message in row.prompt]
        assert messages == [_plain(message) for message in sent]
        same[True] += 1
    assert same[True] > (300 if corpus.IS_WHOLE else 30)


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """A message without what means nothing: nulls, empty lists, one text in a list, marks of caches, missing types."""
    found = {key: message[key] for key in _MESSAGE_KEYS if message.get(key) not in (None, [], "")}
    if isinstance(found.get("content"), list):
        parts = [{k: v for k, v in part.items() if k in {"type", part["type"]}} for part in found["content"]]
        only_text = len(parts) == 1 and parts[0]["type"] == "text"
        found["content"] = parts[0]["text"] if only_text else [part for part in parts if part.get("text") != ""]
    if "tool_calls" in found:
        found["tool_calls"] = [(call.get("id"), call["function"]) for call in found["tool_calls"]]
    return found
