"""Generated conversations over websockets: what the application sees is untouched, and each generation is one call.

Each has 200 frames, at full scale 10,000.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from callspan.records import CallRecord
from callspan.testing import Captured, capture
from tests.calls.socket_scripts import Conversation, Generation
from tests.calls.sockets import connected
from tests.support import sdks
from tests.support.calls import Run, body_sent
from tests.support.mode import Mode
from tests.support.scale import scaled
from tests.support.socket_server import next_of, serving

if sdks.version("websockets") < (14,):
    pytest.skip("websockets 13 loses what was received before a drop", allow_module_level=True)
FRAMES = scaled(200, 10_000)
SEEDS = range(6)
Log = list[Any]


def raw(connection: Any) -> Any:
    """What sends text as it is; older versions of the SDK have no method of their own."""
    return getattr(connection, "send_raw", None) or connection._connection.send


async def talk(mode: Mode, url: str, conversation: Conversation) -> Log:
    """What the application sees: every message and exception, in order."""
    log: Log = []
    async with connected(mode, url=url) as socket:
        for side, frame in conversation.steps:
            if side == "client":
                await mode.wait(raw(socket.connection)(json.dumps(frame)))
            elif side == "server":
                log.append(await received(mode, socket.connection, patient=len(log) % 3 != 0))
            else:
                if side == "own close":
                    await mode.wait(socket.connection.close())
                log.append(await next_of(mode, socket.connection))
    return log


async def received(mode: Mode, connection: Any, *, patient: bool) -> Any:
    """The next message; a wait that is cancelled loses nothing."""
    if mode.is_async and not patient:
        waiting = asyncio.ensure_future(connection.recv_bytes())
        await asyncio.sleep(0)
        if not waiting.done() and waiting.cancel():
            await asyncio.wait([waiting])
        if not waiting.cancelled():
            return await waiting
    return await mode.wait(connection.recv_bytes())


def played(mode: Mode, run: Run, conversation: Conversation) -> tuple[Log, list[str | bytes]]:
    """What both sides see."""
    with serving(conversation.script) as part:
        log = run(lambda: talk(mode, part.url, conversation))
        part.done.wait(10)
    return log, part.received


@pytest.mark.parametrize("seed", SEEDS)
def test_each_generation_is_one_call_and_the_application_sees_what_it_would_without(
    seed: int, mode: Mode, run: Run
) -> None:
    conversation = Conversation(seed, FRAMES)
    bare = played(mode, run, conversation)
    with capture() as seen:
        assert played(mode, run, conversation) == bare
        check(conversation, seen)


def check(conversation: Conversation, seen: Captured) -> None:
    records = {number_of(record): record for record in seen.records}
    assert len(records) == len(seen.records) == len(seen.spans)
    assert records.keys() == {one.number for one in conversation.generations}
    for one in conversation.generations:
        check_one(one, records[one.number], conversation.ending)


def number_of(record: CallRecord) -> int:
    """By the response's id; of one that has none by its question."""
    if record.response is not None and record.response.id is not None:
        return int(record.response.id.removeprefix("resp_"))
    return int(body_sent(record)["input"].removeprefix("question "))


ENDS = {
    # of a response, by its last event: outcome, end of the stream, reason
    "completed": ("success", "complete", "completed"),
    "incomplete": ("success", "complete", "max_output_tokens"),
    "failed": ("error", "complete", "failed"),
    "error": ("error", "error", None),
    "refused": ("error", "error", None),
}
CUTS = {
    "close": ("success", "cut_off", None),
    "drop": ("error", "cut_off", None),
    "own close": ("cancelled", "closed", None),
}
"""Of one that runs or waits when the connection ends."""


def check_one(one: Generation, record: CallRecord, ending: str) -> None:
    body, stream, usage = body_sent(record), record.stream, record.usage
    assert stream is not None
    temperature = None if one.given is None else 0.25
    assert (body.get("input"), body["model"], body.get("temperature")) == (one.given, "gpt-5", temperature)
    assert (record.request.continues, record.request.model) == (one.previous, "gpt-5")
    assert {"type", "stream_id"}.isdisjoint(body)
    assert (stream.chunks, record.text or "") == (one.events, one.text)
    outcome, end, reason = ENDS.get(one.end, CUTS[ending])
    if one.end == "waiting" and ending == "close":
        outcome = "error"  # nothing came at all
    if one.end == "incomplete" and one.is_steered:
        reason = "steered"
    assert (record.outcome, stream.end, record.finish_reason) == (outcome, end, reason)
    assert (stream.complete, record.error is not None) == (end == "complete", outcome == "error")
    assert (usage and (usage.input_tokens, usage.output_tokens)) == (
        one.usage and (one.usage["input_tokens"], one.usage["output_tokens"])
    )
