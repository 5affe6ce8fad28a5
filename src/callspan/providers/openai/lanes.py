"""Lanes: which response the frames of one connection of the Responses API belong to, over a websocket.

A lane (`stream_id`; none: the default lane) runs one response at a time. Creates and `response.created` pair in order;
one that no create explains begins a successor, which the provider makes of queued input. All events of a lane belong
to its running response, because deltas carry no id of it.

Wire reference: https://platform.openai.com/docs/guides/websocket-mode
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Final, Generic, Literal, TypeAlias, TypeVar

from callspan.providers.wire_json import mapping, text

CREATE: Final = "response.create"
STEER: Final = "response.steer"
_CREATED: Final = "response.created"
_STEER_ACCEPTED: Final = "response.steer.accepted"
_STEER_FAILED: Final = "response.steer.failed"
_ENDS: Final = ("response.completed", "response.failed", "response.incomplete", "response.cancelled")
_ENDING: Final = rf'"type"\s*:\s*"(?:{"|".join(_ENDS)}|error)"'
_ENDING_TEXT: Final = re.compile(_ENDING)
_ENDING_BYTES: Final = re.compile(_ENDING.encode())
_HEAD: Final = 128
"""Where the type of a message stands."""
_BESIDE: Final = ("response.steer.", "response.inject.", "response.queued")
"""Events that do not show that a response runs."""
_OWN: Final = frozenset({"type", "stream_id"})
"""What a create has besides the body of a request."""
_NOT_INHERITED: Final = frozenset({"input", "previous_response_id", "generate", "prewarm"})
_MOST_LANES: Final = 64
_MOST_STEERED: Final = 32

_C = TypeVar("_C")
_Json: TypeAlias = dict[str, object]
Action: TypeAlias = Literal["begin", "chunk", "end", "fail"]
"""`begin`: a successor begins. `chunk`: an event of the response. `end`: it has ended. `fail`: by this `error`."""


class Turn(Generic[_C]):
    """One response: what requested it, and what observes it."""

    __slots__ = ("accepted", "call", "lane", "previous", "response_id", "settings", "steers")

    def __init__(self, lane: str | None, body: _Json, call: _C) -> None:
        self.lane = lane
        self.call = call
        self.previous = text(body, "previous_response_id")
        self.settings = {key: value for key, value in body.items() if key not in _NOT_INHERITED}
        """What its successor inherits; nothing once it has ended and nothing is queued for one."""
        self.response_id: str | None = None
        self.steers: list[object] = []
        """Input that was sent for its successor, and not answered yet, in this order."""
        self.accepted: list[object] = []
        """Input that the provider has accepted."""

    @property
    def queued(self) -> list[object]:
        """The input of its successor; what was not accepted does not count, unless nothing says what was."""
        return self.accepted or self.steers


Step: TypeAlias = tuple[Action, Turn[_C], _Json]
"""What is to be done, and with which event; of a successor with the body that stands for its request."""


class _Lane(Generic[_C]):
    __slots__ = ("last_id", "running", "waiting")

    def __init__(self) -> None:
        self.running: Turn[_C] | None = None
        self.waiting: deque[Turn[_C]] = deque()
        self.last_id: str | None = None
        """Id of the last response that has ended."""


class Lanes(Generic[_C]):
    """The responses of one connection. `unobserved` stands for the call of a turn that has none."""

    __slots__ = ("_lanes", "_lost", "_steered", "_unobserved")

    def __init__(self, unobserved: _C) -> None:
        self._unobserved = unobserved
        self._lanes: dict[str | None, _Lane[_C]] = {}
        self._steered: dict[str, Turn[_C]] = {}
        """By id, responses that have ended, for whose successors input is queued."""
        self._lost = False

    def create(self, frame: _Json, call: _C) -> Turn[_C]:
        """Take a create that was sent."""
        turn = Turn(_lane_of(frame), body_of(frame), call)
        self._lane(turn.lane).waiting.append(turn)
        return turn

    def steer(self, frame: _Json) -> None:
        """Take input that was sent for the successor of a response that runs."""
        turn = self._turn(text(frame, "previous_response_id"))
        if turn is not None and frame.get("input"):
            turn.steers.append(frame["input"])

    def received(self, event: _Json) -> list[Step[_C]]:
        """Return what is to be done with an event."""
        kind, lane = event.get("type"), self._lane(_lane_of(event))
        if not isinstance(kind, str):
            return []  # no event
        if kind == _CREATED:
            return self._created(lane, event)
        if kind == "error":
            return self._failed(lane, event)
        if kind in (_STEER_ACCEPTED, _STEER_FAILED):
            self._answered(event, is_accepted=kind == _STEER_ACCEPTED)
        if lane.running is None and self._lost and lane.waiting and _shows_a_response(kind):
            lane.running = lane.waiting.popleft()
        turn = lane.running
        if turn is None:
            return []
        steps: list[Step[_C]] = [("chunk", turn, event)]
        if kind in _ENDS:
            steps.append(("end", turn, event))
            self._ended(lane, turn)
        return steps

    def lost(self) -> list[Turn[_C]]:
        """Note that events were lost; return the turns that run or wait, of whose events some may be missing."""
        self._lost = True
        return list(self.open())

    def open(self) -> Iterator[Turn[_C]]:
        """Yield the turns that run or wait."""
        for lane in self._lanes.values():
            if lane.running is not None:
                yield lane.running
            yield from lane.waiting

    def _created(self, lane: _Lane[_C], event: _Json) -> list[Step[_C]]:
        steps: list[Step[_C]] = []
        if lane.running is not None:
            steps.append(("end", lane.running, event))  # without its terminal event
            self._ended(lane, lane.running)
        response = mapping(event, "response") or {}
        previous = text(response, "previous_response_id")
        if lane.waiting and not self._is_automatic(lane, previous):
            turn = lane.waiting.popleft()
            self._steered.pop(turn.previous or "", None)  # what is queued is put before the input of this create
        else:
            turn, body = self._successor(lane, _lane_of(event), previous, response)
            steps.append(("begin", turn, body))
        turn.response_id = text(response, "id")
        lane.running = turn
        steps.append(("chunk", turn, event))
        return steps

    def _is_automatic(self, lane: _Lane[_C], previous: str | None) -> bool:
        """Whether a response continues another one than the create that is next."""
        known = previous is not None and (previous in self._steered or previous == lane.last_id)
        return known and lane.waiting[0].previous != previous

    def _successor(
        self, lane: _Lane[_C], name: str | None, previous: str | None, response: _Json
    ) -> tuple[Turn[_C], _Json]:
        parent = self._steered.pop(previous or lane.last_id or "", None)
        body: _Json = {"model": response["model"]} if "model" in response else {}
        if parent is not None:
            body = {**parent.settings, "input": _joined(parent.queued)}
        if previous or lane.last_id:
            body["previous_response_id"] = previous or lane.last_id
        return Turn(name, body, self._unobserved), body

    def _failed(self, lane: _Lane[_C], event: _Json) -> list[Step[_C]]:
        """End by an error the running response, or the create that it refuses: that one has no number of an event."""
        refuses = lane.running is None or "sequence_number" not in event
        if lane.waiting and refuses:
            return [("fail", lane.waiting.popleft(), event)]
        turn = lane.running
        if turn is None:
            return []
        self._ended(lane, turn)
        return [("fail", turn, event)]

    def _ended(self, lane: _Lane[_C], turn: Turn[_C]) -> None:
        lane.running, lane.last_id = None, turn.response_id
        if not turn.queued or turn.response_id is None:
            turn.settings = {}
            return
        self._steered[turn.response_id] = turn
        if len(self._steered) > _MOST_STEERED:
            del self._steered[next(iter(self._steered))]

    def _answered(self, event: _Json, *, is_accepted: bool) -> None:
        """Take what became of input that was sent."""
        steer = mapping(event, "steer") or {}
        previous = text(steer, "previous_response_id")
        turn = self._turn(previous)
        if turn is None:
            return
        if is_accepted:
            turn.accepted += turn.steers[:1]
            del turn.steers[:1]
            return
        refused, given = turn.accepted if "id" in steer else turn.steers, steer.get("input")
        if given in refused:
            refused.remove(given)
        if not turn.queued:
            self._steered.pop(previous or "", None)

    def _turn(self, response_id: str | None) -> Turn[_C] | None:
        if response_id is None:
            return None
        running = (lane.running for lane in self._lanes.values() if lane.running is not None)
        return next((one for one in running if one.response_id == response_id), self._steered.get(response_id))

    def _lane(self, name: str | None) -> _Lane[_C]:
        lane = self._lanes.get(name)
        if lane is None:
            if len(self._lanes) >= _MOST_LANES:
                idle = [key for key, one in self._lanes.items() if one.running is None and not one.waiting]
                for key in idle:
                    del self._lanes[key]
            lane = self._lanes[name] = _Lane()
        return lane


def may_end(message: str | bytes) -> bool:
    """Whether a message may end a response, by the type among its first 128 characters."""
    if isinstance(message, str):
        return _ENDING_TEXT.search(message, 0, _HEAD) is not None
    return _ENDING_BYTES.search(message, 0, _HEAD) is not None


def body_of(frame: _Json) -> _Json:
    """Return the body of the request that a create stands for."""
    return {key: value for key, value in frame.items() if key not in _OWN}


def _lane_of(frame: _Json) -> str | None:
    found = frame.get("stream_id")
    return found if isinstance(found, str) else None


def _shows_a_response(kind: str) -> bool:
    return kind.startswith("response.") and not kind.startswith(_BESIDE)


def _joined(steers: list[object]) -> object:
    """Return the input of a successor: as it was sent, of several one list of items."""
    if len(steers) == 1:
        return steers[0]
    items: list[object] = []
    for steer in steers:
        items += steer if isinstance(steer, list) else [{"role": "user", "content": steer}]
    return items
