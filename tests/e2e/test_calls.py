"""Calls end to end: one span with the right parent, and the facts of the call on span and record."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import callspan
from callspan import Handle
from callspan.testing import Captured, ScriptedProvider, capture
from tests.e2e.ask import APIS, chat, response_of, shown
from tests.intercept.calls import Run, the_call
from tests.intercept.mode import Mode


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


LIMITS = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "59",
          "x-ratelimit-reset-requests": "1s", "x-ratelimit-limit-tokens": "1000",
          "x-ratelimit-remaining-tokens": "900", "x-ratelimit-reset-tokens": "6m0s"}  # fmt: skip


@pytest.mark.parametrize("status", [200, 429])
def test_six_attributes_say_what_is_left_of_the_limits(status: int, mode: Mode, run: Run, seen: Captured) -> None:
    """Limit, remaining and reset of requests and of tokens, with an answer and with a refusal."""
    mode.provider.reply(status=status, headers=LIMITS)
    if status == 200:
        run(lambda: mode.wait(chat(mode)))
    else:
        with pytest.raises(openai.RateLimitError):
            run(lambda: mode.wait(chat(mode)))
    found = {name: value for name, value in shown(seen).items() if name.startswith("llm.rate_limiting.")}
    assert found == {
        "llm.rate_limiting.requests.limit": 60, "llm.rate_limiting.requests.remaining": 59,
        "llm.rate_limiting.requests.reset": 1.0, "llm.rate_limiting.tokens.limit": 1000,
        "llm.rate_limiting.tokens.remaining": 900, "llm.rate_limiting.tokens.reset": 360.0,
    }  # fmt: skip


@pytest.mark.parametrize("api", APIS)
def test_a_clock_set_back_during_a_call_makes_no_duration_negative(
    api: str, mode: Mode, run: Run, seen: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wall clock goes back an hour while a stream is read: every duration is still one."""
    mode.provider.reply(text="one two three")
    real = time.time_ns

    async def body() -> None:
        with callspan.session("s") as session, session.timestep():
            stream = await mode.wait(stream_of(mode, api))
            monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600_000_000_000)
            await mode.all(stream)

    run(body)
    (record,) = seen.records
    timing = record.timing
    offsets = [0, timing.answer_ns, timing.headers_ns, timing.first_chunk_ns, timing.last_chunk_ns, timing.duration_ns]
    known = [offset for offset in offsets if offset is not None]
    assert len(known) == 6
    assert known == sorted(known)
    for span in seen.spans:
        assert (span.end_time or 0) >= (span.start_time or 0) > 0, span.name
    for scope in [*seen.sessions, *seen.timesteps]:
        assert scope.end_ns is None or scope.end_ns >= (scope.start_ns or 0)


def stream_of(mode: Mode, api: str) -> Any:
    from tests.e2e.ask import ASK

    return ASK[api](mode, stream=True)


@pytest.mark.parametrize("sampled", [True, False])
def test_every_call_is_a_line_and_a_span_and_without_sampling_still_a_line(
    sampled: bool, mode: Mode, run: Run, instrumented: Callable[..., Handle], tmp_path: Path
) -> None:
    """Five calls: five JSON lines, each with the ids of its span; sampled out there are lines all the same."""
    exporter = InMemorySpanExporter()
    own = TracerProvider() if sampled else TracerProvider(sampler=ALWAYS_OFF)
    own.add_span_processor(SimpleSpanProcessor(exporter))
    handle = instrumented(tracer_provider=own, stores=f"jsonl:///{tmp_path}/calls.jsonl")
    for api in (*APIS, *APIS[:2]):
        run(lambda api=api: response_of(mode, api))  # type: ignore[misc]
    assert handle.force_flush(60_000)
    lines = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_bytes().splitlines()]
    assert len({line["call_id"] for line in lines}) == 5
    spans = {f"{span.context.span_id:016x}" for span in exporter.get_finished_spans() if span.context is not None}
    assert len(spans) == (5 if sampled else 0)
    if sampled:
        assert {line["span_id"] for line in lines} == spans
    assert all(line["request"]["body"] for line in lines)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("api", APIS)
def test_a_prompt_has_the_name_and_version_that_the_application_gives_it(
    api: str, stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    """From the metadata, under the conventions' names, as texts; without a name there is no version."""

    async def body() -> None:
        with callspan.metadata(prompt_version=2):
            await response_of(mode, api, stream=stream)
            with callspan.metadata(prompt_id="greet"):
                await response_of(mode, api, stream=stream)

    run(body)
    assert [named(dict(span.attributes or {})) for span in seen.spans] == [{}, {"name": "greet", "version": "2"}]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            {"id": "pmpt_0123abcd", "version": "7", "variables": {"city": "Rome"}},
            {"name": "pmpt_0123abcd", "version": "7"},
        ),
        ({"id": "pmpt_0123abcd"}, {"name": "pmpt_0123abcd"}),
        ({"id": None, "version": "7"}, {"name": "greet", "version": "2"}),
        (None, {"name": "greet", "version": "2"}),
    ],
)
@pytest.mark.parametrize("content", ["full", "metadata", "off"])
def test_a_template_of_the_provider_is_the_prompt_of_its_call(
    template: Any, expected: dict[str, str], content: Any, provider: ScriptedProvider
) -> None:
    """Responses' own `prompt` goes before the metadata, of which nothing is mixed in; its variables are content."""
    with (
        capture(content=content) as seen,
        openai.OpenAI(api_key="k", base_url=provider.openai_url) as client,
        callspan.metadata(prompt_id="greet", prompt_version=2),
    ):
        client.responses.create(model="gpt-5", input="Hi", prompt=template)
    attributes = shown(seen)
    assert named(attributes) == expected
    assert the_call(seen).request.params.get("prompt", {}).get("id") == (template or {}).get("id")
    assert "Rome" not in json.dumps(the_call(seen).request.params)


def named(attributes: dict[str, Any]) -> dict[str, str]:
    """The attributes of the prompt, without their prefix."""
    prefix = "gen_ai.prompt."
    return {name.removeprefix(prefix): value for name, value in attributes.items() if name.startswith(prefix)}
