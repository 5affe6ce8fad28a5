"""Attributes that Jaeger and Phoenix need to recognise an LLM span."""

from __future__ import annotations

from collections.abc import Callable

from callspan.records import CallRecord, Conversation
from callspan.semconv.content_attributes import Attributes

Call = tuple[CallRecord, Conversation]
Project = Callable[..., Attributes]

_JAEGER_SEARCH = {"gen_ai.conversation.id", "gen_ai.request.model", "callspan.call_id"}


def test_jaeger_can_search_by_exact_text(chat_call: Call, failed_call: CallRecord, project: Project) -> None:
    attributes = project(*chat_call)
    assert all(type(attributes[name]) is str for name in _JAEGER_SEARCH)
    assert type(project(failed_call, None)["error.type"]) is str


def test_default_span_leaves_room_below_the_limit_of_128_attributes(chat_call: Call, project: Project) -> None:
    assert len(project(*chat_call)) < 90
    assert len(project(*chat_call, vocabularies=("llm", "gen_ai", "openinference"))) < 128
