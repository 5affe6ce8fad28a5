"""Streams with any ending leave no more objects and tasks behind than the SDK itself.

At full scale thousands of streams of every ending, not of two only.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
import requests
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from tests.calls import transports
from tests.conftest import Instrument
from tests.support import sdks
from tests.support.calls import CHAT, Wire
from tests.support.mode import Mode
from tests.support.scale import scaled
from tests.support.waiting import HANG_MS

import callspan
from callspan.records import new_id
from callspan.testing import ScriptedProvider, capture

ERROR_EVENT = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"no"}}\n\n'
WIRES = {sdk: transports.wire_of(sdk, "one two three") for sdk in ("openai", "anthropic")}


def handler_of(sdk: str, *rest: bytes | str | transports.Stall) -> Callable[[Any], Any]:
    """No network: the streams are what is looked at. This follows the first event; an exception where it is text."""
    first, end, usual = WIRES[sdk].partition(b"\n\n")

    def pieces() -> Iterator[transports.Piece]:
        yield first + end
        for piece in rest or usual.splitlines(keepends=True):
            yield sdks.http_of(sdk).ReadError(piece) if isinstance(piece, str) else piece

    def handle(request: Any) -> Any:
        return transports.answer(sdk, *pieces())(request)

    return handle


def wire_of(colour: str, sdk: str, *rest: bytes | str | transports.Stall) -> Wire:
    return transports.wire(Mode(colour, transports.NOWHERE), sdk, handler_of(sdk, *rest))


async def break_off(wire: Wire) -> None:
    async for _ in wire.mode.items(await wire.stream()):
        break


async def break_and_resume(wire: Wire) -> None:
    stream = await wire.stream()
    await wire.mode.next(stream)
    await wire.mode.all(stream)


async def raise_within(wire: Wire) -> None:
    with contextlib.suppress(KeyError):
        async with wire.mode.entered(await wire.stream()):
            {}["raised by the consumer"]


async def fail(wire: Wire) -> None:
    with contextlib.suppress(Exception):
        await wire.read()


async def cancel(wire: Wire) -> None:
    task = asyncio.ensure_future(wire.mode.all(await wire.stream()))
    for _ in range(4):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def leave_streaming_unread(wire: Wire) -> None:
    async with wire.mode.entered(wire.create(response="streaming", stream=True)):
        pass


async def break_lines(wire: Wire) -> None:
    async with wire.mode.entered(wire.create(response="streaming", stream=True)) as response:
        async for _ in wire.mode.items(response.iter_lines()):
            break


async def read_response(wire: Wire) -> None:
    response = (await wire.stream()).response
    await wire.mode.wait(response.aread() if wire.mode.is_async else response.read())


ENDINGS: dict[str, tuple[Callable[[Wire], Awaitable[object]], tuple[bytes | str | transports.Stall, ...]]] = {
    # what a caller does with one stream, and what its wire has in place of the rest
    "read to the end": (Wire.read, ()),
    "broken off": (break_off, ()),
    "broken off and resumed": (break_and_resume, ()),
    "closed": (lambda wire: wire.leave("closed"), ()),
    "left with its block": (lambda wire: wire.leave("block"), ()),
    "never read": (lambda wire: wire.leave("dropped", 0), ()),
    "exception of the consumer": (raise_within, ()),
    "error event": (fail, (ERROR_EVENT,)),
    "connection cut": (fail, ("cut",)),
    "no terminal event": (Wire.read, (b"",)),
    "broken json": (fail, (b"data: {\n\n",)),
    "cancelled": (cancel, (transports.Stall(),)),
    "raw and dropped": (lambda wire: wire.stream(response="raw"), ()),
    "streaming response unread": (leave_streaming_unread, ()),
    "lines broken off": (break_lines, ()),
    "response read by the caller": (read_response, ()),
}

MANY_TIMES = scaled(("read to the end", "never read"), tuple(ENDINGS))
"""Endings of which a rare leak is looked for, too."""


async def streams(colour: str, sdk: str, ending: str, count: int) -> None:
    act, rest = ENDINGS[ending]
    wire = wire_of(colour, sdk, *rest)
    for _ in range(count):
        await act(wire)
    await wire.mode.close()


def alive(sdk: str) -> Counter[str]:
    """How many objects of ours are alive, and how many of the SDK's that belong to single calls."""
    library = sdks.http_of(sdk)
    module: Any = openai if sdk == "openai" else anthropic
    theirs = (library.Response, library.Request, module.Stream, module.AsyncStream)
    gc.collect()
    kinds = map(type, gc.get_objects())
    return Counter(kind.__name__ for kind in kinds if kind in theirs or str(kind.__module__).startswith("callspan."))


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
def test_streams_leak_nothing(sdk: str, colour: str, ending: str, count: int, instrumented: Instrument) -> None:
    if ending == "cancelled" and colour == "sync":
        pytest.skip("threads are not cancelled")
    handle = instrumented(tracer_provider=TracerProvider(), meter_provider=MeterProvider())

    def after(number: int) -> Counter[str]:
        asyncio.run(streams(colour, sdk, ending, number))
        # What the collector finds is ended by a thread of ours.
        gc.collect()
        assert handle.force_flush(HANG_MS)
        return alive(sdk)

    before = after(3)
    left = after(count) - before
    assert not {name: number for name, number in left.items() if number > 2}


