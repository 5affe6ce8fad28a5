"""Text generation: requests, answers and streams of Hugging Face's inference servers (TGI) in their own form.

A plain answer is often a list of one. An event of a stream has one token; the last one also has the whole text and the
details. The prompt's tokens are counted only in streams of newer servers, or where the details were requested.
"""

from __future__ import annotations

from typing import ClassVar, Final, cast

from callspan.providers.base import Operation, ResponseInfo, parameters
from callspan.providers.error_kinds import error_in, error_info
from callspan.providers.finishing import answer_info
from callspan.providers.fold.merge import GrowingText
from callspan.providers.fold.usage_merge import UsageRule
from callspan.providers.wire_json import (
    Json,
    count,
    detached,
    detached_object,
    flag,
    items,
    mapping,
    objects,
    text,
    word,
)
from callspan.record.call import Request, Response
from callspan.record.messages import Conversation, Message, Part, Text
from callspan.record.usage import Usage

_NAMES: Final = {"max_new_tokens": "max_tokens", "stop": "stop_sequences"}
_TEXT: Final = "generated_text"
_COUNTERS: Final = ("generated_tokens", "input_length")


class TokensFold:
    """Joins the tokens of a stream; the last event has the whole text."""

    usage_rule: ClassVar[UsageRule] = "last whole"

    def __init__(self) -> None:
        self._text: GrowingText | None = None
        self._body: Json = {}

    @property
    def complete(self) -> bool:
        """True once the last event was received."""
        return _TEXT in self._body

    def add(self, event: object) -> bool:
        """Fold in one event; return True if it carried content."""
        if not isinstance(event, dict):
            return False
        token = mapping(event, "token")
        said = text(token, "text")
        piece = "" if said is None or flag(token, "special") else said
        if said is not None:
            if self._text is None:
                self._text = GrowingText()
            self._text.add(piece)
        self._body |= {
            key: detached(value) for key, value in event.items() if key not in ("token", "index") and value is not None
        }
        return piece != ""

    def body(self) -> Json | None:
        """Return the body so far; None if nothing was received."""
        if self._text is None:
            return detached(self._body) or None
        return {_TEXT: self._text.text(), **detached(self._body)}


class TextGeneration:
    """Text generation, `/models/{model}`. Stateless."""

    operation: Operation = "text_completion"
    accumulator = TokensFold

    def __init__(self, api: str) -> None:
        self.api = api

    def request(self, body: object) -> Request:
        """Return stream and parameters of a request. The path has the model."""
        fields = parameters(cast("dict[object, object]", mapping(body, "parameters") or {}), ())
        return Request(
            model=word(body, "model"),
            stream=flag(body, "stream") is True,
            params={_NAMES.get(key, key): value for key, value in fields.items()},
        )

    def response_info(self, body: object) -> ResponseInfo:
        """Return finish reasons, usage and error of a complete or folded body; accepts any JSON."""
        answers = _answers(body)
        reasons = [word(mapping(answer, "details"), "finish_reason") for answer in answers]
        error = error_info(body=body) if isinstance(body, dict) and error_in(body) else None
        return answer_info(Response(finish_reasons=reasons), reasons, _usage(answers), error, recognized=bool(answers))

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the prompt and the answers. Either body may be None."""
        prompt = text(request, "inputs")
        return Conversation(
            input=[Message(role="user", parts=[Text(text=prompt)])] if prompt else [],
            output=list(map(_message, _answers(response))),
        )


def _answers(body: object) -> list[Json]:
    """Return the answers in a body (not copies)."""
    listed = objects({"answers": body}, "answers") if isinstance(body, list) else [body]
    return [answer for answer in listed if isinstance(answer, dict) and text(answer, _TEXT) is not None]


def _message(answer: Json) -> Message:
    content = text(answer, _TEXT)
    parts: list[Part] = [Text(text=content)] if content else []
    return Message(role="assistant", parts=parts, finish_reason=word(mapping(answer, "details"), "finish_reason"))


def _usage(answers: list[Json]) -> Usage | None:
    details = [of_answer for answer in answers if (of_answer := mapping(answer, "details")) is not None]
    outputs = [tokens for each in details if (tokens := count(each, "generated_tokens")) is not None]
    if not outputs:
        return None
    stated = count(details[0], "input_length")
    total_input = len(items(details[0], "prefill")) or None if stated is None else stated
    output = sum(outputs)
    return Usage(
        input_tokens=total_input,
        output_tokens=output,
        total_tokens=None if total_input is None else total_input + output,
        raw=detached_object({name: details[0][name] for name in _COUNTERS if name in details[0]}),
    )
