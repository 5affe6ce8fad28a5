"""The `gen_ai.*` names, their value types, messages in the conventions' shape, and what is absent."""

from __future__ import annotations

import json
from typing import Any

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
    Response,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
    Usage,
)
from callspan.semconv import gen_ai
from callspan.semconv.content_attributes import Attributes, ByteBudget, Shown

Call = tuple[CallRecord, Conversation]


def ended(record: CallRecord, conversation: Conversation | None = None) -> Attributes:
    table = gen_ai.END
    return table.of(record, Shown(conversation, ByteBudget(32_768, 131_072)))


def messages(attributes: Attributes, name: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(str(attributes[name]))
    return found


def test_sampler_sees_operation_provider_model_and_server(chat_call: Call) -> None:
    assert gen_ai.START.of(chat_call[0]) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.request.stream": True,
        "server.address": "api.openai.com",
        "server.port": 443,
    }


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


def test_system_messages_of_openai_stay_among_the_input(chat_call: Call) -> None:
    attributes = ended(*chat_call)
    assert "gen_ai.system_instructions" not in attributes
    assert messages(attributes, "gen_ai.input.messages") == [
        {"role": "system", "parts": [{"type": "text", "content": "Be terse."}]},
        {"role": "user", "parts": [{"type": "text", "content": "Weather in Paris?"}], "name": "ann"},
    ]


def test_output_has_one_message_per_choice_with_its_finish_reason(chat_call: Call) -> None:
    assert messages(ended(*chat_call), "gen_ai.output.messages") == [
        {
            "role": "assistant",
            "parts": [
                {"type": "text", "content": "Looking."},
                {"type": "tool_call", "id": "call_1", "name": "weather", "arguments": {"city": "Paris"}},
            ],
            "finish_reason": "tool_call",
        }
    ]


def test_separate_system_text_is_system_instructions(bare_call: CallRecord) -> None:
    attributes = ended(bare_call, Conversation(system=[Text(text="Rules.")]))
    assert messages(attributes, "gen_ai.system_instructions") == [{"type": "text", "content": "Rules."}]


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


@pytest.mark.parametrize("plenty", [True, False])
def test_results_of_tools_in_a_users_message_are_messages_of_their_own(bare_call: CallRecord, plenty: bool) -> None:
    """As Anthropic's API takes them. Backends label a message by its role."""
    words, result = Text(text="Go on."), ToolResult(id="1", content="42")
    given = [
        Message(role="user", parts=[result, result, words, result], name="ann"),
        Message(role="assistant", parts=[words, result]),
        Message(role="user", parts=[]),
    ]
    shown = Shown(Conversation(input=given), ByteBudget(32_768, 131_072, plenty=plenty))
    found: list[Any] = messages(gen_ai.END.of(bare_call, shown), "gen_ai.input.messages")
    assert [(one["role"], [part["type"] for part in one["parts"]]) for one in found] == [
        ("tool", ["tool_call_response"] * 2), ("user", ["text"]), ("tool", ["tool_call_response"]),
        ("assistant", ["text", "tool_call_response"]), ("user", []),
    ]  # fmt: skip
    assert [message.role for message in given] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("tool", "shape"),
    [
        (
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
            {"type": "function", "name": "f", "parameters": {"type": "object"}},
        ),
        (
            {"type": "function", "name": "f", "description": "d", "strict": True},
            {"type": "function", "name": "f", "description": "d"},
        ),
        ({"name": "f", "input_schema": {}}, {"type": "function", "name": "f", "parameters": {}}),
        (
            {"type": "custom", "name": "f", "input_schema": {}},
            {"type": "function", "name": "f", "parameters": {}},
        ),
        ({"type": "web_search"}, {"type": "web_search", "name": "web_search"}),
        (
            {"type": "custom", "custom": {"name": "grep", "description": "d", "format": {"type": "text"}}},
            {"type": "custom", "name": "grep", "description": "d"},
        ),
        ({"type": "mcp", "server_label": "docs"}, {"type": "mcp", "name": "docs"}),
        ({"type": "mcp_toolset", "mcp_server_name": "docs"}, {"type": "mcp_toolset", "name": "docs"}),
        (
            {"type": "mcp", "name": "m", "authorization": "sk-secret", "headers": {"a": "b"}},
            {"type": "mcp", "name": "m"},
        ),
    ],
)
def test_tool_definitions_of_every_wire_have_one_shape(bare_call: CallRecord, tool: object, shape: object) -> None:
    attributes = ended(bare_call, Conversation(tools=[tool, "no tool"]))
    assert messages(attributes, "gen_ai.tool.definitions") == [shape]


