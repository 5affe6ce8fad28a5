"""Calls recorded by hand, also of the past: as those of the SDKs; calls that are recorded only within a session."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec
import openai
import pytest
from openai.types.chat import ChatCompletionChunk
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from tests.conftest import Instrument, Read
from tests.support.calls import CHAT, QUESTION, text_of, the_call, usage_of
from tests.support.mode import Mode
from tests.support.spans_of_records import differences
from tests.support.telemetry import Meters
from tests.support.waiting import HANG_MS

import callspan
from callspan import UsageError
from callspan.records import CallRecord, Media, Reasoning, Text, Timing, ToolCall, ToolResult
from callspan.testing import Capture, capture


class Provider(Enum):
    VLLM = "vllm"


def record(mode: Mode, **options: Any) -> Any:
    return mode.entered(callspan.record_call(provider="vllm", **options))


def facts(call: CallRecord) -> object:
    """All but identities, times, attempts and who was asked."""
    response = call.response
    found = [call.api, call.operation, call.outcome, call.request, response and response.body, call.usage, call.stream,
             call.error, response and response.finish_reasons]  # fmt: skip
    return msgspec.json.decode(msgspec.json.encode(found))


async def test_record_call_equals_an_sdk_call(stream: bool, mode: Mode, seen: Capture) -> None:
    """The bodies and chunks are those that the SDK gets for the same request."""
    mode.provider.reply(text="I am well.", input_tokens=11, output_tokens=4)
    chat = mode.openai().chat.completions
    request = {**CHAT, **({"stream": True} if stream else {})}
    result = await mode.wait(chat.create(**request))
    chunks = await mode.all(result) if stream else []
    async with record(mode, model="gpt-5", stream=stream) as call:
        call.request(mode.provider.requests[0].content)
        if stream:
            for chunk in chunks:
                call.chunk(chunk.to_dict(mode="json", exclude_unset=True))
        else:
            call.response(result.to_dict(mode="json", exclude_unset=True))
    sdk, hand = seen.records
    assert facts(hand) == facts(sdk)
    assert hand.provider == "vllm"
    ours, theirs = seen.spans
    own = {"llm.item_id", "server.address", "server.port"}
    names = set(ours.attributes or ()) - set(theirs.attributes or ()) - own
    assert not {name for name in names if not name.startswith(("http.", "llm.", "callspan."))}


async def test_reported_facts_are_recorded(mode: Mode, seen: Capture) -> None:
    async with record(mode, api="messages", server="https://gpu-1/v1", client="mine/1.0", model="m") as call:
        call.request({"model": "m", "max_tokens": 3, "messages": QUESTION})
        call.attempt_started()
        call.response_headers(200, {"Request-ID": "req_1"})
        call.response({
            "id": "msg_1", "model": "m", "role": "assistant", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": "Well."}],
            "usage": {"input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 1},
        })  # fmt: skip
        assert call.call_id
    call = the_call(seen)
    assert (call.api, call.sdk, call.server_address, call.server_port) == ("messages", "mine/1.0", "gpu-1", 443)
    assert text_of(call) == "Well."
    assert usage_of(call).input_tokens == 5
    assert [(attempt.status, attempt.request_id) for attempt in call.attempts] == [(200, "req_1")]


@pytest.mark.parametrize("starts", [True, False])
def test_reported_answers_are_attempts(starts: bool, seen: Capture) -> None:
    with callspan.record_call(provider="mine") as call:
        call.request({"model": "m", "messages": QUESTION})
        for status, headers in ((429, {"Retry-After": "2"}), (200, {"X-Request-Id": "req_2"})):
            if starts:
                call.attempt_started()
            call.response_headers(status, headers)
    made = the_call(seen)
    assert (made.retries, made.rate_limited) == (1, True)
    assert [(one.status, one.retry_after_s, one.request_id) for one in made.attempts] == [
        (429, 2.0, None), (200, None, "req_2"),
    ]  # fmt: skip
    assert [one.wait_s is not None for one in made.attempts] == [starts, False]


async def test_span_is_current_and_a_child_of_the_timestep(mode: Mode, seen: Capture) -> None:
    with callspan.session("s") as session, session.timestep():
        before = trace.get_current_span()
        async with record(mode) as call:
            call.request(CHAT)
            inside = trace.get_current_span().get_span_context().span_id
        assert trace.get_current_span() is before
    span_id = f"{inside:016x}"
    (call,) = seen.records
    assert (call.span_id, call.place.session_name, call.place.timestep) == (span_id, "s", 0)


async def test_exception_propagates_and_keeps_received_data(mode: Mode, seen: Capture) -> None:
    problem = ValueError("broken pipe")
    with pytest.raises(ValueError, match="broken pipe") as raised:
        async with record(mode) as call:
            call.request({**CHAT, "stream": True})
            # An object, as clients that imitate the SDK have it.
            call.chunk(ChatCompletionChunk.model_construct(choices=[{"index": 0, "delta": {"content": "Hal"}}]))
            raise problem
    assert raised.value is problem
    call = the_call(seen)
    assert (call.outcome, call.error and call.error.exception) == ("error", "ValueError")
    assert (call.stream and call.stream.end, text_of(call)) == ("error", "Hal")
    assert seen.spans[0].status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("odd", [b"no json", b"[1]", {"messages": 3}, {"stream": object()}])
def test_invalid_request_loses_only_content(odd: Any, seen: Capture) -> None:
    with callspan.record_call(provider="vllm") as call:
        call.request(odd)
        call.chunk(7)
    assert the_call(seen).provider == "vllm"


def test_names_and_server_are_read_as_text(seen: Capture) -> None:
    """As the SDK's client has its server, and a program its models."""
    given: dict[str, Any] = {"provider": Provider.VLLM, "model": 7, "client": Decimal("1.5")}
    with openai.OpenAI(api_key="k", base_url="http://gpu-1:8000/v1") as client:
        server: Any = client.base_url
    with callspan.record_call(**given, server=server) as call:
        call.response({"choices": []})
    made = the_call(seen)
    assert (made.provider, made.request.model, made.sdk) == ("vllm", "7", "1.5")
    assert (made.server_address, made.server_port) == ("gpu-1", 8000)


