"""Exhausted retries: timeouts, refused and broken connections, repeated error responses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry.trace import StatusCode

from callspan.testing import Captured
from tests.intercept import sdks, transports
from tests.intercept.mode import Mode
from tests.intercept.test_endings import QUESTION, the_call

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
CHAT: dict[str, Any] = {"model": "gpt-5", "messages": QUESTION}
MESSAGE: dict[str, Any] = {"model": "claude-sonnet-5", "max_tokens": 64, "messages": QUESTION}

FAILURES = {
    "ReadTimeout": ("timeout", "timeout"),
    "ConnectTimeout": ("timeout", "timeout"),
    "PoolTimeout": ("timeout", "timeout"),
    "ConnectError": ("connection", "error"),
    "ReadError": ("connection", "error"),
    "RemoteProtocolError": ("connection", "error"),
}
both = pytest.mark.parametrize("sdk", ["openai", "anthropic"])
plain_and_streamed = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDKs wait half a second and more between two attempts."""
    for name in ("openai", "anthropic"):
        monkeypatch.setattr(import_module(f"{name}._base_client"), "INITIAL_RETRY_DELAY", 0.001)


async def ask(mode: Mode, sdk: str, handler: Callable[[Any], Any], stream: bool) -> None:
    made = transports.client(mode, sdk, handler, max_retries=2)
    create = made.chat.completions.create if sdk == "openai" else made.messages.create
    result = await mode.wait(create(**(CHAT if sdk == "openai" else MESSAGE), stream=stream))
    if stream:
        await mode.all(result)


@both
@plain_and_streamed
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_that_stays_is_one_call_with_every_attempt(
    failure: str, stream: bool, sdk: str, mode: Mode, run: Run, seen: Captured
) -> None:
    kind, outcome = FAILURES[failure]
    raised = getattr(sdks.http_of(sdk), failure)

    def handler(request: Any) -> Any:
        raise raised("nobody there", request=request)

    errors: Any = openai if sdk == "openai" else anthropic
    expected = errors.APITimeoutError if kind == "timeout" else errors.APIConnectionError
    with pytest.raises(expected) as caught:
        run(lambda: ask(mode, sdk, handler, stream))
    assert type(caught.value.__cause__) is raised
    record = the_call(seen)
    assert (record.outcome, record.retries) == (outcome, 2)
    assert record.error is not None
    assert (record.error.kind, record.error.status) == (kind, None)
    assert [(attempt.status, attempt.error_kind, attempt.error_type) for attempt in record.attempts] == [
        (None, kind, failure)
    ] * 3
    assert [attempt.planned_wait_s is not None for attempt in record.attempts] == [True, True, False]
    assert record.stream is None
    assert record.usage is None
    (span,) = seen.spans
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events].count("exception") == 1


@both
def test_a_timeout_during_a_stream_is_not_retried(sdk: str, mode: Mode, run: Run, seen: Captured) -> None:
    library = sdks.http_of(sdk)
    begun = transports.wire_of(sdk, "one two three four").partition(b"three")[0] + b'"}}\n\n'
    handler = transports.answer(sdk, begun, library.ReadTimeout("too late"))
    with pytest.raises(Exception, match=r"\w") as caught:
        run(lambda: ask(mode, sdk, handler, True))
    record = the_call(seen)
    assert record.stream is not None
    assert record.error is not None
    assert record.error.exception is not None
    assert record.error.exception.endswith(type(caught.value).__name__)
    assert record.stream.end == "error"
    assert len(record.attempts) == 1
