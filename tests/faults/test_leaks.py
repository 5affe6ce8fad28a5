"""Streams with any ending leave no more objects and tasks behind than the SDK itself.

At full scale thousands of streams of every ending, not of two only.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anthropic
import openai
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

import callspan
from callspan.agent.episode import forgotten
from callspan.intercept.request import OpenCall
from callspan.intercept.responses import ResponseObserver
from callspan.observe.call import Call
from callspan.records import new_id
from callspan.testing import capture
from tests.intercept import sdks
from tests.intercept.mode import Mode
from tests.scale import scaled

CHAT: dict[str, Any] = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
MESSAGE: dict[str, Any] = {**CHAT, "max_tokens": 9}
CHUNK = (
    b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n'
)
CHAT_BODY = CHUNK % b"one" + CHUNK % b"two" + CHUNK % b"three" + b"data: [DONE]\n\n"
MESSAGE_BODY = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant",'
    b'"model":"c","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}}'
    b'\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
)
ERROR_EVENT = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"no"}}\n\n'


class Cut(NamedTuple):
    """How the wire deviates after its first event."""

    then: bytes | str = b""
    """Bytes in place of the rest; `raise`: an exception of the HTTP library; `hang`: nothing ever."""


def transport(sdk: str, body: bytes, cut: Cut | None = None) -> Any:
    """No network: the streams are what is looked at."""
    library = sdks.http_of(sdk)
    headers = {"content-type": "text/event-stream"}
    first, end, rest = body.partition(b"\n\n")

    class Pieces(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[name-defined,misc]
        def __iter__(self) -> Iterator[bytes]:
            yield first + end
            if cut is None:
                yield from rest.splitlines(keepends=True)
            elif isinstance(cut.then, bytes):
                yield cut.then
            elif cut.then == "raise":
                raise library.ReadError("cut")

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in self:
                yield piece
            if cut is not None and cut.then == "hang":
                await asyncio.Event().wait()

    return library.MockTransport(lambda request: library.Response(200, headers=headers, stream=Pieces()))


class Asking:
    """A client of one SDK and colour, and its streaming method."""

    def __init__(self, mode: Mode, sdk: str, cut: Cut | None) -> None:
        self.mode = mode
        self.sdk = sdk
        library = sdks.http_of(sdk)
        kind = library.AsyncClient if mode.is_async else library.Client
        http = kind(transport=transport(sdk, CHAT_BODY if sdk == "openai" else MESSAGE_BODY, cut))
        classes: dict[tuple[str, bool], Any] = {
            ("openai", False): openai.OpenAI, ("openai", True): openai.AsyncOpenAI,
            ("anthropic", False): anthropic.Anthropic, ("anthropic", True): anthropic.AsyncAnthropic,
        }  # fmt: skip
        self.client = classes[sdk, mode.is_async](api_key="k", http_client=http, max_retries=0)
        self.resource = self.client.chat.completions if sdk == "openai" else self.client.messages
        self.request = CHAT if sdk == "openai" else MESSAGE

    async def stream(self) -> Any:
        return await self.mode.wait(self.resource.create(**self.request, stream=True))


async def read_to_the_end(asking: Asking) -> None:
    await asking.mode.all(await asking.stream())


async def break_off(asking: Asking) -> None:
    async for _ in asking.mode.items(await asking.stream()):
        break


async def break_and_resume(asking: Asking) -> None:
    stream = await asking.stream()
    await asking.mode.next(stream)
    await asking.mode.all(stream)


async def close(asking: Asking) -> None:
    stream = await asking.stream()
    await asking.mode.next(stream)
    await asking.mode.wait(stream.close())
    await asking.mode.wait(stream.close())


async def leave_with(asking: Asking) -> None:
    async with asking.mode.entered(await asking.stream()) as stream:
        await asking.mode.next(stream)


async def never_read(asking: Asking) -> None:
    await asking.stream()


async def raise_within(asking: Asking) -> None:
    with contextlib.suppress(KeyError):
        async with asking.mode.entered(await asking.stream()):
            {}["raised by the consumer"]


async def fail(asking: Asking) -> None:
    with contextlib.suppress(Exception):
        await asking.mode.all(await asking.stream())


async def cancel(asking: Asking) -> None:
    task = asyncio.ensure_future(asking.mode.all(await asking.stream()))
    for _ in range(4):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def drop_raw(asking: Asking) -> None:
    await asking.mode.wait(asking.resource.with_raw_response.create(**asking.request, stream=True))


async def leave_streaming_unread(asking: Asking) -> None:
    async with asking.mode.entered(asking.resource.with_streaming_response.create(**asking.request, stream=True)):
        pass


async def break_lines(asking: Asking) -> None:
    manager = asking.resource.with_streaming_response.create(**asking.request, stream=True)
    async with asking.mode.entered(manager) as response:
        async for _ in asking.mode.items(response.iter_lines()):
            break


async def read_response(asking: Asking) -> None:
    response = (await asking.stream()).response
    await (response.aread() if asking.mode.is_async else asking.mode.wait(response.read()))


class Ending(NamedTuple):
    """What a caller does with one stream, and how its wire deviates."""

    act: Callable[[Asking], Awaitable[None]]
    cut: Cut | None = None
    only_async: bool = False


ENDINGS = {
    "read to the end": Ending(read_to_the_end),
    "broken off": Ending(break_off),
    "broken off and resumed": Ending(break_and_resume),
    "closed twice": Ending(close),
    "left with its block": Ending(leave_with),
    "never read": Ending(never_read),
    "exception of the consumer": Ending(raise_within),
    "error event": Ending(fail, Cut(ERROR_EVENT)),
    "connection cut": Ending(fail, Cut("raise")),
    "no terminal event": Ending(read_to_the_end, Cut()),
    "broken json": Ending(fail, Cut(b"data: {\n\n")),
    "cancelled": Ending(cancel, Cut("hang"), only_async=True),
    "raw and dropped": Ending(drop_raw),
    "streaming response unread": Ending(leave_streaming_unread),
    "lines broken off": Ending(break_lines),
    "response read by the caller": Ending(read_response),
}

MANY_TIMES = scaled(("read to the end", "never read"), tuple(ENDINGS))
"""Endings of which a rare leak is looked for, too."""


async def streams(mode: Mode, sdk: str, ending: Ending, count: int) -> None:
    asking = Asking(mode, sdk, ending.cut)
    for _ in range(count):
        await ending.act(asking)
    await mode.wait(asking.client.close())


def alive(sdk: str) -> Counter[str]:
    """How many objects of ours and of the SDK's are alive that belong to single calls."""
    library = sdks.http_of(sdk)
    module: Any = openai if sdk == "openai" else anthropic
    kinds = (Call, OpenCall, ResponseObserver, library.Response, library.Request, module.Stream, module.AsyncStream)
    gc.collect()
    return Counter(type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, kinds))


