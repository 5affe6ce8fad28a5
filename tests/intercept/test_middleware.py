"""Middleware of the anthropic SDK (public since 0.125) that passes, responds, calls twice, replaces or raises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from callspan.testing import Captured
from tests.intercept import sdks
from tests.intercept.calls import QUESTION, Run, text_of, the_call
from tests.intercept.mode import Mode

MESSAGE: dict[str, Any] = {"model": "claude-sonnet-5", "max_tokens": 64, "messages": QUESTION}


@pytest.fixture(autouse=True)
def _middleware() -> None:
    sdks.needs("anthropic", "0.125", "middleware")


def client(mode: Mode, behaviour: Callable[[Any, Callable[[], Awaitable[Any]]], Awaitable[Any]]) -> Any:
    """A client whose middleware behaves so; the body is written once, for both colours."""

    async def handle_async(request: Any, call_next: Any) -> Any:
        return await behaviour(request, lambda: call_next(request))

    def handle(request: Any, call_next: Any) -> Any:
        async def later() -> Any:
            return call_next(request)

        step = behaviour(request, later)
        try:
            step.send(None)  # type: ignore[attr-defined] # a coroutine that awaits nothing but `later`
        except StopIteration as done:
            return done.value
        raise AssertionError("a sync middleware cannot wait")

    return mode.anthropic(middleware=[handle_async if mode.is_async else handle])


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_middleware_that_passes_changes_nothing(stream: bool, mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text="I am well.")

    async def passes(request: Any, call_next: Any) -> Any:
        return await call_next()

    async def body() -> None:
        result = await mode.wait(client(mode, passes).messages.create(**MESSAGE, stream=stream))
        if stream:
            await mode.all(result)

    run(body)
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("success", "I am well.")
    assert len(record.attempts) == 1


def test_a_middleware_that_answers_itself_is_a_call_without_attempts(mode: Mode, run: Run, seen: Captured) -> None:
    from anthropic.types import Message, TextBlock, Usage

    kept = Message(
        id="msg_kept", type="message", role="assistant", model="claude-sonnet-5", stop_reason="end_turn",
        content=[TextBlock(type="text", text="From the cache.")], usage=Usage(input_tokens=3, output_tokens=4),
    )  # fmt: skip

    async def answers(request: Any, call_next: Any) -> Any:
        return kept

    result = run(lambda: mode.wait(client(mode, answers).messages.create(**MESSAGE)))
    assert result is kept
    assert mode.provider.requests == []
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("success", "From the cache.")
    assert record.usage is not None
    assert record.usage.input_tokens == 3
    assert record.attempts == []


def test_a_middleware_that_calls_twice_is_one_call_with_two_attempts(mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text="first", input_tokens=5, output_tokens=1)
    mode.provider.reply(text="second", input_tokens=6, output_tokens=2)

    async def twice(request: Any, call_next: Any) -> Any:
        await call_next()
        return await call_next()

    run(lambda: mode.wait(client(mode, twice).messages.create(**MESSAGE)))
    record = the_call(seen)
    assert text_of(record) == "second", "what the caller got"
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (6, 2), "of the answer that the caller got"
    assert [one.status for one in record.attempts] == [200, 200]
    assert record.retries == 0


def test_a_middleware_that_calls_twice_on_a_stream_shows_the_stream_the_caller_reads(
    mode: Mode, run: Run, seen: Captured
) -> None:
    mode.provider.reply(text="first answer")
    mode.provider.reply(text="second answer")

    async def twice(request: Any, call_next: Any) -> Any:
        first = await call_next()
        await mode.wait(first.close())
        return await call_next()

    async def body() -> None:
        await mode.all(await mode.wait(client(mode, twice).messages.create(**MESSAGE, stream=True)))

    run(body)
    record = the_call(seen)
    assert record.outcome == "success"
    assert text_of(record) == "second answer"
    assert len(record.attempts) == 2


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_middleware_that_replaces_the_response_is_followed(
    stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    """A new HTTP response in place of the one that came: a copy of its bytes under another object."""
    library = sdks.http_of("anthropic")
    mode.provider.reply(text="I am well.")

    async def replaces(request: Any, call_next: Any) -> Any:
        came = await call_next()
        old = came.http_response
        content = (await old.aread()) if mode.is_async else old.read()
        headers = {"content-type": old.headers["content-type"]}
        came.http_response = library.Response(200, headers=headers, content=content, request=old.request)
        return came

    async def body() -> None:
        result = await mode.wait(client(mode, replaces).messages.create(**MESSAGE, stream=stream))
        if stream:
            await mode.all(result)

    run(body)
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("success", "I am well.")
