"""Voice sessions: live sessions and translations of speech, each of which is one call as long as it is open.

Their plain body is made here: `{"id", "model", "status", "turns": [{"role", "text", "start_ms", "end_ms"}], "audio",
"input_audio", "usage"}`. Seconds of use are the provider's last total, never a sum.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from callspan.providers.base import Operation, ResponseInfo
from callspan.providers.openai.audio_frames import BYTES, Audio
from callspan.providers.openai.base import OpenAIEndpoint, response_error
from callspan.providers.openai.parts import parts_of
from callspan.providers.openai.responses import Responses
from callspan.providers.sockets import Json
from callspan.providers.wire_json import detached, dig, mapping, number, objects, text, word
from callspan.record.call import Request, Response
from callspan.record.messages import Conversation, Message
from callspan.record.usage import Usage

CLOSED: Final = "session.closed"
_INPUT: Final = "session.input_"
_TRANSCRIPT: Final = "_transcript.delta"
_TIMES: Final = ("start_ms", "end_ms", "elapsed_ms")
_WITH_CONTENT: Final = frozenset({"audio", "client", "delegation", "triggers"})
"""Settings that may have prompts and tools, so that they are no parameters."""
_OF_SESSION: Final = ("id", "object", "type", "model", "expires_at", "audio")


class SessionFold:
    """Joins the events of a session: transcripts, counted audio, the last total of its use."""

    is_in_turns: bool = True
    """Whether a text of the other side begins a new turn."""

    def __init__(self) -> None:
        self.complete = False
        self._body: Json = {}
        self._turns: list[tuple[Json, list[str]]] = []
        self._audio: dict[str, Audio] = {}

    def add(self, event: object) -> bool:
        """Fold in one event; True if it carried speech of the model."""
        if not isinstance(event, dict):
            return False
        kind = text(event, "type") or ""
        side = "input_audio" if kind.startswith(_INPUT) else "audio"
        if BYTES in event:
            self._audio.setdefault(side, Audio()).add(event)
            return side == "audio"
        if kind.endswith(_TRANSCRIPT):
            self._transcribe("user" if kind.startswith(_INPUT) else "assistant", event)
            return side == "audio"
        session = mapping(event, "session") or {}
        self._body |= {key: detached(session[key]) for key in _OF_SESSION if key in session}
        for key in ("usage", "reason"):
            if key in event:
                self._body[key] = detached(event[key])
        self.complete = self.complete or kind == CLOSED
        return False

    def _transcribe(self, role: str, event: Json) -> None:
        near = self._turns[-1:] if self.is_in_turns else reversed(self._turns)
        turn, pieces = next((one for one in near if one[0]["role"] == role), ({}, []))
        if not turn:
            turn["role"] = role
            turn |= {key: event[key] for key in ("start_ms",) if key in event}
            self._turns.append((turn, pieces))
        turn |= {key: event[key] for key in _TIMES[1:] if key in event}
        pieces.append(text(event, "delta") or "")

    def body(self) -> Json | None:
        """Return the session so far; None if nothing was received."""
        if not (self._body or self._turns or self._audio):
            return None
        turns = [{**turn, "text": "".join(pieces)} for turn, pieces in self._turns]
        audio_format = dig(self._body, "audio", "format") or {"type": "audio/pcm"}
        references = {side: audio.reference(audio_format) for side, audio in self._audio.items()}
        settings = {key: value for key, value in self._body.items() if key != "audio"}
        return {**settings, "status": "closed" if self.complete else "active", "turns": turns, **references}


class LiveSession(OpenAIEndpoint):
    """A live session. Stateless."""

    operation: Operation = "generate_content"
    accumulator: Any = SessionFold

    def request(self, body: object) -> Request:
        """Return model, parameters and delegated tools of a session, without its body. Total."""
        request = super().request(body)
        params = {name: value for name, value in request.params.items() if name not in _WITH_CONTENT}
        delegated = super().request(dig(body, "delegation", "responses"))
        return msgspec.structs.replace(request, params=params, tool_names=delegated.tool_names)

    def response_info(self, body: object) -> ResponseInfo:
        """Return id, model and use of a session. Total."""
        reason, usage = word(body, "reason"), mapping(body, "usage")
        seconds, error = number(usage, "seconds"), response_error(body)
        known = seconds is not None and seconds >= 0
        return ResponseInfo(
            response=Response(
                id=word(body, "id"), model=word(body, "model"), status=word(body, "status"), finish_reasons=[reason],
                refused=reason == "content",
            ),
            usage=None if not usage else Usage(raw=detached(usage), input_audio_seconds=seconds if known else None),
            error=error,
            recognized=isinstance(dig(body, "turns"), list) or error is not None,
        )  # fmt: skip

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the model's last turn as output, and all others as input; either may be None."""
        given = Responses("responses").conversation(request, None)
        turns = [_message(turn) for turn in objects(response, "turns")]
        last = max((at for at, turn in enumerate(turns) if turn.role == "assistant"), default=len(turns))
        before = [turn for at, turn in enumerate(turns) if at != last]
        return msgspec.structs.replace(given, input=[*given.input, *before], output=turns[last : last + 1])


def _message(turn: Json) -> Message:
    return Message(role=text(turn, "role") or "user", parts=parts_of(text(turn, "text")))


class TranslationFold(SessionFold):
    """Joins the events of a translation, whose sides speak at the same time."""

    is_in_turns = False


class SpeechTranslation(LiveSession):
    """A translation of speech while it is spoken. The wire states no usage. Stateless."""

    accumulator = TranslationFold
