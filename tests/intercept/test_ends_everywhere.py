"""Rarer ends of calls and streams for every API and helper, in sync and async code."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import openai
import pytest

from callspan.testing import Captured, capture
from tests.intercept import sdks
from tests.intercept.mode import Mode
from tests.intercept.test_endings import QUESTION, Wire, text_of, the_call
from tests.intercept.test_entry_points import parsing

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
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


@pytest.mark.parametrize("left", [1, 2])
def test_a_connection_cut_near_the_end_keeps_everything_that_came(
    left: int, wire: Wire, run: Run, seen: Captured
) -> None:
    """Before and after the finish reason."""
    wire.mode.provider.reply(text=LONG, cut_after=-left)
    received: list[Any] = []

    async def body() -> None:
        async for item in wire.mode.items(await wire.stream()):
            received.append(item)

    with pytest.raises(Exception, match=r"\w") as raised:
        run(body)
    assert not isinstance(raised.value, AssertionError)
    record = the_call(seen)
    assert record.outcome == "error"
    assert text_of(record) == LONG
    assert record.stream is not None
    assert (record.stream.end, record.stream.chunks) == ("error", len(received))


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


@pytest.mark.parametrize("where", ["request", "stream"])
def test_a_deadline_of_asyncio_is_a_cancellation_on_every_wire(
    where: str, wire: Wire, run: Run, seen: Captured
) -> None:
    if not wire.mode.is_async:
        pytest.skip("threads have no deadline")
    wire.mode.provider.reply(**({"hang": True} if where == "request" else {"text": LONG, "first_token_delay_s": 60}))

    async def body() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(read(wire), 0.5)

    run(body)
    assert the_call(seen).outcome == "cancelled"


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


@helpers
def test_every_helper_ends_with_the_exception_of_its_block(name: str, mode: Mode, run: Run, seen: Captured) -> None:
    async def body() -> None:
        async with mode.entered(helper(mode, name)) as stream:
            async for _ in mode.items(stream):
                raise LookupError("the consumer's own")

    with pytest.raises(LookupError, match="the consumer's own"):
        run(body)
    assert the_call(seen).outcome == "cancelled"


@helpers
def test_every_stream_helper_returns_its_final_response_without_being_read(
    name: str, mode: Mode, run: Run, seen: Captured
) -> None:
    mode.provider.reply(text=LONG)
    final = {"chat": "get_final_completion", "responses": "get_final_response"}.get(name, "get_final_message")

    async def body() -> None:
        async with mode.entered(helper(mode, name)) as stream:
            await mode.wait(getattr(stream, final)())

    run(body)
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("success", LONG)


@helpers
def test_every_stream_helper_read_to_its_end_is_complete(name: str, mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text=LONG)

    async def body() -> None:
        async with mode.entered(helper(mode, name)) as stream:
            await mode.wait(stream.until_done())

    run(body)
    record = the_call(seen)
    assert record.stream is not None
    assert (record.stream.end, record.stream.complete, text_of(record)) == ("complete", True, LONG)


def test_a_helper_closed_by_hand_ends_closed(mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text=LONG, chunk_delay_s=60)

    async def body() -> None:
        manager = helper(mode, "messages")
        stream = await manager.__aenter__() if mode.is_async else manager.__enter__()
        await mode.next(stream)
        await mode.wait(stream.close())

    run(body)
    record = the_call(seen)
    assert record.stream is not None
    assert record.stream.end == "closed"


READINGS: dict[str, Callable[[Mode, Any], Awaitable[Any]]] = {
    "parse": lambda mode, response: mode.wait(response.parse()),
    "json": lambda mode, response: mode.wait(response.json()),
    "text": lambda mode, response: mode.wait(response.text()),
    "read": lambda mode, response: mode.wait(response.read()),
    "iter_lines": lambda mode, response: mode.all(response.iter_lines()),
    "iter_bytes": lambda mode, response: mode.all(response.iter_bytes()),
    "iter_text": lambda mode, response: mode.all(response.iter_text()),
}


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("api", ["responses", "messages", "embeddings"])
def test_a_streaming_response_of_every_endpoint_may_be_read_in_any_way(
    api: str, reading: str, mode: Mode, run: Run, seen: Captured
) -> None:
    mode.provider.reply(text=LONG, input_tokens=11)

    async def body() -> None:
        if api == "messages":
            manager = mode.anthropic().messages.with_streaming_response.create(**MESSAGE)
        elif api == "responses":
            sdks.needs("openai", "1.66", "the Responses API")
            manager = mode.openai().responses.with_streaming_response.create(model="gpt-5", input="hi")
        else:
            manager = mode.openai().embeddings.with_streaming_response.create(model="e", input="hi")
        async with mode.entered(manager) as response:
            await READINGS[reading](mode, response)

    run(body)
    record = the_call(seen)
    assert (record.api, record.outcome) == (api, "success")
    assert record.usage is not None
    assert record.usage.input_tokens == 11
    assert text_of(record) == ("" if api == "embeddings" else LONG)


@pytest.mark.parametrize("how", ["parsed", "parsed twice", "never parsed", "dropped", "lines"])
def test_raw_responses_of_messages(how: str, mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text=LONG)
    stream = how in ("dropped", "lines")

    async def body() -> None:
        raw = await mode.wait(mode.anthropic().messages.with_raw_response.create(**MESSAGE, stream=stream))
        if how.startswith("parsed"):
            await mode.wait(raw.parse())
        if how == "parsed twice":
            await mode.wait(raw.parse())
        if how == "lines":
            response = raw.http_response
            await mode.all(response.aiter_lines() if mode.is_async else response.iter_lines())

    run(body)
    gc.collect()
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == (("cancelled", "") if how == "dropped" else ("success", LONG))


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


def test_a_model_in_extra_body_is_the_model_of_a_message(mode: Mode, run: Run, seen: Captured) -> None:
    run(lambda: mode.wait(mode.anthropic().messages.create(**MESSAGE, extra_body={"model": "other"})))
    record = the_call(seen)
    assert record.request.model == "other"
    assert seen.spans[0].name == "chat other"


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


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_responses_parse_that_is_cut_short_keeps_its_usage(
    stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    sdks.needs("openai", "1.66", "the Responses API")
    mode.provider.reply(text='{"city": "Par', finish_reason="length", output_tokens=3)

    async def body() -> None:
        create = mode.openai().responses.create
        result = await mode.wait(create(model="gpt-5", input="hi", stream=stream))
        if stream:
            await mode.all(result)

    run(body)
    record = the_call(seen)
    assert record.response is not None
    assert (record.outcome, record.response.truncated) == ("success", True)
    assert record.usage is not None
    assert record.usage.output_tokens == 3


def test_an_error_answer_is_an_error_on_every_wire_and_way(wire: Wire, run: Run, seen: Captured) -> None:
    wire.mode.provider.reply(status=400)

    async def body() -> None:
        await wire.mode.wait(wire.create(stream=True))

    with pytest.raises((openai.BadRequestError, anthropic.BadRequestError)):
        run(body)
    record = the_call(seen)
    assert (record.outcome, record.stream) == ("error", None)
