"""The `llm.*` names, their value types, and what is absent."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest

from callspan.record.codec import encode_json
from callspan.records import (
    CallRecord,
    Conversation,
    Message,
    Request,
    Response,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)
from callspan.semconv import llm
from callspan.semconv.content_attributes import Attributes, ByteBudget, SpanContent

Call = tuple[CallRecord, Conversation]


def ended(record: CallRecord, conversation: Conversation | None = None) -> Attributes:
    return llm.END.of(record, SpanContent(conversation, ByteBudget(32_768, 131_072)))


def test_every_attribute_of_a_call_has_its_exact_name_and_value(chat_call: Call) -> None:
    record, conversation = chat_call
    attributes = llm.START.of(record) | ended(record, conversation)
    options = attributes.pop("llm.options")
    assert json.loads(str(options)) == record.request.params
    prompts = json.loads(str(attributes.pop("llm.prompts.raw")))
    assert prompts == json.loads(bytes(record.request.body))["messages"]
    assert record.response is not None
    choices = json.loads(str(attributes.pop("llm.completions.raw")))
    assert choices == json.loads(bytes(record.response.body))["choices"]
    assert attributes == {
        "llm.vendor": "openai",
        "llm.item_id": record.call_id,
        "llm.request.model": "gpt-5",
        "llm.response.model": "gpt-5-2026-01-01",
        "llm.prompts": "system: Be terse.\n\nann: Weather in Paris?",
        "llm.completions": "Looking.",
        "llm.finish_reason": "tool_calls",
        "llm.usage.prompt_tokens": 15,
        "llm.usage.completion_tokens": 5,
        "llm.usage.total_tokens": 20,
        "llm.latency": 1500,
        "llm.total_latency": 2500,
        "llm.retries": 1,
        "llm.rate_limited": True,
        "llm.status_code": 200,
        "llm.temperature": 0.0,
        "llm.top_p": 0.5,
        "llm.frequency_penalty": 0.1,
        "llm.presence_penalty": -0.1,
        "llm.request.max_tokens": 64,
        "llm.chat.stop_sequences": '["END","x"]',
        "llm.user": "u-1",
        "llm.meta.application": "app",
        "llm.meta.step_index": 2,
        "llm.meta.extra": '{"a":{"b":1},"team":"blue"}',
        "llm.rate_limiting.requests.limit": 100,
        "llm.rate_limiting.requests.remaining": 99,
        "llm.rate_limiting.requests.reset": 0.6,
        "llm.rate_limiting.tokens.limit": 5000,
        "llm.rate_limiting.tokens.remaining": 4000,
    }


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("llm.temperature", float),
        ("llm.top_p", float),
        ("llm.request.max_tokens", int),
        ("llm.latency", int),
        ("llm.total_latency", int),
        ("llm.retries", int),
        ("llm.rate_limited", bool),
        ("llm.status_code", int),
        ("llm.finish_reason", str),
        ("llm.chat.stop_sequences", str),
        ("llm.rate_limiting.requests.reset", float),
        ("llm.usage.total_tokens", int),
    ],
)
def test_value_has_exactly_its_type(chat_call: Call, name: str, kind: type) -> None:
    """A temperature sent as the integer 0 is a double all the same: backends index by type."""
    assert type(ended(*chat_call)[name]) is kind


def test_total_needs_both_parts(bare_call: CallRecord) -> None:
    record = msgspec.structs.replace(bare_call, usage=Usage(input_tokens=3))
    assert "llm.usage.total_tokens" not in ended(record)
    both = msgspec.structs.replace(bare_call, usage=Usage(input_tokens=3, output_tokens=2))
    assert ended(both)["llm.usage.total_tokens"] == 5


def test_messages_without_text_are_left_out_of_the_prompt(bare_call: CallRecord) -> None:
    conversation = Conversation(
        system=[Text(text="Rules.")],
        input=[
            Message(role="user", parts=[Text(text="Go")]),
            Message(role="assistant", parts=[ToolCall(id="1", name="f", arguments="{}")]),
            Message(role="tool", parts=[ToolResult(id="1", content=[{"type": "text", "text": "42"}])]),
        ],
    )
    assert ended(bare_call, conversation)["llm.prompts"] == "system: Rules.\n\nuser: Go\n\ntool: 42"


@pytest.mark.parametrize(
    ("api", "request_body", "prompts"),
    [
        ("responses", {"input": "Hi"}, "Hi"),
        ("responses", {"input": "Hi", "instructions": None}, "Hi"),
        (
            "responses",
            {"input": "Hi", "instructions": "Be terse."},
            [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Hi"}],
        ),
        ("responses", {"instructions": "Be terse."}, [{"role": "system", "content": "Be terse."}]),
        (
            "messages",
            {"system": [{"type": "text", "text": "Be terse."}], "messages": [{"role": "user", "content": "Hi"}]},
            [{"role": "system", "content": [{"type": "text", "text": "Be terse."}]}, {"role": "user", "content": "Hi"}],
        ),
        ("messages", {"system": "", "messages": [{"role": "user", "content": "Hi"}]}, None),
        ("chat_completions", {"system": "x", "messages": [{"role": "user", "content": "Hi"}]}, None),
        ("responses", {"input": [{"role": "user", "content": "Hi"}]}, [{"role": "user", "content": "Hi"}]),
        ("completions", {"prompt": ["a", "b"]}, ["a", "b"]),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "text", "cache_control": {}}]}]}, None),
        ("messages", {"messages": 7}, False),
        ("chat_completions", [1], False),
    ],
)
def test_raw_prompts_are_what_the_wire_had_under_any_name(
    bare_call: CallRecord, api: str, request_body: object, prompts: object
) -> None:
    body = msgspec.Raw(json.dumps(request_body).encode())
    request = Request(body=body, body_bytes=len(bytes(body)))
    apart = isinstance(request_body, dict) and (request_body.get("instructions") or request_body.get("system"))
    conversation = Conversation(system=[Text(text="Be terse.")] if apart and api != "chat_completions" else [])
    attributes = ended(msgspec.structs.replace(bare_call, api=api, request=request), conversation)
    if prompts is False:
        assert "llm.prompts.raw" not in attributes
        return
    expected = request_body["messages"] if prompts is None and isinstance(request_body, dict) else prompts
    assert json.loads(str(attributes["llm.prompts.raw"])) == expected


@pytest.mark.parametrize("api", ["messages", "responses"])
def test_raw_completions_that_do_not_fit_are_valid_json(bare_call: CallRecord, api: str) -> None:
    body = {"content" if api == "messages" else "output": [{"type": "text", "text": "x" * 2_000}] * 3}
    encoded = encode_json(body)
    response = Response(body=msgspec.Raw(encoded), body_bytes=len(encoded), finish_reasons=["stop"])
    record = msgspec.structs.replace(bare_call, api=api, response=response)
    for room in range(1, 4_000, 97):
        found = llm.END.of(record, SpanContent(Conversation(), ByteBudget(room, room))).get("llm.completions.raw")
        if found is not None:
            assert len(str(found)) <= room
            (choice,) = json.loads(str(found))
            assert choice["finish_reason"] == "stop"


def test_long_history_keeps_instructions_and_newest_and_says_what_is_gone(
    agent_call: Callable[[int, int], Call],
) -> None:
    record, conversation = agent_call(100, 2000)
    attributes = llm.END.of(record, SpanContent(conversation, ByteBudget(32_768, 65_536)))
    raw = json.loads(str(attributes["llm.prompts.raw"]))
    assert len(str(attributes["llm.prompts.raw"]).encode()) <= 32_768
    assert raw[0] == {"role": "system", "content": "You move."}
    assert raw[1] == {"callspan_omitted": {"messages": 101 - len(raw) + 1, "bytes": record.request.body_bytes}}
    assert raw[-1] == json.loads(bytes(record.request.body))["messages"][-1], "the newest is whole"
    text = str(attributes["llm.prompts"])
    assert text.startswith("system: You move.\n\ncallspan: [callspan: ")
    assert "turn 99 " in text
    assert "turn 5 " not in text
