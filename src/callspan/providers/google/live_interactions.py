"""Live interactions: derives the call of an interaction of Gemini that goes on over a websocket.

An interaction is one call: its usage is stated once, at its end. Its id names the call, which a request may have begun
and another connection may continue. Events become events of a stream of `interactions`.
"""

from __future__ import annotations

from typing import Any, Final

from callspan.providers.sockets import LONG, SocketKind, Step, Turn
from callspan.providers.streamed_audio import counted_audio
from callspan.providers.wire_json import Json, integer, items, mapping, objects, text, word

_API: Final = "interactions"
_TYPE: Final = "event_type"
_AUDIO: Final = "audio"
_COMPLETED: Final = "interaction.completed"
_CANCELLED: Final = ("interaction.cancelled", "interaction.canceled")
_OPENING: Final = ("interaction.connect", "interaction.create")
_MAX_INPUTS: Final = 256
_HEAD: Final = 256
"""Characters of a long frame that tell whether it is sound. Frames of sound are many, and never read."""


class LiveInteraction(SocketKind):
    """The interaction of one connection."""

    def __init__(self, model: str | None = None, session_id: str | None = None, *, hashes_audio: bool = False) -> None:
        del session_id
        self._request: Json = {} if model is None else {"model": model}
        self._id: str | None = None
        self._turn: Turn | None = None
        self._is_over = False
        self._hashes_audio = hashes_audio

    def is_marked(self, message: Any) -> bool:
        """Return whether a sent frame must be parsed: each but those with sound."""
        sound: Any = _AUDIO if isinstance(message, str) else _AUDIO.encode()
        return len(message) <= LONG or sound not in message[:_HEAD]

    def accepts(self, event: Json) -> bool:
        """Return whether a message is an event, or a batch of them."""
        return _TYPE in event or "events" in event

    def sent(self, frame: Json, turn: Turn | None) -> None:
        """Note the interaction that a frame opens, or what it sends to it."""
        del turn
        for event in _events(frame):
            kind = event.get(_TYPE)
            if kind in _OPENING:
                self._id = word(event, "id") or self._id
                self._request |= {name: value for name, value in event.items() if name not in (_TYPE, "id")}
            elif kind == "input":
                inputs = [*items(self._request, "input"), *objects(event, "content")]
                self._request["input"] = inputs[-_MAX_INPUTS:]
                if self._turn is not None:
                    self._turn.body = self._request

    def received(self, event: Json, at_ns: int) -> list[Step]:
        """Return the steps for a received message."""
        del at_ns
        return [step for each in _events(event) for step in self._steps(each)]

    def _steps(self, event: Json) -> list[Step]:
        kind, interaction = event.get(_TYPE), mapping(event, "interaction") or {}
        if self._is_over:
            return []
        steps, turn = list[Step](), self._turn
        if turn is None:
            self._id = word(interaction, "id") or word(event, "interaction_id") or self._id
            self._request |= {"model": interaction["model"]} if "model" in interaction else {}
            turn = self._turn = Turn(_API, self._request, self._id)
            steps.append(Step("begin", turn))
        self._is_over = kind == _COMPLETED or kind in _CANCELLED
        steps.append(Step("chunk", turn, self._ended(event) if self._is_over else self._counted(event)))
        if self._is_over:
            steps.append(Step("end", turn, outcome="cancelled" if kind in _CANCELLED else "success"))
        return steps

    def _ended(self, event: Json) -> Json:
        """Return the last event in the form of a stream: the interaction with its status, which here is an error's."""
        error = mapping(event, "status") or {}
        status = "cancelled" if event.get(_TYPE) in _CANCELLED else "failed" if integer(error, "code") else "completed"
        interaction: Json = {"id": self._id, "status": status, "usage": event.get("usage")}
        return {_TYPE: event.get(_TYPE), "interaction": interaction, "error": error if status == "failed" else None}

    def _counted(self, event: Json) -> Json:
        """Return an event with the number of bytes in place of its audio."""
        delta = mapping(event, "delta")
        if delta is not None and text(delta, "type") == _AUDIO:
            delta.update(counted_audio(delta.pop("data", None), hashes=self._hashes_audio))
        return event


def _events(frame: Json) -> list[Json]:
    """Return the events of a frame, which may have several."""
    if "events" not in frame:
        return [frame]
    return [event for event in items(frame, "events") if isinstance(event, dict)]
