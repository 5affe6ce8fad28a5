"""Ends of the SDK's stream reader: how the response was closed, and with which exception."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from callspan.testing import Captured
from tests.intercept import sdks, transports
from tests.intercept.calls import QUESTION, Run, text_of, the_call
from tests.intercept.mode import Mode

LONG = "one two three four five six seven eight nine ten"
REQUESTS: dict[str, dict[str, Any]] = {
    # Who asks for the usage himself has nothing kept from him.
    "openai": {"model": "gpt-5", "messages": QUESTION, "stream_options": {"include_usage": True}},
    "anthropic": {"model": "claude-sonnet-5", "max_tokens": 64, "messages": QUESTION},
}


@pytest.fixture(params=["openai", "anthropic"])
def sdk(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def streamed(mode: Mode, sdk: str, handler: Callable[[Any], Any]) -> Any:
    made = transports.client(mode, sdk, handler)
    create = made.chat.completions.create if sdk == "openai" else made.messages.create
    return await mode.wait(create(**REQUESTS[sdk], stream=True))


def answer(sdk: str) -> Callable[[Any], Any]:
    return transports.answer(sdk, transports.wire_of(sdk, LONG))


def test_an_exception_the_caller_is_handling_is_not_the_streams_error(
    sdk: str, mode: Mode, run: Run, seen: Captured
) -> None:
    """A retry is written in an `except`; the exception handled there is in flight for all that is called in it."""

    async def body() -> None:
        try:
            int("the first try")
        except ValueError:
            await mode.all(await streamed(mode, sdk, answer(sdk)))

    run(body)
    record = the_call(seen)
    assert (record.outcome, record.error, text_of(record)) == ("success", None, LONG)
    assert record.stream is not None
    assert record.stream.end == "complete"


def test_a_task_cancelled_while_the_rest_is_drained_is_cancelled(mode: Mode, run: Run, seen: Captured) -> None:
    """After `[DONE]` the openai SDK reads what is left, and closes the response in there, with that in flight."""
    sdks.needs("openai", "3.51", "draining")
    if not mode.is_async:
        pytest.skip("threads are not cancelled")
    library, wire = sdks.http_of("openai"), transports.wire_of("openai", LONG)

    async def body() -> None:
        reached = asyncio.Event()

        class Endless(library.AsyncByteStream):  # type: ignore[name-defined,misc]
            async def __aiter__(self) -> AsyncIterator[bytes]:
                yield wire
                reached.set()
                await asyncio.sleep(60)

        def handler(request: Any) -> Any:
            return library.Response(200, headers=transports.EVENT_STREAM, stream=Endless())

        async def read() -> None:
            await mode.all(await streamed(mode, "openai", handler))

        task = asyncio.ensure_future(read())
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(body)
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("cancelled", LONG)


class Unclosable:
    """Bytes whose connection cannot be closed at once: it raises, or it takes until somebody gives up."""

    def __init__(self, sdk: str, error: BaseException | None) -> None:
        library, wire = sdks.http_of(sdk), transports.wire_of(sdk, LONG)
        self.closing = asyncio.Event()
        closing = self.closing

        class Pieces(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[name-defined,misc]
            def __iter__(self) -> Iterator[bytes]:
                yield wire

            async def __aiter__(self) -> AsyncIterator[bytes]:
                yield wire

            def close(self) -> None:
                if error is not None:
                    raise error

            async def aclose(self) -> None:
                closing.set()
                if error is not None:
                    raise error
                await asyncio.sleep(60)

        self.handler = lambda request: library.Response(200, headers=transports.EVENT_STREAM, stream=Pieces())


def test_a_stream_closed_while_another_task_closes_it_has_one_end(
    sdk: str, mode: Mode, run: Run, seen: Captured
) -> None:
    """Both are at the same response at once: the reader at its end, and a clean-up."""
    if not mode.is_async:
        pytest.skip("threads are not cancelled")

    async def body() -> None:
        slow = Unclosable(sdk, None)
        stream = await streamed(mode, sdk, slow.handler)
        await mode.next(stream)
        reading = asyncio.ensure_future(mode.all(stream))
        await slow.closing.wait()
        await stream.close()
        assert [record.outcome for record in seen.records] == [], "the reader is still about it"
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    run(body)
    assert the_call(seen).outcome == "cancelled"


def test_the_last_event_read_from_the_response_of_a_stream_is_kept(
    sdk: str, mode: Mode, run: Run, seen: Captured
) -> None:
    """It waits for the next one, which never comes: the application reads bytes, stops, and closes the response."""
    mode.provider.reply(text=LONG)
    read: list[str] = []

    async def body() -> None:
        client = mode.openai() if sdk == "openai" else mode.anthropic()
        create = client.chat.completions.create if sdk == "openai" else client.messages.create
        response = (await mode.wait(create(**REQUESTS[sdk], stream=True))).response
        lines = response.aiter_lines() if mode.is_async else response.iter_lines()
        async for line in mode.items(lines):
            read.append(line)
            if not line and sum("five" in one for one in read):
                break
        await mode.wait(response.aclose() if mode.is_async else response.close())

    run(body)
    record = the_call(seen)
    assert record.outcome == "cancelled"
    assert text_of(record).rstrip().endswith("five")