def left_by(mode: Mode, sdk: str, ending: Ending, count: int, handle: callspan.Handle) -> Counter[str]:
    """What so many streams leave that three do not."""

    def after(number: int) -> Counter[str]:
        asyncio.run(streams(mode, sdk, ending, number))
        # What the collector finds is ended by a thread of ours.
        gc.collect()
        assert handle.force_flush(30_000)
        return alive(sdk)

    before = after(3)
    return after(count) - before


@pytest.fixture
def instrumented() -> Iterator[callspan.Handle]:
    handle = callspan.instrument(tracer_provider=TracerProvider(), meter_provider=MeterProvider())
    yield handle
    handle.uninstrument()


# All: 10,000 of each ending, a quarter of them for each SDK in each colour.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("ending", "count"),
    [
        *((ending, 100) for ending in ENDINGS),
        *(pytest.param(ending, 2_500, marks=pytest.mark.timeout(600)) for ending in MANY_TIMES),
    ],
)
@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_streams_leave_nothing_behind(
    sdk: str, colour: str, ending: str, count: int, instrumented: callspan.Handle
) -> None:
    if ENDINGS[ending].only_async and colour == "sync":
        pytest.skip("threads are not cancelled")
    mode = Mode(colour, None)  # type: ignore[arg-type] # the transport answers
    left = left_by(mode, sdk, ENDINGS[ending], count, instrumented)
    assert not {name: number for name, number in left.items() if number > 2}


