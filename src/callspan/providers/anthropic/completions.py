"""Text completions of Anthropic: requests, responses and streams of the older `/v1/complete`.

Wire reference: https://docs.anthropic.com/en/api/complete. Responses state no usage.
"""

from __future__ import annotations

from typing import Final

from callspan.providers.anthropic.messages import error_in, parameters, usage
from callspan.providers.base import Api, Operation, ResponseInfo
from callspan.providers.wire_json import StringBuilder, detached, detached_object, mapping, overlay, text, word
from callspan.record.call import Request, Response
from callspan.record.messages import LENGTH, Conversation, Message, Part, Text, UnknownPart, normalised

_TEXT: Final = "completion"
_NO_PARAMS: Final = frozenset({"model", "stream", "prompt"})


class CompletionAccumulator:
    """Folds the events of one stream into the body of a response without streaming."""

    __slots__ = ("_fields", "_text", "complete")

    def __init__(self) -> None:
        self.complete = False
        self._fields: dict[str, object] = {}
        self._text = StringBuilder()

    def add(self, chunk: object) -> bool:
        """Fold in one event; True if it carried text."""
        if not isinstance(chunk, dict):
            return False
        piece = text(chunk, _TEXT)
        if piece is None:
            if chunk.get("error"):
                self._fields["error"] = detached(chunk["error"])
            return False
        overlay(self._fields, chunk)
        self._text.add(piece)
        self.complete = self.complete or word(chunk, "stop_reason") is not None
        return piece != ""

    def body(self) -> dict[str, object] | None:
        """Return the completion so far; None if nothing was received."""
        if not self._fields:
            return None
        return {"type": _TEXT, "stop_reason": None, **detached_object(self._fields), _TEXT: self._text.joined()}


class TextCompletions:
    """The text completions API. Satisfies `callspan.providers.base.Endpoint`; has no state."""

    api: Api = "text_completions"
    operation: Operation = "text_completion"
    path: str = "/v1/complete"
    message_key: str = "prompt"
    accumulator = CompletionAccumulator

    def request(self, body: object) -> Request:
        """Return model, stream and parameters of a request; large parameters stay only in its body."""
        if not isinstance(body, dict):
            return Request()
        return Request(
            model=word(body, "model"),
            stream=body.get("stream") is True,
            params=parameters(body, _NO_PARAMS),
        )

    def response_info(self, body: object) -> ResponseInfo:
        """Return identity, stop reason and error of a complete or folded response. Total."""
        reason, error, is_completion = word(body, "stop_reason"), error_in(body), text(body, _TEXT) is not None
        return ResponseInfo(
            response=Response(
                id=word(body, "id"), model=word(body, "model"), finish_reasons=[reason] if is_completion else []
            ),
            usage=usage(mapping(body, "usage")),
            error=error,
            truncated=reason is not None and normalised(reason) == LENGTH,
            recognized=is_completion or error is not None,
        )

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the prompt as a user's message and the completion as an assistant's. Either body may be None."""
        prompt = request.get("prompt") if isinstance(request, dict) else None
        completion = text(response, _TEXT)
        return Conversation(
            input=[Message(role="user", parts=[_part(prompt)])] if prompt else [],
            output=[] if completion is None else [_answer(completion, word(response, "stop_reason"))],
        )


def _part(prompt: object) -> Part:
    return Text(text=prompt) if isinstance(prompt, str) else UnknownPart(data=detached(prompt))


def _answer(completion: str, reason: str | None) -> Message:
    return Message(role="assistant", parts=[Text(text=completion)] if completion else [], finish_reason=reason)
