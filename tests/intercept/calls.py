"""Calls of the tests of interception: one streaming operation of each SDK, and the one record of a call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import pytest

from callspan.records import CallRecord
from callspan.testing import Captured
from tests.intercept import sdks
from tests.intercept.mode import Mode

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
QUESTION = [{"role": "user", "content": "How are you?"}]


class Wire:
    """One streaming operation of one SDK."""

    def __init__(self, api: str, mode: Mode) -> None:
        if api == "responses":
            sdks.needs("openai", "1.66", "the Responses API")
        self.api = api
        self.mode = mode

    async def stream(self) -> Any:
        return await self.mode.wait(self.create(stream=True))

    def create(self, **options: Any) -> Any:
        if self.api == "messages":
            create = self.mode.anthropic().messages.create
            return create(model="claude-sonnet-5", max_tokens=64, messages=QUESTION, **options)
        if self.api == "responses":
            return self.mode.openai().responses.create(model="gpt-5", input="How are you?", **options)
        return self.mode.openai().chat.completions.create(model="gpt-5", messages=QUESTION, **options)


def the_call(seen: Captured) -> CallRecord:
    """The one record, which belongs to the one span."""
    (span,) = seen.spans
    (record,) = seen.records
    assert span.context is not None
    assert record.span_id == f"{span.context.span_id:016x}"
    assert record.trace_id == f"{span.context.trace_id:032x}"
    assert span.attributes is not None
    assert span.attributes["llm.item_id"] == record.call_id
    ended_early = record.stream is not None and record.stream.end in ("cut_off", "closed", "dropped", "cancelled")
    marks = [event.name for event in span.events if event.name.startswith("callspan.stream.")]
    assert marks == ([f"callspan.stream.{record.stream.end}"] if record.stream is not None and ended_early else [])
    return record


def text_of(record: CallRecord) -> str:
    assert record.conversation is not None
    return "".join(getattr(part, "text", "") or "" for message in record.conversation.output for part in message.parts)


def parsing(mode: Mode) -> Any:
    """Where `parse` and `stream` of chat are: old versions have them in beta."""
    client = mode.openai()
    completions = client.chat.completions
    return completions if hasattr(completions, "parse") else client.beta.chat.completions


def client_class(module: Any, name: str, mode: Mode) -> Any:
    kind = getattr(module, f"Async{name}" if mode.is_async else name, None)
    if kind is None:
        pytest.skip(f"{module.__name__} {module.__version__} has no {name}")
    return kind


def bedrock(mode: Mode) -> Any:
    pytest.importorskip("botocore", reason="boto3 is not installed")
    kind = client_class(anthropic, "AnthropicBedrock", mode)
    keys = {"aws_access_key": "AKIATEST", "aws_secret_key": "secret", "aws_region": "us-east-1"}
    return mode.keep(kind(**keys, base_url=mode.provider.url, max_retries=0))
