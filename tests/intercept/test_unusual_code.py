"""Unusual application code around calls behaves the same with and without callspan."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import gc
import json
import queue
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from callspan.records import CallRecord
from callspan.testing import Captured, ScriptedProvider, capture
from tests.intercept import sdks, transports
from tests.intercept.mode import Mode
from tests.intercept.test_endings import QUESTION, Wire, text_of, the_call

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
CHAT: dict[str, Any] = {"model": "gpt-5", "messages": QUESTION}
MESSAGE: dict[str, Any] = {"model": "claude-sonnet-5", "max_tokens": 64, "messages": QUESTION}
LONG = "one two three four five six seven eight nine ten"


@pytest.fixture(params=["chat_completions", "responses", "messages"])
def wire(request: pytest.FixtureRequest, mode: Mode) -> Wire:
    return Wire(request.param, mode)


# Exceptions


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
ids = {"ids": lambda error: type(error).__name__}


def caught(run: Run, body: Callable[[], Awaitable[Any]]) -> BaseException | None:
    """Return what reaches the caller; caught within the loop, because a loop does not hand every exception on."""

    async def catching() -> BaseException | None:
        try:
            await body()
        except BaseException as error:  # noqa: BLE001 - the very object is looked at
            return error
        return None

    found: BaseException | None = run(catching)
    return found


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


@pytest.mark.parametrize("error", RAISED, **ids)
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_whatever_a_transport_raises_reaches_the_caller_as_without_callspan(
    sdk: str, error: BaseException, mode: Mode, run: Run
) -> None:
    def handler(request: Any) -> Any:
        raise error

    async def body() -> None:
        made = transports.client(mode, sdk, handler)
        create = made.chat.completions.create if sdk == "openai" else made.messages.create
        await mode.wait(create(**(CHAT if sdk == "openai" else MESSAGE)))

    bare, ours, record = as_without_callspan(run, body)
    assert (ours is error) == (bare is error)
    assert record.outcome == ("error" if isinstance(error, Exception) else "cancelled")
    assert record.error is not None


@pytest.mark.parametrize("error", RAISED, **ids)
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_whatever_a_stream_raises_reaches_the_caller_as_without_callspan(
    sdk: str, error: BaseException, mode: Mode, run: Run
) -> None:
    begun = transports.wire_of(sdk, LONG).partition(b"six")[0] + b'"}}\n\n'

    async def body() -> None:
        made = transports.client(mode, sdk, transports.answer(sdk, begun, error))
        create = made.chat.completions.create if sdk == "openai" else made.messages.create
        await mode.all(await mode.wait(create(**(CHAT if sdk == "openai" else MESSAGE), stream=True)))

    bare, ours, record = as_without_callspan(run, body)
    assert (ours is error) == (bare is error)
    assert record.outcome in ("error", "cancelled")
    assert LONG.startswith(text_of(record))


@pytest.mark.parametrize("how", ["end", "close", "drop", "leave"])
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_a_connection_that_cannot_be_closed_raises_as_without_callspan(
    sdk: str, how: str, mode: Mode, run: Run
) -> None:
    library = sdks.http_of(sdk)
    sent = transports.wire_of(sdk, LONG)

    class Stuck(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[name-defined,misc]
        def __iter__(self) -> Iterator[bytes]:
            yield from sent.splitlines(keepends=True)

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in sent.splitlines(keepends=True):
                yield piece

        def close(self) -> None:
            raise OSError("the connection cannot be closed")

        async def aclose(self) -> None:
            self.close()

    async def body() -> None:
        handler = lambda request: library.Response(200, headers=transports.EVENT_STREAM, stream=Stuck())  # noqa: E731
        made = transports.client(mode, sdk, handler)
        create = made.chat.completions.create if sdk == "openai" else made.messages.create
        stream = await mode.wait(create(**(CHAT if sdk == "openai" else MESSAGE), stream=True))
        if how == "end":
            await mode.all(stream)
        elif how == "close":
            await mode.next(stream)
            await mode.wait(stream.close())
        elif how == "leave":
            async with mode.entered(stream):
                await mode.next(stream)

    bare = caught(run, body)
    with capture() as seen:
        ours = caught(run, body)
        gc.collect()
        record = the_call(seen)
    assert family(ours) == family(bare)
    assert record.stream is not None


def test_an_exception_of_the_callers_own_exit_passes(wire: Wire, run: Run, seen: Captured) -> None:
    class Leaving:
        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            raise LookupError("raised by __exit__")

    async def body() -> None:
        async with wire.mode.entered(await wire.stream()) as stream:
            with Leaving():
                await wire.mode.next(stream)

    assert family(caught(run, body)) == ["LookupError"]
    record = the_call(seen)
    assert record.stream is not None
    assert (record.outcome, record.stream.end) == ("cancelled", "closed")


# Streams


def test_two_iterators_over_one_stream_share_it(wire: Wire, run: Run, seen: Captured) -> None:
    wire.mode.provider.reply(text=LONG)

    async def body() -> None:
        stream = await wire.stream()
        one, other = wire.mode.items(stream), wire.mode.items(stream)
        for _ in range(3):
            await one.__anext__()
            await other.__anext__()
        async for _ in other:
            pass
        with pytest.raises(StopAsyncIteration):
            await one.__anext__()

    run(body)
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("success", LONG)


def test_dropping_an_iterator_does_not_end_the_stream(wire: Wire, run: Run, seen: Captured) -> None:
    wire.mode.provider.reply(text=LONG)

    async def body() -> None:
        stream = await wire.stream()
        first = wire.mode.items(stream)
        await first.__anext__()
        await first.aclose()  # type: ignore[attr-defined] # a generator of the test's
        del first
        gc.collect()
        assert seen.records == []
        await wire.mode.all(stream)

    run(body)
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("success", LONG)


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


def test_the_response_of_a_stream_read_whole_is_a_complete_call(wire: Wire, run: Run, seen: Captured) -> None:
    wire.mode.provider.reply(text=LONG)

    async def body() -> bytes:
        response = (await wire.stream()).response
        return await response.aread() if wire.mode.is_async else response.read()

    assert b"ten" in run(body)
    record = the_call(seen)
    assert record.stream is not None
    assert (record.stream.end, record.stream.complete, text_of(record)) == ("complete", True, LONG)


def test_the_response_of_a_stream_read_in_part_keeps_that_part(wire: Wire, run: Run, seen: Captured) -> None:
    wire.mode.provider.reply(text=LONG)

    async def body() -> None:
        response = (await wire.stream()).response
        lines = response.aiter_lines() if wire.mode.is_async else response.iter_lines()
        async for line in wire.mode.items(lines):
            if "six" in line:
                break
        del lines
        gc.collect()
        await (response.aclose() if wire.mode.is_async else wire.mode.wait(response.close()))

    run(body)
    gc.collect()
    # The last event waits for the next piece: who reads may show it himself.
    assert text_of(the_call(seen)).startswith("one two three four five")


def test_the_response_of_a_stream_closed_directly_ends_it(wire: Wire, run: Run, seen: Captured) -> None:
    wire.mode.provider.reply(text=LONG)

    async def body() -> None:
        stream = await wire.stream()
        for _ in range(6):
            await wire.mode.next(stream)
        await (stream.response.aclose() if wire.mode.is_async else wire.mode.wait(stream.response.close()))

    run(body)
    record = the_call(seen)
    assert record.stream is not None
    assert record.stream.end == "closed"
    assert text_of(record)


def test_closing_a_client_during_a_stream_works_as_without_callspan(wire: Wire, run: Run) -> None:
    for _ in range(2):
        wire.mode.provider.reply(text=LONG, chunk_delay_s=60)

    async def body() -> None:
        stream = await wire.stream()
        await wire.mode.next(stream)
        await wire.mode.close()
        await wire.mode.all(stream)

    bare, _, record = as_without_callspan(run, body)
    assert record.outcome == ("success" if bare is None else "error")


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


def test_a_generator_around_a_stream_may_be_closed_by_another_thread(
    provider: ScriptedProvider, seen: Captured
) -> None:
    provider.reply(text=LONG)
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:

        def words() -> Iterator[str]:
            with client.chat.completions.create(**CHAT, stream=True) as stream:
                for chunk in stream:
                    yield chunk.choices[0].delta.content or ""

        generator = words()
        for _ in range(4):
            next(generator)
        closer = threading.Thread(target=generator.close)
        closer.start()
        closer.join(30)
    record = the_call(seen)
    assert record.stream is not None
    assert record.stream.end == "closed"
    assert text_of(record)


class Gate:
    """Where a stream stands still amid its answer, until it is let through."""

    def __init__(self, sdk: str) -> None:
        self.inside, self.open = threading.Event(), threading.Event()
        library, gate = sdks.http_of(sdk), self
        begun, word, rest = transports.wire_of(sdk, LONG).partition(b"data: {")
        first, end, rest = rest.partition(b"\n\n")

        class Pieces(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[name-defined,misc]
            def __iter__(self) -> Iterator[bytes]:
                yield begun + word + first + end
                gate.inside.set()
                assert gate.open.wait(30)
                yield rest

            async def __aiter__(self) -> AsyncIterator[bytes]:
                yield begun + word + first + end
                gate.inside.set()
                while not gate.open.is_set():
                    await asyncio.sleep(0.01)
                yield rest

        self.handler = lambda request: library.Response(200, headers=transports.EVENT_STREAM, stream=Pieces())


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_a_rejected_second_reader_does_not_end_the_stream(sdk: str, mode: Mode, run: Run, seen: Captured) -> None:
    """Python lets one thread or task into a generator; the other gets an error, and that is no end of the stream."""
    gate = Gate(sdk)

    async def body() -> None:
        made = transports.client(mode, sdk, gate.handler)
        create = made.chat.completions.create if sdk == "openai" else made.messages.create
        stream = await mode.wait(create(**(CHAT if sdk == "openai" else MESSAGE), stream=True))
        await mode.next(stream)
        if mode.is_async:
            first = asyncio.ensure_future(mode.next(stream))
            while not gate.inside.is_set():
                await asyncio.sleep(0.01)
            with pytest.raises(RuntimeError, match="already running"):
                await mode.next(stream)
            gate.open.set()
            await first
        else:
            reader = threading.Thread(target=next, args=(stream,))
            reader.start()
            assert gate.inside.wait(30)
            with pytest.raises(ValueError, match="already executing"):
                next(stream)
            gate.open.set()
            reader.join(30)
        await mode.all(stream)

    run(body)
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("success", LONG)


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
    assert cut.stream is not None
    assert (cut.outcome, cut.stream.end) == ("cancelled", "cancelled")
    assert (response.outcome, text_of(response)) == ("success", "I am well.")


def test_a_group_of_tasks_that_fails_cancels_the_streams_in_it(wire: Wire, run: Run, seen: Captured) -> None:
    if not wire.mode.is_async:
        pytest.skip("threads are not cancelled")
    wire.mode.provider.reply(text=LONG, chunk_delay_s=60)

    async def body() -> None:
        begun = asyncio.Event()

        async def read() -> None:
            stream = await wire.stream()
            async for _ in stream:
                begun.set()

        reader = asyncio.ensure_future(read())
        await begun.wait()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)

    run(body)
    record = the_call(seen)
    assert record.stream is not None
    assert (record.outcome, record.stream.end) == ("cancelled", "cancelled")


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
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_calls_under_trio_are_recorded(sdk: str, stream: bool, provider: ScriptedProvider, seen: Captured) -> None:
    trio = pytest.importorskip("trio", reason="trio is not installed")
    provider.reply(status=429, retry_after_s=0.001)
    provider.reply(text="I am well.")

    async def body() -> None:
        mode = Mode("async", provider)
        made = mode.openai(max_retries=1) if sdk == "openai" else mode.anthropic(max_retries=1)
        create = made.chat.completions.create if sdk == "openai" else made.messages.create
        result = await create(**(CHAT if sdk == "openai" else MESSAGE), stream=stream)
        if stream:
            await mode.all(result)
        await mode.close()

    trio.run(body)
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("success", "I am well.")
    assert [attempt.status for attempt in record.attempts] == [429, 200]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_cancelled_scope_of_trio_is_a_cancellation(provider: ScriptedProvider, seen: Captured) -> None:
    trio = pytest.importorskip("trio", reason="trio is not installed")
    provider.reply(text=LONG, first_token_delay_s=60)

    async def body() -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:
            stream = await client.chat.completions.create(**CHAT, stream=True)
            await stream.__anext__()
            with trio.move_on_after(0.2) as scope:
                await stream.__anext__()
            assert scope.cancelled_caught

    trio.run(body)
    record = the_call(seen)
    assert record.stream is not None
    assert (record.outcome, record.stream.end) == ("cancelled", "cancelled")


class Shouting(openai.Stream[ChatCompletionChunk]):
    """A subclass that reads on its own."""

    def __stream__(self) -> Iterator[Any]:
        for item in super().__stream__():
            item.choices[0].delta.content = (item.choices[0].delta.content or "").upper()
            yield item


class Own(openai.Stream[ChatCompletionChunk]):
    """A subclass that asks nobody."""

    def __stream__(self) -> Iterator[Any]:
        for line in self.response.iter_lines():
            if line.startswith("data: {"):
                yield line


class Copied(openai.Stream[ChatCompletionChunk]):
    """A subclass that does what the SDK does, in its own words."""

    def __stream__(self) -> Iterator[Any]:
        for line in self.response.iter_lines():
            if line.startswith("data: {"):
                data = json.loads(line[6:])
                yield self._client._process_response_data(data=data, cast_to=self._cast_to, response=self.response)


@pytest.mark.parametrize("kind", [Shouting, Own, Copied])
def test_a_stream_class_of_the_application_is_recorded_as_it_came(
    kind: Any, provider: ScriptedProvider, seen: Captured
) -> None:
    provider.reply(text=LONG)
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        stream = client.post(
            "/chat/completions", cast_to=ChatCompletionChunk, body={**CHAT, "stream": True}, stream=True,
            stream_cls=kind,
        )  # fmt: skip
        assert len(list(stream)) > 5
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("success", LONG)


# Clients


@pytest.mark.parametrize("how", [copy.copy, lambda client: client.copy(), lambda client: client.with_options()])
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_calls_of_copied_clients_are_observed(
    sdk: str, how: Callable[[Any], Any], mode: Mode, run: Run, seen: Captured
) -> None:
    made = mode.openai() if sdk == "openai" else mode.anthropic()
    twin = how(made)
    create = twin.chat.completions.create if sdk == "openai" else twin.messages.create
    run(lambda: mode.wait(create(**(CHAT if sdk == "openai" else MESSAGE))))
    assert the_call(seen).outcome == "success"


def test_chained_with_options_is_one_call_with_the_last_options(mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(status=429, retry_after_s=0.001)
    client = mode.openai().with_options(timeout=20).with_options(max_retries=1).with_options(default_headers={"x": "y"})
    run(lambda: mode.wait(client.chat.completions.create(**CHAT)))
    record = the_call(seen)
    assert [attempt.status for attempt in record.attempts] == [429, 200]
    assert mode.provider.requests[1].headers["x"] == "y"


def test_the_base_url_may_change_between_calls(mode: Mode, run: Run, seen: Captured) -> None:
    client = mode.openai()

    async def body() -> None:
        await mode.wait(client.chat.completions.create(**CHAT))
        client.base_url = mode.provider.openai_url.replace("127.0.0.1", "localhost")
        await mode.wait(client.chat.completions.create(**CHAT))

    run(body)
    assert [record.server_address for record in seen.records] == ["127.0.0.1", "localhost"]


def test_a_call_inside_an_httpx_event_hook_is_a_separate_call(mode: Mode, run: Run, seen: Captured) -> None:
    """As where a token, a guard or a cache asks a model before the request goes out."""
    library = sdks.http_of("openai")
    mode.provider.reply(text="inner", on=lambda request: request.body.get("model") == "inner")
    mode.provider.reply(text="outer", on=lambda request: request.body.get("model") == "outer")
    inner = mode.openai()

    async def ask_later(request: Any) -> None:
        await inner.chat.completions.create(model="inner", messages=QUESTION)

    def ask(request: Any) -> None:
        inner.chat.completions.create(model="inner", messages=QUESTION)

    kind = library.AsyncClient if mode.is_async else library.Client
    hooks = {"request": [ask_later if mode.is_async else ask]}
    client = mode.openai(http_client=kind(event_hooks=hooks))
    run(lambda: mode.wait(client.chat.completions.create(model="outer", messages=QUESTION)))
    texts = {record.request.model: (text_of(record), len(record.attempts)) for record in seen.records}
    assert texts == {"inner": ("inner", 1), "outer": ("outer", 1)}
    spans = {span.name: span for span in seen.spans}
    parent, own = spans["chat inner"].parent, spans["chat outer"].context
    assert parent is not None
    assert own is not None
    assert parent.span_id == own.span_id


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_an_httpx_event_hook_that_reads_the_response_loses_nothing(
    stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    library = sdks.http_of("openai")
    mode.provider.reply(text="I am well.")

    async def read_later(response: Any) -> None:
        await response.aread()

    kind = library.AsyncClient if mode.is_async else library.Client
    hook = read_later if mode.is_async else lambda response: response.read()
    client = mode.openai(http_client=kind(event_hooks={"response": [hook]}))

    async def body() -> None:
        result = await mode.wait(client.chat.completions.create(**CHAT, stream=stream))
        if stream:
            await mode.all(result)

    run(body)
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("success", "I am well.")


def test_a_call_in_an_empty_context_or_a_copied_one_is_a_call(provider: ScriptedProvider, seen: Captured) -> None:
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        contextvars.Context().run(client.chat.completions.create, **CHAT)
        contextvars.copy_context().run(client.chat.completions.create, **CHAT)
    assert [record.outcome for record in seen.records] == ["success", "success"]


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
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_messages_may_be_any_iterable(
    sdk: str, stream: bool, messages: Callable[[Any], Any], mode: Mode, run: Run
) -> None:
    """The SDK decides whether it takes them; retries send the same again."""

    async def body() -> Any:
        made = mode.openai(max_retries=1) if sdk == "openai" else mode.anthropic(max_retries=1)
        create = made.chat.completions.create if sdk == "openai" else made.messages.create
        sent = {**(CHAT if sdk == "openai" else MESSAGE), "messages": messages(QUESTION)}
        result = await mode.wait(create(**sent, stream=stream))
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
        assert record.conversation is not None
        assert record.conversation.input
