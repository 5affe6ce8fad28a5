"""Vocabularies together: the attributes of a span, their limits, and what backends need."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan import Settings
from callspan.records import CallRecord, Conversation, Message, Request, Response, Text, Timing
from callspan.semconv.call import Projection
from callspan.semconv.content_attributes import Attributes

Call = tuple[CallRecord, Conversation]
Project = Callable[..., Attributes]
_CONTENT = (
    "llm.prompts",
    "llm.prompts.raw",
    "llm.completions",
    "llm.completions.raw",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
)


@pytest.mark.parametrize("vocabularies", [("llm", "gen_ai"), ("llm", "gen_ai", "openinference"), ("gen_ai",)])
@pytest.mark.parametrize(("turns", "size"), [(3, 100_000), (400, 1000), (40, 5000)])
def test_content_stays_within_attribute_and_span(
    agent_call: Callable[[int, int], Call], project: Project, turns: int, size: int, vocabularies: tuple[str, ...]
) -> None:
    attributes = project(*agent_call(turns, size), vocabularies=vocabularies)
    texts = [len(value.encode()) for value in attributes.values() if isinstance(value, str)]
    assert max(texts) <= 32 * 1024
    assert sum(texts) <= 128 * 1024 + 1024
    truncated = attributes["callspan.truncated_bytes"]
    assert isinstance(truncated, int)
    assert truncated > 0


@given(
    texts=st.lists(st.text(max_size=80), max_size=8),
    cap=st.integers(min_value=2, max_value=600),
    span=st.integers(min_value=0, max_value=2000),
)
def test_any_text_under_any_caps_gives_valid_json_within_them(texts: list[str], cap: int, span: int) -> None:
    wire = [{"role": "user", "content": text} for text in texts]
    typed = [Message(role="user", parts=[Text(text=text)]) for text in texts]
    body = msgspec.Raw(msgspec.json.encode({"messages": wire}))
    record = CallRecord(
        call_id="c",
        timing=Timing(start_ns=1),
        request=Request(body=body, body_bytes=len(bytes(body))),
        response=Response(body=msgspec.Raw(msgspec.json.encode({"choices": wire}))),
    )
    projection = Projection(Settings(max_attribute_bytes=cap, max_span_bytes=span))
    attributes = projection.end(record, Conversation(input=typed, output=typed))
    shown = {name: str(attributes[name]) for name in _CONTENT if name in attributes}
    assert all(len(text.encode()) <= cap for text in shown.values())
    assert sum(len(text.encode()) for text in shown.values()) <= span
    for name, text in shown.items():
        if name not in {"llm.prompts", "llm.completions"}:
            json.loads(text)


def test_default_span_leaves_room_below_the_limit_of_128_attributes(chat_call: Call, project: Project) -> None:
    assert len(project(*chat_call)) < 90
    assert len(project(*chat_call, vocabularies=("llm", "gen_ai", "openinference"))) < 128