@pytest.mark.parametrize("ending", [name for name, ending in ENDINGS.items() if not ending.only_async])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_response_is_collected_as_early_as_without_callspan(colour: str, ending: str) -> None:
    """By reference counts where the SDK alone would, without waiting for the collector."""
    born: list[weakref.ref[Any]] = []

    class Noting(Asking):
        async def stream(self) -> Any:
            stream = await super().stream()
            born.append(weakref.ref(stream.response))
            return stream

    async def dies_at_once() -> bool:
        asking = Noting(Mode(colour, None), "openai", ENDINGS[ending].cut)  # type: ignore[arg-type]
        gc.collect()
        gc.disable()
        try:
            await ENDINGS[ending].act(asking)
            return not born or born.pop()() is None
        finally:
            gc.enable()
            await asking.mode.wait(asking.client.close())

    bare = asyncio.run(dies_at_once())
    with capture() as captured:
        ours = asyncio.run(dies_at_once())
        gc.collect()
        assert len(captured.records) == 1
    assert ours or not bare


def test_what_is_opened_and_closed_again_and_again_leaves_nothing_behind(tmp_path: Path) -> None:
    """Stores, segments and hooks; what is kept on purpose for later rewards is forgotten first."""
    stores = [f"sqlite:///{tmp_path}/calls.db", f"jsonl:///{tmp_path}/calls.jsonl"]
    client = openai.OpenAI(
        api_key="k", http_client=sdks.http_of("openai").Client(transport=transport("openai", CHAT_BODY))
    )

    def cycle() -> None:
        handle = callspan.instrument(stores=stores, spool_dir=tmp_path / "spool", spool_max_bytes=32_000)
        with callspan.session(session_id=new_id()), callspan.timestep():
            for _ in range(5):
                list(client.chat.completions.create(**CHAT, stream=True))
        assert handle.force_flush(30_000)
        handle.uninstrument()

    def after(cycles: int) -> Counter[str]:
        with forgotten():
            for _ in range(cycles):
                cycle()
        gc.collect()
        return Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.get_objects())

    after(5)
    before, count = after(1), 30
    left = after(count) - before
    assert not {name: number for name, number in left.items() if number >= count}


def test_collecting_while_a_lock_of_the_sdk_is_held_does_not_hang() -> None:
    """A finalizer may run anywhere, also where its thread holds the lock that ending a span takes."""
    provider = TracerProvider()
    done = threading.Event()

    def work() -> None:
        with provider.get_tracer("t").start_as_current_span("held") as span:
            http = sdks.http_of("openai").Client(transport=transport("openai", CHAT_BODY))
            client = openai.OpenAI(api_key="k", http_client=http)
            for _ in range(5):
                stream = client.chat.completions.create(**CHAT, stream=True)
                next(stream)
                with span._lock:  # type: ignore[attr-defined]
                    del stream
                    gc.collect()
            client.close()
        done.set()

    handle = callspan.instrument(tracer_provider=provider, meter_provider=MeterProvider())
    try:
        threading.Thread(target=work, daemon=True).start()
        assert done.wait(60), "a finalizer waits for a lock its own thread holds"
    finally:
        handle.uninstrument()


def test_the_event_loop_reports_no_more_than_without_callspan() -> None:
    """Dropped and cancelled async streams: no `Task exception was never retrieved`, no noise of finalizers."""

    def complaints() -> int:
        reported: list[Any] = []

        async def body() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
            http = sdks.http_of("openai").AsyncClient(transport=transport("openai", CHAT_BODY))
            async with openai.AsyncOpenAI(api_key="k", http_client=http) as client:
                for _ in range(20):
                    stream = await client.chat.completions.create(**CHAT, stream=True)
                    async for _ in stream:
                        break
                    del stream
                    gc.collect()
                    await asyncio.sleep(0)

        asyncio.run(body())
        gc.collect()
        return len(reported)

    bare = max(complaints() for _ in range(3))
    with capture():
        assert complaints() <= bare + 1
