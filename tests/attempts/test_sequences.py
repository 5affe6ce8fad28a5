"""Attempts of retried calls, compared with the log of the server."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import anthropic
import anyio
import openai
import pytest

from callspan.records import CallRecord
from callspan.testing import Captured, ScriptedProvider
from tests.attempts.caller import Caller, Run, assert_log_agrees, counts, the_record
from tests.intercept.mode import Mode

LIMITED = {"status": 429, "headers": {"retry-after-ms": "6"}}
BROKEN = {"status": 500, "headers": {"retry-after-ms": "3"}}
WELL = {"text": "I am well."}


def shown(record: CallRecord) -> list[tuple[int | None, str | None, str | None]]:
    return [(attempt.status, attempt.error_kind, attempt.request_id) for attempt in record.attempts]


def test_a_rate_limit_an_error_and_then_an_answer(caller: Caller, run: Run, seen: Captured) -> None:
    caller.script(LIMITED, BROKEN, WELL)
    run(lambda: caller.call(max_retries=2))
    record = the_record(seen)
    assert shown(record) == [(429, "rate_limit", "req_1"), (500, "server", "req_2"), (200, None, "req_3")]
    assert [attempt.planned_wait_s for attempt in record.attempts] == [0.006, 0.003, None]
    assert (record.retries, record.rate_limited) == (2, True)
    assert_log_agrees(record, caller.provider.requests)
    attributes = dict(seen.spans[0].attributes or {})
    assert (attributes["llm.retries"], attributes["http.request.resend_count"]) == (2, 2)
    assert (attributes["llm.rate_limited"], attributes["llm.status_code"]) == (True, 200)
    assert attributes["callspan.request_id"] == "req_3"


def test_timeouts_are_attempts(caller: Caller, run: Run, seen: Captured) -> None:
    caller.script({"hang": True}, {"hang": True}, WELL)
    client = caller.client(max_retries=2)
    impatient(caller, client, requests=2)
    run(lambda: caller.call(client))
    record = the_record(seen)
    assert record.outcome == "success"
    assert shown(record) == [(None, "timeout", None), (None, "timeout", None), (200, None, "req_3")]
    assert [attempt.error_type for attempt in record.attempts] == ["ReadTimeout", "ReadTimeout", None]
    assert (record.retries, record.rate_limited) == (2, False)
    assert_log_agrees(record, caller.provider.requests)
    first = record.attempts[0]
    assert first.end_ns is not None
    assert (first.headers_ns, first.end_ns - first.start_ns >= 0.1e9) == (None, True)


def impatient(caller: Caller, client: Any, requests: int) -> None:
    """Let the first requests of a client wait a tenth of a second and no longer; a loaded machine answers the next."""
    left = [0.1] * requests

    def shorten(request: Any) -> None:
        if left:
            request.extensions["timeout"] = {**request.extensions["timeout"], "read": left.pop()}

    async def shorten_async(request: Any) -> None:
        shorten(request)

    client._client.event_hooks = {"request": [shorten_async if caller.mode.is_async else shorten]}


def test_a_refused_connection_and_then_an_answer(caller: Caller, run: Run, seen: Captured) -> None:
    caller.script(WELL)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        client = caller.client(max_retries=1, **refused_once(caller, closed.getsockname()[1]))
        run(lambda: caller.call(client))
    record = the_record(seen)
    assert shown(record) == [(None, "connection", None), (200, None, "req_1")]
    assert record.attempts[0].error_type == "ConnectError"
    assert (record.retries, record.outcome) == (1, "success")
    (request,) = caller.provider.requests
    assert request.retry_count == (1 if counts(record) else None)


def refused_once(caller: Caller, port: int) -> dict[str, Any]:
    """Options of a client whose first request goes to a port where nobody listens."""
    sdk = openai if caller.is_openai else anthropic
    ports = [port]

    def redirect(request: Any) -> None:
        if ports:
            request.url = request.url.copy_with(port=ports.pop())

    async def redirect_async(request: Any) -> None:
        redirect(request)

    if caller.mode.is_async:
        return {"http_client": sdk.DefaultAsyncHttpxClient(event_hooks={"request": [redirect_async]})}
    return {"http_client": sdk.DefaultHttpxClient(event_hooks={"request": [redirect]})}


def test_waits_are_those_the_sdk_has_slept(plain: Caller, run: Run, seen: Captured, slept: list[float]) -> None:
    """Without a word of the server: exponential, with jitter."""
    plain.script({"status": 500}, {"status": 503}, WELL)
    run(lambda: plain.call(max_retries=2))
    record = the_record(seen)
    assert len(slept) == 2
    assert [attempt.planned_wait_s for attempt in record.attempts] == [*slept, None]
    assert_log_agrees(record, plain.provider.requests)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the SDKs sleep, noted and slept."""
    waits: list[float] = []
    on_sleep(monkeypatch, waits.append)
    return waits


