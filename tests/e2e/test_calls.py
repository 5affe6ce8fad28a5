"""Interception and lifecycle: one span per call with the right parent, and none if callspan is disabled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan.fail_open import failures, forget_failures
from callspan.providers.openai.chat import ChatCompletions
from callspan.testing import Captured, ScriptedProvider, capture
from callspan.wiring import Handle
from tests.e2e.ask import APIS, QUESTION, response_of, shown
from tests.intercept.mode import Mode
from tests.intercept.test_endings import text_of, the_call

pytestmark = pytest.mark.slow

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


@pytest.mark.parametrize("api", APIS)
def test_a_call_is_one_span_under_the_callers_own(api: str, mode: Mode, run: Run, seen: Captured) -> None:
    """One local call: exactly one finished span, the right parent, and the SDK's own object for the caller."""
    mode.provider.reply(text="I am well.")
    tracer = TracerProvider().get_tracer("application")

    async def body() -> Any:
        with tracer.start_as_current_span("mine") as mine:
            result = await response_of(mode, api)
            assert trace.get_current_span() is mine, "the caller's span is current again"
        return mine.get_span_context(), result

    context, result = run(body)
    the_call(seen)
    (span,) = seen.spans
    assert span.parent is not None
    assert (span.parent.span_id, span.parent.trace_id) == (context.span_id, context.trace_id)
    assert type(result).__module__.split(".")[0] == ("anthropic" if api == "messages" else "openai")
    assert "I am well." in result.model_dump_json()


def test_ten_async_calls_lie_each_under_its_own_parent(provider: ScriptedProvider, seen: Captured) -> None:
    """Ten concurrent calls under ten parents: ten spans, each under the one that awaited it."""
    tracer = TracerProvider().get_tracer("application")
    parents: dict[str, int] = {}

    async def one(client: openai.AsyncOpenAI, user: str) -> None:
        with tracer.start_as_current_span(user) as mine:
            parents[user] = mine.get_span_context().span_id
            await client.chat.completions.create(model="gpt-5", messages=QUESTION, user=user)

    async def body() -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url) as client:
            await asyncio.gather(*(one(client, f"u{number}") for number in range(10)))

    asyncio.run(body())
    found = {(span.attributes or {})["llm.user"]: span.parent and span.parent.span_id for span in seen.spans}
    assert len(found) == 10
    assert found == parents


def test_a_response_shows_its_text_its_tool_call_and_its_tokens(mode: Mode, run: Run, seen: Captured) -> None:
    """A response with a message and a function call: text, one tool call, and tokens on the span."""
    tool = {"name": "look", "arguments": {"at": "sky"}, "id": "call_1"}
    mode.provider.reply(text="Looking.", tool_calls=[tool], input_tokens=11, output_tokens=4)
    run(lambda: response_of(mode, "responses"))
    record, attributes = the_call(seen), shown(seen)
    assert attributes["llm.completions"] == "Looking."
    assert (attributes["llm.usage.prompt_tokens"], attributes["llm.usage.completion_tokens"]) == (11, 4)
    assert record.conversation is not None
    calls = [part for part in record.conversation.output[0].parts if getattr(part, "name", None)]
    assert [(call.id, call.name, call.arguments) for call in calls] == [  # type: ignore[union-attr]
        ("call_1", "look", '{"at":"sky"}')
    ]


def test_a_legacy_completion_has_a_prompt_and_a_text_and_no_messages(mode: Mode, run: Run, seen: Captured) -> None:
    """The prompt is the input, the text of the choices the output; no list of messages is made up."""
    mode.provider.reply(text=" jumps over")
    run(lambda: mode.wait(mode.openai().completions.create(model="gpt-3.5-turbo-instruct", prompt="The quick fox")))
    record, attributes = the_call(seen), shown(seen)
    assert (record.api, record.operation) == ("completions", "text_completion")
    messages = [{"role": "user", "parts": [{"type": "text", "content": "The quick fox"}]}]
    assert (json.loads(attributes["gen_ai.input.messages"]), attributes["llm.completions"]) == (messages, " jumps over")
    assert b"messages" not in bytes(record.request.body)


