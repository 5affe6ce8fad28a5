"""Generated conversations over websockets: what the application sees is untouched, and each generation is one call.

Each has 200 frames, at full scale 10,000.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

from callspan.records import CallRecord
from callspan.testing import Captured, capture
from tests.intercept import sdks
from tests.intercept.socket_scripts import Conversation, Generation
from tests.intercept.socket_server import serving
from tests.intercept.sockets import exceptions
from tests.scale import scaled

if sdks.version("websockets") < (14,):
    pytest.skip("websockets 13 loses what was received before a drop", allow_module_level=True)
FRAMES = scaled(200, 10_000)
SEEDS = range(6)
Log = list[tuple[str, Any]]


def raw(connection: Any) -> Any:
    """What sends text as it is; older versions of the SDK have no method of their own."""
    return getattr(connection, "send_raw", None) or connection._connection.send


def talk(url: str, conversation: Conversation) -> Log:
    """What the application sees: every message and exception, in order."""
    log: Log = []
    with openai.OpenAI(base_url=url, api_key="k") as client, client.responses.connect() as connection:
        for side, frame in conversation.steps:
            if side == "client":
                raw(connection)(json.dumps(frame))
            elif side == "server":
                log.append(("message", connection.recv_bytes()))
            else:
                try:
                    if side == "own close":
                        connection.close()
                    connection.recv_bytes()
                except exceptions.ConnectionClosed as error:
                    log.append((type(error).__name__, str(error)))
    return log


async def talk_async(url: str, conversation: Conversation) -> Log:
    log: Log = []
    async with openai.AsyncOpenAI(base_url=url, api_key="k") as client, client.responses.connect() as connection:
        for side, frame in conversation.steps:
            if side == "client":
                await raw(connection)(json.dumps(frame))
            elif side == "server":
                # A wait that is cancelled loses nothing.
                waiting = asyncio.ensure_future(connection.recv_bytes())
                await asyncio.sleep(0)
                if len(log) % 3 == 0 and not waiting.done() and waiting.cancel():
                    await asyncio.wait([waiting])
                    waiting = asyncio.ensure_future(connection.recv_bytes()) if waiting.cancelled() else waiting
                log.append(("message", await waiting))
            else:
                try:
                    if side == "own close":
                        await connection.close()
                    await connection.recv_bytes()
                except exceptions.ConnectionClosed as error:
                    log.append((type(error).__name__, str(error)))
    return log


def run(colour: str, conversation: Conversation) -> tuple[Log, list[str | bytes]]:
    """What both sides see."""
    with serving(conversation.script) as part:
        log = talk(part.url, conversation) if colour == "sync" else asyncio.run(talk_async(part.url, conversation))
        part.done.wait(10)
    return log, part.received


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("seed", SEEDS)
def test_each_generation_is_one_call_and_the_application_sees_what_it_would_without(seed: int, colour: str) -> None:
    conversation = Conversation(seed, FRAMES)
    bare = run(colour, conversation)
    with capture() as seen:
        assert run(colour, conversation) == bare
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
    return int(json.loads(bytes(record.request.body))["input"].removeprefix("question "))


EXPECTED = {
    "completed": ("success", "complete"),
    "incomplete": ("success", "complete"),
    "failed": ("error", "complete"),
    "error": ("error", "error"),
    "refused": ("error", "error"),
}
AT_THE_END = {"close": "cut_off", "drop": "cut_off", "own close": "closed"}


def check_one(one: Generation, record: CallRecord, ending: str) -> None:
    body, stream, usage = json.loads(bytes(record.request.body)), record.stream, record.usage
    assert stream is not None
    assert (body["input"], body["model"], body["temperature"]) == (one.given, "gpt-5", 0.25)
    assert (record.request.continues, record.request.model) == (one.previous, "gpt-5")
    assert {"type", "stream_id"}.isdisjoint(body)
    assert (stream.chunks, record.text or "") == (one.events, one.text)
    if one.end in EXPECTED:
        assert (record.outcome, stream.end) == EXPECTED[one.end]
    else:
        assert stream.end == AT_THE_END[ending]
    assert (None if usage is None else (usage.input_tokens, usage.output_tokens)) == (
        None if one.usage is None else (one.usage["input_tokens"], one.usage["output_tokens"])
    )
    if one.end == "incomplete":
        assert record.finish_reason == ("steered" if one.steers else "max_output_tokens")
