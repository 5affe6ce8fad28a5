"""Attributes that Jaeger and Phoenix need to recognise an LLM span."""

from __future__ import annotations

import json
from collections.abc import Callable

from callspan.records import CallRecord, Conversation
from callspan.semconv import gen_ai
from callspan.semconv.content_attributes import Attributes

Call = tuple[CallRecord, Conversation]
Project = Callable[..., Attributes]

_JAEGER_MODEL_CALLS = {"chat", "text_completion", "generate_content", "embeddings"}
_JAEGER_GENAI_TAB = {
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
}
_JAEGER_SEARCH = {"gen_ai.conversation.id", "gen_ai.request.model", "callspan.call_id"}


def test_jaeger_knows_the_span_for_a_model_call_and_fills_its_tab(chat_call: Call, project: Project) -> None:
    attributes = project(*chat_call)
    assert attributes["gen_ai.operation.name"] in _JAEGER_MODEL_CALLS
    assert set(attributes) >= _JAEGER_GENAI_TAB
    assert gen_ai.span_name(chat_call[0]) == "chat gpt-5"


def test_jaeger_can_search_by_exact_text(chat_call: Call, failed_call: CallRecord, project: Project) -> None:
    attributes = project(*chat_call)
    assert all(type(attributes[name]) is str for name in _JAEGER_SEARCH)
    assert type(project(failed_call, None)["error.type"]) is str


def test_messages_are_json_text_of_roles_and_parts(chat_call: Call, project: Project) -> None:
    attributes = project(*chat_call)
    for name in ("gen_ai.input.messages", "gen_ai.output.messages"):
        for message in json.loads(str(attributes[name])):
            assert isinstance(message["role"], str)
            assert all(isinstance(part["type"], str) for part in message["parts"])


def test_phoenix_schema_finds_every_required_field(chat_call: Call, project: Project) -> None:
    """Its schemas of convention 1.41 refuse a whole attribute for one missing field."""
    required = {
        "text": {"content"},
        "tool_call": {"name"},
        "tool_call_response": {"response"},
        "reasoning": {"content"},
    }
    attributes = project(*chat_call)
    for message in json.loads(str(attributes["gen_ai.output.messages"])):
        assert message["finish_reason"]
        for part in message["parts"]:
            assert required[part["type"]] <= set(part)
    for tool in json.loads(str(attributes["gen_ai.tool.definitions"])):
        assert {"type", "name"} <= set(tool)


def test_phoenix_groups_sessions_and_counts_cached_tokens(chat_call: Call, project: Project) -> None:
    attributes = project(*chat_call)
    assert attributes["gen_ai.conversation.id"] == attributes["session.id"] == "s-1"
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 7
    assert attributes["gen_ai.usage.cache_creation.input_tokens"] == 5


def test_default_span_leaves_room_below_the_limit_of_128_attributes(chat_call: Call, project: Project) -> None:
    assert len(project(*chat_call)) < 90
    assert len(project(*chat_call, vocabularies=("llm", "gen_ai", "openinference"))) < 128
