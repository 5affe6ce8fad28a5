"""Voice events: what the events of live sessions and of translations tell of calls.

A session is one call. In a live one, each response that it delegates and each decision is a call of its own; another
connection to the session (sideband) sees the same events, so all have the provider's ids.

Wire reference: https://developers.openai.com/api/docs/guides/live
"""

from __future__ import annotations

from typing import Any, Final

from callspan.providers.openai.audio_frames import AudioFrames
from callspan.providers.openai.lanes import ResponseLanes
from callspan.providers.openai.voice_sessions import CLOSED
from callspan.providers.sockets import Json, Step, Turn
from callspan.providers.wire_json import detached, mapping, text

_OUTPUT_AUDIO: Final = "session.output_audio.delta"
_INPUT_AUDIO: Final = "session.input_audio.append"
_START: Final = "session.start"
_BEGINS: Final = ("session.started", "session.created")
_UPDATED: Final = "session.updated"
_NOT_SETTINGS: Final = frozenset({"id", "object", "type", "expires_at", "status", "client_secret"})


class _Session(Turn):
    def __init__(self, api: str, session: Json) -> None:
        super().__init__(_settings_of(session))
        self.api = api
        self.identity = text(session, "id")


class _Decision(Turn):
    api = "decisions"


class TranslationEvents:
    """The call of one session of translation."""

    api: str = "realtime_translations"
    mark: str = f'"{_START}"'

    def __init__(self, model: str | None = None, session_id: str | None = None, *, hashes_audio: bool = False) -> None:
        given = {"model": model, "id": session_id}
        self._given: Json = {key: value for key, value in given.items() if value is not None}
        """What is known of the session before it has begun."""
        self._session: _Session | None = None
        self._is_over = False
        self._output = AudioFrames(r"session\.output_audio\.delta", "delta", hashes=hashes_audio)
        self._input = AudioFrames(r"session\.input_audio\.append", "audio", hashes=hashes_audio)

    def create(self, frame: Json) -> Turn | None:
        """Return that no frame begins a call: the server says when a session has begun."""
        del frame
        return None

    def sent(self, frame: Json, turn: Turn | None) -> None:
        """Take the settings with which a session is to be started."""
        del turn
        if frame.get("type") == _START and self._session is None:
            self._given |= detached(mapping(frame, "session") or {})

    def counted(self, message: Any) -> Json | None:
        """Return a short event that stands for a message of audio; None for any other message."""
        event = self._output.counted(message)
        return event if event is not None else self._input.counted(message)

    def repeated(self) -> Json | None:
        """Return one event for the messages of audio that were only counted."""
        return self._output.repeated() or self._input.repeated()

    def received(self, event: Json, at_ns: int) -> list[Step]:
        """Return what is to be done with an event."""
        del at_ns
        kind = event["type"]
        if self._is_over:
            return []
        if kind == "error":
            return self._refused(event) if self._session is None else []
        if not kind.startswith("session."):
            return self._other(event, kind)
        session = mapping(event, "session") or {}
        turn, steps = self._session, []
        if turn is None:
            turn = self._session = _Session(self.api, {**self._given, **session})
            steps.append(Step("begin", turn))
        elif kind in (*_BEGINS, _UPDATED):
            turn.body = {**_settings_of(self._given), **_settings_of(session)}
        audio = {_OUTPUT_AUDIO: self._output, _INPUT_AUDIO: self._input}.get(kind)
        steps.append(Step("chunk", turn, event if audio is None else audio.event_of(event)))
        if kind == CLOSED:
            self._is_over = True
            steps.append(Step("end", turn))
        return steps

    def _other(self, event: Json, kind: str) -> list[Step]:
        """Return what is to be done with an event that is not of the session itself."""
        del event, kind
        return []

    def _refused(self, event: Json) -> list[Step]:
        """Return the call of a session that the server does not start."""
        self._is_over = True
        turn = _Session(self.api, self._given)
        return [Step("begin", turn), Step("fail", turn, event)]


class LiveEvents(TranslationEvents):
    """The calls of one live session: its own, those of the responses that it delegates, and its decisions."""

    api = "live"

    def __init__(self, model: str | None = None, session_id: str | None = None, *, hashes_audio: bool = False) -> None:
        super().__init__(model, session_id, hashes_audio=hashes_audio)
        self._responses = ResponseLanes()

    def _other(self, event: Json, kind: str) -> list[Step]:
        inner = mapping(event, "event") or {}
        if kind == "decision.event":
            decision = mapping(inner, "decision")
            return [] if decision is None else _decided(decision, text(event, "event_id"))
        if kind != "response.event":
            return []
        if not isinstance(inner.get("type"), str):
            return []
        # The stream of one delegation is one lane.
        steps = self._responses.received({**inner, "stream_id": text(event, "delegation_id")}, 0)
        for step in steps:
            if step.action == "begin":
                step.turn.identity = text(inner, "response", "id")
        return steps


def _decided(decision: Json, event_id: str | None) -> list[Step]:
    turn = _Decision({"model": decision["model"]} if "model" in decision else {})
    turn.identity = event_id
    return [Step("begin", turn), Step("chunk", turn, decision), Step("end", turn)]


def _settings_of(session: Json) -> Json:
    """Return the settings of a session, as the body of its request."""
    return {key: value for key, value in session.items() if key not in _NOT_SETTINGS and value is not None}
