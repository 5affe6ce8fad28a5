"""Streams of every ending leave nothing behind that the SDK would not have left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

import callspan
from callspan.intercept.watch import Watch
from callspan.observe.live_call import LiveCall
from callspan.testing import capture
from tests.intercept import sdks

pytestmark = pytest.mark.slow

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


def transport(sdk: str, body: bytes) -> Any:
    """No network: the streams are what is looked at."""
    library = sdks.http_of(sdk)
    headers = {"content-type": "text/event-stream"}

    class Pieces(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[name-defined,misc]
        def __iter__(self) -> Iterator[bytes]:
            yield from body.splitlines(keepends=True)

        async def __aiter__(self) -> Any:
            for piece in body.splitlines(keepends=True):
                yield piece

    return library.MockTransport(lambda request: library.Response(200, headers=headers, stream=Pieces()))


def read_to_the_end(stream: Any) -> None:
    for _ in stream:
        pass


def break_off(stream: Any) -> None:
    for _ in stream:
        break


def close(stream: Any) -> None:
    next(stream)
    stream.close()


def leave_with(stream: Any) -> None:
    with stream:
        next(stream)


def never_read(stream: Any) -> None:
    del stream


def raise_within(stream: Any) -> None:
    with contextlib.suppress(KeyError), stream:
        {}["raised by the consumer"]


ENDINGS: list[Callable[[Any], None]] = [read_to_the_end, break_off, close, leave_with, never_read, raise_within]


def streams(sdk: str, ending: Callable[[Any], None], count: int) -> None:
    if sdk == "openai":
        http = sdks.http_of(sdk).Client(transport=transport(sdk, CHAT_BODY))
        with openai.OpenAI(api_key="k", http_client=http) as client:
            for _ in range(count):
                ending(client.chat.completions.create(**CHAT, stream=True))
    else:
        http = sdks.http_of(sdk).Client(transport=transport(sdk, MESSAGE_BODY))
        with anthropic.Anthropic(api_key="k", http_client=http) as claude:
            for _ in range(count):
                ending(claude.messages.create(**MESSAGE, stream=True))


def alive(sdk: str) -> Counter[str]:
    """How many objects of ours and of the SDK's are alive that belong to single calls."""
    library = sdks.http_of(sdk)
    module = openai if sdk == "openai" else anthropic
    kinds: tuple[type, ...] = (LiveCall, Watch, library.Response, library.Request, module.Stream)
    gc.collect()
    return Counter(type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, kinds))


def left_by(sdk: str, ending: Callable[[Any], None], count: int) -> Counter[str]:
    streams(sdk, ending, 3)
    before = alive(sdk)
    streams(sdk, ending, count)
    return alive(sdk) - before


@pytest.fixture
def instrumented() -> Iterator[callspan.Handle]:
    handle = callspan.instrument(tracer_provider=TracerProvider(), meter_provider=MeterProvider())
    yield handle
    handle.uninstrument()


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__)
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_streams_leave_nothing_behind(
    sdk: str, ending: Callable[[Any], None], count: int, instrumented: callspan.Handle
) -> None:
    def settled() -> Counter[str]:
        left = left_by(sdk, ending, count)
        instrumented.force_flush(10)
        return left if not left else left & alive(sdk)

    assert not {name: number for name, number in settled().items() if number > 2}


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__)
def test_a_response_dies_as_soon_as_without_us(ending: Callable[[Any], None]) -> None:
    """By reference counts where the SDK alone would, without waiting for the collector."""

    def dies_at_once() -> bool:
        http = sdks.http_of("openai").Client(transport=transport("openai", CHAT_BODY))
        with openai.OpenAI(api_key="k", http_client=http) as client:
            gc.collect()
            gc.disable()
            try:
                stream = client.chat.completions.create(**CHAT, stream=True)
                seen = weakref.ref(stream.response)
                ending(stream)
                del stream
                return seen() is None
            finally:
                gc.enable()

    bare = dies_at_once()
    with capture() as captured:
        ours = dies_at_once()
        gc.collect()
        assert len(captured.records) == 1
    assert ours or not bare


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


def test_the_event_loop_complains_no_more_than_without_us() -> None:
    """Dropped and cancelled async streams: no `Task exception was never retrieved`, no noise of finalizers."""

    def complaints() -> int:
        heard: list[Any] = []

        async def body() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(context))
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
        return len(heard)

    bare = max(complaints() for _ in range(3))
    with capture():
        assert complaints() <= bare + 1
