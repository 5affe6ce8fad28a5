"""Spans of attempts with `attempt_spans`: correct times, children of the call, never the current span."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from callspan.settings_loader import load
from callspan.testing import Captured, capture
from tests.attempts.caller import Caller, Run

SEQUENCE = (
    {"status": 429, "headers": {"retry-after-ms": "5"}},
    {"status": 500, "headers": {"retry-after-ms": "5"}},
    {"text": "I am well.", "chunk_delay_s": 0.01},
)


@pytest.fixture
def traced() -> Iterator[Captured]:
    with capture(attempt_spans=True) as seen:
        yield seen


def by_kind(seen: Captured) -> tuple[ReadableSpan, list[ReadableSpan]]:
    """The call's span and those of its attempts by their start."""
    (call,) = [span for span in seen.spans if "llm.item_id" in (span.attributes or {})]
    attempts = [span for span in seen.spans if span is not call]
    return call, sorted(attempts, key=lambda span: span.start_time or 0)


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_each_attempt_is_a_child_of_the_call(caller: Caller, run: Run, traced: Captured) -> None:
    caller.script(*SEQUENCE)
    run(lambda: caller.call(max_retries=2))
    call, attempts = by_kind(traced)
    assert [span.name for span in attempts] == ["POST"] * 3
    assert {span.kind for span in attempts} == {SpanKind.CLIENT}
    assert call.context is not None
    for span in attempts:
        assert span.parent is not None
        assert span.parent.span_id == call.context.span_id
        assert span.context is not None
        assert span.context.trace_id == call.context.trace_id
    attributes = [attributes_of(span) for span in attempts]
    assert [each["http.response.status_code"] for each in attributes] == [429, 500, 200]
    assert [each.get("http.request.resend_count") for each in attributes] == [None, 1, 2]
    assert {each["http.request.method"] for each in attributes} == {"POST"}
    assert {each["server.address"] for each in attributes} == {"127.0.0.1"}
    assert [span.status.status_code for span in attempts] == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]
    assert [each.get("callspan.error.kind") for each in attributes] == ["rate_limit", "server", None]
    assert not any(name.startswith(("gen_ai.", "llm.request")) for each in attributes for name in each)


def test_they_are_never_current(plain: Caller, run: Run, traced: Captured) -> None:
    """What an instrumentation of the HTTP client would make is a child of the call."""
    current: list[int] = []

    def look(request: Any) -> None:
        current.append(trace.get_current_span().get_span_context().span_id)

    async def look_async(request: Any) -> None:
        look(request)

    client = plain.client(max_retries=2)
    client._client.event_hooks = {"request": [look_async if plain.mode.is_async else look]}
    plain.script(*SEQUENCE)
    run(lambda: plain.call(client))
    call, _ = by_kind(traced)
    assert call.context is not None
    assert current == [call.context.span_id] * 3
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_the_setting_has_an_environment_variable() -> None:
    assert load(environment={"CALLSPAN_ATTEMPT_SPANS": "on"}).attempt_spans
    assert not load(environment={"CALLSPAN_ATTEMPT_SPANS": "perhaps"}).attempt_spans
