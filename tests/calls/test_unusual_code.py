"""Unusual application code around calls behaves the same with and without callspan."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import queue
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest

from callspan.records import CallRecord
from callspan.testing import Captured, ScriptedProvider, capture
from tests.calls import transports
from tests.support.calls import CHAT, QUESTION, Run, Wire, ask, caught, client_of, conversation_of, text_of, the_call
from tests.support.mode import Mode

LONG = "one two three four five six seven eight nine ten"


class UnspeakableError(Exception):
    """Whatever is asked of it, it raises."""

    @property
    def status_code(self) -> int:
        raise ValueError("ask me not")

    @property
    def body(self) -> object:
        raise RuntimeError("ask me not")

    @property
    def request_id(self) -> str:
        raise KeyError("ask me not")

    def __str__(self) -> str:
        raise TypeError("ask me not")

    __repr__ = __str__


class Sign(BaseException):
    """No `Exception`, as exits and interrupts are none."""


RAISED: list[BaseException] = [
    ValueError("odd"), UnspeakableError(), Sign("stop"), KeyboardInterrupt(), SystemExit(3), GeneratorExit(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd"), OSError(5, "odd"), AssertionError(), MemoryError(),
    RecursionError(),
]  # fmt: skip


def family(error: BaseException | None) -> list[str]:
    """The exception and what caused it, by their classes."""
    found: list[str] = []
    while error is not None:
        found.append(type(error).__name__)
        error = error.__cause__
    return found


def as_without_callspan(
    run: Run, body: Callable[[], Awaitable[Any]]
) -> tuple[BaseException | None, BaseException | None, CallRecord]:
    """Run it without and with callspan, and return what each raised, which must be the same, and the record."""
    bare = caught(run, body)
    with capture() as seen:
        ours = caught(run, body)
        record = the_call(seen)
    assert family(ours) == family(bare)
    return bare, ours, record


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_transport_raises_reaches_the_caller_as_without_callspan(
    stream: bool, sdk: str, error: BaseException, mode: Mode, run: Run
) -> None:
    """In place of a response, or after the first half of a stream."""
    begun = transports.wire_of(sdk, LONG).partition(b"six")[0] + b'"}}\n\n'

    def fail(request: Any) -> Any:
        raise error

    async def body() -> None:
        handler = transports.answer(sdk, begun, error) if stream else fail
        result = await mode.wait(ask(transports.client(mode, sdk, handler), stream=stream))
        if stream:
            await mode.all(result)

    bare, ours, record = as_without_callspan(run, body)
    assert (ours is error) == (bare is error)
    if stream:
        assert record.outcome in ("error", "cancelled")
        assert LONG.startswith(text_of(record))
    else:
        assert record.outcome == ("error" if isinstance(error, Exception) else "cancelled")
        assert record.error is not None


def test_a_stream_closed_and_then_read_is_as_without_callspan_and_ends_once(wire: Wire, run: Run) -> None:
    for _ in range(2):
        wire.mode.provider.reply(text=LONG, chunk_delay_s=60)

    async def body() -> None:
        stream = await wire.stream()
        await wire.mode.next(stream)
        await wire.mode.wait(stream.close())
        await wire.mode.all(stream)

    _, _, record = as_without_callspan(run, body)
    assert record.stream is not None
    assert record.stream.end == "closed"


def test_a_stream_may_be_closed_by_another_thread_while_it_is_read(provider: ScriptedProvider, seen: Captured) -> None:
    provider.reply(text=LONG, chunk_delay_s=0.02)
    received: queue.Queue[object] = queue.Queue()
    with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:
        stream = client.chat.completions.create(**CHAT, stream=True)

        def read() -> None:
            with contextlib.suppress(Exception):
                for chunk in stream:
                    received.put(chunk)

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(3):
            received.get(timeout=30)
        stream.close()
        reader.join(30)
    record = the_call(seen)
    assert record.outcome in ("error", "cancelled")
    assert LONG.startswith(text_of(record))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has timeout since Python 3.11")
def test_a_stream_can_continue_after_a_timeout_of_the_caller(provider: ScriptedProvider, seen: Captured) -> None:
    """The SDK's reader is dead after it: what follows is another call."""
    provider.reply(text=LONG, first_token_delay_s=60)
    provider.reply(text="I am well.")

    async def body() -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url) as client:
            stream = await client.chat.completions.create(**CHAT, stream=True)
            await stream.__anext__()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):  # type: ignore[attr-defined,unused-ignore]
                    await stream.__anext__()
            assert [chunk async for chunk in stream] == []
            await client.chat.completions.create(**CHAT)

    asyncio.run(body())
    cut, response = seen.records
    assert (cut.outcome, cut.stream and cut.stream.end) == ("cancelled", "cancelled")
    assert (response.outcome, text_of(response)) == ("success", "I am well.")


