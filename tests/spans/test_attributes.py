"""Attributes of a call in every vocabulary, of spans of other instrumentations, and put on a span in one step."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import Span, SpanLimits, TracerProvider
from tests.support.records import SECOND, made, raw

from callspan import Settings
from callspan.providers.registry import conversation_of
from callspan.records import (
    Attempt,
    CallRecord,
    Conversation,
    Cost,
    Media,
    Message,
    Part,
    Place,
    RateLimit,
    RateLimits,
    Reasoning,
    Refusal,
    Request,
    Response,
    Stream,
    Text,
    Timing,
    ToolCall,
    ToolResult,
    UnknownPart,
    Usage,
    encode,
)
from callspan.semconv import openinference
from callspan.semconv.call import Projection
from callspan.semconv.records_from_spans import call_of
from callspan.spans.call import add_event, put_attributes

MESSAGES = [{"role": "system", "content": "Be terse."}, {"role": "user", "name": "ann", "content": "Weather in Paris?"}]
TOOL = {"type": "function", "name": "weather", "description": "d", "parameters": {"type": "object"}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
ANSWER = {"role": "assistant", "content": "Looking.", "tool_calls": [CALL]}
CHOICE = {"index": 0, "message": ANSWER, "finish_reason": "tool_calls"}
PARAMS: dict[str, object] = {
    "temperature": 0, "top_p": 0.5, "frequency_penalty": 0.1, "presence_penalty": -0.1, "max_completion_tokens": 64,
    "stop": ["END", "x"], "seed": 7, "n": 1, "user": "u-1", "service_tier": "flex", "reasoning_effort": "low",
    "response_format": {"type": "json_object"},
}  # fmt: skip
METADATA = {"application": "app", "step_index": 2, "extra": {"a": {"b": 1}}, "team": "blue"}
CHAT = made(
    "c-1", provider="openai", api="chat_completions", operation="chat", server_address="api.openai.com",
    server_port=443, place=Place(session_id="s-1", timestep=3), metadata=METADATA,
    request=Request(
        model="gpt-5", stream=True, params=PARAMS, message_count=2, tool_names=["weather"], body_bytes=600,
        body=raw({"model": "gpt-5", "messages": MESSAGES, "tools": [TOOL]}),
    ),
    response=Response(
        id="chatcmpl-1", model="gpt-5-2026-01-01", finish_reasons=["tool_calls"], service_tier="default",
        system_fingerprint="fp_1", body_bytes=300, body=raw({"id": "chatcmpl-1", "choices": [CHOICE]}),
    ),
    usage=Usage(
        input_tokens=15, output_tokens=5, total_tokens=20, cache_read_tokens=7, cache_write_tokens=5,
        reasoning_tokens=2,
    ),
    timing=Timing(start_ns=1, duration_ns=2_500_000_000, answer_ns=SECOND, first_chunk_ns=1_250_000_000),
    attempts=[
        Attempt(number=1, start_ns=0, status=429, error_kind="rate_limit"),
        Attempt(number=2, start_ns=SECOND, status=200),
    ],
    retries=1, rate_limited=True,
    rate_limits=RateLimits(
        requests=RateLimit(limit=100, remaining=99, reset_s=0.6), tokens=RateLimit(limit=5000, remaining=4000)
    ),
    stream=Stream(end="complete", chunks=9, complete=True),
    cost=Cost(usd=Decimal("0.000012"), source="provider"),
)  # fmt: skip
"""A chat with tools over OpenAI, retried once after a 429, with everything that can be known."""
BARE = CallRecord(call_id="c", provider="openai", api="chat_completions", timing=Timing(start_ns=1))


def projected(record: CallRecord, conversation: Conversation | None = None, **settings: Any) -> dict[str, Any]:
    """All attributes of a call, those at its start included."""
    projection = Projection(Settings(**settings))
    return projection.start(record) | projection.end(record, conversation)


EXPECTED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("chat_attributes.json").read_text())
"""The attributes of CHAT by vocabulary."""


def typed(attributes: dict[str, Any]) -> dict[str, tuple[type, Any]]:
    """Attributes with their types, by which backends index; sequences are lists, as in JSON."""
    lists = {name: [*value] if isinstance(value, tuple) else value for name, value in attributes.items()}
    return {name: (type(value), value) for name, value in lists.items()}


@pytest.mark.parametrize("vocabularies", [(), ("llm",), ("gen_ai",), ("openinference",)])
def test_every_attribute_has_its_exact_name_type_and_value(vocabularies: Any) -> None:
    found = projected(CHAT, conversation_of(CHAT), vocabularies=vocabularies)
    expected = EXPECTED["in every vocabulary"]
    for name in vocabularies:
        expected = expected | EXPECTED[name]
    assert typed(found) == typed(expected)


def test_all_vocabularies_leave_room_below_the_limit_of_128_attributes() -> None:
    assert len(projected(CHAT, conversation_of(CHAT), vocabularies=("llm", "gen_ai", "openinference"))) < 128


@pytest.mark.parametrize(
    ("part", "shape"),
    [
        (Reasoning(text="hm", signature="s"), {"type": "reasoning", "content": "hm"}),
        (Reasoning(sealed="abcd"), {"type": "sealed_reasoning", "size": 4}),
        (Refusal(text="No."), {"type": "text", "content": "No."}),
        (ToolCall(name="f", arguments="{oops"), {"type": "tool_call", "name": "f", "arguments": "{oops"}),
        (ToolCall(id="1"), {"type": "tool_call", "id": "1", "name": ""}),
        (ToolCall(id="1", name="q", arguments="{}", tool_type="mcp"),
         {"type": "server_tool_call", "id": "1", "name": "q", "server_tool_call": {"type": "mcp", "arguments": {}}}),
        (ToolResult(id="1", content="bad", is_error=True),
         {"type": "tool_call_response", "id": "1", "response": "bad", "is_error": True}),
        (
            ToolResult(id="1", content=[], tool_type="web_search"),
            {
                "type": "server_tool_call_response",
                "id": "1",
                "server_tool_call_response": {"type": "web_search", "content": []},
            },
        ),
        (Media(modality="image", mime="image/png", sha256="ab", data="AAAA"),
         {"type": "uri", "modality": "image", "mime_type": "image/png", "uri": "urn:sha256:ab"}),
        (Media(modality="document", file_id="f1"), {"type": "file", "modality": "document", "file_id": "f1"}),
        (Media(modality="image", url="https://x/y"), {"type": "uri", "modality": "image", "uri": "https://x/y"}),
        (Media(modality="image", sha256="ab", size=9),
         {"type": "uri", "modality": "image", "size": 9, "uri": "urn:sha256:ab"}),
        (UnknownPart(data={"type": "new", "x": 1}), {"type": "new", "data": {"type": "new", "x": 1}}),
        (UnknownPart(data=7), {"type": "unknown", "data": 7}),
    ],
)  # fmt: skip
def test_a_part_has_the_shape_of_the_conventions(part: Part, shape: object) -> None:
    attributes = projected(BARE, Conversation(input=[Message(role="user", parts=[part, part])]))
    role = "tool" if isinstance(part, ToolResult) else "user"
    assert json.loads(attributes["gen_ai.input.messages"]) == [{"role": role, "parts": [shape, shape]}]


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
def test_settings_are_read_by_name_and_type(params: dict[str, object], shown: object) -> None:
    def attributes(request: Request) -> dict[str, Any]:
        record = msgspec.structs.replace(BARE, api="embeddings", request=request)
        return projected(record, Conversation(), vocabularies=("gen_ai",))

    nothing = attributes(Request())
    assert {name: value for name, value in attributes(Request(params=params)).items() if name not in nothing} == shown


@pytest.mark.parametrize(
    ("api", "shown"),
    [
        ("chat_completions", {"openai.api.type", "openai.request.service_tier"}),
        ("completions", {"openai.request.service_tier"}),
        ("images", {"openai.request.service_tier", "gen_ai.output.type"}),
        ("messages", set()),
    ],
)
def test_some_attributes_are_of_some_endpoints(api: str, shown: set[str]) -> None:
    record = msgspec.structs.replace(BARE, api=api, request=Request(params={"service_tier": "flex"}))
    assert projected(record).keys() - projected(BARE).keys() | projected(record).keys() & {"openai.api.type"} == shown


SYSTEM = {"role": "system", "content": "Be terse."}
HI = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("api", "body", "prompts"),
    [
        ("responses", {"input": "Hi", "instructions": None}, "Hi"),
        ("responses", {"input": "Hi", "instructions": "Be terse."}, [SYSTEM, HI]),
        ("responses", {"instructions": "Be terse."}, [SYSTEM]),
        ("responses", {"input": [HI]}, [HI]),
        ("messages", {"system": [{"type": "text", "text": "Be terse."}], "messages": [HI]},
         [{"role": "system", "content": [{"type": "text", "text": "Be terse."}]}, HI]),
        ("messages", {"system": "", "messages": [HI]}, [HI]),
        ("messages", {"messages": 7}, None),
        ("chat_completions", {"system": "x", "messages": [HI]}, [HI]),
        ("chat_completions", [1], None),
        ("completions", {"prompt": ["a", "b"]}, ["a", "b"]),
    ],
)  # fmt: skip
def test_raw_prompts_are_what_the_wire_had_under_any_name(api: str, body: object, prompts: object) -> None:
    request = Request(body=raw(body), body_bytes=len(bytes(raw(body))))
    record = msgspec.structs.replace(BARE, api=api, request=request)
    shown = projected(record, conversation_of(record), vocabularies=("llm",)).get("llm.prompts.raw")
    assert (shown and json.loads(shown)) == prompts


def test_openinference_lists_parts_that_are_not_text_one_by_one() -> None:
    parts = [Reasoning(text="hm"), Text(text="x"), Refusal(text="No."), Media(modality="image", url="u"), Reasoning()]
    conversation = Conversation(input=[Message(role="user", parts=parts)])
    attributes = projected(BARE, conversation, vocabularies=("openinference",))
    prefix = "llm.input_messages.0.message.contents."
    assert {name[len(prefix) :]: value for name, value in attributes.items() if name.startswith(prefix)} == {
        "0.message_content.type": "reasoning",
        "0.message_content.text": "hm",
        "1.message_content.type": "text",
        "1.message_content.text": "x",
        "2.message_content.type": "refusal",
        "2.message_content.text": "No.",
        "3.message_content.type": "image",
        "3.message_content.image.image.url": "u",
    }


def history(turns: int, size: int) -> CallRecord:
    """A call with instructions, then `turns` messages of about `size` characters."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": "You move."}]
    for turn in range(turns):
        said = {"role": "tool", "tool_call_id": f"call_{turn}"} if turn % 2 else {"role": "user"}
        messages.append({**said, "content": f"turn {turn} " + "word " * (size // 5)})
    body = raw({"model": "m", "messages": messages})
    request = Request(model="m", body=body, body_bytes=len(bytes(body)), message_count=len(messages))
    return msgspec.structs.replace(BARE, request=request)


def test_a_long_history_keeps_the_instructions_and_the_newest_and_says_what_is_gone() -> None:
    record = history(100, 2000)
    attributes = projected(record, conversation_of(record), vocabularies=("llm",))
    messages = json.loads(attributes["llm.prompts.raw"])
    assert messages[0] == {"role": "system", "content": "You move."}
    omitted = {"messages": 101 - len(messages) + 1, "bytes": record.request.body_bytes}
    assert messages[1] == {"callspan_omitted": omitted}
    assert messages[-1] == json.loads(bytes(record.request.body))["messages"][-1], "the newest is whole"
    text = attributes["llm.prompts"]
    assert text.startswith("system: You move.\n\ncallspan: [callspan: ")
    assert "turn 99 " in text
    assert "turn 5 " not in text
    few = history(100, 50)
    flat = projected(few, conversation_of(few), vocabularies=("openinference",))
    assert len([name for name in flat if name.startswith("llm.input_messages.")]) <= openinference.MAX_FLAT_ATTRIBUTES
    assert flat["llm.input_messages.0.message.role"] == "system"
    assert "llm.input_messages.100.message.role" in flat, "the newest keeps its place in the request"
    assert "llm.input_messages.50.message.role" not in flat


JSON_CONTENT = ("llm.prompts.raw", "llm.completions.raw", "gen_ai.input.messages", "gen_ai.output.messages")


@example(api=("messages", "content"), texts=["x" * 2_000] * 3, cap=501, span=501)
@given(
    api=st.sampled_from([("chat_completions", "choices"), ("messages", "content"), ("responses", "output")]),
    texts=st.lists(st.text(max_size=80) | st.just("x" * 2_000), max_size=8),
    cap=st.integers(min_value=2, max_value=600) | st.integers(600, 4_000),
    span=st.integers(min_value=0, max_value=4_000),
)
def test_any_text_is_valid_json_within_any_caps(api: tuple[str, str], texts: list[str], cap: int, span: int) -> None:
    wire = [{"role": "user", "type": "text", "text": text, "content": text} for text in texts]
    typed = [Message(role="user", parts=[Text(text=text)]) for text in texts]
    sent, answer = raw({"messages": wire}), raw({api[1]: wire})
    record = msgspec.structs.replace(
        BARE, api=api[0], request=Request(body=sent, body_bytes=len(bytes(sent))),
        response=Response(body=answer, body_bytes=len(bytes(answer)), finish_reasons=["stop"]),
    )  # fmt: skip
    conversation = Conversation(input=typed, output=typed)
    names = ("llm",) if cap % 2 else ("llm", "gen_ai")
    attributes = projected(record, conversation, vocabularies=names, max_attribute_bytes=cap, max_span_bytes=span)
    content = {"llm.prompts", "llm.completions", *JSON_CONTENT}
    shown = {name: str(attributes[name]) for name in content & attributes.keys()}
    assert all(len(text.encode()) <= cap for text in shown.values())
    assert sum(len(text.encode()) for text in shown.values()) <= span
    for name in shown.keys() & set(JSON_CONTENT):
        json.loads(shown[name])


@pytest.mark.parametrize(
    ("tokens", "times_s", "rate"),
    [
        (5, {"answer": 1, "duration": 3}, 2.5),
        (5, {"answer": 1, "last_chunk": 2, "duration": 9}, 5.0),
        (5, {"answer": 3, "duration": 3}, None),
        (5, {"answer": 1}, None),
        (5, {"duration": 3}, None),
        (0, {"answer": 1, "duration": 3}, None),
        (None, {"answer": 1, "duration": 3}, None),
    ],
)
def test_tokens_per_second_are_of_the_answer(tokens: int | None, times_s: dict[str, int], rate: float | None) -> None:
    timing = Timing(start_ns=1, **{f"{name}_ns": seconds * SECOND for name, seconds in times_s.items()})
    of = msgspec.structs.replace(BARE, usage=Usage(output_tokens=tokens), timing=timing)
    assert projected(of).get("callspan.output_tokens_per_second") == rate


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
def test_users_prompts_and_tags_of_other_instrumentations(attributes: dict[str, Any], metadata: dict[str, Any]) -> None:
    """As the official instrumentations, OpenInference, OpenLLMetry and Logfire write them; never any content."""
    record = known(attributes)
    assert record.metadata == metadata
    assert record.place.session_id == ("c1" if len(attributes) > 5 else None)
    assert b"Rome" not in encode(record)


NAMES = st.sampled_from([f"llm.{letter}" for letter in "abcdefghijkl"])
VALUES: st.SearchStrategy[Any] = (
    st.text(max_size=12)
    | st.integers()
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.lists(st.text(max_size=12), max_size=3).map(tuple)
)
ATTRIBUTES = st.dictionaries(NAMES, VALUES, max_size=10)
LIMITS = st.sampled_from(
    [
        SpanLimits(),
        SpanLimits(max_span_attributes=6),
        SpanLimits(max_event_attributes=6),
        SpanLimits(max_events=1),
        SpanLimits(max_attribute_length=5),
        SpanLimits(max_attributes=0),
    ]
)


def a_span(limits: SpanLimits, begun_with: dict[str, Any]) -> Span:
    span = TracerProvider(span_limits=limits).get_tracer("t").start_span("s", attributes=begun_with)
    assert isinstance(span, Span)
    return span


def events(span: Span) -> list[tuple[str, dict[str, Any], int, int]]:
    return [
        (event.name, dict(event.attributes or {}), event.dropped_attributes, event.timestamp) for event in span.events
    ]


def shown(span: Span) -> tuple[dict[str, Any], int]:
    return dict(span.attributes or {}), span.dropped_attributes


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """The SDK warns of each value it cuts or drops."""
    logger = logging.getLogger("opentelemetry")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


@given(limits=LIMITS, before=ATTRIBUTES, attributes=ATTRIBUTES)
def test_a_span_is_as_set_one_by_one(limits: SpanLimits, before: dict[str, Any], attributes: dict[str, Any]) -> None:
    at_once, one_by_one = a_span(limits, before), a_span(limits, before)
    put_attributes(at_once, attributes)
    one_by_one.set_attributes(attributes)
    assert shown(at_once) == shown(one_by_one)


@given(limits=LIMITS, several=st.lists(ATTRIBUTES, max_size=3))
def test_events_are_what_the_sdk_would_make_of_them(limits: SpanLimits, several: list[dict[str, Any]]) -> None:
    ours, theirs = a_span(limits, {}), a_span(limits, {})
    for number, attributes in enumerate(several):
        add_event(ours, f"event {number}", attributes, number)
        theirs.add_event(f"event {number}", attributes, number)
    assert events(ours) == events(theirs)
    assert ours.dropped_events == theirs.dropped_events


class _Odd:
    def __str__(self) -> str:
        return "odd"


@pytest.mark.parametrize("value", [["a", 1], _Odd(), ("a", _Odd()), (("a",),), {"a": _Odd()}, None, b"a", (1, 2.5)])
def test_values_set_by_a_callback_are_converted_by_the_sdk(value: Any) -> None:
    """An exporter that cannot write one value loses the spans of others with it."""
    ours, theirs = a_span(SpanLimits(), {}), a_span(SpanLimits(), {})
    given = {"plain": 1, "hooked": value}
    put_attributes(ours, given)
    add_event(ours, "event", given, 1)
    theirs.set_attributes(given)
    theirs.add_event("event", given, 1)
    assert shown(ours) == shown(theirs)
    assert events(ours) == events(theirs)
