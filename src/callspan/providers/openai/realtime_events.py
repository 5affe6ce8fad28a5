"""Realtime events: what the events of a realtime session tell of calls.

Each response is a call, whether the application or the server has started it. The wire has no body of its request, so
one is made: the settings of the session and of the create, and the items since the response before, which it continues.
Each transcription of the user's audio is a call of its own model.

Wire reference: https://platform.openai.com/docs/guides/realtime-conversations
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from callspan.background import LRUCache
from callspan.providers.openai.audio_frames import AudioFrames, audio_reference
from callspan.providers.sockets import Json, Step, Turn
from callspan.providers.wire_json import detached, dig, integer, items, mapping, number, objects, text
from callspan.record.media_reference import MEDIA_KEY

_AUDIO: Final = ("response.output_audio.delta", "response.audio.delta")
_CREATE: Final = "response.create"
_DONE: Final = "response.done"
_TRANSCRIPTION: Final = "conversation.item.input_audio_transcription."
_NOT_SETTINGS: Final = frozenset({"id", "object", "type", "expires_at", "client_secret", "include", "tracing"})
_OF_ITEM: Final = frozenset({"event_id", "item_id", "content_index", "transcript"})
_MADE: Final = ("added", "created", "done")
_BUSY: Final = "conversation_already_has_active_response"
_MAX_WAITING: Final = 1024
"""Of creates: more than calls may be open, since the response of a forgotten one would be a second call."""
_MAX_KNOWN: Final = 256
_MAX_SEEN: Final = 4096


class _Response(Turn):
    api = "realtime"

    def __init__(self, settings: Json, overrides: Json, event_id: str | None = None) -> None:
        super().__init__({**settings, **overrides})
        self.settings = self.body
        self.overrides = overrides
        self.event_id = event_id
        self.items: list[Json] = []


class _Transcription(Turn):
    api = "transcriptions"


class RealtimeEvents:
    """The calls of one realtime session."""

    mark = _CREATE

    def __init__(self, model: str | None = None, session_id: str | None = None, *, hashes_audio: bool = False) -> None:
        del session_id
        self._session: Json = {} if model is None else {"model": model}
        self._waiting: deque[_Response] = deque(maxlen=_MAX_WAITING)
        """Creates that were sent, and not answered yet."""
        self._running: dict[str, _Response] = {}
        self._transcriptions: dict[tuple[str, int], _Transcription] = {}
        self._seen: LRUCache[object, object] = LRUCache(_MAX_SEEN)
        self._items: dict[str, Json] = {}
        """Items of which a transcript may come."""
        self._pending: dict[str, Json] = {}
        """Items since the last response, by id."""
        self._last_id: str | None = None
        self._speech: dict[str, Json] = {}
        """Start and end of an item's speech in the audio, and when its end was received."""
        self._speech_ended_ns: int | None = None
        self._audio = AudioFrames(r"response\.(?:output_)?audio\.delta", "delta", "response_id", hashes=hashes_audio)
        self.counted, self.repeated = self._audio.counted, self._audio.repeated

    def create(self, frame: Json) -> Turn | None:
        """Return the response that a create requests."""
        if frame.get("type") != _CREATE:
            return None
        return _Response(self._settings(), mapping(frame, "response") or {}, text(frame, "event_id"))

    def sent(self, frame: Json, turn: Turn | None) -> None:
        """Take a create that was sent."""
        del frame
        if isinstance(turn, _Response):
            self._waiting.append(turn)

    def received(self, event: Json, at_ns: int) -> list[Step]:
        """Return what is to be done with an event."""
        kind = event["type"]
        if kind.startswith("response."):
            return self._of_response(event, kind)
        if kind.startswith(_TRANSCRIPTION):
            return self._of_transcription(event, kind.removeprefix(_TRANSCRIPTION))
        if kind.startswith("input_audio_buffer."):
            self._of_speech(event, kind, at_ns)
        elif kind.startswith("conversation.item."):
            self._of_item(event, kind)
        elif kind in ("session.created", "session.updated"):
            self._session = {**self._session, **detached(mapping(event, "session") or {})}
        elif kind == "error":
            return self._refused(mapping(event, "error") or {}, event)
        return []

    def _settings(self) -> Json:
        return {key: value for key, value in self._session.items() if key not in _NOT_SETTINGS and value is not None}

    def _of_response(self, event: Json, kind: str) -> list[Step]:
        response = mapping(event, "response") or {}
        identity = text(response, "id") or text(event, "response_id")
        if identity is None:
            return []
        turn, steps = self._running.get(identity), []
        if turn is None:
            if not self._seen.is_first(identity):
                return []
            turn, is_new = self._begun(identity, response)
            steps += [Step("begin", turn)] if is_new else []
        if kind == "response.output_item.added":
            self._pending.pop(text(event, "item", "id") or "", None)
            self._seen.is_first(text(event, "item", "id"))
        steps.append(Step("chunk", turn, self._audio.event_of(event) if kind in _AUDIO else event))
        if kind == _DONE:
            self._running.pop(identity, None)
            is_cancelled = response.get("status") == "cancelled"
            steps.append(Step("end", turn, outcome="cancelled" if is_cancelled else "success"))
        return steps

    def _begun(self, identity: str, response: Json) -> tuple[_Response, bool]:
        """Return the response, and whether no create explains it."""
        turn = self._create_of(response)
        is_new = turn is None
        if turn is None:
            turn = _Response(self._settings(), {})
            turn.begun_ns = self._speech_ended_ns
        self._speech_ended_ns = None
        overrides = turn.overrides
        turn.settings = {**self._settings(), **overrides}
        if overrides.get("conversation") != "none":
            if self._last_id is not None:
                turn.settings["previous_response_id"] = self._last_id
            self._last_id = identity
        if "input" not in overrides:
            turn.items, self._pending = list(self._pending.values()), {}
        _remembered(self._running, identity, turn)
        turn.body = _body(turn)
        return turn, is_new

    def _create_of(self, response: Json) -> _Response | None:
        """Take the create that a response answers: by its metadata if it has some, else the first."""
        waiting = [turn for turn in self._waiting if not turn.is_withdrawn]
        metadata = response.get("metadata")
        same = [turn for turn in waiting if (turn.overrides.get("metadata") or None) == (metadata or None)]
        found = next(iter(same or ([] if metadata else waiting)), None)
        self._waiting = deque((turn for turn in waiting if turn is not found), _MAX_WAITING)
        return found

    def _refused(self, error: Json, event: Json) -> list[Step]:
        """Return the end of a create that the server refuses; all other errors leave what runs as it is."""
        named = text(error, "event_id")
        is_only_one = len(self._waiting) == 1 and not self._running and text(error, "param") is None
        is_about = is_only_one or str(error.get("param")).startswith("response") or error.get("code") == _BUSY
        for turn in list(self._waiting):
            if (named == turn.event_id) if named is not None else is_about:
                self._waiting.remove(turn)
                return [Step("fail", turn, event)]
        return []

    def _of_item(self, event: Json, kind: str) -> None:
        step, item = kind.removeprefix("conversation.item."), mapping(event, "item")
        identity = text(item, "id") or text(event, "item_id") or ""
        if step == "deleted":
            self._pending.pop(identity, None)
        elif step == "truncated":
            cut = {key: event[key] for key in event if key != "event_id"}
            _remembered(self._pending, f"truncated {identity}", cut)
        elif item is not None and step in _MADE and self._seen.is_first(identity):
            kept = _remembered(self._pending, identity, detached(item))
            if any("audio" in str(part.get("type")) for part in objects(kept, "content")):
                _remembered(self._items, identity, kept)
                self._add_speech(identity)

    def _of_speech(self, event: Json, kind: str, at_ns: int) -> None:
        identity = text(event, "item_id") or ""
        known = self._speech.get(identity) or _remembered(self._speech, identity, {})
        known.update({key: event[key] for key in ("audio_start_ms", "audio_end_ms") if key in event})
        if kind.endswith((".speech_stopped", ".committed")):
            self._speech_ended_ns = known.setdefault("ended_ns", at_ns)

    def _add_speech(self, identity: str) -> None:
        """Add the seconds of the user's speech to its item."""
        known, parts = self._speech.get(identity, {}), items(self._items[identity], "content")
        start, end = number(known, "audio_start_ms"), number(known, "audio_end_ms")
        if start is not None and end is not None and parts and isinstance(part := parts[0], dict):
            part |= audio_reference(self._input("format"), None, round((end - start) / 1000, 3))

    def _input(self, name: str) -> object:
        """Return a setting of the input audio, which the beta has beside the others."""
        return dig(self._session, "audio", "input", name) or dig(self._session, f"input_audio_{name}")

    def _of_transcription(self, event: Json, step: str) -> list[Step]:
        item = text(event, "item_id") or ""
        key = item, integer(event, "content_index") or 0
        turn, steps = self._transcriptions.get(key), []
        if turn is None:
            if not self._seen.is_first(key):
                return []
            settings, speech = mapping(self._input("transcription")) or {}, mapping(self._items.get(item)) or {}
            audio = next((part[MEDIA_KEY] for part in objects(speech, "content") if MEDIA_KEY in part), None)
            turn = _Transcription({**settings, **({} if audio is None else {"file": {MEDIA_KEY: audio}})})
            turn.begun_ns = self._speech.get(item, {}).get("ended_ns")
            _remembered(self._transcriptions, key, turn)
            steps.append(Step("begin", turn))
        if step == "failed":
            del self._transcriptions[key]
            return [*steps, Step("fail", turn, event)]
        news = {name: event[name] for name in event if name not in _OF_ITEM}
        if step != "completed":
            return [*steps, Step("chunk", turn, {**news, "type": f"transcript.text.{step}"})]
        del self._transcriptions[key]
        self._transcribed(item, key[1], event.get("transcript"))
        whole = {**news, "type": "transcript.text.done", "text": event.get("transcript")}
        return [*steps, Step("chunk", turn, whole), Step("end", turn)]

    def _transcribed(self, item: str, place: int, transcript: object) -> None:
        """Add a transcript to its item, and to the requests of the responses that run."""
        parts = items(self._items.get(item), "content")
        if 0 <= place < len(parts) and isinstance(part := parts[place], dict):
            part["transcript"] = transcript
        for turn in self._running.values():
            turn.body = _body(turn)


def _body(turn: _Response) -> Json:
    return {**turn.settings, **({"input": turn.items} if turn.items else {})}


def _remembered(known: dict[Any, Any], key: object, value: Any) -> Any:
    """Return a value after it was put into a dictionary, which forgets its oldest."""
    known[key] = value
    if len(known) > _MAX_KNOWN:
        del known[next(iter(known))]
    return value
