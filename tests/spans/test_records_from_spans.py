"""Spans of other instrumentations: only explicit attributes are read."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.records import CallRecord
from callspan.semconv.records_from_spans import call_of


def read(attributes: dict[str, Any], **about: Any) -> CallRecord | None:
    given = {"trace_id": "t", "span_id": "s", "parent_span_id": None, "start_ns": 5, "end_ns": 9, "failed": False}
    return call_of(attributes, **(given | {"scope": "lib"} | about))


NAME, KIND, TYPE = "gen_ai.operation.name", "openinference.span.kind", "llm.request.type"
CALLS: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("chat", "chat_completions"): [
        {NAME: "chat"}, {NAME: "generate_content"}, {KIND: "LLM"}, {TYPE: "chat"}, {NAME: "", TYPE: "chat"},
        {NAME: 5, KIND: "LLM"},
    ],
    ("text_completion", "completions"): [{NAME: "text_completion"}, {TYPE: "completion"}],
    ("embeddings", "embeddings"): [{NAME: "embeddings"}, {KIND: "EMBEDDING"}, {TYPE: "embedding"}],
}  # fmt: skip
OTHERS: list[dict[str, Any]] = [
    {NAME: "invoke_agent", KIND: "LLM"}, {NAME: "execute_tool"}, {KIND: "CHAIN", TYPE: "chat"}, {KIND: "llm"},
    {TYPE: "rerank"}, {"gen_ai.request.model": "gpt-5"}, {"http.method": "POST"}, {},
]  # fmt: skip


def known(attributes: dict[str, Any], **about: Any) -> CallRecord:
    record = read(attributes, **about)
    assert record is not None
    return record


def test_which_spans_are_calls() -> None:
    for operation, spans in CALLS.items():
        for record in map(known, spans):
            assert (record.operation, record.api) == operation
    assert [read(attributes) for attributes in OTHERS] == [None] * len(OTHERS)


OFFICIAL = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5",
    "gen_ai.conversation.id": "c1", "user.id": "u1", "gen_ai.agent.id": "asst_1", "gen_ai.prompt.name": "greet",
    "gen_ai.prompt.version": "2", "gen_ai.workflow.name": "support",
}  # fmt: skip
OPENINFERENCE = {
    "openinference.span.kind": "LLM", "llm.system": "openai", "llm.model_name": "gpt-5", "session.id": "c1",
    "user.id": "u1", "metadata": '{"country": "Rome"}', "tag.tags": ("vip", "beta"),
    "llm.prompt_template.template": "Weather in {city}?", "llm.prompt_template.variables": '{"city": "Rome"}',
    "llm.prompt_template.version": "v1.0", "input.value": "Weather in Rome?",
}  # fmt: skip
TRACELOOP = {
    "llm.request.type": "chat", "gen_ai.system": "OpenAI", "gen_ai.request.model": "gpt-5",
    "traceloop.association.properties.user_id": "u1", "traceloop.association.properties.session_id": "c1",
    "traceloop.association.properties.chat_id": "77", "traceloop.workflow.name": "joke_creation",
    "traceloop.prompt.key": "greet", "traceloop.prompt.version": 3,
}  # fmt: skip
LOGFIRE = {
    "gen_ai.operation.name": "chat", "gen_ai.system": "openai", "gen_ai.request.model": "gpt-5",
    "logfire.msg_template": "Chat Completion with {request_data[model]!r}", "logfire.span_type": "span",
    "logfire.tags": ("LLM",), "request_data": '{"messages": [], "model": "gpt-5"}', "session.id": "c1",
}  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "metadata"),
    [
        (
            OFFICIAL,
            {"user_id": "u1", "agent_id": "asst_1", "workflow_name": "support", "prompt_id": "greet",
             "prompt_version": "2"},
        ),
        (OPENINFERENCE, {"user_id": "u1", "prompt_version": "v1.0", "tags": ["vip", "beta"]}),
        (TRACELOOP, {"user_id": "u1", "workflow_name": "joke_creation", "prompt_id": "greet", "prompt_version": 3}),
        (LOGFIRE, {"tags": ["LLM"]}),
        ({"gen_ai.operation.name": "chat", "user.id": ""}, {}),
        ({"gen_ai.operation.name": "chat", "gen_ai.user": "u2"}, {"user_id": "u2"}),
    ],
)  # fmt: skip
def test_user_agent_prompt_and_tags_are_those_of_the_other_instrumentation(
    attributes: dict[str, Any], metadata: dict[str, Any]
) -> None:
    """As the official instrumentations, OpenInference, OpenLLMetry and Logfire write them; never any content."""
    record = known(attributes)
    assert record.metadata == metadata
    assert record.place.session_id == ("c1" if len(attributes) > 5 else None)
    assert "Rome" not in str(record)
