"""Interception and lifecycle: one span per call with the right parent, and the switches of spans and headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from callspan.testing import Captured, capture
from tests.e2e.ask import APIS, response_of
from tests.intercept.mode import Mode
from tests.intercept.test_endings import the_call

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
