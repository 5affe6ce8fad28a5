"""Text: requests, answers and streams of watsonx.ai. Its paths ask for streams, and name what is deployed.

Chat is the same as chat completions but for the name of the model. Generation states the results, and in each event of
a stream the tokens so far; the input's are in the first one alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, cast

import msgspec

from callspan.providers.base import Operation, ResponseInfo, parameters
from callspan.providers.cohere import rerank
from callspan.providers.error_kinds import error_in, error_info
from callspan.providers.finishing import answer_info
from callspan.providers.fold.last import LastBody
from callspan.providers.fold.merge import GrowingText
from callspan.providers.fold.usage_merge import UsageRule
from callspan.providers.openai.base import OpenAIEndpoint
from callspan.providers.openai.chat import ChatCompletions
from callspan.providers.openai.parts import prompt_messages
from callspan.providers.openai.usage import of_input_only, usage_of
from callspan.providers.wire_json import Json, count, detached, dig, items, mapping, objects, text, word
from callspan.record.call import Request, Response
from callspan.record.messages import Conversation, Message, Part, Text
from callspan.record.usage import Usage

_MODEL: Final = "model_id"
_PAYERS: Final = frozenset({_MODEL, "project_id", "space_id"})
_COUNTERS: Final = ("input_token_count", "generated_token_count")
_TEXT: Final = "generated_text"
_UNFINISHED: Final = "not_finished"


class Chat(ChatCompletions):
    """`/ml/v1/text/chat` and `chat_stream`. Stateless."""

    content = OpenAIEndpoint.content | _PAYERS

    def request(self, body: object) -> Request:
        """Return the request with its model."""
        return msgspec.structs.replace(super().request(body), model=word(body, _MODEL))

    def response_info(self, body: object) -> ResponseInfo:
        """Return the info with the model, which older answers have by this name alone."""
        info = super().response_info(body)
        model = word(body, _MODEL) or info.response.model
        return msgspec.structs.replace(info, response=msgspec.structs.replace(info.response, model=model))


class GenerationFold:
    """Joins the pieces of a text; the counters are those so far."""

    usage_rule: ClassVar[UsageRule] = "last whole"

    def __init__(self) -> None:
        self._body: Json = {}
        self._result: Json = {}
        self._text = GrowingText()
        self.complete = False
        """True once the text was finished."""

    def add(self, event: object) -> bool:
        """Fold in one event; return True if it carried content."""
        if not isinstance(event, dict):
            return False
        self._body |= {key: detached(value) for key, value in event.items() if key != "results"}
        piece = ""
        for result in objects(event, "results"):
            piece = text(result, _TEXT) or ""
            self._text.add(piece)
            for name in _COUNTERS:
                if (tokens := count(result, name)) is not None:
                    self._result[name] = max(tokens, self._result.get(name, 0))
            self._result["stop_reason"] = reason = word(result, "stop_reason")
            self.complete = reason not in (None, _UNFINISHED)
        return piece != ""

    def body(self) -> Json | None:
        """Return the body so far; None if nothing was received."""
        if not self._result:
            return detached(self._body) or None
        return {**detached(self._body), "results": [{_TEXT: self._text.text(), **self._result}]}


def _of_result(body: object) -> Usage | None:
    result = next(objects(body, "results"), {})
    return usage_of({"usage": {name: result[name] for name in _COUNTERS if name in result}})


def _of_input(body: object) -> Usage | None:
    return of_input_only(usage_of({"usage": {_COUNTERS[0]: dig(body, _COUNTERS[0])}}))


class _Text:
    """Base of what is no chat. Stateless."""

    operation: Operation
    inputs: str
    """The key of what is read."""
    _usage: Callable[[object], Usage | None]

    def __init__(self, api: str) -> None:
        self.api = api

    def request(self, body: object) -> Request:
        """Return model and parameters of a request."""
        stated = cast("dict[object, object]", mapping(body, "parameters") or {})
        return Request(
            model=word(body, _MODEL), params=parameters(stated, ()), message_count=len(items(body, self.inputs)) or None
        )

    def response_info(self, body: object) -> ResponseInfo:
        """Return model, finish reasons, usage and error of a complete or folded body; accepts any JSON."""
        reasons = [reason for result in objects(body, "results") if (reason := word(result, "stop_reason"))]
        reasons = [reason for reason in reasons if reason != _UNFINISHED]
        stated = error_in(body) if isinstance(body, dict) else None
        error = error_info(body={"error": stated}) if stated else None
        response = Response(model=word(body, _MODEL), finish_reasons=[*reasons])
        recognized = isinstance(dig(body, "results"), list)
        return answer_info(response, reasons, self._usage(body), error, recognized=recognized)


class Generation(_Text):
    """`/ml/v1/text/generation` and `generation_stream`. Stateless."""

    operation: Operation = "text_completion"
    inputs = "input"
    accumulator = GenerationFold
    _usage = staticmethod(_of_result)

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the prompt and the text. Either body may be None."""
        return Conversation(
            input=prompt_messages(text(request, "input")), output=list(map(_message, objects(response, "results")))
        )


class Embeddings(_Text):
    """`/ml/v1/text/embeddings`. Stateless."""

    operation: Operation = "embeddings"
    inputs = "inputs"
    _usage = staticmethod(_of_input)

    def accumulator(self) -> Any:
        """Return an accumulator that keeps the last body, for answers that are no streams."""
        return LastBody(mapping)

    def conversation(self, request: object, response: object) -> Conversation:  # noqa: ARG002 - vectors say nothing
        """Return the embedded texts as user messages; there is no output."""
        return Conversation(input=prompt_messages(items(request, "inputs") or None))


class Rerank(rerank.Rerank):
    """`/ml/v1/text/rerank`. Stateless."""

    content = rerank.Rerank.content | _PAYERS | {"inputs"}

    def request(self, body: object) -> Request:
        """Return model and parameters of a request."""
        count_of_inputs = len(items(body, "inputs")) or None
        return msgspec.structs.replace(super().request(body), model=word(body, _MODEL), message_count=count_of_inputs)

    def response_info(self, body: object) -> ResponseInfo:
        """Return model, usage and error of an answer; accepts any JSON."""
        info = super().response_info(body)
        response = msgspec.structs.replace(info.response, model=word(body, _MODEL))
        return msgspec.structs.replace(info, response=response, usage=_of_input(body))

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the documents, the query and the ranking as messages. Either body may be None."""
        asked = request | {"documents": request.get("inputs")} if isinstance(request, dict) else request
        return super().conversation(asked, response)


def _message(result: Json) -> Message:
    content, reason = text(result, _TEXT), word(result, "stop_reason")
    parts: list[Part] = [Text(text=content)] if content else []
    return Message(role="assistant", parts=parts, finish_reason=None if reason == _UNFINISHED else reason)
