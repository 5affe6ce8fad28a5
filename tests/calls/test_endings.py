"""Every way a call or stream can end: one span, one record, and exactly what the caller received is kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import metadata
from typing import Any, NamedTuple

import pytest
from tests.calls import transports
from tests.support import sdks
from tests.support.calls import QUESTION, REQUESTS, Wire, ask, bedrock, caught, client_of, text_of, the_call
from tests.support.mode import Mode
from tests.support.waiting import HANG_S, until_async

import callspan
from callspan.records import CallRecord, SessionRecord
from callspan.testing import Capture, ScriptedProvider

TEXT = "one two three four five six seven"
CHUNKS = {"chat_completions": 9, "responses": 15, "messages": 12}
"""Of the stream of that text."""
"""A pause of the provider that no test waits for."""


async def unheard(wire: Wire) -> None:
    with ScriptedProvider() as gone:
        url = gone.anthropic_url if wire.api == "messages" else gone.openai_url
    await wire.ask(wire.client(base_url=url))


async def read_whole_with_a_pause(wire: Wire) -> None:
    """Leaving the loop ends nothing: the caller may continue."""
    stream = await wire.stream()
    async for item in wire.mode.items(stream):
        wire.received.append(item)
        break
    await wire.read(stream)


async def closed_after_its_end(wire: Wire) -> None:
    stream = await wire.stream()
    await wire.read(stream)
    for _ in range(2):
        await wire.mode.wait(stream.close())
    assert await wire.mode.all(stream) == []


async def closed_after_the_last_event(wire: Wire) -> None:
    """The loop is left exactly at the event that has usage and reason."""
    if wire.api == "chat_completions":
        pytest.skip("chat has no last event")
    stream = await wire.stream()
    while (await wire.next(stream)).type not in ("response.completed", "message_stop"):
        pass
    await wire.mode.wait(stream.close())


async def closed_by_an_error_of_the_application(wire: Wire) -> None:
    problem = KeyError("of the application")
    stream = await wire.stream()
    with pytest.raises(KeyError) as raised:
        async with wire.mode.entered(stream):
            await wire.next(stream)
            raise problem
    assert raised.value is problem


async def dropped_by_an_error_of_the_application(wire: Wire) -> None:
    async def read() -> None:
        await wire.next(await wire.stream())
        raise KeyError("of the application")

    with contextlib.suppress(KeyError):
        await read()


async def cancelled(wire: Wire, work: Callable[[], Awaitable[Any]], is_there: Callable[[], object]) -> None:
    if not wire.mode.is_async:
        pytest.skip("threads are not cancelled")
    task = asyncio.ensure_future(work())  # type: ignore[arg-type]
    await until_async(is_there)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def cancelled_while_waiting(wire: Wire) -> None:
    await cancelled(wire, wire.ask, lambda: wire.mode.provider.requests)


async def cancelled_while_reading(wire: Wire) -> None:
    await cancelled(wire, wire.read, lambda: wire.received)


async def cancelled_between_chunks(wire: Wire) -> None:
    async def read() -> None:
        async for item in wire.mode.items(await wire.stream()):
            wire.received.append(item)
            await asyncio.sleep(HANG_S)

    await cancelled(wire, read, lambda: wire.received)


class Ending(NamedTuple):
    """What is scripted and done, and what the record says."""

    act: Callable[[Wire], Awaitable[Any]]
    outcome: str
    end: str | None = None
    """How the stream ended; None: there was none."""
    chunks: int | None = None
    """None: as many as the caller received."""
    error: str | None = None
    """The kind."""
    raises: str | None = None
    """The class that the caller gets; openai wraps a cut connection, anthropic does not."""
    attempts: tuple[int | None, ...] = (200,)
    reply: dict[str, Any] = {}  # noqa: RUF012 - never changed


SLOW = {"chunk_delay_s": HANG_S}
ENDINGS: dict[str, Ending] = {
    "plain": Ending(Wire.ask, "success"),
    "retried": Ending(Wire.ask, "success", attempts=(429, 500, 200)),
    "refused": Ending(Wire.ask, "error", error="bad_input", raises="BadRequestError", attempts=(400,)),
    "stream refused": Ending(Wire.read, "error", error="bad_input", raises="BadRequestError", attempts=(400,)),
    "timed out": Ending(partial(Wire.ask, timeout=0.2), "timeout", error="timeout", raises="APITimeoutError",
                        attempts=(None,), reply={"hang": True}),
    "nobody listens": Ending(unheard, "error", error="connection", raises="APIConnectionError", attempts=(None,)),
    "cancelled": Ending(cancelled_while_waiting, "cancelled", error="cancelled", attempts=(None,),
                        reply={"hang": True}),
    "read whole": Ending(Wire.read, "success", "complete"),
    "read whole with a pause": Ending(read_whole_with_a_pause, "success", "complete"),
    "read whole and closed": Ending(closed_after_its_end, "success", "complete"),
    "closed after the last event": Ending(closed_after_the_last_event, "success", "complete"),
    "closed": Ending(lambda wire: wire.leave("closed", 6), "cancelled", "closed", 6),
    "closed by with": Ending(lambda wire: wire.leave("block"), "cancelled", "closed", 1, reply=SLOW),
    "closed by an error": Ending(closed_by_an_error_of_the_application, "cancelled", "closed", 1),
    "dropped": Ending(lambda wire: wire.leave("dropped", 6), "cancelled", "closed", 6),
    "dropped by an error": Ending(dropped_by_an_error_of_the_application, "cancelled", "closed", 1),
    "never read": Ending(lambda wire: wire.leave("dropped", 0), "cancelled", "closed", 0),
    "cancelled reading": Ending(cancelled_while_reading, "cancelled", "cancelled", error="cancelled", reply=SLOW),
    "cancelled between chunks": Ending(cancelled_between_chunks, "cancelled", "closed", 1),
    "connection cut": Ending(Wire.read, "error", "error", error="connection", raises="any", reply={"cut_after": 6}),
    "error event": Ending(Wire.read, "error", "error", error="overloaded", raises="APIError",
                          reply={"error_after": 6, "error_type": "overloaded_error"}),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDINGS)
async def test_ending_records_what_was_received_once(name: str, wire: Wire, seen: Capture) -> None:
    ending = ENDINGS[name]
    for status in ending.attempts:
        good = {"text": TEXT, "input_tokens": 11, "output_tokens": 4, **ending.reply}
        wire.mode.provider.reply(**(good if status in (200, None) else {"status": status, "retry_after_s": 0.001}))
    wire.options["max_retries"] = len(ending.attempts) - 1
    raised = await caught(ending.act(wire))
    check_raised(raised, ending, wire.api)
    await wire.mode.collect()
    record = the_call(seen)
    assert (record.api, record.outcome, record.error and record.error.kind) == (wire.api, ending.outcome, ending.error)
    assert json.loads(bytes(record.request.body))["model"] == REQUESTS[wire.api]["model"]
    assert [attempt.status for attempt in record.attempts] == list(ending.attempts)
    if raised is not None:
        assert (record.error.exception or "").endswith(f".{type(raised).__name__}")
    if ending.end is None:
        assert record.stream is None
        assert (record.text or "") == (TEXT if ending.outcome == "success" else "")
    else:
        check_stream(record, ending, wire)
    if ending.outcome == "success":
        assert record.usage is not None or wire.api == "chat_completions"
        assert (record.text, record.error) == (TEXT, None)


DEADLINES: dict[str, tuple[Any, str]] = {
    "anyio": ("Cancelled via cancel scope 7f00; reason: deadline exceeded", "timeout"),
    "the application": ("request timed out", "timeout"),
    "a cancel": (None, "cancelled"),
    "a cancel with a reason": ("the user has left", "cancelled"),
}
"""What is given to `Task.cancel`, and the outcome."""


@pytest.mark.parametrize(("message", "outcome"), DEADLINES.values(), ids=DEADLINES)
@pytest.mark.parametrize("stream", [False, True])
async def test_deadline_is_distinguished_from_cancellation(
    message: Any, outcome: str, stream: bool, mode: Mode, seen: Capture
) -> None:
    if not mode.is_async:
        pytest.skip("threads are not cancelled")
    mode.provider.reply(text=TEXT, chunk_delay_s=HANG_S, delay_s=0 if stream else HANG_S)
    received: list[Any] = []

    async def work() -> None:
        with callspan.session("s"):
            result = await ask(mode.openai(), stream=stream)
            async for item in mode.items(result):
                received.append(item)

    task = asyncio.create_task(work())
    await until_async(lambda: received if stream else mode.provider.requests)
    task.cancel(message)
    with pytest.raises(asyncio.CancelledError):
        await task
    (record,) = seen.records
    assert (record.outcome, record.error and record.error.kind) == (outcome, outcome)
    assert record.stream is None or record.stream.end == ("error" if outcome == "timeout" else "cancelled")
    ended = [row for row in seen.everything if isinstance(row, SessionRecord) and row.end_ns is not None]
    assert [row.outcome for row in ended] == [outcome]


async def test_anyio_deadline(mode: Mode, seen: Capture) -> None:
    anyio = pytest.importorskip("anyio")
    if tuple(map(int, metadata.version("anyio").split(".")[:2])) < (4, 11):
        pytest.skip("earlier versions do not say it")
    if not mode.is_async:
        pytest.skip("threads are not cancelled")
    mode.provider.reply(hang=True)
    with anyio.move_on_after(0.3):
        await ask(mode.openai())
    assert (the_call(seen).outcome, the_call(seen).error.kind) == ("timeout", "timeout")


def check_raised(raised: BaseException | None, ending: Ending, api: str) -> None:
    if raised is None:
        # The SDK gives a caller of Responses an event of an error like any other.
        assert ending.raises is None or (ending.error, api) == ("overloaded", "responses")
    elif ending.raises != "any":
        assert ending.raises in [kind.__name__ for kind in type(raised).__mro__]


def check_stream(record: CallRecord, ending: Ending, wire: Wire) -> None:
    complete = ending.end == "complete"
    assert (record.stream.end, record.stream.complete) == (ending.end, complete)
    assert record.stream.chunks == len(wire.received)
    assert len(wire.received) == (CHUNKS[wire.api] if complete else ending.chunks or len(wire.received))
    assert (record.text or "") == wire.received_text()
    assert (record.timing.first_token_ns is not None) == bool(wire.received_text())


CUT_OFF = ["chat", "completions", "responses", "messages", "bedrock"]


def open_stream(api: str, mode: Mode) -> Any:
    if api == "bedrock":
        request = {"model": "anthropic.claude-sonnet-5", "max_tokens": 64, "messages": QUESTION}
        return bedrock(mode).messages.create(**request, stream=True)
    if api == "completions":
        return mode.openai().completions.create(model="gpt-5", prompt="How are you?", stream=True)
    return Wire("chat_completions" if api == "chat" else api, mode).create(stream=True)


def chunk(text: str, finish_reason: str | None = None, index: int = 0) -> dict[str, Any]:
    """A chunk of chat or of completions, as both are read."""
    choice = {"index": index, "finish_reason": finish_reason, "text": text, "delta": {"content": text}}
    return {"id": "c1", "object": "chunk", "model": "m", "choices": [choice]}


def stating(status: str, **fields: Any) -> list[dict[str, Any]]:
    response = {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5", "output": [],
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "status": "in_progress",
    }  # fmt: skip
    return [
        {"type": "response.created", "sequence_number": 0, "response": response},
        {"type": f"response.{status}", "sequence_number": 1, "response": {**response, "status": status, **fields}},
    ]


USED = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
FAILED = stating("failed", usage=USED, error={"code": "server_error", "message": "no"})
INCOMPLETE = stating("incomplete", usage=USED, incomplete_details={"reason": "max_output_tokens"})
BEGUN = [chunk("I am "), chunk("well.")]
STOPS: dict[str, tuple[list[str], dict[str, Any], str]] = {
    # APIs, what is scripted, the end of the stream
    "it states a failure": (["responses"], {"raw": FAILED}, "complete"),
    "it states its limit": (["responses"], {"raw": INCOMPLETE}, "complete"),
    "it just stops": (CUT_OFF, {"text": "I am well today.", "end_after": 4}, "cut_off"),
    "before the last event": (CUT_OFF[2:], {"text": "I am well today.", "end_after": -1}, "cut_off"),
    "no finish reason and no [DONE]": (CUT_OFF[:2], {"raw": BEGUN}, "cut_off"),
    "no finish reason": (CUT_OFF[:2], {"raw": [*BEGUN, "[DONE]"]}, "cut_off"),
    "one choice of two": (CUT_OFF[:1], {"raw": [chunk("b", index=1), chunk("", "stop")]}, "cut_off"),
}


@pytest.mark.parametrize(("api", "name"), [(api, name) for name, (apis, _, _) in STOPS.items() for api in apis])
async def test_stream_without_last_event_is_cut_off(api: str, name: str, mode: Mode, seen: Capture) -> None:
    _, reply, end = STOPS[name]
    mode.provider.reply(**reply)
    await mode.all(await mode.wait(open_stream(api, mode)))
    record = the_call(seen)
    failed = name == "it states a failure"
    assert (record.outcome, record.error is None) == ("error" if failed else "success", not failed)
    assert (record.stream.end, record.stream.complete) == (end, end == "complete")
    assert (seen.spans[0].attributes or {})["callspan.stream.end"] == end
    if end == "complete":
        assert record.usage.input_tokens == 3
    if name.startswith("no finish"):
        assert (text_of(record), record.response.finish_reasons) == ("I am well.", [None])


@pytest.mark.parametrize(
    ("text", "reason", "end", "complete"),
    [
        ("I am well.", "stop", "complete", True), ("I am well.", None, "cut_off", False),
        ("x" * (9 << 20), "stop", "complete", False),
    ],
)  # fmt: skip
async def test_raw_streams(text: str, reason: str | None, end: str, complete: bool, mode: Mode, seen: Capture) -> None:
    """As its chunks do. Copies are parsed up to 8 MiB an event: what follows is unknown, and not cut off."""
    wire = "".join(f"data: {event}\n\n" for event in (json.dumps(chunk(text, reason)), "[DONE]"))
    mode.provider.reply(raw=wire.encode(), headers={"content-type": "text/event-stream"})
    await Wire("chat_completions", mode).streaming("iter_bytes", stream=True)
    record = the_call(seen)
    assert (record.outcome, record.stream.end, record.stream.complete) == ("success", end, complete)


async def test_answer_closed_before_last_event_is_a_success(mode: Mode, seen: Capture) -> None:
    """Anthropic states the finish reason and the usage before it."""
    stream = await Wire("messages", mode).stream()
    async for event in mode.items(stream):
        if event.type == "message_delta":
            break
    await mode.wait(stream.close())
    record = the_call(seen)
    assert (record.outcome, record.stream.end, record.finish_reason) == ("success", "closed", "end_turn")
    assert callspan.summary(seen.everything).calls == 1


# Ends within the SDKs' readers.


async def test_cancellation_during_drain_is_cancelled(mode: Mode, seen: Capture) -> None:
    """After `[DONE]` the openai SDK reads what is left, and closes the response in there, with that in flight."""
    sdks.needs("openai", "3.51", "draining")
    stall = transports.Stall()
    handler = transports.answer("openai", transports.wire_of("openai", TEXT), stall)
    wire = transports.wire(mode, "openai", handler)
    await cancelled(wire, wire.read, stall.reached.is_set)
    record = the_call(seen)
    assert (record.outcome, record.text) == ("cancelled", TEXT)


async def test_last_event_read_from_response_is_kept(sdk: str, mode: Mode, seen: Capture) -> None:
    """It waits for the next one, which never comes: the application reads bytes, stops, and closes the response."""
    mode.provider.reply(text=TEXT)
    read: list[str] = []
    response = (await mode.wait(ask(client_of(mode, sdk), stream=True))).response
    lines = response.aiter_lines() if mode.is_async else response.iter_lines()
    async for line in mode.items(lines):
        read.append(line)
        if not line and "five" in "".join(read):
            break
    await mode.wait(response.aclose() if mode.is_async else response.close())
    record = the_call(seen)
    assert (record.outcome, text_of(record).strip()) == ("cancelled", "one two three four five")
