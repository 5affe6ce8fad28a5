"""Lanes: which response the frames of one connection of the Responses API belong to, over a websocket.

A lane (`stream_id`; none: the default lane) runs one response at a time. Creates and `response.created` pair in order;
one that no create explains is one that the provider begins by itself. All events of a lane belong to its running
response, because deltas carry no id of it.

Wire reference: https://platform.openai.com/docs/guides/websocket-mode
"""

from __future__ import annotations

from collections import deque
from typing import Final

from callspan.providers.sockets import Json, Step, Turn
from callspan.providers.wire_json import mapping, text

CREATE: Final = "response.create"
_CREATED: Final = "response.created"
_ENDS: Final = ("response.completed", "response.failed", "response.incomplete", "response.cancelled")
_OWN: Final = frozenset({"type", "stream_id"})
"""What a create has besides the body of a request."""
_MAX_LANES: Final = 64
_MAX_WAITING: Final = 1024


class _Response(Turn):
    """One response."""

    api = "responses"

    def __init__(self, lane: str | None, body: Json) -> None:
        super().__init__(body)
        self.lane = lane
        self.previous = text(body, "previous_response_id")
        self.response_id: str | None = None


class _Lane:
    def __init__(self) -> None:
        self.running: _Response | None = None
        self.waiting: deque[_Response] = deque(maxlen=_MAX_WAITING)
        self.last_id: str | None = None
        """Id of the last response that has ended."""

    def end(self) -> None:
        """Take the end of the running response."""
        self.last_id = None if self.running is None else self.running.response_id
        self.running = None

    def next(self) -> _Response | None:
        """Return the create that is answered next."""
        while self.waiting and self.waiting[0].is_withdrawn:
            self.waiting.popleft()
        return self.waiting[0] if self.waiting else None


class ResponseLanes:
    """The responses of one connection."""

    mark = '"response.create'

    def __init__(self, model: str | None = None, session_id: str | None = None, *, hashes_audio: bool = False) -> None:
        del model, session_id, hashes_audio
        self._lanes: dict[str | None, _Lane] = {}

    def create(self, frame: Json) -> Turn | None:
        """Return the response that a create requests."""
        return _Response(_lane_of(frame), body_of(frame)) if frame.get("type") == CREATE else None

    def sent(self, frame: Json, turn: Turn | None) -> None:
        """Take a create."""
        del frame
        if isinstance(turn, _Response):
            self._lane(turn.lane).waiting.append(turn)

    def counted(self, message: str | bytes) -> None:
        """Return that all messages are read."""

    def repeated(self) -> None:
        """Return that none was only counted."""

    def received(self, event: Json, at_ns: int) -> list[Step]:
        """Return what is to be done with an event."""
        del at_ns
        kind, lane = event["type"], self._lane(_lane_of(event))
        if kind == _CREATED:
            return self._created(lane, event)
        if kind == "error":
            return self._failed(lane, event)
        turn = lane.running
        if turn is None:
            return []
        if kind not in _ENDS:
            return [Step("chunk", turn, event)]
        lane.end()
        return [Step("chunk", turn, event), Step("end", turn)]

    def _created(self, lane: _Lane, event: Json) -> list[Step]:
        steps: list[Step] = []
        if lane.running is not None:
            steps.append(Step("end", lane.running))  # without its terminal event
            lane.end()
        response = mapping(event, "response") or {}
        previous, turn = text(response, "previous_response_id"), lane.next()
        if turn is not None and not _is_automatic(lane, turn, previous):
            lane.waiting.popleft()
        else:
            turn = _successor(lane, _lane_of(event), previous, response)
            steps.append(Step("begin", turn))
        turn.response_id = text(response, "id")
        lane.running = turn
        return [*steps, Step("chunk", turn, event)]

    def _failed(self, lane: _Lane, event: Json) -> list[Step]:
        """End by an error the running response, or the create that it refuses: that one has no number of an event."""
        waiting, turn = lane.next(), lane.running
        if waiting is not None and (turn is None or "sequence_number" not in event):
            lane.waiting.popleft()
            return [Step("fail", waiting, event)]
        if turn is None:
            return []
        lane.end()
        return [Step("fail", turn, event)]

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


def _is_automatic(lane: _Lane, waiting: _Response, previous: str | None) -> bool:
    """Return whether a response continues the last one, and the create that is next does not."""
    return previous is not None and previous == lane.last_id and waiting.previous != previous


def _successor(lane: _Lane, name: str | None, previous: str | None, response: Json) -> _Response:
    body: Json = {"model": response["model"]} if "model" in response else {}
    if previous or lane.last_id:
        body["previous_response_id"] = previous or lane.last_id
    return _Response(name, body)
