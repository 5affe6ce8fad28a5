"""Lanes: which response the frames of one connection of the Responses API belong to, over a websocket.

A lane (`stream_id`; none: the default lane) runs one response at a time. Creates and `response.created` pair in order;
one that no create explains begins a successor, which the provider makes of queued input. All events of a lane belong
to its running response, because deltas carry no id of it.

Wire reference: https://platform.openai.com/docs/guides/websocket-mode
"""

from __future__ import annotations

from collections import deque
from typing import Final

from callspan.providers.sockets import Json, Step, Turn
from callspan.providers.wire_json import mapping, text

CREATE: Final = "response.create"
_STEER: Final = "response.steer"
_CREATED: Final = "response.created"
_STEER_ACCEPTED: Final = "response.steer.accepted"
_STEER_FAILED: Final = "response.steer.failed"
_ENDS: Final = ("response.completed", "response.failed", "response.incomplete", "response.cancelled")
_PIECES: Final = frozenset(
    f"response.{name}.delta"
    for name in ("output_text", "function_call_arguments", "reasoning_summary_text", "reasoning_text", "refusal")
)
_OWN: Final = frozenset({"type", "stream_id"})
"""What a create has besides the body of a request."""
_NOT_INHERITED: Final = frozenset({"input", "previous_response_id", "generate", "prewarm"})
_MAX_LANES: Final = 64
_MAX_WAITING: Final = 1024
_MAX_STEERED: Final = 32


class _Response(Turn):
    """One response."""

    api = "responses"

    def __init__(self, lane: str | None, body: Json) -> None:
        super().__init__(body)
        self.lane = lane
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


class _Lane:
    def __init__(self) -> None:
        self.running: _Response | None = None
        self.waiting: deque[_Response] = deque(maxlen=_MAX_WAITING)
        self.last_id: str | None = None
        """Id of the last response that has ended."""

    def next(self) -> _Response | None:
        """Return the create that is answered next."""
        while self.waiting and self.waiting[0].is_withdrawn:
            self.waiting.popleft()
        return self.waiting[0] if self.waiting else None


