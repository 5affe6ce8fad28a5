"""Generated scripts of each kind of websocket: what the application sees is untouched, and each generation is one call.

Each has 200 frames, at full scale 10,000, and ends as one of `ENDINGS`.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from tests.support import realtime_server as voice
from tests.support import sdks
from tests.support.calls import body_sent
from tests.support.mode import Mode
from tests.support.realtime_server import event
from tests.support.scale import scaled
from tests.support.socket_server import connected, next_of, serving

from callspan.records import CallRecord
from callspan.testing import capture

sdks.needs_module("websockets", "14", "what was received before a drop")

Side = Literal["client", "server", "close", "drop", "own close"]
Steps = list[tuple[Side, Any]]
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
    """A script of Responses for both sides: about so many frames."""

    def __init__(self, pick: random.Random, frames: int) -> None:
        self.steps: Steps = []
        self.generations: list[Generation] = []
        self._random = pick
        self._waiting: dict[str | None, deque[Generation]] = {lane: deque() for lane in (None, "a", "b.1")}
        self._running: dict[str | None, Generation] = {}
        self._last: dict[str | None, str] = {}
        self._over: dict[str | None, list[dict[str, Any]]] = {}
        """The first and last frames of what has ended last on a lane."""
        while len(self.steps) < frames:
            self._step()

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
        elif roll < 0.3:
            for frame in self._over.get(made.lane, ()):  # replayed, it is no second call
                self._send(made.lane, frame)
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
        ends = (("response.created", {}), (f"response.{made.end}", fields))
        self._over[made.lane] = [{"type": kind, "response": made.response(**stated)} for kind, stated in ends]
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


Log = list[Any]


def raw(connection: Any) -> Any:
    """What sends text as it is; older versions of the SDK have no method of their own."""
    return getattr(connection, "send_raw", None) or connection._connection.send


async def talk(mode: Mode, url: str, surface: str, options: dict[str, Any], steps: Steps) -> Log:
    """What the application sees: every message and exception, in order."""
    log: Log = []
    async with connected(mode, surface, url, **options) as socket:
        for side, frame in steps:
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


async def played(mode: Mode, surface: str, options: dict[str, Any], steps: Steps) -> tuple[Log, list[str | bytes]]:
    """What both sides see."""
    script = [{"client": "recv", "server": frame}.get(side, side) for side, frame in steps if side != "own close"]
    with serving(script) as part:
        log = await talk(mode, part.url, surface, options, steps)
        part.done.wait(10)
    return log, part.received


CUTS = {
    # outcome, end of the stream, reason of what runs or waits when the connection ends
    "close": ("success", "cut_off", None),
    "drop": ("error", "cut_off", None),
    "own close": ("cancelled", "closed", None),
}


@pytest.mark.parametrize("seed", range(6))
async def test_each_response_is_one_call_and_seen_as_without(seed: int, mode: Mode) -> None:
    conversation, ending = Conversation(random.Random(seed), scaled(200, 10_000)), ENDINGS[seed % 3]
    steps: Steps = [*conversation.steps, (ending, None)]
    bare = await played(mode, "responses.connect", {}, steps)
    with capture() as seen:
        assert await played(mode, "responses.connect", {}, steps) == bare
        records = {number_of(record): record for record in seen.records}
        assert len(records) == len(seen.records) == len(seen.spans)
    assert records.keys() == {one.number for one in conversation.generations}
    for one in conversation.generations:
        check_one(one, records[one.number], ending)


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


Fact = tuple[str, str | None, str, tuple[int | None, float | None] | None]
"""Of a call: API, text, outcome, tokens and seconds as the wire states them."""


def from_server(*frames: Any) -> Steps:
    return [("server", json.dumps(frame) if isinstance(frame, dict) else frame) for frame in frames]


def noise(pick: random.Random) -> Steps:
    """A frame that belongs to no call."""
    frames = ["", "no json", "[1]", '{"type":7}', event("response.of_tomorrow"), event("rate_limits.updated")]
    return from_server(pick.choice(frames))


def realtime(pick: random.Random, frames: int, cut: str) -> tuple[Steps, list[Fact]]:
    """The user's speech with its transcripts, and answers, of which some are requested; the last one is cut off."""
    steps, facts, over = from_server(voice.session()), [], list[tuple[Side, Any]]()
    outcomes = {"completed": "success", "cancelled": "cancelled", "incomplete": "success", "failed": "error"}
    while len(steps) < frames:
        name = f"{len(facts)}"
        steps += over if pick.random() < 0.3 else []  # replayed, it is no second call
        if pick.random() < 0.4:
            over = from_server(*voice.transcribed(f"item_{name}", f"{name}?"))
            steps += from_server(*voice.speech(f"item_{name}")) + over
            facts.append(("transcriptions", f"{name}?", "success", (None, 1.5)))
            continue
        if pick.random() < 0.5:
            steps.append(("client", {"type": "response.create"}))
        words, status = pick.choices(WORDS, k=3), pick.choice(list(outcomes))
        steps += from_server(voice.created(name), *voice.spoken(name, *words)) + noise(pick)
        steps += from_server(*voice.done(name, *words, status=status))
        over = from_server(voice.created(name), *voice.done(name, *words, status=status))
        facts.append(("realtime", "".join(words), outcomes[status], (voice.USAGE["total_tokens"], None)))  # type: ignore[arg-type]
    steps += from_server(voice.created("last"), *voice.spoken("last", "I am"))
    return steps, [*facts, ("realtime", "I am", cut, None)]


