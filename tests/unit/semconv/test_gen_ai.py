"""The `gen_ai.*` names, their value types, messages in the conventions' shape, and what is absent."""

from __future__ import annotations

import json

import msgspec
import pytest

from callspan.records import (
    CallRecord,
    Conversation,
    Media,
    Message,
    Part,
    Reasoning,
    Refusal,
    Request,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
)
from callspan.semconv import gen_ai
from callspan.semconv.content_attributes import Attributes, ByteBudget, SpanContent

Call = tuple[CallRecord, Conversation]


def ended(record: CallRecord, conversation: Conversation | None = None) -> Attributes:
    table = gen_ai.END
    return table.of(record, SpanContent(conversation, ByteBudget(32_768, 131_072)))


def messages(attributes: Attributes, name: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(str(attributes[name]))
    return found


def test_every_attribute_of_a_call_has_its_exact_name_and_value(chat_call: Call) -> None:
    attributes = ended(*chat_call)
    messages = [attributes.pop(name) for name in ("gen_ai.input.messages", "gen_ai.output.messages")]
    tools = attributes.pop("gen_ai.tool.definitions")
    assert attributes == {
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.frequency_penalty": 0.1,
        "gen_ai.request.presence_penalty": -0.1,
        "gen_ai.request.max_tokens": 64,
        "gen_ai.request.stop_sequences": ("END", "x"),
        "gen_ai.request.seed": 7,
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.output.type": "json",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-5-2026-01-01",
        "gen_ai.response.finish_reasons": ("tool_call",),
        "gen_ai.response.time_to_first_chunk": 1.25,
        "gen_ai.usage.input_tokens": 15,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 7,
        "gen_ai.usage.cache_write.input_tokens": 5,
        "gen_ai.usage.cache_creation.input_tokens": 5,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "http.request.resend_count": 1,
        "http.response.status_code": 200,
        "openai.api.type": "chat_completions",
        "openai.request.service_tier": "flex",
        "openai.response.service_tier": "default",
        "openai.response.system_fingerprint": "fp_1",
    }
    assert type(attributes["gen_ai.request.temperature"]) is float
    assert type(attributes["gen_ai.response.time_to_first_chunk"]) is float
    assert all(type(value) is str for value in (*messages, tools)), "content goes as JSON text"


@pytest.mark.parametrize(
    ("part", "shape"),
    [
        (Reasoning(text="hm", signature="s"), {"type": "reasoning", "content": "hm"}),
        (Reasoning(sealed="abcd"), {"type": "sealed_reasoning", "size": 4}),
        (Refusal(text="No."), {"type": "text", "content": "No."}),
        (ToolCall(name="f", arguments="{oops"), {"type": "tool_call", "name": "f", "arguments": "{oops"}),
        (ToolCall(id="1"), {"type": "tool_call", "id": "1", "name": ""}),
        (
            ToolCall(id="1", name="q", arguments="{}", tool_type="mcp"),
            {
                "type": "server_tool_call",
                "id": "1",
                "name": "q",
                "server_tool_call": {"type": "mcp", "arguments": {}},
            },
        ),
        (ToolResult(id="1", content="42"), {"type": "tool_call_response", "id": "1", "response": "42"}),
        (
            ToolResult(id="1", content="bad", is_error=True),
            {"type": "tool_call_response", "id": "1", "response": "bad", "is_error": True},
        ),
        (
            ToolResult(id="1", content=[], tool_type="web_search"),
            {
                "type": "server_tool_call_response",
                "id": "1",
                "server_tool_call_response": {"type": "web_search", "content": []},
            },
        ),
        (
            Media(modality="image", mime="image/png", data="AAAA"),
            {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "AAAA"},
        ),
        (Media(modality="document", file_id="f1"), {"type": "file", "modality": "document", "file_id": "f1"}),
        (Media(modality="image", url="https://x/y"), {"type": "uri", "modality": "image", "uri": "https://x/y"}),
        (
            Media(modality="image", sha256="ab", size=9),
            {"type": "uri", "modality": "image", "size": 9, "uri": "urn:sha256:ab"},
        ),
        (UnknownPart(data={"type": "new", "x": 1}), {"type": "new", "data": {"type": "new", "x": 1}}),
        (UnknownPart(data=7), {"type": "unknown", "data": 7}),
    ],
)
def test_part_has_the_shape_of_the_conventions(bare_call: CallRecord, part: Part, shape: object) -> None:
    attributes = ended(bare_call, Conversation(input=[Message(role="user", parts=[part])]))
    role = "tool" if isinstance(part, ToolResult) else "user"
    assert messages(attributes, "gen_ai.input.messages") == [{"role": role, "parts": [shape]}]


def test_a_message_has_each_of_its_parts(bare_call: CallRecord) -> None:
    message = Message(role="user", parts=[Text(text="a"), Text(text="b")])
    (shown,) = messages(ended(bare_call, Conversation(input=[message])), "gen_ai.input.messages")
    assert shown["parts"] == [{"type": "text", "content": "a"}, {"type": "text", "content": "b"}]


@pytest.mark.parametrize(
    ("params", "shown"),
    [
        ({"n": 3}, {"gen_ai.request.choice.count": 3}),
        ({"n": 1}, {}),
        ({"stop": "x"}, {"gen_ai.request.stop_sequences": ("x",)}),
        ({"top_k": 40.0}, {"gen_ai.request.top_k": 40}),
        ({"reasoning": {"effort": "high"}}, {"gen_ai.request.reasoning.level": "high"}),
        ({"output_config": {"effort": "low"}}, {"gen_ai.request.reasoning.level": "low"}),
        ({"previous_response_id": "resp_1"}, {"gen_ai.request.previous_response.id": "resp_1"}),
        ({"text": {"format": {"type": "json_schema"}}}, {"gen_ai.output.type": "json"}),
        ({"modalities": ["text", "audio"]}, {"gen_ai.output.type": "speech"}),
        ({"encoding_format": "float"}, {"gen_ai.request.encoding_formats": ("float",)}),
        ({"dimensions": 256}, {"gen_ai.embeddings.dimension.count": 256}),
        ({"service_tier": "auto"}, {}),
        ({"temperature": True, "seed": "x", "top_k": 1.5, "reasoning": [], "response_format": {"type": []}}, {}),
    ],
)
def test_settings_are_read_by_name_and_type(bare_call: CallRecord, params: dict[str, object], shown: object) -> None:
    record = msgspec.structs.replace(bare_call, api="embeddings", request=Request(params=params))
    assert ended(record, Conversation()) == shown