def test_unknown_values_are_absent(bare_call: CallRecord) -> None:
    attributes = gen_ai.START.of(bare_call) | ended(bare_call, Conversation())
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "openai.api.type": "chat_completions",
    }


def test_zero_tokens_reported_by_the_provider_are_kept(bare_call: CallRecord) -> None:
    usage = Usage(input_tokens=4, output_tokens=0, cache_read_tokens=0)
    attributes = ended(msgspec.structs.replace(bare_call, usage=usage))
    assert attributes["gen_ai.usage.output_tokens"] == 0
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 0
    assert "gen_ai.usage.cache_write.input_tokens" not in attributes
    assert "gen_ai.usage.reasoning.output_tokens" not in attributes


def test_failed_call_has_error_type_status_and_resends(failed_call: CallRecord) -> None:
    attributes = ended(failed_call)
    assert attributes["error.type"] == "rate_limit_error"
    assert attributes["http.response.status_code"] == 429
    assert attributes["http.request.resend_count"] == 2
    assert not {name for name in attributes if name.startswith("openai.")}, "anthropic has no openai attributes"
    assert "slow down" not in str(attributes)


def test_cancelled_call_has_no_error_type(failed_call: CallRecord) -> None:
    assert "error.type" not in ended(msgspec.structs.replace(failed_call, outcome="cancelled"))


def test_no_resend_is_absent(bare_call: CallRecord) -> None:
    assert "http.request.resend_count" not in ended(msgspec.structs.replace(bare_call, retries=0))


@pytest.mark.parametrize(
    ("reasons", "outcome", "shown"),
    [
        (["stop", "length"], "success", ("stop", "length")),
        (["end_turn"], "success", ("stop",)),
        (["refusal"], "success", ("content_filter",)),
        (["pause_turn"], "success", ("pause_turn",)),
        (["stop", None], "cancelled", None),
        ([None, "stop"], "success", None),
        (["stop", ""], "success", None),
        ([None], "error", None),
        ([""], "success", None),
        ([], "success", None),
    ],
)
def test_finish_reasons_are_one_word_for_each_choice_and_absent_where_one_is_unknown(
    bare_call: CallRecord, reasons: list[str | None], outcome: str, shown: object
) -> None:
    record = msgspec.structs.replace(bare_call, response=Response(finish_reasons=reasons), outcome=outcome)
    assert ended(record).get("gen_ai.response.finish_reasons") == shown


def test_unfinished_output_says_how_the_call_ended(bare_call: CallRecord) -> None:
    """Phoenix drops output messages that have no finish reason, so there is always one."""
    conversation = Conversation(output=[Message(role="assistant", parts=[Text(text="Par")])])
    record = msgspec.structs.replace(bare_call, outcome="cancelled")
    assert messages(ended(record, conversation), "gen_ai.output.messages")[0]["finish_reason"] == "cancelled"
    assert messages(ended(bare_call, conversation), "gen_ai.output.messages")[0]["finish_reason"] == "unknown"


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


def test_stop_sequences_are_content(chat_call: Call) -> None:
    assert "gen_ai.request.stop_sequences" not in ended(chat_call[0])


def test_span_is_named_by_operation_and_model(chat_call: Call, bare_call: CallRecord) -> None:
    assert gen_ai.span_name(chat_call[0]) == "chat gpt-5"
    assert gen_ai.span_name(bare_call) == "chat"


def test_azure_names_its_resource_provider(bare_call: CallRecord) -> None:
    record = msgspec.structs.replace(bare_call, provider="azure.ai.openai")
    assert ended(record)["azure.resource_provider.namespace"] == "Microsoft.CognitiveServices"
