"""Realtime events: derives calls from the events of a realtime session.

Each response is a call, whether the application or the server started it. Its request body is composed, because the
wire has none: the settings of the session and of the create, and the items since the previous response, which it
continues.
Each transcription of the user's audio is a call of its own model.

Wire reference: https://platform.openai.com/docs/guides/realtime-conversations
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from callspan.providers.openai.audio_frames import AudioFrames
from callspan.providers.openai.lanes import CREATE, Creates
from callspan.providers.openai.voice_sessions import settings_of
from callspan.providers.sockets import Step, Turn
from callspan.providers.streamed_audio import audio_reference
from callspan.providers.wire_json import Json, dig, integer, items, mapping, number, objects, text
from callspan.record.ids import new_id
from callspan.runtime.lock_free import LRUCache

_AUDIO: Final = ("response.output_audio.delta", "response.audio.delta")
_CREATED: Final = "response.created"
_DONE: Final = "response.done"
_TRANSCRIPTION: Final = "conversation.item.input_audio_transcription."
_MADE: Final = ("added", "created", "done")
_SETTINGS: Final = (
    "session.created", "session.updated", "transcription_session.created", "transcription_session.updated",
)  # fmt: skip
_BUSY: Final = "conversation_already_has_active_response"
_OF_OTHERS: Final = ("input_audio_buffer_", "output_audio_buffer_", "response_cancel_", "item_", "cannot_update_")
"""Beginnings of the codes of errors that refuse another event than a create."""
_MAX_KNOWN: Final = 256


class _Response(Turn):
    def __init__(self, settings: Json, overrides: Json, event_id: str | None = None) -> None:
        super().__init__("realtime", {**settings, **overrides})
        self.request = self.body
        """The request body so far. Later transcripts may still change it."""
        self.overrides = overrides
        self.event_id = event_id
        self.has_own_context = "input" in overrides
        """Whether it continues no response: its input is all that the model sees."""
        self.is_in_conversation = overrides.get("conversation") != "none"
        """Whether later responses see its answer."""
        self.has_items = False
        """Whether an item of its answer was announced."""


class RealtimeEvents(Creates[_Response]):
    """The calls of one realtime session."""

    def __init__(self, model: str | None = None, session_id: str | None = None, *, hashes_audio: bool = False) -> None:
        del session_id
        super().__init__()
        self._session: Json = {} if model is None else {"model": model}
        self._transcriptions: LRUCache[object, Turn] = LRUCache(_MAX_KNOWN)
        self._items: LRUCache[str | None, Json] = LRUCache(_MAX_KNOWN)
        """By id of an item: its content if that has audio, and the times of its speech."""
        self._pending: LRUCache[str | None, Json] = LRUCache(_MAX_KNOWN)
        """Items since the last response, by id."""
        self._responses_of_items: LRUCache[str | None, str] = LRUCache(_MAX_KNOWN)
        """Ids of responses, by the ids of the items of their answers."""
        self._last_end: tuple[object, object] | None = None
        """Output and usage of the response that ended last."""
        self._last_id: str | None = None
        self._speech_ended_ns: int | None = None
        self._audio = AudioFrames(*_AUDIO, field="delta", hashes=hashes_audio)
        self._parts = AudioFrames(field="audio", hashes=hashes_audio)
        # A method would cost as much as counting a message.
        self.short_event, self.repeated = self._audio.short_event, self._audio.repeated  # type: ignore[method-assign]

    def create(self, frame: Json) -> Turn | None:
        """Return the response that a create requests."""
        if frame.get("type") != CREATE:
            return None
        overrides = {**(mapping(frame, "response") or {})}
        if "input" in overrides:
            overrides["input"] = list(map(self._kept, items(overrides, "input")))
        turn = _Response(settings_of(self._session), overrides, text(frame, "event_id"))
        turn.awaits_name = True
        return turn

    def received(self, event: Json, at_ns: int) -> list[Step]:
        """Return the steps for a received event."""
        kind = event["type"]
        if kind.startswith("response."):
            return self._of_response(event, kind)
        if kind.startswith(_TRANSCRIPTION):
            return self._of_transcription(event, kind.removeprefix(_TRANSCRIPTION))
        if kind == "error":
            return self._refused(event)
        if kind in _SETTINGS:
            self._session = {**self._session, **(mapping(event, "session") or {})}
        elif kind.startswith("conversation.item."):
            self._of_item(event, kind.removeprefix("conversation.item."))
        elif kind.startswith("input_audio_buffer."):
            self._of_speech(event, kind, at_ns)
        return []

    def _of_response(self, event: Json, kind: str) -> list[Step]:
        identity = self._identity(event)
        if identity is None:
            return []
        turn, steps = self._running.get(identity), list[Step]()
        if turn is None:
            if not self._begun_ids.is_first(identity):
                return []
            response = mapping(event, "response") or {}
            create = self._answered(response)
            turn = create or _Response({}, {})
            # Servers repeat the ids of responses; ids of conversations are less likely the same.
            turn.identity = f"{text(response, 'conversation_id')} {identity}"
            if create is None:
                turn.begun_ns = self._speech_ended_ns
            steps.append(Step("begin" if create is None else "name", turn))
            self._begin(identity, turn)
        if kind == "response.output_item.added":
            self._pending.pop(text(event, "item", "id"))
            self._begun_ids.is_first(text(event, "item", "id"))
            self._note_items(identity, turn, objects({"items": [event.get("item")]}, "items"))
        steps.append(Step("chunk", turn, self._audio.event_of(event) if kind in _AUDIO else event))
        if kind == _DONE:
            del self._running[identity]
            self._last_end = _end_of(event)
            self._note_items(identity, turn, objects(event, "response", "output"))
            if turn.has_own_context and turn.is_in_conversation:
                for item in objects(event, "response", "output"):
                    self._pending.put(text(item, "id"), item)
            is_cancelled = text(event, "response", "status") == "cancelled"
            steps.append(Step("end", turn, outcome="cancelled" if is_cancelled else "success"))
        return steps

    def _note_items(self, identity: str, turn: _Response, answer: Iterable[Json]) -> None:
        for item in answer:
            turn.has_items = True
            self._responses_of_items.put(text(item, "id"), identity)

    def _identity(self, event: Json) -> str | None:
        """Return the id of the response of an event, under which its first event announced it; None if it has none.

        An event under another id is of the response that has its item, else of the newest one that runs. The end of a
        response with other items than those of the newest one, or where none runs, announces one whose first event was
        missed. An event without an id is of the only one that runs; an end repeats what it is equal to.
        """
        response, kind = mapping(event, "response"), event["type"]
        identity = text(event, "response_id") or text(response, "id")
        if identity is None and len(self._running) == 1:
            return next(iter(self._running))
        is_known = identity in self._running or self._begun_ids.get(identity) is not None
        if identity is not None and (is_known or kind == _CREATED):
            return identity
        if kind == _CREATED:
            return new_id()  # by a server without ids
        if (owner := self._owner(event, response)) is not None:
            return owner
        newest = next(reversed(self._running), None)
        if response is None or kind != _DONE:
            return newest if identity is not None else None
        if newest is not None and identity is not None and not self._running[newest].has_items:
            return newest
        is_repeated = bool(response.get("output")) and _end_of(event) == self._last_end
        return None if is_repeated or (identity is None and newest is not None) else identity or new_id()

    def _owner(self, event: Json, response: Json | None) -> str | None:
        """Return the id of the response that has an item of an event."""
        item_ids = [text(event, "item_id"), text(event, "item", "id")]
        item_ids += [text(item, "id") for item in objects(response, "output")]
        owners = (self._responses_of_items.get(ident) for ident in item_ids if ident is not None)
        return next(filter(None, owners), None)

    def _answered(self, response: Json) -> _Response | None:
        """Take the create that a response answers: of its metadata, or the first if the response states none.

        None if the server has started it by itself.
        """
        metadata, waiting = response.get("metadata") or None, self._unanswered()
        matching = [turn for turn in waiting if (turn.overrides.get("metadata") or None) == metadata]
        return self._taken(matching or ([] if "metadata" in response else waiting))

    def _begin(self, identity: str, turn: _Response) -> None:
        """Start a response and compose its request body."""
        self._run(identity, turn)
        self._speech_ended_ns = None
        turn.request = {**settings_of(self._session), **turn.overrides}
        pending = [item for _, item in self._pending.items()]
        if not turn.has_own_context:
            if pending:
                turn.request["input"] = pending
            if self._last_id is not None:
                turn.request["previous_response_id"] = self._last_id
            if turn.is_in_conversation:
                self._last_id, self._pending = identity, LRUCache(_MAX_KNOWN)
        turn.body = turn.request

    def _refused(self, event: Json) -> list[Step]:
        """Return the end of a refused create. Other errors end nothing."""
        error = mapping(event, "error") or {}
        event_id, param, waiting = text(error, "event_id"), text(error, "param"), self._unanswered()
        code = text(error, "code") or ""
        is_only_one = len(waiting) == 1 and not self._running and param is None and not code.startswith(_OF_OTHERS)
        is_about = is_only_one or (param or "").startswith("response") or code == _BUSY
        turn = self._taken(
            create for create in waiting if (is_about if event_id is None else event_id == create.event_id)
        )
        return [] if turn is None else [Step("fail", turn, event)]

    def _taken(self, creates: Iterable[_Response]) -> _Response | None:
        """Take the first of these creates."""
        create = next(iter(creates), None)
        if create is not None:
            self._waiting.remove(create)
        return create

    def _kept(self, item: Any) -> Any:
        return self._parts.by_reference(item, self._input("format"))

    def _of_item(self, event: Json, step: str) -> None:
        item = mapping(event, "item")
        identity = text(item, "id") or text(event, "item_id")
        if step == "deleted":
            self._pending.pop(identity)
        elif step == "truncated":
            self._pending.put(f"truncated {identity}", {key: event[key] for key in event if key != "event_id"})
        elif item is not None and step in _MADE and (self._begun_ids.is_first(identity) or _is_ended_run(item, step)):
            recorded_item = self._kept(item)
            self._pending.put(identity, recorded_item)
            if any("audio" in str(part.get("type")) for part in objects(recorded_item, "content")):
                speech = self._items.setdefault(identity, {})
                speech["content"] = recorded_item["content"]
                next(objects(recorded_item, "content")).update(self._sound(speech))

    def _of_speech(self, event: Json, kind: str, at_ns: int) -> None:
        speech = self._items.setdefault(text(event, "item_id"), {})
        speech |= {key: event[key] for key in ("audio_start_ms", "audio_end_ms") if key in event}
        if kind.endswith((".speech_stopped", ".committed")) and "ended_ns" not in speech:
            speech["ended_ns"] = self._speech_ended_ns = at_ns

    def _sound(self, speech: Json) -> Json:
        """Return the reference to the user's speech in an item; empty if its duration is unknown."""
        start, end = number(speech, "audio_start_ms"), number(speech, "audio_end_ms")
        if start is None or end is None:
            return {}
        return audio_reference(self._input("format"), None, round((end - start) / 1000, 3))

    def _input(self, name: str) -> object:
        """Return a setting of the input audio, which the beta has at the top level."""
        return dig(self._session, "audio", "input", name) or dig(self._session, f"input_audio_{name}")

    def _of_transcription(self, event: Json, step: str) -> list[Step]:
        speech, content_index = self._items.setdefault(text(event, "item_id"), {}), integer(event, "content_index") or 0
        key = text(event, "item_id"), content_index
        turn, steps = self._transcriptions.get(key), list[Step]()
        if turn is None:
            if not self._begun_ids.is_first(key):
                return []
            body = dict(mapping(self._input("transcription")) or {})
            if sound := self._sound(speech):
                body["file"] = sound
            turn = Turn("transcriptions", body, self._transcription_id(speech, key), begun_ns=speech.get("ended_ns"))
            self._transcriptions.put(key, turn)
            steps.append(Step("begin", turn))
        if step not in ("completed", "failed"):
            return [*steps, Step("chunk", turn, event)]
        self._transcriptions.pop(key)
        if step == "failed":
            return [*steps, Step("fail", turn, event)]
        self._transcribed(items(speech, "content"), content_index, event.get("transcript"))
        return [*steps, Step("chunk", turn, event), Step("end", turn)]

    def _transcription_id(self, speech: Json, key: tuple[str | None, int]) -> str | None:
        """Return the identity of the transcription of an item, which the wire lacks.

        None without the id of its session, and if the server may not have made the item, because clients repeat ids.
        """
        session_id = text(self._session, "id")
        return f"{session_id} {key}" if session_id is not None and "ended_ns" in speech else None

    def _transcribed(self, parts: list[object] | tuple[()], content_index: int, transcript: object) -> None:
        """Add a transcript to its item and to the requests of running responses."""
        if 0 <= content_index < len(parts) and isinstance(part := parts[content_index], dict):
            part["transcript"] = transcript
        for turn in self._running.values():
            turn.body = turn.request


def _end_of(event: Json) -> tuple[object, object]:
    response = mapping(event, "response") or {}
    return response.get("output"), response.get("usage")


def _is_ended_run(item: Json, step: str) -> bool:
    """Return whether an item is the last account of what an MCP server did, which was announced as it began."""
    return step == "done" and (text(item, "type") or "").startswith("mcp_")