def live(pick: random.Random, frames: int, cut: str) -> tuple[Steps, list[Fact]]:
    """Both sides' speech, delegated responses of which the last is cut off, decisions, totals of seconds."""
    steps, facts, said, seconds = from_server(voice.started()), [], "", 0
    while len(steps) < frames:
        roll = pick.random()
        if roll < 0.2:
            steps += from_server(*voice.delegated(f"resp_{len(facts)}", *WORDS[:3]))
            facts.append(("responses", "".join(WORDS[:3]), "success", (12, None)))
        elif roll < 0.3:
            steps += from_server(voice.decided("no"))
            facts.append(("decisions", '{"type":"choice","choice":"no"}', "success", (6, None)))
        elif roll < 0.4:
            steps += noise(pick)
        elif roll < 0.6:
            said += "🎉"
            steps += from_server(voice.heard("output", "🎉"))
        elif roll < 0.7:
            said = " 你好"
            steps += from_server(voice.heard("input", "naïve"), voice.heard("output", said))
        elif roll < 0.8:
            seconds = len(steps)
            steps += from_server(voice.used(seconds=seconds))
        else:
            steps += from_server(voice.sounded())
    steps += from_server(*voice.delegated("last", "It")[:2])
    return steps, [*facts, ("responses", "It", cut, None), ("live", said, cut, (None, seconds))]


def translation(pick: random.Random, frames: int, cut: str) -> tuple[Steps, list[Fact]]:
    """Both sides' speech at the same time, without any usage."""
    steps, said = from_server(event("session.created", session=voice.TRANSLATION)), ""
    while len(steps) < frames:
        word, side = pick.choice(WORDS), pick.choice(["input", "output"])
        said += word if side == "output" else ""
        steps += from_server(voice.translated(side, word, len(steps)))
        steps += noise(pick) if pick.random() < 0.2 else from_server(voice.sounded())
    return steps, [("realtime_translations", said, cut, None)]


Script = Callable[[random.Random, int, str], tuple[Steps, list[Fact]]]
KINDS: dict[Script, tuple[str, str, dict[str, Any]]] = {
    # the version of openai that has it, how it is opened
    realtime: ("2.30", "realtime.connect", {"model": "gpt-realtime"}),
    live: ("3.50", "live.connect", {}),
    translation: ("3.50", "realtime.translations.connect", {"model": "gpt-realtime-translate"}),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", KINDS)
async def test_each_generation_by_voice_is_one_call_and_seen_as_without(kind: Script, ending: Side, mode: Mode) -> None:
    version, surface, options = KINDS[kind]
    sdks.needs("openai", version, surface)
    steps, facts = kind(random.Random(len(ending)), scaled(200, 10_000), CUTS[ending][0])
    steps.append((ending, None))
    bare = await played(mode, surface, options, steps)
    with capture() as seen:
        assert await played(mode, surface, options, steps) == bare
        assert Counter(map(fact_of, seen.records)) == Counter(facts)
        assert len(seen.spans) == len(facts)


def fact_of(record: CallRecord) -> Fact:
    usage = record.usage
    counts = None if usage is None else (usage.total_tokens, usage.input_audio_seconds)
    return record.api, record.text, record.outcome, counts
