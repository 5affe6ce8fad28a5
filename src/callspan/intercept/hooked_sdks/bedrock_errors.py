"""Errors of botocore: what its exceptions state of an answer with an error status, or of an event that is an error."""

from __future__ import annotations

from typing import Final

from callspan.errors import outcome_of, qualified_name
from callspan.observe.call import Call
from callspan.providers.error_kinds import error_info, known_base
from callspan.providers.wire_json import integer, text
from callspan.record.call import ErrorInfo
from callspan.record.codec import encode_json

_METADATA: Final = "ResponseMetadata"


def fail(call: Call, error: BaseException, *, in_stream: bool) -> None:
    """End a call with an exception; `in_stream` False: the request failed before there was a stream."""
    info = _stated_error(error)
    if info is None:
        call.fail(error, in_stream=in_stream)
    else:
        call.end("error" if in_stream else None, outcome_of(error, info), info)


def error_bytes(answer: object) -> bytes:
    """Return the error in an answer that botocore has parsed as the body of an error."""
    return encode_json(_error_body(answer))


def _stated_error(error: BaseException) -> ErrorInfo | None:
    """Return the error that an exception states; None if it has no answer."""
    answer = getattr(error, "response", None)
    if not isinstance(answer, dict) or "Error" not in answer:
        return None
    kind = type(error)
    return error_info(
        status=integer(answer, _METADATA, "HTTPStatusCode"), body=_error_body(answer), exception=qualified_name(kind),
        base=known_base(kind), request_id=text(answer, _METADATA, "RequestId"),
    )  # fmt: skip


def _error_body(answer: object) -> dict[str, object]:
    return {"error": {"code": text(answer, "Error", "Code"), "message": text(answer, "Error", "Message")}}
