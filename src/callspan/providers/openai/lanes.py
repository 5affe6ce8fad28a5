"""Lanes: assigns the frames of a Responses API websocket to responses.

A lane (`stream_id`, or the default lane without one) runs one response at a time. Creates and `response.created` pair
in order; a `response.created` without a create belongs to a response that the provider started. All events of a lane
belong to its running response, because deltas do not name it. Where none runs, the last event of a response that was
not announced stands for all of it.

Wire reference: https://platform.openai.com/docs/guides/websocket-mode
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, Generic, TypeVar

from callspan.providers.sockets import SocketKind, Step, Turn
from callspan.providers.wire_json import Json, mapping, text
from callspan.runtime.lock_free import LRUCache

CREATE: Final = "response.create"
_CREATED: Final = "response.created"
_ENDS: Final = ("response.completed", "response.failed", "response.incomplete", "response.cancelled")
_OWN: Final = frozenset({"type", "stream_id"})
"""Fields of a create that are not part of the request body."""
_MAX_RUNNING: Final = 256
_MAX_WAITING: Final = 1024
"""Limit on waiting creates, above that on open calls: the response to a forgotten create would be a second call."""
_MAX_SEEN: Final = 4096
_T = TypeVar("_T", bound=Turn)


class Creates(SocketKind, Generic[_T]):
    """The creates of one connection, and its running responses by the key in their events."""

    mark = f'"{CREATE}'

    def __init__(self) -> None:
        self._waiting: deque[_T] = deque(maxlen=_MAX_WAITING)
        """Creates that were sent but not answered yet."""
        self._running: dict[str | None, _T] = {}
        self._begun_ids: LRUCache[object, object] = LRUCache(_MAX_SEEN)
        """Ids of responses that have begun, so that a replayed event begins nothing."""

    def sent(self, frame: Json, turn: Any) -> None:
        """Note a sent create."""
        del frame
        if turn is not None:
            self._waiting.append(turn)

    def _unanswered(self) -> list[_T]:
        """Return the waiting creates. Sending one may have failed after it was noted."""
        return [turn for turn in self._waiting if not turn.is_withdrawn]

    def _run(self, name: str | None, turn: _T) -> None:
        self._running[name] = turn
        if len(self._running) > _MAX_RUNNING:
            del self._running[next(iter(self._running))]


class _Response(Turn):
    def __init__(self, lane: str | None, body: Json, identity: str | None = None) -> None:
        super().__init__("responses", body, identity)
        self.lane = lane
        self.previous_response_id = text(body, "previous_response_id")
        self.response_id = identity


class ResponseLanes(Creates[_Response]):
    """The responses of one connection."""

    def __init__(self, model: str | None = None, session_id: str | None = None, *, hashes_audio: bool = False) -> None:
        del model, session_id, hashes_audio
        super().__init__()
        self._last_response_ids: LRUCache[str | None, str | None] = LRUCache(_MAX_RUNNING)
        """Id of the last response that ended, by lane."""

    def create(self, frame: Json) -> Turn | None:
        """Return the response that a create requests."""
        if frame.get("type") != CREATE:
            return None
        body = {key: value for key, value in frame.items() if key not in _OWN}
        return _Response(text(frame, "stream_id"), body)

    def received(self, event: Json, at_ns: int) -> list[Step]:
        """Return the steps for a received event."""
        del at_ns
        kind, lane = event["type"], text(event, "stream_id")
        if kind == _CREATED:
            return self._created(lane, event)
        if kind == "error":
            return self._fail(lane, event)
        turn = self._running.get(lane)
        if turn is None:
            return self._unannounced(lane, event) if kind in _ENDS else []
        if kind not in _ENDS:
            return [Step("chunk", turn, event)]
        identity = text(event, "response", "id")
        if identity != turn.response_id and self._begun_ids.get(identity) is not None:
            return []  # replayed
        self._end(turn)
        return [Step("chunk", turn, event), Step("end", turn)]

    def _unannounced(self, lane: str | None, event: Json) -> list[Step]:
        """Return the steps of a whole response whose first event was missed, unless it is replayed or has no id."""
        steps = self._created(lane, event) if text(event, "response", "id") is not None else []
        if not steps:
            return []
        turn = self._running[lane]
        self._end(turn)
        return [*steps, Step("end", turn)]

    def _created(self, lane: str | None, event: Json) -> list[Step]:
        response = mapping(event, "response") or {}
        identity, previous = text(response, "id"), text(response, "previous_response_id")
        if identity is not None and not self._begun_ids.is_first(identity):
            return []
        steps: list[Step] = []
        if (running := self._running.get(lane)) is not None:
            steps.append(Step("end", running))  # without its terminal event
            self._end(running)
        turn, last = self._next(lane), self._last_response_ids.get(lane)
        continues_last = previous is not None and previous == last
        if turn is None or (continues_last and turn.previous_response_id != previous):
            body = {"model": response.get("model"), "previous_response_id": previous or last}
            turn = _Response(lane, {key: value for key, value in body.items() if value is not None}, identity)
            steps.append(Step("begin", turn))
        else:
            self._waiting.remove(turn)
        turn.response_id = identity
        self._run(lane, turn)
        return [*steps, Step("chunk", turn, event)]

    def _fail(self, lane: str | None, event: Json) -> list[Step]:
        """End the running response or the refused create with an error. A create's has no sequence number."""
        waiting, turn = self._next(lane), self._running.get(lane)
        if waiting is not None and (turn is None or "sequence_number" not in event):
            self._waiting.remove(waiting)
            return [Step("fail", waiting, event)]
        if turn is None:
            return []
        self._end(turn)
        return [Step("fail", turn, event)]

    def _next(self, lane: str | None) -> _Response | None:
        """Return the create that is answered next; None if none waits."""
        return next((turn for turn in self._unanswered() if turn.lane == lane), None)

    def _end(self, turn: _Response) -> None:
        del self._running[turn.lane]
        self._last_response_ids.put(turn.lane, turn.response_id)