async def answers(colour: str, provider: ScriptedProvider, ending: str, count: int) -> None:
    """Streams by requests; async by aiohttp."""
    mode = Mode(colour, provider)
    session: Any = mode.keep(requests.Session() if colour == "sync" else aiohttp.ClientSession())
    options = {"stream": True} if colour == "sync" else {}
    for _ in range(count):
        url = f"{provider.openai_url}/chat/completions"
        response = await mode.wait(session.post(url, json=CHAT | {"stream": True}, **options))
        if ending == "read to the end":
            await mode.wait(response.read() if mode.is_async else response.content)
        elif ending == "broken off":
            async for _ in mode.items(response.content.iter_any() if mode.is_async else response.iter_lines()):
                break
        elif ending == "closed":
            response.close()
        del response
    await mode.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("ending", ["read to the end", "broken off", "closed", "never read"])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_answers_of_other_libraries_leak_nothing(
    colour: str, ending: str, provider: ScriptedProvider, instrumented: Instrument
) -> None:
    handle = instrumented(tracer_provider=TracerProvider(), meter_provider=MeterProvider())
    provider.reply(text="one two three", repeat=True)
    theirs = (requests.Response, aiohttp.ClientResponse, aiohttp.StreamReader)

    def after(number: int) -> Counter[str]:
        asyncio.run(answers(colour, provider, ending, number))
        gc.collect()
        assert handle.force_flush(HANG_MS)
        gc.collect()
        kinds = map(type, gc.get_objects())
        return Counter(
            kind.__name__ for kind in kinds if kind in theirs or str(kind.__module__).startswith("callspan.")
        )

    before = after(3)
    left = after(60) - before
    left.pop("ReceivedRequest", None)  # the scripted provider's
    assert not {name: number for name, number in left.items() if number > 2}


@pytest.mark.parametrize("ending", [name for name in ENDINGS if name != "cancelled"])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_response_is_collected_as_early_as_without_callspan(colour: str, ending: str) -> None:
    """By reference counts where the SDK alone would, without waiting for the collector."""
    born: list[weakref.ref[Any]] = []

    act, rest = ENDINGS[ending]
    answer = handler_of("openai", *rest)

    def noted(request: Any) -> Any:
        response = answer(request)
        born.append(weakref.ref(response))
        return response

    async def dies_at_once() -> bool:
        wire = transports.wire(Mode(colour, transports.NOWHERE), "openai", noted)
        gc.collect()
        gc.disable()
        try:
            await act(wire)
            return born.pop()() is None
        finally:
            gc.enable()
            await wire.mode.close()

    bare = asyncio.run(dies_at_once())
    with capture() as captured:
        ours = asyncio.run(dies_at_once())
        gc.collect()
        assert len(captured.records) == 1
    assert ours or not bare


def test_repeated_instrumentation_leaks_nothing(tmp_path: Path) -> None:
    """Stores, segments and hooks; what is kept for later rewards is that of a block of `capture`."""
    stores = [f"sqlite:///{tmp_path}/calls.db", f"jsonl:///{tmp_path}/calls.jsonl"]
    client = wire_of("sync", "openai").one

    def cycle() -> None:
        handle = callspan.instrument(stores=stores, spool_dir=tmp_path / "spool", spool_max_bytes=32_000)
        with callspan.session(session_id=new_id()), callspan.timestep():
            for _ in range(5):
                list(client.chat.completions.create(**CHAT, stream=True))
        assert handle.force_flush(HANG_MS)
        handle.uninstrument()

    def after(cycles: int) -> Counter[str]:
        with capture():
            for _ in range(cycles):
                cycle()
        gc.collect()
        return Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.get_objects())

    after(5)
    before, count = after(1), 30
    left = after(count) - before
    assert not {name: number for name, number in left.items() if number >= count}