def test_a_stream_outlives_its_loop_and_ends_once(provider: ScriptedProvider, seen: Captured) -> None:
    """As in a notebook, or where `asyncio.run` is used once for each step."""
    provider.reply(text=LONG)
    held: list[Any] = []

    async def begin() -> None:
        client = openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url)
        stream = await client.chat.completions.create(**CHAT, stream=True)
        await stream.__anext__()
        held.extend([client, stream])

    asyncio.run(begin())
    held.clear()
    gc.collect()
    assert len(seen.records) == 1


# Trio warns of every generator that is not read to its last item, as the SDKs leave theirs.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", ["plain", "stream", "cancelled"])
def test_calls_under_trio_are_recorded(how: str, sdk: str, provider: ScriptedProvider, seen: Captured) -> None:
    trio = pytest.importorskip("trio", reason="trio is not installed")
    provider.reply(status=429, retry_after_s=0.001)
    provider.reply(text="I am well.", first_token_delay_s=60 if how == "cancelled" else 0)

    async def body() -> None:
        mode = Mode("async", provider)
        result = await ask(client_of(mode, sdk, max_retries=1), stream=how != "plain")
        if how == "stream":
            await mode.all(result)
        if how == "cancelled":
            with trio.move_on_after(0.2) as scope:
                await mode.all(result)
            assert scope.cancelled_caught
        await mode.close()

    trio.run(body)
    record = the_call(seen)
    assert [attempt.status for attempt in record.attempts] == [429, 200]
    if how == "cancelled":
        assert (record.outcome, record.stream and record.stream.end) == ("cancelled", "cancelled")
    else:
        assert (record.outcome, text_of(record)) == ("success", "I am well.")


def test_a_stream_requested_in_extra_body_is_as_without_callspan(mode: Mode, run: Run) -> None:
    """`extra_body` asks for a stream the SDK does not expect, and hands on as text."""

    async def body() -> Any:
        return await mode.wait(mode.openai().chat.completions.create(**CHAT, extra_body={"stream": True}))

    for _ in range(2):
        mode.provider.reply(text="I am well.")
    bare = type(run(body))
    with capture() as seen:
        assert type(run(body)) is bare
        assert the_call(seen).outcome == "success"


@pytest.mark.parametrize("messages", [iter, tuple, lambda given: (dict(one) for one in given)])
def test_messages_may_be_any_iterable(
    sdk: str, stream: bool, messages: Callable[[Any], Any], mode: Mode, run: Run
) -> None:
    """The SDK decides whether it takes them; retries send the same again."""

    async def body() -> Any:
        made = client_of(mode, sdk, max_retries=1)
        result = await mode.wait(ask(made, messages=messages(QUESTION), stream=stream))
        if stream:
            await mode.all(result)

    def outcome() -> list[str]:
        mode.provider.reply(status=429, retry_after_s=0.001)
        before = len(mode.provider.requests)
        raised = family(caught(run, body))
        return raised + [repr(request.body.get("messages")) for request in mode.provider.requests[before:]]

    bare = outcome()
    with capture() as seen:
        assert outcome() == bare
        record = the_call(seen)
    assert record.outcome in ("success", "error")
    if record.outcome == "success":
        assert conversation_of(record).input