def on_sleep(monkeypatch: pytest.MonkeyPatch, hear: Callable[[float], None]) -> None:
    """Observe every sleep of the SDKs, just before they really sleep."""

    def sleep(seconds: float) -> None:
        hear(seconds)
        time.sleep(seconds)

    async def async_sleep(seconds: float) -> None:
        hear(seconds)
        await anyio.sleep(seconds)

    for sdk in (openai, anthropic):
        base: Any = sdk._base_client
        monkeypatch.setattr(base, "time", ClockOf(time, sleep))
        monkeypatch.setattr(base, "anyio", ClockOf(anyio, async_sleep))


class ClockOf:
    """A module with another `sleep`."""

    def __init__(self, module: Any, sleep: Any) -> None:
        self._module = module
        self.sleep = sleep

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


@pytest.mark.parametrize("api", ["chat_completions", "messages"])
@pytest.mark.parametrize("shape", ["plain", "stream", "raw"])
def test_cancelled_during_the_wait(
    provider: ScriptedProvider, seen: Captured, monkeypatch: pytest.MonkeyPatch, api: str, shape: str
) -> None:
    mode = Mode("async", provider)
    caller = Caller(mode, api, shape)
    caller.script({"status": 429, "headers": {"retry-after-ms": "20000"}})

    async def body() -> None:
        waits = asyncio.Event()
        on_sleep(monkeypatch, lambda _seconds: waits.set())
        task = asyncio.create_task(caller.call(max_retries=1))
        await waits.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await mode.close()

    asyncio.run(body())
    assert_cancelled_while_waiting(the_record(seen))


@pytest.mark.parametrize("api", ["chat_completions", "messages"])
@pytest.mark.parametrize("shape", ["plain", "stream", "raw"])
def test_interrupted_during_the_wait(
    provider: ScriptedProvider, seen: Captured, monkeypatch: pytest.MonkeyPatch, api: str, shape: str
) -> None:
    """A signal's handler raises while the SDK sleeps."""
    mode = Mode("sync", provider)
    caller = Caller(mode, api, shape)
    caller.script({"status": 429, "headers": {"retry-after-ms": "20000"}})

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def ring() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.02)

    before = signal.signal(signal.SIGALRM, interrupt)
    on_sleep(monkeypatch, lambda _seconds: ring())
    try:
        with pytest.raises(KeyboardInterrupt):
            caller.call(max_retries=1).send(None)
    finally:
        signal.signal(signal.SIGALRM, before)
        asyncio.run(mode.close())
    assert_cancelled_while_waiting(the_record(seen))


def assert_cancelled_while_waiting(record: CallRecord) -> None:
    assert record.outcome == "cancelled"
    (attempt,) = record.attempts
    assert (attempt.status, attempt.planned_wait_s, attempt.wait_s) == (429, 20.0, None)
    assert (record.retries, record.rate_limited) == (0, True)
    assert record.error is not None
    assert record.error.kind == "cancelled"
