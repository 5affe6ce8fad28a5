"""Generated conversations over websockets: what the application sees is untouched, and each generation is one call.

Each has 200 frames, at full scale 10,000.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from callspan.records import CallRecord
from callspan.testing import Captured, capture
from tests.calls.sockets import connected
from tests.support import sdks
from tests.support.calls import Run, body_sent
from tests.support.mode import Mode
from tests.support.scale import scaled
from tests.support.socket_server import next_of, serving

Side = Literal["client", "server", "close", "drop", "own close"]
WORDS = ("Yes", " no", " naïve", " 你好", ' "quoted"', "\n", " 🎉", " \u2028", " end.")
ENDINGS: tuple[Side, ...] = ("close", "drop", "own close")


@dataclass
class Generation:
    """One response, and what its record is to have."""

    number: int
    lane: str | None
    given: str | None
    """The input; None: the provider began it by itself."""
    previous: str | None = None
    text: str = ""
    events: int = 0
    usage: dict[str, int] | None = None
    end: str = "running"
    """The type of its last event, else `running` or `waiting`."""
    is_steered: bool = False

    @property
    def id(self) -> str:
        return f"resp_{self.number}"

    def response(self, **fields: Any) -> dict[str, Any]:
        return {
            "id": self.id, "object": "response", "model": "gpt-5", "status": "in_progress", "output": [],
            "previous_response_id": self.previous, **fields,
        }  # fmt: skip


class Conversation:
    """A script for both sides, made of a seed: about so many frames, and one of the endings."""

    def __init__(self, seed: int, frames: int) -> None:
        self.steps: list[tuple[Side, Any]] = []
        self.generations: list[Generation] = []
        self._random = random.Random(seed)
        self._waiting: dict[str | None, deque[Generation]] = {lane: deque() for lane in (None, "a", "b.1")}
        self._running: dict[str | None, Generation] = {}
        self._last: dict[str | None, str] = {}
        while len(self.steps) < frames:
            self._step()
        self.ending = self._random.choice(ENDINGS)
        self.steps.append((self.ending, None))

    @property
    def script(self) -> list[Any]:
        """The part of the server."""
        steps = ((side, frame) for side, frame in self.steps if side != "own close")
        return [{"client": "recv", "server": frame}.get(side, side) for side, frame in steps]

    def _step(self) -> None:
        lane = self._random.choice(list(self._waiting))
        running = self._running.get(lane)
        if running is None and self._waiting[lane] and self._random.random() < 0.8:
            self._start(lane)
        elif running is not None and self._random.random() < 0.9:
            self._go_on(running)
        elif len(self._waiting[lane]) < 3:
            self._create(lane)

    def _new(self, lane: str | None, given: str | None, **fields: Any) -> Generation:
        made = Generation(len(self.generations), lane, given, **fields)
        self.generations.append(made)
        return made

    def _create(self, lane: str | None) -> None:
        previous = self._random.choice([None, self._last.get(lane)])
        made = self._new(lane, f"question {len(self.generations)}", previous=previous, end="waiting")
        frame: dict[str, Any] = {"type": "response.create", "model": "gpt-5", "input": made.given, "temperature": 0.25}
        if lane is not None:
            frame["stream_id"] = lane
        if previous is not None:
            frame["previous_response_id"] = previous
        self._waiting[lane].append(made)
        self.steps.append(("client", frame))

    def _start(self, lane: str | None) -> None:
        made = self._waiting[lane].popleft()
        if self._random.random() < 0.1:
            made.end = "refused"
            self._send(
                lane, {"type": "error", "status": 400, "error": {"type": "invalid_request_error", "message": "No."}}
            )
            return
        self._created(made)

    def _created(self, made: Generation) -> None:
        made.end = "running"
        self._running[made.lane] = made
        self._event(made, "response.created", response=made.response())

    def _go_on(self, made: Generation) -> None:
        roll = self._random.random()
        if roll < 0.1:
            self._terminal(made)
        elif roll < 0.15:
            self._steer(made)
        elif roll < 0.18:
            self.steps.append(("server", self._random.choice(["", "no json", '"text"', "[1]", '{"type":7}'])))
        elif roll < 0.2:
            made.end = "error"
            del self._running[made.lane]
            error = {"type": "server_error", "code": "server_error", "message": "Oh."}
            self._send(made.lane, {"type": "error", "sequence_number": made.events, "error": error})
            self._last.pop(made.lane, None)
        elif roll < 0.25:
            self._event(made, "response.of_tomorrow", of=["tomorrow", 1.5, None])
        else:
            word = self._random.choice(WORDS)
            made.text += word
            self._event(made, "response.output_text.delta", output_index=0, content_index=0, item_id="m", delta=word)

    def _steer(self, made: Generation) -> None:
        given = self._random.choice(["Be brief.", [{"role": "user", "content": "Be long."}]])
        self.steps.append(("client", {"type": "response.steer", "previous_response_id": made.id, "input": given}))
        if self._random.random() < 0.3:
            steer = {"previous_response_id": made.id, "input": given}
            error = {"type": "invalid_request_error", "code": "steering_not_supported", "message": "No."}
            self._event(made, "response.steer.failed", steer=steer, error=error)
            return
        made.is_steered = True
        self._event(made, "response.steer.accepted", steer={"id": "s", "previous_response_id": made.id})

    def _terminal(self, made: Generation) -> None:
        made.usage = {"input_tokens": made.number + 1, "output_tokens": made.events, "total_tokens": 1}
        content = [{"type": "output_text", "text": made.text, "annotations": []}]
        output = [{"type": "message", "role": "assistant", "id": "m", "content": content}] if made.text else []
        made.end = self._random.choice(["completed", "failed", "incomplete"])
        if made.is_steered:
            made.end = self._random.choice(["completed", "incomplete"])
        fields: dict[str, Any] = {"status": made.end, "output": output, "usage": made.usage}
        if made.end == "incomplete":
            fields["incomplete_details"] = {"reason": "steered" if made.is_steered else "max_output_tokens"}
        if made.end == "failed":
            fields["error"] = {"code": "server_error", "message": "Oh."}
        self._event(made, f"response.{made.end}", response=made.response(**fields))
        del self._running[made.lane]
        self._last[made.lane] = made.id
        if made.is_steered:
            self._created(self._new(made.lane, None, previous=made.id))

    def _event(self, made: Generation, kind: str, **fields: Any) -> None:
        self._send(made.lane, {"type": kind, "sequence_number": made.events, **fields})
        made.events += 1

    def _send(self, lane: str | None, frame: dict[str, Any]) -> None:
        named = {} if lane is None else {"stream_id": lane}
        text = json.dumps({**frame, **named}, ensure_ascii=self._random.random() < 0.5)
        self.steps.append(("server", text.encode() if self._random.random() < 0.05 else text))


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