STREAMED: dict[str, Any] = {"model": "m-1", "stream": True, "messages": QUESTION}


@pytest.mark.parametrize("vocabularies", [("gen_ai",), ("llm",), ("llm", "gen_ai", "openinference")])
@pytest.mark.parametrize("stated", [{}, {"model": "m-0"}, {"model": "m-1", "stream": True}])
def test_span_has_the_model_and_stream_of_the_body(stated: dict[str, Any], vocabularies: Any) -> None:
    """Although it began before the body was known; spans that are made of records later are equal."""
    with capture(vocabularies=vocabularies) as seen, callspan.record_call(provider="vllm", **stated) as call:
        call.request(STREAMED)
    (span,) = seen.spans
    attributes = span.attributes or {}
    names = {"gen_ai.request.model", "llm.request.model"} & attributes.keys()
    assert (span.name, {attributes[name] for name in names}) == ("chat m-1", {"m-1"})
    assert attributes.get("gen_ai.request.stream", True) is True
    assert [*differences(seen.spans, seen.everything, vocabularies=vocabularies)] == []


def test_unknown_api_error_lists_known_apis() -> None:
    with pytest.raises(
        ValueError,
        match="use one of bidi_generate_content, chat_completions, cohere_chat, cohere_chat_v1, cohere_embed",
    ):
        callspan.record_call(provider="vllm", api="chats")  # type: ignore[arg-type]


