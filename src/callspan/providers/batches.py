"""Batches of both providers: the requests about them, the lines of their requests and results, and the batch itself.

OpenAI's requests and results are files of JSON lines; Anthropic's requests are the body of the request that creates the
batch, its results JSON lines. Pure and total, as adapters are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from callspan.fail_open import ours
from callspan.providers import registry
from callspan.providers.base import Endpoint
from callspan.providers.error_kinds import error_info
from callspan.providers.wire_json import detached_object, integer, mapping, objects, text, time_ns
from callspan.record.call import ErrorInfo, Outcome

BATCHES: Final = "batches"
"""The `api` of requests about batches, none of which is a call."""
CREATE, RESULTS, UPLOAD = "create_batch", "batch_results", "upload_file"
"""Operations: what a request does. Any other one looks a batch up: lists, and cancelling one, too."""
_CLIENT_ERRORS: Final = 400
_CANCELLED: Final = "cancel"
_EXPIRED: Final = "expired"
_OBJECTS: Final = {"chat.completion": "chat_completions", "response": "responses", "text_completion": "completions"}


class BatchInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a batch, as the provider returns it."""

    id: str
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    url: str | None = None
    """Endpoint of all its requests; OpenAI only."""
    status: str | None = None
    created_ns: int | None = None
    """Unix time."""
    counts: Mapping[str, int] = {}
    """Numbers of its requests, in the provider's words."""
    usage: dict[str, object] | None = None
    """As the provider gives it for the whole batch: the sum of its lines' usage."""

    @property
    def result_files(self) -> list[str]:
        """The ids of its output and error files, if it has any."""
        return [file_id for file_id in (self.output_file_id, self.error_file_id) if file_id]


def batches_in(body: object) -> list[BatchInfo]:
    """Return the batches in a body: one, or a list. Total."""
    found = [_batch(one) for one in (body, *objects(body, "data"))]
    return [one for one in found if one is not None]


def _batch(body: object) -> BatchInfo | None:
    identity = text(body, "id")
    if not identity or (text(body, "object") != "batch" and text(body, "type") != "message_batch"):
        return None
    counts = mapping(body, "request_counts") or {}
    return BatchInfo(
        id=identity,
        input_file_id=text(body, "input_file_id"),
        output_file_id=text(body, "output_file_id"),
        error_file_id=text(body, "error_file_id"),
        url=text(body, "endpoint"),
        status=text(body, "status") or text(body, "processing_status"),
        created_ns=time_ns(body, "created_at"),
        counts={name: number for name, number in counts.items() if isinstance(number, int)},
        usage=None if (usage := mapping(body, "usage")) is None else detached_object(usage),
    )


class RequestLine(NamedTuple):
    """One request of a batch."""

    custom_id: str
    body: bytes
    """Its exact JSON."""
    url: str | None
    """Path of its endpoint; None: that of Messages."""


class _FileLine(msgspec.Struct):
    custom_id: str
    body: msgspec.Raw
    url: str | None = None


class _ListedRequest(msgspec.Struct):
    custom_id: str
    params: msgspec.Raw


class _Requests(msgspec.Struct):
    requests: list[msgspec.Raw]


def request_in(line: bytes) -> RequestLine | None:
    """Return the request in one line of an uploaded file; None if the line is not a request."""
    try:
        found = _file_line(line)
    except ours(msgspec.MsgspecError, RecursionError):
        return None
    return RequestLine(found.custom_id, bytes(found.body), found.url)


def requests_in(body: bytes | msgspec.Raw) -> Iterator[RequestLine]:
    """Yield the requests in the body that creates a batch of Anthropic; nothing for any other body."""
    try:
        listed = _requests(body).requests
    except ours(msgspec.MsgspecError, RecursionError):
        return
    for one in listed:
        try:
            found = _listed(one)
        except ours(msgspec.MsgspecError, RecursionError):
            continue
        yield RequestLine(found.custom_id, bytes(found.params), None)


_file_line: Final = msgspec.json.Decoder(_FileLine).decode
_requests: Final = msgspec.json.Decoder(_Requests).decode
_listed: Final = msgspec.json.Decoder(_ListedRequest).decode


class ResultLine(NamedTuple):
    """One result of a batch."""

    custom_id: str
    body: dict[str, object] | None
    """The answer, as the endpoint returns it; None where the request got none."""
    outcome: Outcome
    error: ErrorInfo | None = None
    status: int | None = None
    request_id: str | None = None


def result_in(line: bytes) -> ResultLine | None:
    """Return the result in one line of either provider; None if the line is not a result. Total."""
    found = registry.decoded(line)
    custom_id = text(found, "custom_id")
    if not isinstance(found, dict) or custom_id is None:
        return None
    if "result" in found:
        return _messages_result(custom_id, mapping(found, "result") or {})
    return _file_result(custom_id, found) if "response" in found or "error" in found else None


def _messages_result(custom_id: str, result: dict[str, object]) -> ResultLine:
    kind = text(result, "type")
    if kind == "succeeded":
        return ResultLine(custom_id, mapping(result, "message"), "success")
    if kind == "errored":
        error = _error(None, result.get("error"), None)
        return ResultLine(custom_id, None, "error", error, request_id=error.request_id)
    return _unanswered(custom_id, kind, None)


def _file_result(custom_id: str, found: dict[str, object]) -> ResultLine:
    response, error = mapping(found, "response"), found.get("error")
    if response is None or error:
        return _unanswered(custom_id, text(error, "code"), error)
    status, request_id, body = integer(response, "status_code"), text(response, "request_id"), mapping(response, "body")
    if status is not None and status >= _CLIENT_ERRORS:
        failed = _error(status, body, request_id)
        return ResultLine(custom_id, None, "error", failed, status, request_id)
    return ResultLine(custom_id, body, "success", None, status, request_id)


def _unanswered(custom_id: str, why: str | None, error: object) -> ResultLine:
    """Return the result of a request that was not sent to a model, or whose answer is unknown."""
    why = why or "unknown"
    if _EXPIRED in why:
        about = ErrorInfo(kind="timeout", type=why, message=text(error, "message"), code=text(error, "code"))
        return ResultLine(custom_id, None, "timeout", about)
    if _CANCELLED in why:
        about = ErrorInfo(kind="cancelled", type=why, message=text(error, "message"), code=text(error, "code"))
        return ResultLine(custom_id, None, "cancelled", about)
    about = _error(None, error, None) if error else ErrorInfo(kind="unknown", type=why)
    return ResultLine(custom_id, None, "error", about)


def _error(status: int | None, body: object, request_id: str | None) -> ErrorInfo:
    return error_info(status=status, body=body, exception=None, message=None, request_id=request_id)


def endpoint_of(url: str | None, body: object) -> Endpoint | None:
    """Return the adapter of a line by the path of its endpoint, else by the type of its answer; None: unknown."""
    if url is not None:
        return registry.endpoint_for("POST", url)
    kind = text(body, "object")
    if kind == "list" and any(text(one, "object") == "embedding" for one in objects(body, "data")):
        return registry.by_api("embeddings")
    api = "messages" if text(body, "type") == "message" else _OBJECTS.get(kind or "")
    return None if api is None else registry.by_api(api)
