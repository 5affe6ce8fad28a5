"""Results of batches of all providers, one line per request. Pure and total, like adapters."""

from __future__ import annotations

import operator
from hashlib import sha256
from itertools import chain
from typing import Final, NamedTuple

from callspan.providers import registry
from callspan.providers.base import Endpoint
from callspan.providers.error_kinds import error_in, error_info
from callspan.providers.wire_json import integer, items, mapping, objects, text
from callspan.record.call import ErrorInfo, Outcome
from callspan.record.codec import encode_json

_CLIENT_ERRORS: Final = 400
_ENDS: Final[dict[str, Outcome]] = {"expired": "timeout", "cancel": "cancelled"}
"""Outcomes of requests that were not sent to a model, by the provider's word."""
_OBJECTS: Final = {
    "chat.completion": "chat_completions",
    "response": "responses",
    "text_completion": "completions",
    "list": "embeddings",
}
_FIELDS: Final = {
    "message": "chat_completions", "text": "completions", "output": "responses", "embedding": "embeddings",
    "results": "moderations", "b64_json": "images",
}  # fmt: skip
"""Fields of answers, or of what is in their `choices` or `data`, for those that have no `object`."""
_GEMINI: Final = {
    "candidates": "generate_content", "promptFeedback": "generate_content", "embedding": "embed_content",
    "usageMetadata": "generate_content",
}  # fmt: skip
"""The API of Gemini's answers, by a field that shows it."""
_INLINE: Final = {"inlinedResponses": "generate_content", "inlinedEmbedContentResponses": "embed_content"}
"""Where a batch of Gemini has results of its own, if they are in no file, and their API."""
_MODELS: Final = "models/"
_ANSWER_ID: Final = "responseId"
_UNKNOWN: Final = "unknown"


class ResultLine(NamedTuple):
    """One result of a batch."""

    custom_id: str | None
    """None if the line states none."""
    body: dict[str, object] | None
    """The answer as the endpoint returns it; None if the request got none."""
    outcome: Outcome
    error: ErrorInfo | None = None
    status: int | None = None
    request_id: str | None = None
    api: str | None = None
    """The API, if the form of the line determines it; None: the answer does."""
    model: str | None = None
    """The model of the batch, if it names one; a line without an answer has no other."""


def result_in(line: bytes) -> ResultLine | None:
    """Return the result in one line of any provider; None if the line is not a result. Total."""
    result = registry.decoded(line)
    if not isinstance(result, dict):
        return None
    custom_id = text(result, "custom_id")
    if custom_id is None:
        return _gemini_result(text(result, "key"), result)
    if "result" in result:
        return _messages_result(custom_id, mapping(result, "result") or {})._replace(api="messages")
    return _file_result(custom_id, result) if "response" in result or "error" in result else None


def inline_results(batch: object) -> list[bytes]:
    """Return the results that a batch of Gemini states itself as the lines of a file; without keys, by position."""
    model = (text(batch, "metadata", "model") or "").removeprefix(_MODELS)
    lists = ((api, items(batch, "metadata", "output", name, "inlinedResponses")) for name, api in _INLINE.items())
    api, results = next(filter(operator.itemgetter(1), lists), ("", ()))
    return [
        encode_json(
            {**result, "key": text(result, "metadata", "key") or str(position), "api": api, "model": model or None}
        )
        for position, result in enumerate(results)
        if isinstance(result, dict)
    ]


def _gemini_result(key: str | None, result: dict[str, object]) -> ResultLine | None:
    answer, error = mapping(result, "response"), result.get("error") or mapping(result, "status")
    stated_api, model = text(result, "api"), text(result, "model")
    if answer is None:
        if key is None:  # any file may have such lines
            return None
        about = error_info(body={"error": error})
        return ResultLine(key, None, "error", about, api=stated_api, model=model) if error else None
    api = next((api for name, api in _GEMINI.items() if name in answer), None)
    return None if api is None else ResultLine(key, answer, "success", api=api, model=model)


def identity_of(line: ResultLine) -> str:
    """Return what tells a line from the others of its batch: its id, else the answer's own, else all of the answer."""
    if line.custom_id is not None:
        return line.custom_id
    return f"\n{text(line.body, _ANSWER_ID) or sha256(encode_json(line.body)).hexdigest()}"


def _messages_result(custom_id: str, result: dict[str, object]) -> ResultLine:
    kind = text(result, "type")
    if kind == "succeeded":
        return ResultLine(custom_id, mapping(result, "message"), "success")
    if kind == "errored":
        error = error_info(body=result.get("error"))
        return ResultLine(custom_id, None, "error", error, request_id=error.request_id)
    return _unanswered(custom_id, kind, None)


def _file_result(custom_id: str, result: dict[str, object]) -> ResultLine:
    response, error = mapping(result, "response"), result.get("error")
    if response is None or (error and not mapping(response, "body")):
        return _unanswered(custom_id, text(error, "code"), error)
    status, request_id, body = integer(response, "status_code"), text(response, "request_id"), mapping(response, "body")
    is_refused = status is not None and status >= _CLIENT_ERRORS
    if is_refused or (body is not None and "object" not in body and error_in(body) is not None):
        failure = error_info(status=status if is_refused else None, body=body, request_id=request_id)
        return ResultLine(custom_id, None, "error", failure, status, request_id)
    stated = error_info(body=error) if error else None  # beside an answer, which was paid
    return ResultLine(custom_id, body, "success", stated, status, request_id)


def _unanswered(custom_id: str, why: str | None, error: object) -> ResultLine:
    """Return the result of a request without an answer."""
    why = why or _UNKNOWN
    for word, outcome in _ENDS.items():
        if word in why:
            about = ErrorInfo(kind=outcome, type=why, message=text(error, "message"), code=text(error, "code"))
            return ResultLine(custom_id, None, outcome, about)
    about = error_info(body=error) if error else ErrorInfo(kind="unknown", type=why)
    return ResultLine(custom_id, None, "error", about)


def endpoint_of(line: ResultLine) -> Endpoint:
    """Return the endpoint for the answer of a line, by its type, else by its fields; the generic one if unknown."""
    api = line.api or _OBJECTS.get(text(line.body, "object") or "")
    if api is None:
        inner = (next(objects(line.body, name), {}) for name in ("choices", "data"))
        fields = {*(line.body or ()), *chain.from_iterable(inner)}
        api = next((of_field for name, of_field in _FIELDS.items() if name in fields), _UNKNOWN)
    return registry.by_api(api) or registry.generic(_UNKNOWN)
