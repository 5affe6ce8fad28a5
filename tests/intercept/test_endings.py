"""Every way a call or stream can end: one span, one record, and received data is kept."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry.trace import StatusCode

from callspan.testing import Captured, ScriptedProvider
from tests.intercept.calls import QUESTION, Run, Wire, text_of, the_call
from tests.intercept.mode import Mode

CHUNKS = {"chat_completions": 5, "responses": 11, "messages": 8}
"""Of the stream of an answer of three words."""


@pytest.fixture(params=list(CHUNKS))
def wire(request: pytest.FixtureRequest, mode: Mode) -> Wire:
    return Wire(request.param, mode)


def test_a_plain_call_ends_in_success_with_its_text_and_usage(wire: Wire, run: Run, seen: Captured) -> None:
    wire.mode.provider.reply(text="I am well.", input_tokens=11, output_tokens=4)
    run(lambda: wire.mode.wait(wire.create()))
    record = the_call(seen)
    assert (record.api, record.outcome, record.stream) == (wire.api, "success", None)
    assert text_of(record) == "I am well."
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (11, 4)
    assert seen.spans[0].status.status_code is StatusCode.UNSET


def test_a_stream_read_to_its_end_is_complete(wire: Wire, run: Run, seen: Captured) -> None:
    wire.mode.provider.reply(text="I am well.")

    async def body() -> None:
        await wire.mode.all(await wire.stream())

    run(body)
    record = the_call(seen)
    assert record.outcome == "success"
    assert record.stream is not None
    assert (record.stream.end, record.stream.complete) == ("complete", True)
    assert record.stream.chunks == CHUNKS[wire.api]
    assert text_of(record) == "I am well."
    assert record.timing.first_token_ns is not None


def test_a_stream_closed_early_keeps_what_arrived(wire: Wire, run: Run, seen: Captured) -> None:
    wire.mode.provider.reply(text="one two three four five six seven eight")

    async def body() -> str:
        stream = await wire.stream()
        for _ in range(6):
            await wire.mode.next(stream)
        assert not seen.spans, "a consumer that pauses has not ended the stream"
        await wire.mode.wait(stream.close())
        return ""

    run(body)
    record = the_call(seen)
    assert record.outcome == "cancelled"
    assert record.stream is not None
    assert (record.stream.end, record.stream.complete, record.stream.chunks) == ("closed", False, 6)
    assert "one two three four five six seven eight".startswith(text_of(record))
    assert text_of(record)
    assert seen.spans[0].status.status_code is StatusCode.UNSET


def test_a_break_can_be_resumed_and_the_stream_is_complete(wire: Wire, run: Run, seen: Captured) -> None:
    wire.mode.provider.reply(text="one two three four")

    async def body() -> None:
        stream = await wire.stream()
        async for _ in wire.mode.items(stream):
            break
        await wire.mode.all(stream)

    run(body)
    record = the_call(seen)
    assert record.stream is not None
    assert record.stream.end == "complete"
    assert text_of(record) == "one two three four"


def test_leaving_the_with_block_early_ends_the_stream(wire: Wire, run: Run, seen: Captured) -> None:
    async def body() -> None:
        async with wire.mode.entered(await wire.stream()) as stream:
            await wire.mode.next(stream)

    run(body)
    record = the_call(seen)
    assert record.stream is not None
    assert record.stream.end == "closed"


def test_an_exception_in_the_consumer_passes_and_ends_the_stream(wire: Wire, run: Run, seen: Captured) -> None:
    problem = RuntimeError("the consumer's own")

    async def body() -> None:
        async with wire.mode.entered(await wire.stream()) as stream:
            await wire.mode.next(stream)
            raise problem

    with pytest.raises(RuntimeError) as raised:
        run(body)
    assert raised.value is problem
    assert the_call(seen).outcome == "cancelled"


def test_a_stream_never_iterated_and_dropped_still_ends(wire: Wire, run: Run, seen: Captured) -> None:
    async def body() -> None:
        stream = await wire.stream()
        del stream
        gc.collect()

    run(body)
    gc.collect()
    record = the_call(seen)
    assert record.outcome == "cancelled"
    assert record.stream is not None
    assert (record.stream.end, record.stream.chunks) == ("closed", 0)


def test_a_stream_half_read_and_dropped_keeps_its_text(wire: Wire, run: Run, seen: Captured) -> None:
    wire.mode.provider.reply(text="one two three four five six seven eight")

    async def body() -> None:
        stream = await wire.stream()
        for _ in range(6):
            await wire.mode.next(stream)
        del stream
        gc.collect()

    run(body)
    gc.collect()
    record = the_call(seen)
    assert record.outcome == "cancelled"
    assert text_of(record)


def test_a_cut_connection_is_an_error_and_keeps_the_text(wire: Wire, run: Run, seen: Captured) -> None:
    wire.mode.provider.reply(text="one two three four five six", cut_after=6)

    received: list[object] = []

    async def body() -> None:
        async for item in wire.mode.items(await wire.stream()):
            received.append(item)

    with pytest.raises(Exception) as raised:  # noqa: PT011 - openai wraps it, anthropic does not
        run(body)
    record = the_call(seen)
    assert record.stream is not None
    assert (record.outcome, record.stream.end) == ("error", "error")
    assert record.stream.chunks == len(received) > 0
    assert record.error is not None
    assert record.error.exception is not None
    assert record.error.exception.endswith(type(raised.value).__name__)
    assert record.error.kind == "connection"
    assert text_of(record)
    (span,) = seen.spans
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events].count("exception") == 1


def test_an_error_event_in_the_stream_is_an_error(wire: Wire, run: Run, seen: Captured) -> None:
    wire.mode.provider.reply(text="one two three four five six", error_after=6, error_type="overloaded_error")

    async def body() -> None:
        await wire.mode.all(await wire.stream())

    if wire.api == "responses":
        # The SDK hands this event to the caller like any other: the call has failed, the caller saw no exception.
        with contextlib.suppress(openai.APIError):
            run(body)
    else:
        with pytest.raises((openai.APIError, anthropic.APIError)):
            run(body)
    record = the_call(seen)
    assert record.stream is not None
    assert (record.outcome, record.stream.end, record.error is not None) == ("error", "error", True)
    assert text_of(record)
    assert seen.spans[0].status.status_code is StatusCode.ERROR


def test_a_failed_call_is_recorded_and_the_exception_passes(wire: Wire, run: Run, seen: Captured) -> None:
    wire.mode.provider.reply(status=400, error_type="invalid_request_error", message="No such thing.")
    with pytest.raises((openai.BadRequestError, anthropic.BadRequestError)):
        run(lambda: wire.mode.wait(wire.create()))
    record = the_call(seen)
    assert record.outcome == "error"
    assert record.error is not None
    assert (record.error.kind, record.error.status) == ("bad_input", 400)
    assert record.error.message is not None
    assert "No such thing." in record.error.message
    assert record.attempts[0].status == 400


def test_a_timeout_of_the_client_has_the_outcome_timeout(wire: Wire, run: Run, seen: Captured) -> None:
    wire.mode.provider.reply(hang=True)
    with pytest.raises((openai.APITimeoutError, anthropic.APITimeoutError)):
        run(lambda: wire.mode.wait(wire.create(timeout=0.2)))
    record = the_call(seen)
    assert record.outcome == "timeout"
    assert record.error is not None
    assert record.error.kind == "timeout"


def test_no_listener_is_a_connection_error(mode: Mode, run: Run, seen: Captured) -> None:
    with ScriptedProvider() as gone:
        url = gone.openai_url
    with pytest.raises(openai.APIConnectionError):
        run(
            lambda: mode.wait(
                mode.openai().with_options(base_url=url).chat.completions.create(model="gpt-5", messages=QUESTION)
            )
        )
    record = the_call(seen)
    assert record.error is not None
    assert record.error.kind == "connection"
    assert record.response is None or not record.response.body_bytes


def test_a_stream_may_be_read_in_another_thread(seen: Captured, provider: ScriptedProvider) -> None:
    with openai.OpenAI(api_key="sk-test", base_url=provider.openai_url) as client:
        stream = client.chat.completions.create(model="gpt-5", messages=QUESTION, stream=True)
        reader = threading.Thread(target=lambda: list(stream))
        reader.start()
        reader.join()
    assert the_call(seen).outcome == "success"


def test_cancelling_a_stream_keeps_its_text_once(seen: Captured, provider: ScriptedProvider) -> None:
    provider.reply(text="one two three four five six", chunk_delay_s=0.05)

    async def read(client: openai.AsyncOpenAI, received: list[Any]) -> None:
        stream = await client.chat.completions.create(model="gpt-5", messages=QUESTION, stream=True)
        async for chunk in stream:
            received.append(chunk)

    async def body() -> list[Any]:
        received: list[Any] = []
        async with openai.AsyncOpenAI(api_key="sk-test", base_url=provider.openai_url) as client:
            task = asyncio.create_task(read(client, received))
            while len(received) < 3:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return received

    received = asyncio.run(body())
    record = the_call(seen)
    assert record.outcome == "cancelled"
    assert record.stream is not None
    assert record.stream.end == "cancelled"
    assert text_of(record) == "".join(chunk.choices[0].delta.content or "" for chunk in received)


def test_closing_twice_and_iterating_afterwards_adds_no_end(wire: Wire, run: Run, seen: Captured) -> None:
    async def body() -> None:
        stream = await wire.stream()
        await wire.mode.all(stream)
        await wire.mode.wait(stream.close())
        await wire.mode.wait(stream.close())
        assert await wire.mode.all(stream) == []

    run(body)
    assert the_call(seen).outcome == "success"
