"""Public records: calls as the application's redactor and callbacks get them, with bodies as plain JSON.

A body is parsed on first access. It is the receiver's own: a change in place changes neither the original record nor
any other receiver's body.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from callspan.process.content import UNREADABLE, decoded, encoded
from callspan.record.call import CallRecord, Request, Response
from callspan.record.events import Record

_R = TypeVar("_R", bound=Record)
_REQUEST_BODY: Final[Any] = Request.__dict__["body"]
_RESPONSE_BODY: Final[Any] = Response.__dict__["body"]
"""The fields themselves, which the classes below override."""


class JsonObject(dict[str, Any]):
    """A body that is a JSON object: a dict. Until it is changed, it has the record's bytes."""

    __slots__ = ("_exact",)

    def __init__(self, members: dict[str, Any], exact: msgspec.Raw) -> None:
        super().__init__(members)
        self._exact = exact

    def __bytes__(self) -> bytes:
        """Return the JSON as it was sent or received, or anew if it has changed."""
        return bytes(self.raw())

    def raw(self) -> msgspec.Raw:
        """Return the JSON as a body of a record."""
        return self._exact if decoded(self._exact) == self else encoded(dict(self))


class _PublicRequest(Request, frozen=True, kw_only=True):
    """A request with a body that is plain JSON, or None."""

    @property  # type: ignore[misc] # in place of the field
    def body(self) -> Any:
        return _opened(self, _REQUEST_BODY)


class _PublicResponse(Response, frozen=True, kw_only=True):
    """A response with a body that is plain JSON, or None."""

    @property  # type: ignore[misc] # in place of the field
    def body(self) -> Any:
        return _opened(self, _RESPONSE_BODY)


def public(record: _R) -> _R:
    """Return a call with bodies as plain JSON, as the application gets it; any other record unchanged."""
    if not isinstance(record, CallRecord):
        return record
    request, response = record.request, record.response
    return msgspec.structs.replace(
        record,
        request=_PublicRequest(**_fields(request, _REQUEST_BODY)),
        response=None if response is None else _PublicResponse(**_fields(response, _RESPONSE_BODY)),
    )


def private(record: _R) -> _R:
    """Return a call that the application returned with bodies as a record has them, and without derived messages."""
    if not isinstance(record, CallRecord):
        return record
    request, response = _fields(record.request, _REQUEST_BODY), None
    request["body"] = _closed(request["body"])
    if record.response is not None:
        answer = _fields(record.response, _RESPONSE_BODY)
        response = Response(**{**answer, "body": _closed(answer["body"])})
    return msgspec.structs.replace(record, request=Request(**request), response=response, conversation=None)


def _fields(part: Request | Response, descriptor: Any) -> dict[str, Any]:
    return {
        name: descriptor.__get__(part) if name == "body" else getattr(part, name) for name in part.__struct_fields__
    }


def _opened(part: Request | Response, descriptor: Any) -> object:
    body = descriptor.__get__(part)
    if isinstance(body, msgspec.Raw):
        descriptor.__set__(part, body := plain_json(body))
    return body


def plain_json(body: msgspec.Raw) -> object:
    """Return a body as new plain JSON, as text if it is not JSON; None without a body."""
    value = decoded(body)
    if value is UNREADABLE:
        return bytes(body).decode("utf-8", "replace")
    return JsonObject(value, body) if isinstance(value, dict) else value


def _closed(body: object) -> msgspec.Raw:
    return body.raw() if isinstance(body, JsonObject) else encoded(body)