class ResponseLanes:
    """The responses of one connection."""

    mark = '"response.'

    def __init__(self, model: str | None = None, session_id: str | None = None, *, hashes_audio: bool = False) -> None:
        del model, session_id, hashes_audio
        self._lanes: dict[str | None, _Lane] = {}
        self._steered: dict[str, _Response] = {}
        """By id, responses that have ended, for whose successors input is queued."""

    def create(self, frame: Json) -> Turn | None:
        """Return the response that a create requests."""
        return _Response(_lane_of(frame), body_of(frame)) if frame.get("type") == CREATE else None

    def sent(self, frame: Json, turn: Turn | None) -> None:
        """Take a create, or input for the successor of a response that runs."""
        if isinstance(turn, _Response):
            self._lane(turn.lane).waiting.append(turn)
        elif frame.get("type") == _STEER and frame.get("input"):
            steered = self._turn(text(frame, "previous_response_id"))
            if steered is not None:
                steered.steers.append(frame["input"])

    def counted(self, message: str | bytes) -> None:
        """Return that all messages are read."""

    def repeated(self) -> None:
        """Return that none was only counted."""

    def running(self, event: Json) -> Turn | None:
        """Return the response of which an event is a piece of text."""
        lane = self._lanes.get(_lane_of(event)) if event["type"] in _PIECES else None
        return None if lane is None else lane.running

    def received(self, event: Json, at_ns: int) -> list[Step]:
        """Return what is to be done with an event."""
        del at_ns
        kind, lane = event["type"], self._lane(_lane_of(event))
        if kind == _CREATED:
            return self._created(lane, event)
        if kind == "error":
            return self._failed(lane, event)
        if kind in (_STEER_ACCEPTED, _STEER_FAILED):
            self._answered(event, is_accepted=kind == _STEER_ACCEPTED)
        turn = lane.running
        if turn is None:
            return []
        if kind not in _ENDS:
            return [Step("chunk", turn, event)]
        self._ended(lane, turn)
        return [Step("chunk", turn, event), Step("end", turn)]

    def _created(self, lane: _Lane, event: Json) -> list[Step]:
        steps: list[Step] = []
        if lane.running is not None:
            steps.append(Step("end", lane.running))  # without its terminal event
            self._ended(lane, lane.running)
        response = mapping(event, "response") or {}
        previous, turn = text(response, "previous_response_id"), lane.next()
        if turn is not None and not self._is_automatic(lane, turn, previous):
            lane.waiting.popleft()
            self._steered.pop(turn.previous or "", None)  # what is queued is put before the input of this create
        else:
            turn = self._successor(lane, _lane_of(event), previous, response)
            steps.append(Step("begin", turn))
        turn.response_id = text(response, "id")
        lane.running = turn
        return [*steps, Step("chunk", turn, event)]

    def _is_automatic(self, lane: _Lane, waiting: _Response, previous: str | None) -> bool:
        """Whether a response continues another one than the create that is next."""
        known = previous is not None and (previous in self._steered or previous == lane.last_id)
        return known and waiting.previous != previous

    def _successor(self, lane: _Lane, name: str | None, previous: str | None, response: Json) -> _Response:
        parent = self._steered.pop(previous or lane.last_id or "", None)
        body: Json = {"model": response["model"]} if "model" in response else {}
        if parent is not None:
            body = {**parent.settings, "input": _joined(parent.queued)}
        if previous or lane.last_id:
            body["previous_response_id"] = previous or lane.last_id
        return _Response(name, body)

    def _failed(self, lane: _Lane, event: Json) -> list[Step]:
        """End by an error the running response, or the create that it refuses: that one has no number of an event."""
        waiting, turn = lane.next(), lane.running
        if waiting is not None and (turn is None or "sequence_number" not in event):
            lane.waiting.popleft()
            return [Step("fail", waiting, event)]
        if turn is None:
            return []
        self._ended(lane, turn)
        return [Step("fail", turn, event)]

    def _ended(self, lane: _Lane, turn: _Response) -> None:
        lane.running, lane.last_id = None, turn.response_id
        if not turn.queued or turn.response_id is None:
            turn.settings = {}
            return
        self._steered[turn.response_id] = turn
        if len(self._steered) > _MAX_STEERED:
            del self._steered[next(iter(self._steered))]

    def _answered(self, event: Json, *, is_accepted: bool) -> None:
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

    def _turn(self, response_id: str | None) -> _Response | None:
        if response_id is None:
            return None
        running = (lane.running for lane in self._lanes.values() if lane.running is not None)
        return next((one for one in running if one.response_id == response_id), self._steered.get(response_id))

    def _lane(self, name: str | None) -> _Lane:
        lane = self._lanes.get(name)
        if lane is None:
            if len(self._lanes) >= _MAX_LANES:
                self._forget_one()
            lane = self._lanes[name] = _Lane()
        return lane

    def _forget_one(self) -> None:
        """Forget the oldest lane on which nothing runs; the oldest of all if something runs on each."""
        idle = (name for name, lane in self._lanes.items() if lane.running is None and not lane.waiting)
        del self._lanes[next(idle, next(iter(self._lanes)))]


def body_of(frame: Json) -> Json:
    """Return the body of the request that a create stands for."""
    return {key: value for key, value in frame.items() if key not in _OWN}


def _lane_of(frame: Json) -> str | None:
    return text(frame, "stream_id")


def _joined(steers: list[object]) -> object:
    """Return the input of a successor: as it was sent, of several one list of items."""
    if len(steers) == 1:
        return steers[0]
    items: list[object] = []
    for steer in steers:
        items += steer if isinstance(steer, list) else [{"role": "user", "content": steer}]
    return items
