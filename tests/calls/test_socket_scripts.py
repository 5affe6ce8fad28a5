"""Generated scripts of each kind of websocket: what the application sees is untouched, and each generation is one call.

Each has 200 frames, at full scale 10,000, and ends as one of `ENDINGS`.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from tests.support import realtime_server as voice
from tests.support import sdks
from tests.support.calls import body_sent
from tests.support.mode import Mode
from tests.support.realtime_server import event
from tests.support.scale import scaled
from tests.support.socket_script import serving
from tests.support.socket_server import connected, next_of

from callspan.records import CallRecord
from callspan.testing import capture

sdks.needs("websockets", "14", "what was received before a drop")

Side = Literal["client", "server", "close", "drop", "own close"]
Step = tuple[Side, Any]
Steps = list[Step]
WORDS = ("Yes", " no", " naïve", " 你好", ' "quoted"', "\n", " 🎉", " \u2028", " end.")
ENDINGS: tuple[Side, ...] = ("close", "drop", "own close")


@dataclass
class Generation:
    """One response, and what its record is to have."""

    number: int
    given: str | None
    """The input; None: the provider began it by itself."""
    previous: str | None = None
    text: str = ""
    events: int = 0
    usage: dict[str, int] | None = None
    end: str = "waiting"
    """The type of its last event, else `waiting` or `running`."""
    is_steered: bool = False

    @property
    def id(self) -> str:
        return f"resp_{self.number}"

    def response(self, **fields: Any) -> dict[str, Any]:
        return {
            "id": self.id, "object": "response", "model": "gpt-5", "status": "in_progress", "output": [],
            "previous_response_id": self.previous, **fields,
        }  # fmt: skip


class Lane:
    """Yields the frames of one lane: creates, and the answers to them in their order."""

    def __init__(self, pick: random.Random, name: str | None, generations: list[Generation]) -> None:
        self._random, self._name, self._generations = pick, name, generations
        self._waiting: deque[Generation] = deque()
        self._last: str | None = None
        self._over: Steps = []
        """The first and last frames of what has ended last."""

    def steps(self) -> Iterator[Step]:
        while True:
            if not self._waiting:
                yield self._create()
            made: Generation | None = self._waiting.popleft()
            if self._random.random() < 0.1:
                made.end = "refused"
                yield self._send(type="error", status=400, error={"type": "invalid_request_error", "message": "No."})
                continue
            while made is not None:
                yield from self._answer(made)
                made = self._new(None, previous=made.id) if made.is_steered else None

    def _new(self, given: str | None, **fields: Any) -> Generation:
        made = Generation(len(self._generations), given, **fields)
        self._generations.append(made)
        return made

    def _create(self) -> Step:
        previous = self._random.choice([None, self._last])
        made = self._new(f"question {len(self._generations)}", previous=previous)
        self._waiting.append(made)
        about = {"stream_id": self._name, "previous_response_id": previous}
        frame = {"type": "response.create", "model": "gpt-5", "input": made.given, "temperature": 0.25}
        return "client", frame | {name: value for name, value in about.items() if value is not None}

    def _answer(self, made: Generation) -> Iterator[Step]:
        made.end = "running"
        yield self._event(made, "response.created", response=made.response())
        while made.end == "running":
            roll = self._random.random()
            if roll < 0.1:
                yield self._terminal(made)
            elif roll < 0.15:
                yield from self._steer(made)
            elif roll < 0.18:
                yield "server", self._random.choice(["", "no json", '"text"', "[1]", '{"type":7}'])
            elif roll < 0.2:
                made.end, self._last = "error", None
                error = {"type": "server_error", "code": "server_error", "message": "Oh."}
                yield self._send(type="error", sequence_number=made.events, error=error)
            elif roll < 0.25:
                yield self._event(made, "response.of_tomorrow", of=["tomorrow", 1.5, None])
            elif roll < 0.3:
                yield from self._over  # replayed, it is no second call
            elif roll < 0.4 and len(self._waiting) < 3:
                yield self._create()
            else:
                word = self._random.choice(WORDS)
                made.text += word
                about = {"output_index": 0, "content_index": 0, "item_id": "m"}
                yield self._event(made, "response.output_text.delta", **about, delta=word)

    def _steer(self, made: Generation) -> Iterator[Step]:
        given = self._random.choice(["Be brief.", [{"role": "user", "content": "Be long."}]])
        steer = {"previous_response_id": made.id, "input": given}
        yield "client", {"type": "response.steer", **steer}
        if self._random.random() < 0.3:
            error = {"type": "invalid_request_error", "code": "steering_not_supported", "message": "No."}
            yield self._event(made, "response.steer.failed", steer=steer, error=error)
            return
        made.is_steered = True
        yield self._event(made, "response.steer.accepted", steer={"id": "s", "previous_response_id": made.id})

    def _terminal(self, made: Generation) -> Step:
        made.usage = {"input_tokens": made.number + 1, "output_tokens": made.events, "total_tokens": 1}
        content = [{"type": "output_text", "text": made.text, "annotations": []}]
        output = [{"type": "message", "role": "assistant", "id": "m", "content": content}] if made.text else []
        made.end = self._random.choice(["completed", "incomplete"] + ["failed"] * (not made.is_steered))
        fields: dict[str, Any] = {"status": made.end, "output": output, "usage": made.usage}
        if made.end == "incomplete":
            fields["incomplete_details"] = {"reason": "steered" if made.is_steered else "max_output_tokens"}
        if made.end == "failed":
            fields["error"] = {"code": "server_error", "message": "Oh."}
        kind, ended = f"response.{made.end}", made.response(**fields)
        begun = self._send(type="response.created", response=made.response())
        self._over, self._last = [begun, self._send(type=kind, response=ended)], made.id
        return self._event(made, kind, response=ended)

    def _event(self, made: Generation, kind: str, **fields: Any) -> Step:
        made.events += 1
        return self._send(type=kind, sequence_number=made.events - 1, **fields)

    def _send(self, **frame: Any) -> Step:
        named = {} if self._name is None else {"stream_id": self._name}
        text = json.dumps({**frame, **named}, ensure_ascii=self._random.random() < 0.5)
        return "server", text.encode() if self._random.random() < 0.05 else text


def conversation(pick: random.Random, frames: int) -> tuple[Steps, list[Generation]]:
    """Responses on several lanes at once."""
    generations: list[Generation] = []
    lanes = [Lane(pick, name, generations).steps() for name in (None, "a", "b.1")]
    return [next(pick.choice(lanes)) for _ in range(frames)], generations


Log = list[Any]


async def talk(mode: Mode, url: str, surface: str, options: dict[str, Any], steps: Steps) -> Log:
    """What the application sees: every message and exception, in order."""
    log: Log = []
    async with connected(mode, surface, url=url, **options) as socket:
        # Older versions of the SDK have no method of their own that sends text as it is.
        send = getattr(socket.connection, "send_raw", None) or socket.connection._connection.send
        for side, frame in steps:
            if side == "client":
                await mode.wait(send(json.dumps(frame)))
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
    script = [{"client": "recv", "server": frame}.get(side, side) for side, frame in steps if side != "own close"]
    with serving(script) as part:
        log = await talk(mode, part.url, surface, options, steps)
        part.done.wait(10)
    return log, part.received


async def recorded(mode: Mode, surface: str, options: dict[str, Any], steps: Steps) -> list[CallRecord]:
    """The records of calls whose both sides see the same as without callspan."""
    bare = await played(mode, surface, options, steps)
    with capture() as seen:
        assert await played(mode, surface, options, steps) == bare
        assert len(seen.spans) == len(seen.records)
        return seen.records


CUTS = {
    # outcome, end of the stream, reason of what runs or waits when the connection ends
    "close": ("success", "cut_off", None),
    "drop": ("error", "cut_off", None),
    "own close": ("cancelled", "closed", None),
}


@pytest.mark.parametrize("seed", range(6))
async def test_websocket_script_records_each_response_once(seed: int, mode: Mode) -> None:
    (steps, generations), ending = conversation(random.Random(seed), scaled(200, 10_000)), ENDINGS[seed % 3]
    records = await recorded(mode, "responses.connect", {}, [*steps, (ending, None)])
    by_number = {number_of(record): record for record in records}
    assert sorted(by_number) == [one.number for one in generations]
    assert len(records) == len(generations)
    for one in generations:
        check_one(one, by_number[one.number], ending)


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
async def test_voice_script_records_each_generation_once(kind: Script, ending: Side, mode: Mode) -> None:
    version, surface, options = KINDS[kind]
    sdks.needs("openai", version, surface)
    steps, facts = kind(random.Random(len(ending)), scaled(200, 10_000), CUTS[ending][0])
    records = await recorded(mode, surface, options, [*steps, (ending, None)])
    assert Counter(map(fact_of, records)) == Counter(facts)


def fact_of(record: CallRecord) -> Fact:
    usage = record.usage
    counts = None if usage is None else (usage.total_tokens, usage.input_audio_seconds)
    return record.api, record.text, record.outcome, counts
