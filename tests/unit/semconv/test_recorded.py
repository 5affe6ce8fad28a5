"""Recorded exchanges through processors and vocabularies: every attribute is exportable, valid and within limits."""

from __future__ import annotations

import json
from collections.abc import Iterator

import msgspec
import pytest
from tests.wire import corpus
from tests.wire.corpus import Exchange

from callspan import Settings
from callspan.fail_open import failures, forget_failures
from callspan.process.processors import caller_processors
from callspan.providers.base import Endpoint
from callspan.providers.registry import conversation_of, endpoint_for
from callspan.record.call import NO_BODY
from callspan.records import CallRecord, Timing
from callspan.semconv.call import Projection
from callspan.semconv.content_attributes import Attributes

_KINDS = (str, bool, int, float, tuple)
_JSON = (
    "llm.prompts.raw",
    "llm.completions.raw",
    "llm.options",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.tool.definitions",
    "input.value",
    "output.value",
)


def _answer(endpoint: Endpoint, exchange: Exchange) -> object:
    if not exchange.stream:
        return _parsed(exchange.body)
    accumulator = endpoint.accumulator()
    for line in exchange.body.splitlines():
        if line.startswith("data:") and (chunk := _parsed(line[5:])) is not None:
            accumulator.add(chunk)
    return accumulator.body()


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def _records() -> Iterator[CallRecord]:
    for exchange in corpus.load():
        endpoint = endpoint_for(exchange.method, exchange.path)
        if endpoint is not None:
            yield _record(endpoint, exchange)


def _record(endpoint: Endpoint, exchange: Exchange) -> CallRecord:
    sent = json.dumps(exchange.request).encode()
    answer = _answer(endpoint, exchange)
    came = NO_BODY if answer is None else msgspec.Raw(msgspec.json.encode(answer))
    facts = endpoint.response_info(answer)
    request = endpoint.request(exchange.request)
    return CallRecord(
        call_id=exchange.id,
        provider="openai",
        api=endpoint.api,
        operation=endpoint.operation,
        timing=Timing(start_ns=1, duration_ns=1),
        request=msgspec.structs.replace(request, body=msgspec.Raw(sent), body_bytes=len(sent)),
        response=msgspec.structs.replace(facts.response, body=came, body_bytes=len(bytes(came))),
        usage=facts.usage,
        error=facts.error,
    )


def _check(record: CallRecord, attributes: Attributes) -> None:
    assert len(attributes) < 128, record.call_id
    for name, value in attributes.items():
        assert type(value) in _KINDS, (record.call_id, name)
        assert not isinstance(value, tuple) or all(type(word) is str for word in value), (record.call_id, name)
        assert value not in ("", "None"), (record.call_id, name)
        if isinstance(value, str):
            assert len(value.encode()) <= 32 * 1024, (record.call_id, name)
    for name in _JSON:
        if name in attributes:
            json.loads(str(attributes[name]))


def test_every_recorded_exchange_is_shown_within_bounds_and_without_failures() -> None:
    forget_failures()
    processors = caller_processors(Settings())
    projection = Projection(Settings(vocabularies=("llm", "gen_ai", "openinference")))
    seen = 0
    for record in _records():
        kept = processors.process(record).record
        _check(kept, projection.start(kept) | projection.end(kept, conversation_of(kept)))
        seen += 1
    assert seen > 0.9 * len(corpus.load())
    assert failures() == {}


def test_raw_prompts_of_recorded_requests_are_what_was_sent() -> None:
    projection = Projection(Settings(max_attribute_bytes=1 << 24, max_span_bytes=1 << 28, vocabularies=("llm",)))
    for record in _records():
        body = json.loads(bytes(record.request.body))
        attributes = projection.end(record, conversation_of(record))
        history = body.get("messages") or body.get("input") or body.get("prompt")
        if record.api in ("messages", "responses") and (system := body.get("system") or body.get("instructions")):
            messages = [{"role": "user", "content": history}] if isinstance(history, str) else history or []
            history = [{"role": "system", "content": system}, *messages]
        if isinstance(history, str | list) and history:
            assert json.loads(str(attributes["llm.prompts.raw"])) == history, record.call_id


@pytest.mark.parametrize("content", ["metadata", "off"])
def test_no_recorded_text_survives_without_content(content: str) -> None:
    """Every text of ten words or more of a conversation is looked for in all that is left of the call."""
    settings = Settings(content=content)
    processors, projection = caller_processors(settings), Projection(settings)
    for record in _records():
        conversation = conversation_of(record)
        kept = processors.process(record).record
        left = msgspec.json.encode(kept).decode() + json.dumps(projection.end(kept, None), ensure_ascii=False)
        for message in [] if conversation is None else [*conversation.input, *conversation.output]:
            for part in message.parts:
                text = getattr(part, "text", None) or ""
                if len(text.split()) >= 10:
                    assert json.dumps(text, ensure_ascii=False)[1:-1] not in left, record.call_id
