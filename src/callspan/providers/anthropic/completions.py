"""Text completions of Anthropic: requests, responses and streams of the older `/v1/complete`.

Wire reference: https://docs.anthropic.com/en/api/complete. Responses state no usage.
"""

from __future__ import annotations

from typing import ClassVar, Final

from callspan.providers.anthropic.messages import response_error, usage
from callspan.providers.base import Api, Operation, ResponseInfo, parameters
from callspan.providers.fold.events import EventFold, Place
from callspan.providers.wire_json import detached, mapping, text, word
from callspan.record.call import Request, Response
from callspan.record.messages import LENGTH, Conversation, Message, Part, Text, UnknownPart, normalised

_TEXT: Final = "completion"
_NO_PARAMS: Final = frozenset({"model", "stream", "prompt"})


class CompletionFold(EventFold):
    """Joins the events of a completion, of which each has all fields and a piece of the text."""

    defaults: ClassVar = {"type": _TEXT, "stop_reason": None, _TEXT: ""}
    places: ClassVar = dict.fromkeys((_TEXT, None), Place((), _TEXT, _TEXT, "grow", rest=True))


class TextCompletions:
    """The text completions API. Satisfies `callspan.providers.base.Endpoint`; has no state."""

    api: Api = "text_completions"
    operation: Operation = "text_completion"
    path: str = "/v1/complete"
    message_key: str = "prompt"
    accumulator = CompletionFold

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
        reason, error, is_completion = word(body, "stop_reason"), response_error(body), text(body, _TEXT) is not None
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