def test_a_message_with_text_and_a_tool_use_ends_for_its_tool_calls(mode: Mode, run: Run, seen: Captured) -> None:
    """Blocks of text and tool use: the text, the tool call, and the finish reason in common words."""
    mode.provider.reply(text="Let me see.", tool_calls=[{"name": "look", "arguments": {"at": "sky"}, "id": "toolu_1"}])
    run(lambda: response_of(mode, "messages"))
    record, attributes = the_call(seen), shown(seen)
    assert (attributes["llm.completions"], attributes["llm.finish_reason"]) == ("Let me see.", "tool_calls")
    assert record.response is not None
    assert record.response.finish_reasons == ["tool_use"], "the provider's own word is kept"
    assert '"name":"look"' in attributes["gen_ai.output.messages"]


def test_after_uninstrument_a_call_makes_no_span(mode: Mode, run: Run, instrumented: Callable[..., Handle]) -> None:
    """instrument, uninstrument, call: nothing is left that could make a span."""
    exporter = InMemorySpanExporter()
    own = TracerProvider()
    own.add_span_processor(SimpleSpanProcessor(exporter))
    handle = instrumented(tracer_provider=own)
    run(lambda: response_of(mode, "chat_completions"))
    handle.uninstrument()
    run(lambda: response_of(mode, "chat_completions"))
    assert len(exporter.get_finished_spans()) == 1
    assert len(mode.provider.requests) == 2


@pytest.mark.parametrize("native", ["replace", "keep"])
def test_the_switch_for_the_sdks_own_span(
    native: str, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch, instrumented: Callable[..., Handle]
) -> None:
    """By default ours alone; `keep` is the documented switch for both."""
    exporter = InMemorySpanExporter()
    own = TracerProvider()
    own.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", own)
    instrumented(native=native)
    with anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url) as client:
        client.messages.create(model="claude-sonnet-5", max_tokens=9, messages=QUESTION)
    spans = {span.name: dict(span.attributes or {}) for span in exporter.get_finished_spans()}
    theirs, ours = "anthropic.messages.create", "chat claude-sonnet-5"
    assert set(spans) == {"replace": {ours}, "keep": {theirs, ours}}[native]
    assert sum("llm.completions" in attributes for attributes in spans.values()) == 1


def test_disabled_in_the_environment_is_disabled_unless_enabled_in_code(
    mode: Mode, run: Run, monkeypatch: pytest.MonkeyPatch, instrumented: Callable[..., Handle], tmp_path: Path
) -> None:
    """Switched off by the environment: no span, no record, the same result; an argument of the code wins."""
    exporter = InMemorySpanExporter()
    own = TracerProvider()
    own.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setenv("CALLSPAN_ENABLED", "off")
    store = f"jsonl:///{tmp_path}/calls.jsonl"
    mode.provider.reply(text="I am well.", repeat=True)
    off = instrumented(tracer_provider=own, stores=store)
    answer = run(lambda: response_of(mode, "chat_completions"))
    assert answer.choices[0].message.content == "I am well."
    assert (exporter.get_finished_spans(), list(tmp_path.iterdir()), off.counters()) == ((), [], {})
    on = instrumented(tracer_provider=own, stores=store, enabled=True)
    run(lambda: response_of(mode, "chat_completions"))
    assert on.force_flush(60_000)
    assert len(exporter.get_finished_spans()) == 1
    assert len((tmp_path / "calls.jsonl").read_bytes().splitlines()) == 1


