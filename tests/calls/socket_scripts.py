"""Generated conversations over a websocket, with what is to be recorded of them."""

from __future__ import annotations

import json
import random
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

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