CHUNKS = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in ("Hel", "lo!")]
LAST = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
S = 1_000_000_000
T0 = 1_735_732_800 * S
"""New Year's Day of 2025, at noon."""
BODY = {**CHAT, "model": "o3"}
MILLION = {"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000}
ANSWER: dict[str, object] = {
    "id": "r1", "model": "o3", "usage": MILLION,
    "choices": [{"message": {"role": "assistant", "content": "Hello!"}}],
}  # fmt: skip


def imported(at: Any = T0, first: Any = None, end: Any = None) -> None:
    with callspan.record_call(provider="openai", model="o3", at=at) as call:
        call.request(BODY)
        call.attempt_started()
        call.response_headers(200, {"x-request-id": "r1", "openai-processing-ms": "70"})
        call.response(ANSWER)
        if first is not None:
            call.first_token(at=first)
        if end is not None:
            call.end(at=end)


@pytest.mark.parametrize("clock", [int, lambda ns: ns / S, lambda ns: datetime.fromtimestamp(ns // S, tz=timezone.utc)])
def test_record_and_span_have_explicit_times(clock: Callable[[int], Any]) -> None:
    with capture() as seen, callspan.session("s") as session:
        imported(*map(clock, (T0, T0 + S, T0 + 3 * S)))
    (record,), span = seen.records, next(span for span in seen.spans if span.name == "chat o3")
    assert record.timing == Timing(start_ns=T0, duration_ns=3 * S, first_token_ns=S, server_ns=70_000_000)
    assert (span.start_time, span.end_time) == (T0, T0 + 3 * S)
    assert [event.timestamp for event in span.events] == [T0 + S]
    (attempt,) = record.attempts
    assert (attempt.status, attempt.request_id, attempt.headers_ns, attempt.end_ns) == (200, "r1", None, None)
    assert (record.seen_in, record.is_merged, record.text) == ("import", False, "Hello!")
    assert record.place.session_id == session.id
    totals = seen.sessions[-1].totals
    assert (totals.calls, totals.model_ns) == (1, 3 * S)


@pytest.mark.parametrize("stated", [True, False])
def test_live_call_accepts_explicit_first_token_and_end(stated: bool) -> None:
    """Its other times are those that were observed; without a time both are of now; the first one wins."""
    began_ns, spent_ns = time.perf_counter_ns(), 0
    with capture() as seen, callspan.record_call(provider="openai") as call:
        call.request(BODY)
        call.chunk(CHUNKS[0])
        now_ns = time.time_ns()
        if not stated:
            call.first_token()
            call.end()
            spent_ns = time.perf_counter_ns() - began_ns
            time.sleep(0.05)
        call.first_token(at=now_ns + 2 * S)
        call.first_token(at=now_ns + 3 * S)
        call.end(at=now_ns + 4 * S)
        call.end(at=now_ns + 9 * S)
        call.first_token(at=now_ns + S)
        assert callspan.trace_id() is None
    (record,) = seen.records
    timing = record.timing
    assert (timing.first_chunk_ns < S, record.seen_in) == (True, "import" if stated else "call")
    first_ns, duration_ns = timing.first_token_ns or 0, timing.duration_ns or 0
    if stated:
        assert 2 * S <= first_ns < 3 * S
        assert 4 * S <= duration_ns < 5 * S
    else:
        assert 0 < first_ns <= duration_ns <= spent_ns


def test_misuse_raises_before_any_change() -> None:
    odd: Any = "noon"
    with capture() as seen:
        with pytest.raises(UsageError), callspan.record_call(provider="openai", at=odd):
            pass
        assert seen.records == []
        with callspan.record_call(provider="openai", at=T0) as call:
            for wrong in (call.first_token, call.end):
                with pytest.raises(UsageError, match="not be before the start"):
                    wrong(at=T0 - 1)
            call.end(at=T0 + S)
    (record,) = seen.records
    assert (record.timing, record.metadata) == (Timing(start_ns=T0, duration_ns=S), {})


def test_misuse_outside_a_capture_changes_nothing(store: str, instrumented: Instrument, reading: Read) -> None:
    odd: Any = "noon"
    handle = instrumented(stores=store)
    with callspan.record_call(provider="openai", at=odd) as unrecorded:
        unrecorded.request(CHAT)
        unrecorded.attempt_started()
        unrecorded.response_headers(200)
        unrecorded.chunk({})
        unrecorded.response({})
        assert unrecorded.call_id is None
    with callspan.record_call(provider="openai") as call:
        call.first_token(at=T0)
        call.end(at=T0)
        call_id = call.call_id
        with call:
            assert call.call_id == call_id
    assert handle.force_flush(HANG_MS)
    (record,) = reading(store).calls()
    assert (record.call_id, record.seen_in, record.outcome) == (call_id, "call", "success")


def test_past_call_is_priced_at_its_day_and_not_measured(store: str, instrumented: Instrument, reading: Read) -> None:
    """The price of o3 fell to a fifth in June 2025. Sessions, steps and tools of the past are measured no more."""
    pytest.importorskip("genai_prices", reason="needs published prices: pip install 'callspan[cost]'")
    meters = Meters()
    handle = instrumented(stores=store, meter_provider=meters.provider)
    imported(T0, T0 + S, T0 + 3 * S)
    imported(T0 + 365 * 24 * 3600 * S)
    with callspan.record_call(provider="openai", at=T0) as call:
        for chunk in (*CHUNKS, LAST):
            call.chunk(chunk)
    with callspan.session("s", at=T0) as session, session.timestep(at=T0) as step:
        step.tool("t").start(at=T0).end(at=T0 + S)
        step.invoke_agent("a").start(at=T0).end(at=T0 + S)
        step.end(at=T0 + S)
    with callspan.timestep(at=T0):
        pass
    assert handle.force_flush(HANG_MS)
    found = meters.read()
    assert {name for name in found if not name.startswith("callspan.delivery") and "spool" not in name} == set()
    reader = reading(store)
    costs = {call.timing.start_ns: call.cost and call.cost.usd for call in reader.calls() if call.usage}
    (summary,) = [one for one in reader.sessions() if one.session.session_id == session.id]
    assert costs == {T0: Decimal(10), T0 + 365 * 24 * 3600 * S: Decimal(2)}
    assert summary.session.start_ns == T0
    with callspan.session("now"), callspan.tool("t"), callspan.record_call(provider="openai") as call:
        call.response(ANSWER)
    assert handle.force_flush(HANG_MS)
    assert {"gen_ai.client.operation.duration", "callspan.client.cost"} <= meters.read().keys()


def ask(client: openai.OpenAI, model: str) -> str | None:
    return client.chat.completions.create(model=model, messages=QUESTION).choices[0].message.content


def models(seen: Capture) -> list[str | None]:
    return [call.request.model for call in seen.records]


async def test_require_session_ignores_calls_outside(mode: Mode, seen: Capture) -> None:
    """Where a stream begins decides, wherever it is read."""

    async def call(model: str, **options: Any) -> Any:
        return await mode.wait(mode.openai().chat.completions.create(model=model, messages=QUESTION, **options))

    async with mode.entered(callspan.session(require=True)):
        assert (await call("none")).choices[0].message.content
        outside = await call("none", stream=True)
        with callspan.session("s"):
            await call("plain")
            inside = await call("stream", stream=True)
            assert await mode.all(outside)
        assert await mode.all(inside)
    await call("after")
    assert models(seen) == ["plain", "stream", "after"]
    chats = [span.name for span in seen.spans if span.name.startswith("chat")]
    assert chats == ["chat plain", "chat stream", "chat after"]
    assert len(mode.provider.requests) == 5


def test_require_session_accepts_nested_scopes(client: openai.OpenAI, seen: Capture) -> None:
    with callspan.session(require=True):
        with callspan.tool("t"), callspan.invoke_agent("a"):
            ask(client, "none")
        with callspan.session("s") as session, session.timestep() as step, step.tool("t"):
            ask(client, "step")
        joined = session.carrier()
        with callspan.session(carrier=joined):
            ask(client, "joined")
    assert models(seen) == ["step", "joined"]


async def test_require_session_follows_tasks_and_copied_contexts(client: openai.OpenAI, seen: Capture) -> None:
    async with callspan.session(require=True):
        await asyncio.to_thread(ask, client, "none")
        async with callspan.session("s"):
            await asyncio.gather(*(asyncio.to_thread(ask, client, "task") for _ in range(2)))
    await asyncio.to_thread(ask, client, "after")
    with ThreadPoolExecutor() as pool, callspan.session(require=True):
        pool.submit(callspan.copy_context(ask), client, "none").result()
        pool.submit(ask, client, "bare").result()
        with callspan.session("s"):
            pool.submit(callspan.copy_context(ask), client, "copied").result()
    assert models(seen) == ["task", "task", "after", "bare", "copied"]


def test_require_session_decorator_opens_no_session(client: openai.OpenAI, seen: Capture) -> None:
    callspan.session(require=True)(ask)(client, "none")
    with callspan.session(require=True):
        assert callspan.current_session() is None
    assert seen.everything == []
    with pytest.raises(TypeError, match="accepts no other argument"):
        callspan.session("s", require=True)  # type: ignore[call-overload]


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WIRES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "generate_content": (
        {
            "contents": [
                {"role": "user", "parts": [{"text": "Look"}, {"inlineData": {"mimeType": "image/png", "data": PIXEL}}]},
                {"role": "model", "parts": [{"functionCall": {"name": "look", "args": {"x": 1}}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {"result": "a tram"}}}]},
            ]
        },
        {
            "candidates": [
                {
                    "content": {
                        "role": "model",
                        "parts": [
                            {"text": "Hm.", "thought": True},
                            {"text": "A tram.", "thoughtSignature": "c2ln"},
                            {"functionCall": {"id": "c1", "name": "ride", "args": {"to": "east"}}},
                        ],
                    },
                    "finishReason": "STOP",
                    "citationMetadata": {"citationSources": [{"uri": "https://h.example/a"}]},
                }
            ]
        },
    ),
    "converse": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"text": "Look"}, {"image": {"format": "png", "source": {"bytes": PIXEL}}}],
                },
                {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t0", "name": "look", "input": {"x": 1}}}]},
                {"role": "user", "content": [{"toolResult": {"toolUseId": "t0", "content": [{"text": "a tram"}]}}]},
            ]
        },
        {
            "output": {
                "message": {
                    "role": "assistant",
                    "content": [
                        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
                        {"citationsContent": {"content": [{"text": "A tram."}], "citations": [{"title": "a"}]}},
                        {"toolUse": {"toolUseId": "c1", "name": "ride", "input": {"to": "east"}}},
                    ],
                }
            },
            "stopReason": "tool_use",
        },
    ),
    "cohere_chat": (
        {
            "model": "m",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Look"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + PIXEL}},
                    ],
                },
                {
                    "role": "assistant",
                    "tool_calls": [
                        {"id": "t0", "type": "function", "function": {"name": "look", "arguments": '{"x":1}'}}
                    ],
                },
                {"role": "tool", "tool_call_id": "t0", "content": "a tram"},
            ],
        },
        {
            "id": "x",
            "finish_reason": "TOOL_CALL",
            "message": {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "A tram."}],
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "ride", "arguments": '{"to":"east"}'}}
                ],
                "citations": [{"start": 0, "end": 6, "text": "A tram", "sources": []}],
            },
        },
    ),
    "ollama_chat": (
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": "Look", "images": [PIXEL]},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"function": {"name": "look", "arguments": {"x": 1}}}],
                },
                {"role": "tool", "tool_name": "look", "content": "a tram"},
            ],
        },
        {
            "model": "m",
            "message": {
                "role": "assistant",
                "content": "A tram.",
                "thinking": "Hm.",
                "tool_calls": [{"function": {"name": "ride", "arguments": {"to": "east"}}}],
            },
            "done": True,
            "done_reason": "stop",
        },
    ),
}
"""Of each wire the same question with a picture, a tool's result, a thought, an answer with a source, and a call."""


