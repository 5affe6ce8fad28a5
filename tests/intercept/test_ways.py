"""Each way to call: its end, error, attempts, number of chunks, request and text."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from callspan.testing import Captured, ScriptedProvider
from tests.intercept.calls import Run, Wire, text_of, the_call
from tests.intercept.mode import Mode

TEXT = "one two three four five six seven"
CHUNKS = {"chat_completions": 9, "responses": 15, "messages": 12}
"""Of the whole stream."""
SECOND = {"chat_completions": "one", "responses": "", "messages": ""}
"""The text of the first two chunks."""
MODELS = {"chat_completions": "gpt-5", "responses": "gpt-5", "messages": "claude-sonnet-5"}


class Expected(NamedTuple):
    """What the record of a way says."""

    end: str | None = "complete"
    """Who ended the stream; None: there was none."""
    chunks: int | None = None
    """None: all."""
    text: str | None = TEXT
    """None: that of the first two chunks."""
    error: str | None = None
    attempts: tuple[int, ...] = (200,)


async def plain(wire: Wire) -> None:
    await wire.mode.wait(wire.create())


async def read_whole(wire: Wire) -> None:
    await wire.mode.all(await wire.stream())


async def left_by_break(wire: Wire) -> None:
    stream = await wire.stream()
    await wire.mode.next(stream)
    del stream
    gc.collect()
    await asyncio.sleep(0)


async def closed(wire: Wire) -> None:
    stream = await wire.stream()
    await wire.mode.next(stream)
    await wire.mode.wait(stream.close())


async def closed_by_with(wire: Wire) -> None:
    async with wire.mode.entered(await wire.stream()) as stream:
        await wire.mode.next(stream)


async def never_read(wire: Wire) -> None:
    stream = await wire.stream()
    del stream
    gc.collect()


async def error_of_the_application(wire: Wire) -> None:
    async def read() -> None:
        stream = await wire.stream()
        await wire.mode.next(stream)
        await wire.mode.next(stream)
        raise KeyError("of the application")

    with contextlib.suppress(KeyError):
        await read()
    gc.collect()


async def cancelled_between_chunks(wire: Wire) -> None:
    if not wire.mode.is_async:
        pytest.skip("threads are not cancelled")
    is_reading = asyncio.Event()

    async def read() -> None:
        async for _ in await wire.stream():
            is_reading.set()
            await asyncio.sleep(60)

    task = asyncio.ensure_future(read())
    await is_reading.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    del task
    gc.collect()


async def retried(wire: Wire) -> None:
    await plain(wire)


async def refused(wire: Wire) -> None:
    with pytest.raises(Exception, match="400"):
        await plain(wire)


async def broken(wire: Wire) -> None:
    with pytest.raises(Exception, match=r"\w"):
        await read_whole(wire)


Act = Callable[[Wire], Awaitable[None]]
WAYS: dict[Act, Expected] = {
    plain: Expected(end=None),
    read_whole: Expected(),
    left_by_break: Expected("closed", 1, ""),
    closed: Expected("closed", 1, ""),
    closed_by_with: Expected("closed", 1, ""),
    never_read: Expected("closed", 0, ""),
    error_of_the_application: Expected("closed", 2, None),
    cancelled_between_chunks: Expected("closed", 1, ""),
    retried: Expected(end=None, attempts=(429, 500, 200)),
    refused: Expected(None, 0, "", "BadRequestError", (400,)),
}


@pytest.fixture(params=list(CHUNKS))
def wire(request: pytest.FixtureRequest, mode: Mode) -> Wire:
    return Wire(request.param, mode)


def check(seen: Captured, expected: Expected, api: str) -> None:
    record = the_call(seen)
    chunks = CHUNKS[api] if expected.chunks is None else expected.chunks
    assert (None if record.stream is None else record.stream.end) == expected.end
    assert record.stream is None or record.stream.chunks == chunks
    text = text_of(record) if record.response is not None and record.response.body else ""
    assert text == (SECOND[api] if expected.text is None else expected.text)
    assert (record.error and (record.error.exception or "").rpartition(".")[2]) == expected.error
    assert tuple(attempt.status for attempt in record.attempts) == expected.attempts
    assert json.loads(bytes(record.request.body))["model"] == MODELS[api]


@pytest.mark.parametrize(("way", "expected"), WAYS.items(), ids=[way.__name__ for way in WAYS])
def test_each_way_ends_as_the_table_says(way: Act, expected: Expected, wire: Wire, run: Run, seen: Captured) -> None:
    for status in expected.attempts:
        wire.mode.provider.reply(**({"text": TEXT} if status == 200 else {"status": status, "retry_after_s": 0.001}))
    retries = {"max_retries": len(expected.attempts) - 1}
    wire.mode = _Retrying(wire.mode.name, wire.mode.provider, retries)
    run(lambda: _acted(way, wire))
    check(seen, expected, wire.api)


class _Retrying(Mode):
    def __init__(self, name: str, provider: ScriptedProvider, options: dict[str, Any]) -> None:
        super().__init__(name, provider)
        self._options = options

    def openai(self, **options: Any) -> Any:
        return super().openai(**self._options, **options)

    def anthropic(self, **options: Any) -> Any:
        return super().anthropic(**self._options, **options)


async def _acted(way: Act, wire: Wire) -> None:
    try:
        await way(wire)
    finally:
        await wire.mode.close()


def test_a_stream_that_breaks_off_keeps_what_came(wire: Wire, run: Run, seen: Captured) -> None:
    wire.mode.provider.reply(text=TEXT, cut_after=4)
    received: list[object] = []

    async def body() -> None:
        async for item in wire.mode.items(await wire.stream()):
            received.append(item)

    with pytest.raises(Exception, match=r"\w"):
        run(body)
    record = the_call(seen)
    assert record.stream is not None
    assert (record.outcome, record.stream.end, record.stream.chunks) == ("error", "error", len(received))
    assert received


def test_an_error_event_is_the_error_of_the_stream(wire: Wire, run: Run, seen: Captured) -> None:
    wire.mode.provider.reply(text=TEXT, error_after=4)
    run(lambda: broken(wire))
    record = the_call(seen)
    assert record.stream is not None
    assert (record.outcome, record.stream.end) == ("error", "error")
    assert record.error is not None


async def raw(client: Any, mode: Mode) -> None:
    await mode.wait(client.with_raw_response.create(**CHAT))


async def raw_parsed(client: Any, mode: Mode) -> None:
    await mode.wait((await mode.wait(client.with_raw_response.create(**CHAT))).parse())


async def raw_stream_parsed(client: Any, mode: Mode) -> None:
    answer = await mode.wait(client.with_raw_response.create(**CHAT, stream=True))
    await mode.all(await mode.wait(answer.parse()))


async def streaming_parsed(client: Any, mode: Mode) -> None:
    async with mode.entered(client.with_streaming_response.create(**CHAT)) as answer:
        await mode.wait(answer.parse())


async def streaming_lines(client: Any, mode: Mode) -> None:
    async with mode.entered(client.with_streaming_response.create(**CHAT)) as answer:
        await mode.all(answer.iter_lines())


async def streaming_lines_of_events(client: Any, mode: Mode) -> None:
    async with mode.entered(client.with_streaming_response.create(**CHAT, stream=True)) as answer:
        await mode.all(answer.iter_lines())


CHAT: dict[str, Any] = {"model": "gpt-5", "messages": [{"role": "user", "content": "How are you?"}]}
RAW: dict[Callable[[Any, Mode], Awaitable[None]], Expected] = {
    raw: Expected(end=None),
    raw_parsed: Expected(end=None),
    raw_stream_parsed: Expected(),
    streaming_parsed: Expected(end=None),
    streaming_lines: Expected(end=None),
    streaming_lines_of_events: Expected(),
}


@pytest.mark.parametrize(("way", "expected"), RAW.items(), ids=[way.__name__ for way in RAW])
def test_each_way_to_read_a_raw_response_ends_as_the_table_says(
    way: Callable[[Any, Mode], Awaitable[None]], expected: Expected, mode: Mode, run: Run, seen: Captured
) -> None:
    mode.provider.reply(text=TEXT)
    run(lambda: way(mode.openai().chat.completions, mode))
    check(seen, expected, "chat_completions")
