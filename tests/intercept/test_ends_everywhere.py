"""Rarer ends of calls and streams for every API and helper, in sync and async code."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from callspan.testing import Captured, capture
from tests.intercept import sdks
from tests.intercept.calls import QUESTION, Run, Wire, parsing, text_of, the_call
from tests.intercept.mode import Mode

CHAT: dict[str, Any] = {"model": "gpt-5", "messages": QUESTION}
MESSAGE: dict[str, Any] = {"model": "claude-sonnet-5", "max_tokens": 64, "messages": QUESTION}
LONG = "one two three four five six seven eight nine ten"


@pytest.fixture(params=["chat_completions", "responses", "messages"])
def wire(request: pytest.FixtureRequest, mode: Mode) -> Wire:
    return Wire(request.param, mode)


async def read(wire: Wire) -> list[Any]:
    return await wire.mode.all(await wire.stream())


def test_json_where_events_were_due_ends_every_stream(wire: Wire, run: Run, seen: Captured) -> None:
    wire.mode.provider.reply(text="whole", json_where_sse_due=True)
    assert run(lambda: read(wire)) == []
    record = the_call(seen)
    assert record.stream is not None
    assert (record.stream.end, record.stream.chunks, record.stream.complete) == ("cut_off", 0, False)


@pytest.mark.parametrize("how", ["waiting", "reading"])
def test_a_cancelled_task_is_a_cancelled_call_on_every_wire(how: str, wire: Wire, run: Run, seen: Captured) -> None:
    if not wire.mode.is_async:
        pytest.skip("threads are not cancelled")
    wire.mode.provider.reply(**({"hang": True} if how == "waiting" else {"text": LONG, "chunk_delay_s": 60}))

    async def body() -> None:
        started = asyncio.Event()

        async def work() -> None:
            async for _ in await wire.stream():
                started.set()

        task = asyncio.ensure_future(work())
        while not (wire.mode.provider.requests if how == "waiting" else started.is_set()):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(body)
    record = the_call(seen)
    assert record.outcome == "cancelled"
    assert (record.stream and record.stream.end) == (None if how == "waiting" else "cancelled")


def helper(mode: Mode, name: str) -> Any:
    if name == "messages":
        return mode.anthropic().messages.stream(**MESSAGE)
    if name == "beta messages":
        client = mode.anthropic()
        sdks.needs_name(client, "beta.messages.stream")
        return client.beta.messages.stream(**MESSAGE)
    if name == "responses":
        sdks.needs("openai", "1.66", "the Responses API")
        return mode.openai().responses.stream(model="gpt-5", input="hi")
    return parsing(mode).stream(**CHAT)


helpers = pytest.mark.parametrize("name", ["chat", "responses", "messages", "beta messages"])


@helpers
def test_every_stream_helper_left_early_ends_closed(name: str, mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text=LONG, chunk_delay_s=60)

    async def body() -> None:
        async with mode.entered(helper(mode, name)) as stream:
            async for _ in mode.items(stream):
                break

    run(body)
    record = the_call(seen)
    assert record.stream is not None
    assert (record.outcome, record.stream.end) == ("cancelled", "closed")


@helpers
def test_every_helper_opened_and_never_read_ends_closed(name: str, mode: Mode, run: Run, seen: Captured) -> None:
    async def body() -> None:
        async with mode.entered(helper(mode, name)):
            pass

    run(body)
    record = the_call(seen)
    assert record.stream is not None
    assert (record.outcome, record.stream.end, record.stream.chunks) == ("cancelled", "closed", 0)


def test_posts_of_anthropics_client_are_calls(mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text=LONG)

    async def body() -> None:
        client = mode.anthropic()
        await mode.wait(client.post("/v1/messages", cast_to=object, body=MESSAGE))
        response = sdks.http_of("anthropic").Response
        await mode.wait(client.post("/v1/messages", cast_to=response, body=MESSAGE))

    run(body)
    assert [record.outcome for record in seen.records] == ["success", "success"]
    assert text_of(seen.records[0]) == LONG


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_clients_and_streams_made_before_instrumenting(stream: bool, wire: Wire, run: Run) -> None:
    """A client is seen from then on; a stream that was asked for before is not, and works."""

    async def body() -> None:
        create = (
            wire.mode.anthropic().messages.create
            if wire.api == "messages"
            else wire.mode.openai().chat.completions.create
        )
        request = MESSAGE if wire.api == "messages" else CHAT
        before = await wire.mode.wait(create(**request, stream=True)) if stream else None
        with capture() as seen:
            if before is not None:
                assert len(await wire.mode.all(before)) > 3
                assert seen.records == []
            await wire.mode.wait(create(**request))
            assert the_call(seen).outcome == "success"

    run(body)
