"""Vocabularies together: the attributes of a span, their limits, and what backends need."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callspan import Settings
from callspan.record.codec import encode_json, encode_response
from callspan.record.messages import RawConversation
from callspan.records import CallRecord, Conversation, Message, Request, Response, Text, Timing
from callspan.semconv.body_messages import choices_json, messages_json
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


_MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text(max_size=60)})


def _call(messages: list[dict[str, str]], answer: str) -> CallRecord:
    request = msgspec.json.encode({"model": "m", "messages": messages, "max_tokens": 5})
    response = msgspec.json.encode({"choices": [{"message": {"role": "assistant", "content": answer}}]})
    return CallRecord(
        call_id="c",
        api="chat_completions",
        timing=Timing(start_ns=1),
        request=Request(body=msgspec.Raw(request), body_bytes=len(request), params={"max_tokens": 5}),
        response=Response(body=msgspec.Raw(response), body_bytes=len(response)),
    )


@settings(max_examples=60, deadline=None)
@given(messages=st.lists(_MESSAGE, min_size=1, max_size=6), room=st.integers(min_value=2, max_value=800))
def test_messages_read_with_the_body_are_those_read_again_from_it(messages: list[dict[str, str]], room: int) -> None:
    record = _call(messages, "yes")
    raws = [msgspec.Raw(msgspec.json.encode(message)) for message in messages]
    assert messages_json(record, room, RawConversation(raw_input=raws)) == messages_json(record, room)
    assert messages_json(record, room, Conversation()) == messages_json(record, room, RawConversation())


_TEXT = st.text(max_size=30)
_BODY = st.fixed_dictionaries(
    {"id": _TEXT, "model": _TEXT},
    optional={
        "choices": st.lists(st.fixed_dictionaries({"message": st.fixed_dictionaries({"content": _TEXT})}), max_size=3)
        | st.none(),
        "output": st.lists(st.dictionaries(_TEXT, _TEXT, max_size=2), max_size=3) | _TEXT,
        "content": st.lists(st.dictionaries(_TEXT, _TEXT, max_size=2), max_size=3) | st.none(),
    },
)


@given(body=_BODY, room=st.integers(min_value=2, max_value=400))
def test_choices_encoded_with_the_body_are_those_read_again_from_it(body: dict[str, object], room: int) -> None:
    encoded, response = encode_response(body)
    assert encoded == encode_json(body)
    record = CallRecord(
        call_id="c", timing=Timing(start_ns=1), response=Response(body=msgspec.Raw(encoded), body_bytes=len(encoded))
    )
    assert choices_json(record, room, RawConversation(raw_output=response)) == choices_json(record, room)


@pytest.mark.parametrize("body", [None, "text", [1], 5, {}, {"choices": {}}, {"output": "said"}])
def test_a_body_that_is_not_a_response_is_encoded_without_messages(body: object) -> None:
    assert encode_response(body) == (encode_json(body), None)


def test_choices_of_no_json_are_reported_as_well_as_they_can_be() -> None:
    body = {"choices": [{"message": {"content": "half \ud800 a pair"}}], "id": "r"}
    encoded, response = encode_response(body)
    assert encoded == encode_json(body)
    assert response == b'[{"message":{"content":"half \xef\xbf\xbd a pair"}}]'


_JAEGER_SEARCH = {"gen_ai.conversation.id", "gen_ai.request.model", "callspan.call_id"}


def test_jaeger_can_search_by_exact_text(chat_call: Call, failed_call: CallRecord, project: Project) -> None:
    attributes = project(*chat_call)
    assert all(type(attributes[name]) is str for name in _JAEGER_SEARCH)
    assert type(project(failed_call, None)["error.type"]) is str


def test_default_span_leaves_room_below_the_limit_of_128_attributes(chat_call: Call, project: Project) -> None:
    assert len(project(*chat_call)) < 90
    assert len(project(*chat_call, vocabularies=("llm", "gen_ai", "openinference"))) < 128
