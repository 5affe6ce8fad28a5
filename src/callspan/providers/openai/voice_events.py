"""Voice events: derives calls from the events of live sessions and translations.

A session is one call. In a live session each delegated response and each decision is another call. A second connection
to the session (sideband) receives the same events, so all calls use the provider's ids.

Wire reference: https://developers.openai.com/api/docs/guides/live
"""

from __future__ import annotations

from typing import Final

from callspan.providers.openai.audio_frames import AudioFrames
from callspan.providers.openai.lanes import ResponseLanes
from callspan.providers.openai.voice_sessions import CLOSED, settings_of
from callspan.providers.sockets import SocketKind, Step, Turn
from callspan.providers.wire_json import Json, mapping, text

_START: Final = "session.start"
_OUTPUT_AUDIO: Final = "session.output_audio.delta"
_INPUT_AUDIO: Final = "session.input_audio.append"
"""Event that brings the user's audio to a sideband."""


class TranslationEvents(SocketKind):
    """The call of one translation session."""

    api: str = "realtime_translations"
    mark = f'"{_START}"'

    def __init__(self, model: str | None = None, session_id: str | None = None, *, hashes_audio: bool = False) -> None:
        fields = {"model": model, "id": session_id}
        self._connection_fields: Json = {key: value for key, value in fields.items() if value is not None}
        """The session as the connection names it."""
        self._settings = {**self._connection_fields}
        """The session so far."""
        self._session: Turn | None = None
        self._is_over = False
        self._is_refused = False
        """Whether the server refused to start it, and it was not started again since."""
        self._output = AudioFrames(_OUTPUT_AUDIO, field="delta", hashes=hashes_audio)
        self._input = AudioFrames(_INPUT_AUDIO, field="audio", hashes=hashes_audio)

    def sent(self, frame: Json, turn: Turn | None) -> None:
        """Note the settings of a session that is about to start."""
        del turn
        if frame.get("type") == _START and self._session is None:
            self._settings |= mapping(frame, "session") or {}
            self._is_refused = False

    def short_event(self, message: str | bytes) -> Json | None:
        """Return a short event in place of an audio message; None for any other message."""
        event = self._output.short_event(message)
        return event if event is not None else self._input.short_event(message)

    def repeated(self) -> Json | None:
        """Return one event for the messages of one side that were only counted."""
        return self._output.repeated() or self._input.repeated()

    def received(self, event: Json, at_ns: int) -> list[Step]:
        """Return the steps for a received event."""
        del at_ns
        kind = event["type"]
        if self._is_over:
            return []
        if kind == "error":
            is_start = self._session is None and "id" not in self._settings and not self._is_refused
            return self._refused(event) if is_start else []
        if not kind.startswith("session."):
            return self._steps_of_other(event, kind)
        session, turn, steps = mapping(event, "session"), self._session, list[Step]()
        if session is not None and kind != CLOSED:
            self._settings |= session
        if turn is None:
            turn = self._session = self._new_turn()
            steps.append(Step("begin", turn))
        elif session is not None:
            turn.body = settings_of(self._settings)
        audio = {_OUTPUT_AUDIO: self._output, _INPUT_AUDIO: self._input}.get(kind)
        steps.append(Step("chunk", turn, event if audio is None else audio.event_of(event)))
        if kind == CLOSED:
            self._is_over = True
            steps.append(Step("end", turn))
        return steps

    def _new_turn(self) -> Turn:
        return Turn(self.api, settings_of(self._settings), text(self._settings, "id"))

    def _steps_of_other(self, event: Json, kind: str) -> list[Step]:
        """Return the steps for an event that does not belong to the session itself."""
        del event, kind
        return []

    def _refused(self, event: Json) -> list[Step]:
        """Return the failed call of a session that the server refuses. It may be started again."""
        turn, self._settings, self._is_refused = self._new_turn(), {**self._connection_fields}, True
        return [Step("begin", turn), Step("fail", turn, event)]


class LiveEvents(TranslationEvents):
    """The calls of one live session: its own, its delegated responses, and its decisions."""

    api = "live"

    def __init__(self, model: str | None = None, session_id: str | None = None, *, hashes_audio: bool = False) -> None:
        super().__init__(model, session_id, hashes_audio=hashes_audio)
        self._responses = ResponseLanes()

    def _steps_of_other(self, event: Json, kind: str) -> list[Step]:
        inner = mapping(event, "event") or {}
        if kind == "response.event" and isinstance(inner.get("type"), str):
            # Each delegation is a lane.
            return self._responses.received({**inner, "stream_id": text(event, "delegation_id")}, 0)
        decision = mapping(inner, "decision")
        if kind != "decision.event" or decision is None:
            return []
        turn = Turn("decisions", {"model": decision.get("model")}, text(event, "event_id"))
        return [Step("begin", turn), Step("chunk", turn, decision), Step("end", turn)]
