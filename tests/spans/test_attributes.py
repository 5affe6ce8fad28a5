"""Attributes of a call in every vocabulary, of spans of other instrumentations, and put on a span in one step."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import Span, SpanLimits, TracerProvider
from tests.support.records import SECOND, raw
from tests.support.tables import table

import callspan
from callspan import Settings
from callspan.providers.registry import APIS, by_api, conversation_of
from callspan.records import (
    CallRecord,
    Conversation,
    Message,
    Part,
    Request,
    Response,
    Text,
    Timing,
    ToolResult,
    Usage,
    decode,
    encode,
)
from callspan.semconv import openinference
from callspan.semconv.call import Projection
from callspan.semconv.records_from_spans import ForeignSpan, call_of
from callspan.spans.call import add_event, put_attributes
from callspan.testing import capture

GOLDEN: dict[str, Any] = table(Path(__file__).with_name("golden.yaml"))
CHAT = decode(msgspec.json.encode(GOLDEN["chat"]))
"""A chat with tools over OpenAI, retried once after a 429, with everything that can be known."""
BARE = CallRecord(call_id="c", provider="openai", api="chat_completions", timing=Timing(start_ns=1))


def projected(record: CallRecord, conversation: Conversation | None = None, **settings: Any) -> dict[str, Any]:
    """All attributes of a call, those at its start included."""
    projection = Projection(Settings(**settings))
    return projection.start(record) | projection.end(record, conversation)


def typed(attributes: dict[str, Any]) -> dict[str, tuple[type, Any]]:
    """Attributes with their types, by which backends index; sequences are lists, as in JSON."""
    lists = {name: [*value] if isinstance(value, tuple) else value for name, value in attributes.items()}
    return {name: (type(value), value) for name, value in lists.items()}


@pytest.mark.parametrize("vocabularies", [(), ("llm",), ("gen_ai",), ("openinference",)])
def test_attributes_have_exact_names_types_and_values(vocabularies: Any) -> None:
    found = projected(CHAT, conversation_of(CHAT), vocabularies=vocabularies)
    expected: dict[str, Any] = {}
    for name in ("in every vocabulary", *vocabularies):
        expected |= GOLDEN["attributes of the chat"][name]
    assert typed(found) == typed(expected)


def test_all_vocabularies_fit_128_attributes() -> None:
    assert len(projected(CHAT, conversation_of(CHAT), vocabularies=("llm", "gen_ai", "openinference"))) < 128


@pytest.mark.parametrize(("stored", "shape"), GOLDEN["parts"])
def test_part_has_the_shape_of_the_conventions(stored: Any, shape: object) -> None:
    part = msgspec.convert(stored, Part)
    attributes = projected(BARE, Conversation(input=[Message(role="user", parts=[part, part])]))
    role = "tool" if isinstance(part, ToolResult) else "user"
    assert json.loads(attributes["gen_ai.input.messages"]) == [{"role": role, "parts": [shape, shape]}]


@pytest.mark.parametrize(
    ("api", "params", "shown"),
    [*(("embeddings", *row) for row in GOLDEN["settings"]), *GOLDEN["settings of other vendors"]],
)
def test_settings_are_read_by_name_and_type(api: str, params: dict[str, object], shown: dict[str, Any]) -> None:
    def attributes(request: Request) -> dict[str, Any]:
        record = msgspec.structs.replace(BARE, api=api, request=request)
        return projected(record, Conversation(), vocabularies=("gen_ai",))

    nothing, found = attributes(Request()), attributes(Request(params=params))
    assert typed({name: value for name, value in found.items() if name not in nothing}) == typed(shown)


@pytest.mark.parametrize(("api", "shown"), GOLDEN["attributes of some endpoints"])
def test_endpoint_specific_attributes(api: str, shown: list[str]) -> None:
    record = msgspec.structs.replace(BARE, api=api, request=Request(params={"service_tier": "flex"}))
    found = projected(record).keys() - projected(BARE).keys() | projected(record).keys() & {"openai.api.type"}
    assert sorted(found) == shown


@pytest.mark.parametrize("api", APIS)
def test_openinference_names_product_and_model_of_every_api(api: str) -> None:
    endpoint = by_api(api)
    assert endpoint is not None
    record = msgspec.structs.replace(BARE, api=api, operation=endpoint.operation, request=Request(model="m"))
    found = projected(record, vocabularies=("openinference",))
    products = [product for product, apis in GOLDEN["products in openinference"].items() if api in apis]
    assert [found[name] for name in ("llm.system",) if name in found] == products
    model = "embedding.model_name" if endpoint.operation == "embeddings" else "llm.model_name"
    assert [name for name, value in found.items() if value == "m"] == [model]


@pytest.mark.parametrize(("api", "body", "prompts"), GOLDEN["raw prompts"])
def test_raw_prompts_equal_the_wire(api: str, body: object, prompts: object) -> None:
    request = Request(body=raw(body), body_bytes=len(bytes(raw(body))))
    record = msgspec.structs.replace(BARE, api=api, request=request)
    shown = projected(record, conversation_of(record), vocabularies=("llm",)).get("llm.prompts.raw")
    assert (shown and json.loads(shown)) == prompts


def test_openinference_lists_non_text_parts() -> None:
    golden = GOLDEN["parts in openinference"]
    conversation = Conversation(input=[Message(role="user", parts=msgspec.convert(golden["stored"], list[Part]))])
    attributes = projected(BARE, conversation, vocabularies=("openinference",))
    prefix = "llm.input_messages.0.message.contents."
    found = {name[len(prefix) :]: value for name, value in attributes.items() if name.startswith(prefix)}
    assert found == golden["attributes"]


def history(turns: int, size: int) -> CallRecord:
    """A call with instructions, then `turns` messages of about `size` characters."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": "You move."}]
    for turn in range(turns):
        said = {"role": "tool", "tool_call_id": f"call_{turn}"} if turn % 2 else {"role": "user"}
        messages.append({**said, "content": f"turn {turn} " + "word " * (size // 5)})
    body = raw({"model": "m", "messages": messages})
    request = Request(model="m", body=body, body_bytes=len(bytes(body)), message_count=len(messages))
    return msgspec.structs.replace(BARE, request=request)


def test_long_history_keeps_instructions_and_newest_messages() -> None:
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
@example(api=("messages", "content"), texts=["x" * 2_000], cap=49, span=97)
@given(
    api=st.sampled_from([("chat_completions", "choices"), ("messages", "content"), ("responses", "output")]),
    texts=st.lists(st.text(max_size=80) | st.just("x" * 2_000), max_size=8),
    cap=st.integers(min_value=2, max_value=600) | st.integers(600, 4_000),
    span=st.integers(min_value=0, max_value=4_000),
)
def test_any_text_gives_valid_json_within_limits(api: tuple[str, str], texts: list[str], cap: int, span: int) -> None:
    wire = [{"role": "user", "type": "text", "text": text, "content": text} for text in texts]
    typed = [Message(role="user", parts=[Text(text=text)]) for text in texts]
    sent, answer = raw({"messages": wire}), raw({api[1]: wire})
    record = msgspec.structs.replace(
        BARE, api=api[0], request=Request(body=sent, body_bytes=len(bytes(sent))),
        response=Response(body=answer, body_bytes=len(bytes(answer)), finish_reasons=["stop"]),
    )  # fmt: skip
    conversation = Conversation(input=typed, output=typed)
    names = ("llm",) if cap % 2 else ("llm", "gen_ai")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("callspan.semconv.call.MAX_SPAN_BYTES", span)
        attributes = projected(record, conversation, vocabularies=names, max_attribute_bytes=cap)
    content = {"llm.prompts", "llm.completions", *JSON_CONTENT}
    shown = {name: str(attributes[name]) for name in content & attributes.keys()}
    assert all(len(text.encode()) <= cap for text in shown.values())
    assert sum(len(text.encode()) for text in shown.values()) <= span
    for name in shown.keys() & set(JSON_CONTENT):
        json.loads(shown[name])


@pytest.mark.parametrize(("tokens", "times_s", "rate"), GOLDEN["tokens per second"])
def test_tokens_per_second_exclude_the_prompt(tokens: int | None, times_s: dict[str, int], rate: float | None) -> None:
    timing = Timing(start_ns=1, **{f"{name}_ns": seconds * SECOND for name, seconds in times_s.items()})
    of = msgspec.structs.replace(BARE, usage=Usage(output_tokens=tokens), timing=timing)
    assert projected(of).get("callspan.output_tokens_per_second") == rate


def read(attributes: dict[str, Any]) -> Any:
    """The record of another instrumentation's span; sequences are tuples there."""
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in attributes.items()}
    ids: dict[str, Any] = {"trace_id": "t", "span_id": "s", "parent_span_id": None}
    return call_of(ForeignSpan(attributes=given, **ids, start_ns=5, end_ns=9, failed=False, scope="lib"))


def test_llm_spans_are_recognised() -> None:
    for operation, api, spans in GOLDEN["spans that are calls"]:
        assert {(record.operation, record.api) for record in map(read, spans)} == {(operation, api)}
    assert [one for one in map(read, GOLDEN["spans that are none"]) if one is not None] == []


@pytest.mark.parametrize(("attributes", "metadata"), GOLDEN["metadata of other instrumentations"])
def test_metadata_of_other_instrumentations(attributes: dict[str, Any], metadata: dict[str, Any]) -> None:
    """As the official instrumentations, OpenInference, OpenLLMetry and Logfire write them; never any content."""
    record = read(attributes)
    assert record.metadata == metadata
    assert record.place.session_name == ("c1" if len(attributes) > 5 else None)
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


def a_span(limits: SpanLimits, begun_with: dict[str, Any]) -> Any:
    return TracerProvider(span_limits=limits).get_tracer("t").start_span("s", attributes=begun_with)


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


@given(limits=LIMITS, before=ATTRIBUTES, attributes=ATTRIBUTES, several=st.lists(ATTRIBUTES, max_size=3))
def test_bulk_attributes_equal_individual_ones(
    limits: SpanLimits, before: dict[str, Any], attributes: dict[str, Any], several: list[dict[str, Any]]
) -> None:
    ours, theirs = a_span(limits, before), a_span(limits, before)
    put_attributes(ours, attributes)
    theirs.set_attributes(attributes)
    for number, each in enumerate(several):
        add_event(ours, f"event {number}", each, number)
        theirs.add_event(f"event {number}", each, number)
    assert shown(ours) == shown(theirs)
    assert events(ours) == events(theirs)
    assert ours.dropped_events == theirs.dropped_events


class _Odd:
    def __str__(self) -> str:
        return "odd"


@pytest.mark.parametrize("value", [["a", 1], _Odd(), ("a", _Odd()), (("a",),), {"a": _Odd()}, None, b"a", (1, 2.5)])
def test_callback_values_are_converted_by_the_sdk(value: Any) -> None:
    """An exporter that cannot write one value loses the spans of others with it."""
    ours, theirs = a_span(SpanLimits(), {}), a_span(SpanLimits(), {})
    given = {"plain": 1, "hooked": value}
    put_attributes(ours, given)
    add_event(ours, "event", given, 1)
    theirs.set_attributes(given)
    theirs.add_event("event", given, 1)
    assert shown(ours) == shown(theirs)
    assert events(ours) == events(theirs)


LAST_MESSAGES: list[tuple[dict[str, Any], str, str]] = [
    ({"content": "It leaves\nat nine."}, "text/plain", "It leaves\nat nine."),
    ({"content": "At nine.", "reasoning_content": "The table says it."}, "text/plain", "At nine."),
    (
        {
            "content": "I look.",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        "application/json",
        "tool_call",
    ),
    ({"reasoning_content": "The table says it."}, "application/json", "The table says it."),
]


@pytest.mark.parametrize(("message", "mime_type", "value"), LAST_MESSAGES)
def test_session_has_its_last_message_as_text_if_that_is_all(message: Any, mime_type: str, value: str) -> None:
    asked = {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "When?"}],
    }
    with (
        capture(vocabularies="openinference") as seen,
        callspan.session("s"),
        callspan.record_call(provider="p", api="chat_completions") as call,
    ):
        call.request(asked)
        call.response({"choices": [{"index": 0, "message": {"role": "assistant", **message}}]})
    attributes: Any = next(span for span in seen.spans if span.parent is None).attributes
    assert (attributes["input.mime_type"], attributes["input.value"]) == ("text/plain", "When?")
    assert attributes["output.mime_type"] == mime_type
    assert attributes["output.value"] == value if mime_type == "text/plain" else value in attributes["output.value"]
