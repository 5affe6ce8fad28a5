"""Voice sessions: live sessions and speech translations. Each is one call while it is open.

Their body is composed here: `{"id", "model", "status", "turns": [{"role", "text", "start_ms", "end_ms"}], "audio",
"input_audio", "usage"}`. Seconds of use are the provider's last total, never a sum.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from callspan.providers.base import ResponseInfo
from callspan.providers.fold.merge import GrowingText, finished_copy
from callspan.providers.fold.usage_merge import UsageRule
from callspan.providers.openai.base import OpenAIEndpoint
from callspan.providers.openai.parts import parts_of
from callspan.providers.openai.responses import Responses
from callspan.providers.streamed_audio import BYTES, Audio
from callspan.providers.wire_json import Json, detached, dig, mapping, number, objects, text, word
from callspan.record.call import Request
from callspan.record.messages import Conversation, Message
from callspan.record.usage import Usage

CLOSED: Final = "session.closed"
_INPUT: Final = "session.input_"
_TRANSCRIPT: Final = "_transcript.delta"
_NOT_SETTINGS: Final = ("id", "object", "type", "expires_at", "status", "client_secret", "include", "tracing")
_OF_SESSION: Final = ("id", "object", "type", "model", "expires_at", "audio")
_OF_EVENT: Final = ("usage", "reason")


def settings_of(session: Json) -> Json:
    """Return the settings of a session as a request body."""
    return {key: value for key, value in session.items() if key not in _NOT_SETTINGS and value is not None}


class SessionFold:
    """Joins the events of a session: transcripts, counted audio, the last total of use."""

    usage_rule: ClassVar[UsageRule] = "last whole"
    is_in_turns: bool = True
    """Whether a text of the other side starts a new turn."""

    def __init__(self) -> None:
        self.complete = False
        self._body: Json = {}
        self._turns: list[Json] = []
        self._audio: dict[str, Audio] = {}

    def add(self, event: object) -> bool:
        """Fold in one event; return True if it carried the model's speech."""
        if not isinstance(event, dict):
            return False
        kind = text(event, "type") or ""
        side, role = ("input_audio", "user") if kind.startswith(_INPUT) else ("audio", "assistant")
        if BYTES in event:
            self._audio.setdefault(side, Audio()).add(event)
        elif kind.endswith(_TRANSCRIPT):
            self._transcribe(role, event)
        else:
            self._body |= _taken(mapping(event, "session") or {}, _OF_SESSION) | _taken(event, _OF_EVENT)
            self.complete = self.complete or kind == CLOSED
            return False
        return role == "assistant"

    def _transcribe(self, role: str, event: Json) -> None:
        near = self._turns[-1:] if self.is_in_turns else self._turns
        turn = next((candidate for candidate in near if candidate["role"] == role), None)
        if turn is None:
            turn = {"role": role, **_taken(event, ("start_ms",)), "text": GrowingText()}
            self._turns.append(turn)
        for key in ("end_ms", "elapsed_ms"):
            if key in event:
                turn[key] = event[key]
        turn["text"].add(text(event, "delta") or "")

    def body(self) -> Json | None:
        """Return the session so far; None if nothing was received."""
        if not (self._body or self._turns or self._audio):
            return None
        audio_format = dig(self._body, "audio", "format") or {"type": "audio/pcm"}
        references = {side: audio.reference(audio_format) for side, audio in self._audio.items()}
        settings = {key: value for key, value in self._body.items() if key != "audio"}
        status = "closed" if self.complete else "active"
        return {**settings, "status": status, "turns": finished_copy(self._turns), **references}


def _taken(holder: Json, keys: tuple[str, ...]) -> Json:
    return {key: detached(holder[key]) for key in keys if key in holder}


def _usage_of(body: object) -> Usage | None:
    """Return the usage of a session in seconds only, because no session is priced by tokens."""
    usage, seconds = mapping(body, "usage"), number(body, "usage", "seconds")
    is_valid = seconds is not None and seconds >= 0
    return Usage(raw=detached(usage), input_audio_seconds=seconds if is_valid else None) if usage else None


class LiveSession(OpenAIEndpoint):
    """A live session. Stateless."""

    response_key = "turns"
    content = OpenAIEndpoint.content | {"audio", "client", "delegation", "triggers"}  # which have prompts and tools
    _usage = staticmethod(_usage_of)
    accumulator: Any = SessionFold

    def request(self, body: object) -> Request:
        """Return model, parameters and delegated tools of a session, without its body. Total."""
        request = super().request(body)
        delegated = super().request(dig(body, "delegation", "responses"))
        hosted = delegated.hosted_tools or request.hosted_tools
        return msgspec.structs.replace(request, tool_names=delegated.tool_names, hosted_tools=hosted)

    def response_info(self, body: object) -> ResponseInfo:
        """Return id, model and usage of a session. Total."""
        info, reason = super().response_info(body), word(body, "reason")
        response = msgspec.structs.replace(
            info.response, status=word(body, "status"), finish_reasons=[reason], refused=reason == "content"
        )
        return msgspec.structs.replace(info, response=response)

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the model's last turn as output and all others as input; either may be None."""
        conversation = Responses("responses").conversation(request, None)
        turns = [_message(turn) for turn in objects(response, "turns")]
        last = max((at for at, turn in enumerate(turns) if turn.role == "assistant"), default=len(turns))
        before = [turn for at, turn in enumerate(turns) if at != last]
        return msgspec.structs.replace(
            conversation, input=[*conversation.input, *before], output=turns[last : last + 1]
        )


def _message(turn: Json) -> Message:
    return Message(role=text(turn, "role") or "user", parts=parts_of(text(turn, "text")))


class TranslationFold(SessionFold):
    """Joins the events of a translation. Both sides speak at the same time."""

    is_in_turns = False


class SpeechTranslation(LiveSession):
    """A live translation of speech. The wire states no usage. Stateless."""

    accumulator = TranslationFold
