"""Calls as records: one of each kind, with the conversation their bodies hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest

from callspan import Settings
from callspan.records import (
    Attempt,
    CallRecord,
    Conversation,
    Cost,
    Message,
    Place,
    RateLimit,
    RateLimits,
    Request,
    Response,
    Stream,
    Text,
    Timing,
    ToolCall,
    ToolResult,
    Usage,
)
from callspan.semconv.call import Projection
from callspan.semconv.content_attributes import Attributes

Call = tuple[CallRecord, Conversation]


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


@pytest.fixture
def chat_call() -> Call:
    """A chat with tools over OpenAI, retried once after a 429, with everything that can be known."""
    messages = [
        {"role": "system", "content": "Be terse."},
        {"role": "user", "name": "ann", "content": "Weather in Paris?"},
    ]
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    choices = [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Looking.", "tool_calls": [call]},
            "finish_reason": "tool_calls",
        }
    ]
    tool = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}}}
    request = {"model": "gpt-5", "messages": messages, "tools": [tool]}
    params: dict[str, object] = {
        "temperature": 0,
        "top_p": 0.5,
        "frequency_penalty": 0.1,
        "presence_penalty": -0.1,
        "max_completion_tokens": 64,
        "stop": ["END", "x"],
        "seed": 7,
        "n": 1,
        "user": "u-1",
        "service_tier": "flex",
        "reasoning_effort": "low",
        "response_format": {"type": "json_object"},
    }
    record = CallRecord(
        call_id="0199f0c8-0000-7000-8000-000000000001",
        provider="openai",
        api="chat_completions",
        operation="chat",
        server_address="api.openai.com",
        server_port=443,
        place=Place(session_id="s-1", timestep=3),
        request=Request(
            model="gpt-5",
            stream=True,
            params=params,
            message_count=2,
            tool_names=["weather"],
            body_bytes=600,
            body=raw(request),
        ),
        response=Response(
            id="chatcmpl-1",
            model="gpt-5-2026-01-01",
            finish_reasons=["tool_calls"],
            service_tier="default",
            system_fingerprint="fp_1",
            body_bytes=300,
            body=raw({"id": "chatcmpl-1", "choices": choices}),
        ),
        usage=Usage(
            input_tokens=15,
            output_tokens=5,
            total_tokens=20,
            cache_read_tokens=7,
            cache_write_tokens=5,
            reasoning_tokens=2,
        ),
        timing=Timing(
            start_ns=1_760_000_000_000_000_000,
            duration_ns=2_500_000_000,
            answer_ns=1_000_000_000,
            first_chunk_ns=1_250_000_000,
        ),
        attempts=[
            Attempt(number=1, start_ns=0, status=429, error_kind="rate_limit"),
            Attempt(number=2, start_ns=1_000_000_000, status=200),
        ],
        retries=1,
        rate_limited=True,
        rate_limits=RateLimits(
            requests=RateLimit(limit=100, remaining=99, reset_s=0.6), tokens=RateLimit(limit=5000, remaining=4000)
        ),
        stream=Stream(end="complete", chunks=9, complete=True),
        cost=Cost(usd=Decimal("0.000012"), source="provider"),
        metadata={"application": "app", "step_index": 2, "extra": {"a": {"b": 1}}, "team": "blue"},
    )
    conversation = Conversation(
        input=[
            Message(role="system", parts=[Text(text="Be terse.")]),
            Message(role="user", name="ann", parts=[Text(text="Weather in Paris?")]),
        ],
        output=[
            Message(
                role="assistant",
                parts=[Text(text="Looking."), ToolCall(id="call_1", name="weather", arguments='{"city":"Paris"}')],
                finish_reason="tool_calls",
            )
        ],
        tools=[tool],
    )
    return record, conversation


@pytest.fixture
def bare_call() -> CallRecord:
    """A call of which nothing is known but that it was made."""
    return CallRecord(call_id="c", provider="openai", api="chat_completions", timing=Timing(start_ns=1))


@pytest.fixture
def agent_call() -> Callable[[int, int], Call]:
    """Make a call with a history: instructions, then `turns` messages of `size` characters each."""

    def make(turns: int, size: int) -> Call:
        texts = [f"turn {index} " + "word " * (size // 5) for index in range(turns)]
        wire = [{"role": "system", "content": "You move."}]
        typed = [Message(role="system", parts=[Text(text="You move.")])]
        for index, text in enumerate(texts):
            if index % 2:
                wire.append({"role": "tool", "tool_call_id": f"call_{index}", "content": text})
                typed.append(Message(role="tool", parts=[ToolResult(id=f"call_{index}", content=text)]))
            else:
                wire.append({"role": "user", "content": text})
                typed.append(Message(role="user", parts=[Text(text=text)]))
        body = raw({"model": "m", "messages": wire})
        record = CallRecord(
            call_id="c",
            provider="openai",
            api="chat_completions",
            request=Request(model="m", body=body, body_bytes=len(bytes(body)), message_count=len(wire)),
            timing=Timing(start_ns=1),
        )
        return record, Conversation(input=typed)

    return make


@pytest.fixture
def project() -> Callable[..., Attributes]:
    """All attributes of a call, those at its start included, under default settings or those given."""

    def attributes(record: CallRecord, conversation: Conversation | None, **settings: object) -> Attributes:
        projection = Projection(msgspec.structs.replace(Settings(), **settings))
        return projection.start(record) | projection.end(record, conversation)

    return attributes