def test_the_session_api_runs_and_emits_nothing_when_off() -> None:
    """With tracing off sessions, steps, tools and rewards are used as ever and leave nothing."""
    with capture(enabled=False) as seen:
        with callspan.session("s") as session, session.timestep() as step:
            session.observation("a wall")
            with step.tool("move", arguments={"to": 1}) as tool:
                tool.result = "ok"
            step.environment({"at": 1}, reward=1.0)
            callspan.reward(1.0)
            assert callspan.current_timestep() is step
        session.outcome(success=True)
        assert (seen.spans, seen.everything) == ([], [])


class BrokenExporter(SpanExporter):
    """An exporter of the application's that fails with every span."""

    def export(self, spans: Any) -> SpanExportResult:
        raise RuntimeError("exporter")


@pytest.mark.parametrize("fails", [False, True], ids=["answer", "error"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_an_error_inside_callspan_does_not_break_the_call(
    fails: bool, stream: bool, mode: Mode, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken reader, hook, redactor and exporter: the caller's result and exception are as without us."""

    def broken(*args: object) -> Any:
        raise RuntimeError("ours")

    own = TracerProvider()
    own.add_span_processor(SimpleSpanProcessor(BrokenExporter()))
    for name in ("request", "response_info", "conversation", "accumulator"):
        monkeypatch.setattr(ChatCompletions, name, broken, raising=True)
    remove = callspan.add_callback("before_record", broken)
    reply: dict[str, Any] = {"status": 401, "message": "No such key"} if fails else {"text": "I am well."}
    mode.provider.reply(**reply)
    handle = callspan.instrument(tracer_provider=own, redact=broken)
    try:
        if fails:
            with pytest.raises(openai.AuthenticationError, match="No such key"):
                run(lambda: response_of(mode, "chat_completions", stream=stream))
        else:
            result = run(lambda: response_of(mode, "chat_completions", stream=stream))
            assert "I am well." in (joined(result) if stream else result.choices[0].message.content)
        assert failures(), "it was counted"
    finally:
        handle.uninstrument()
        remove()
        forget_failures()
    assert "ours" not in [entry.exc_info for entry in caplog.records]


def joined(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@pytest.mark.parametrize("api", APIS)
def test_the_provider_gets_our_traceparent_only_where_it_is_switched_on(api: str, mode: Mode, run: Run) -> None:
    """With the switch every request carries the call's span as its parent; without it none of openai's does.

    Anthropic's SDK sends one by default, unless its own setting disables it: that setting is respected.
    """
    with capture(propagate=True) as seen:
        run(lambda: response_of(mode, api))
        record = the_call(seen)
    with capture(propagate=False):
        run(lambda: response_of(mode, api))
    sent, unsent = [request.headers.get("traceparent") for request in mode.provider.requests]
    assert sent is not None
    assert sent.rpartition("-")[0] == f"00-{record.trace_id}-{record.span_id}"
    assert unsent is None or api == "messages"


def test_a_call_is_a_child_of_a_context_given_by_hand(mode: Mode, run: Run, seen: Captured) -> None:
    """A parent that came from elsewhere, such as a request's header, is the call's parent where it is attached."""
    from opentelemetry.context import attach, detach
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    header = f"00-{'a' * 32}-{'b' * 16}-01"

    async def body() -> None:
        token = attach(TraceContextTextMapPropagator().extract({"traceparent": header}))
        try:
            await response_of(mode, "chat_completions")
        finally:
            detach(token)

    run(body)
    record = the_call(seen)
    assert (record.trace_id, record.parent_span_id) == ("a" * 32, "b" * 16)
    span: ReadableSpan = seen.spans[0]
    assert span.parent is not None
    assert span.parent.is_remote


def test_text_of_a_call_is_what_the_caller_read(mode: Mode, run: Run, seen: Captured) -> None:
    """What is recorded of a stream is what the caller's loop has seen."""
    mode.provider.reply(text="one two three")
    chunks = run(lambda: response_of(mode, "chat_completions", stream=True))
    assert text_of(the_call(seen)) == joined(chunks) == "one two three"