@pytest.mark.parametrize("api", WIRES)
def test_wires_have_the_same_parts(api: Any, seen: Capture) -> None:
    request, answer = WIRES[api]
    with callspan.record_call(provider="p", api=api, model="m") as call:
        call.request(request)
        call.response(answer)
    conversation = the_call(seen).conversation
    assert conversation is not None
    asked, looked, result, *_ = conversation.input
    (answered,) = conversation.output
    picture = asked.parts[1]
    assert isinstance(picture, Media)
    assert (picture.modality, picture.mime, picture.size, picture.data) == ("image", "image/png", 70, None)
    (call_before,), (returned,) = looked.parts, result.parts
    assert isinstance(call_before, ToolCall)
    assert isinstance(returned, ToolResult)
    assert (call_before.name, call_before.id == returned.id, "a tram" in str(returned.content)) == ("look", True, True)
    thoughts = [part for part in answered.parts if isinstance(part, Reasoning)]
    texts = [part for part in answered.parts if isinstance(part, Text)]
    calls = [part for part in answered.parts if isinstance(part, ToolCall)]
    assert (thoughts[0].text, [part.text for part in texts]) == ("Hm.", ["A tram."])
    assert [(one.name, json.loads(one.arguments or "")) for one in calls] == [("ride", {"to": "east"})]
    assert any(part.signature == "c2ln" for part in thoughts) == (api in ("generate_content", "converse"))
    assert bool(texts[0].annotations) == (api != "ollama_chat")


def test_docstring_names_every_wire() -> None:
    over_sockets = {"live", "realtime", "realtime_translations", "bidi_generate_content"}
    named = set(re.findall(r"`(\w+)`", callspan.record_call.__doc__ or ""))
    with pytest.raises(ValueError, match="use one of") as unknown:
        callspan.record_call(provider="p", api="none")  # type: ignore[arg-type]
    known = set(str(unknown.value).partition("use one of ")[2].split(", "))
    assert known - over_sockets - named == set()
