"""Base: shared by Cohere's APIs: parameters of requests, and facts of answers and errors."""

from __future__ import annotations

from typing import Any, Final

from callspan.providers.base import Operation, ResponseInfo, parameters
from callspan.providers.cohere.usage import usage
from callspan.providers.error_kinds import error_in, error_info
from callspan.providers.finishing import answer_info, finish_words, tool_finish
from callspan.providers.fold.last import LastBody
from callspan.providers.wire_json import items, mapping, objects, word
from callspan.record.call import ErrorInfo, FinishWord, Request, Response
from callspan.record.messages import tool_name
from callspan.record.usage import Usage

_NAMES: Final = {"p": "top_p", "k": "top_k"}


class CohereEndpoint:
    """Base of the adapters of Cohere's APIs. Stateless."""

    operation: Operation = "chat"
    content: frozenset[str]
    """The keys of a request with content, which are no parameters."""
    answer: frozenset[str]
    """The keys of an answer. Any of them identifies a body as an answer."""
    usage_keys: tuple[str, ...] = ("meta",)
    """The key of the counters, or none if they are in the body itself."""
    finishes = False
    """Whether answers have a finish reason."""

    def __init__(self, api: str) -> None:
        self.api = api

    def accumulator(self) -> Any:
        """Return an accumulator that keeps the last body, for answers that are no streams."""
        return LastBody(mapping)

    def request(self, body: object) -> Request:
        """Return model, stream, parameters and counts of a request."""
        if not isinstance(body, dict):
            return Request()
        named = parameters(body, self.content)
        return Request(
            model=word(body, "model"),
            stream=body.get("stream") is True,
            params={_NAMES.get(key, key): value for key, value in named.items()},
            message_count=self._message_count(body),
            tool_names=[name for tool in objects(body, "tools") if (name := tool_name(tool))]
            if items(body, "tools")
            else None,
        )

    def _message_count(self, body: dict[str, object]) -> int | None:
        return len(items(body, "messages")) or None

    def response_info(self, body: object) -> ResponseInfo:
        """Return id, finish reason, usage and error of a complete or folded body; accepts any JSON."""
        reason, is_answer = word(body, "finish_reason"), self._is_answer(body)
        error = _error(body, reason, is_answer=is_answer)
        response = Response(
            id=self._id(body),
            model=word(body, "model"),
            finish_reasons=[reason] if is_answer and self.finishes else [],
            finish=finish_words([hidden_finish(body)]),
        )
        return answer_info(response, (reason,), self._usage(body), error, recognized=is_answer)

    def _is_answer(self, body: object) -> bool:
        return isinstance(body, dict) and not self.answer.isdisjoint(body)

    def _id(self, body: object) -> str | None:
        return word(body, "id")

    def _usage(self, body: object) -> Usage | None:
        return usage(mapping(body, *self.usage_keys))


def hidden_finish(body: object) -> FinishWord | None:
    """Return the word for an answer of the first version that calls tools."""
    return tool_finish(word(body, "finish_reason"), calls=bool(items(body, "tool_calls")))


def _error(body: object, reason: str | None, *, is_answer: bool) -> ErrorInfo | None:
    """Return the error of an answer that failed, or of a body that has only a message."""
    if not isinstance(body, dict):
        return None
    error = error_in(body)
    if error is None and not is_answer:
        error = word(body, "message")
    if isinstance(error, str):
        error = {"message": error, "type": word(body, "error_type") or reason}
    return None if error is None else error_info(body={"error": error})
