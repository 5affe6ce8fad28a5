"""Sent keys: masks those that a request was sent with where its error repeats them.

A key in no provider's format, which no name precedes, is told from other text only by having been sent.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Any, Final, TypeVar

import msgspec

from callspan.fail_open import fail_open
from callspan.process.content import with_bodies
from callspan.process.secrets import MASK, is_secret_name
from callspan.record.call import Attempt, CallRecord, ErrorInfo, Redaction

_F = TypeVar("_F", ErrorInfo, Attempt)

_READ: Final = fail_open("mask the keys of a request")
_PIECE: Final = re.compile(r"[^\s,;\"'=]{8,}=*")
_PARAMETER: Final = re.compile(r"[?&]([^=&#]{1,64})=([^&#]+)")
_BASIC: Final = re.compile(r"(?i)basic\s+([\w+/=-]+)")
_SIGNED: Final = "AWS4-"
"""How a header begins that has a signature in place of a key."""


def sent_keys(request: Any) -> list[str]:
    """Return what is secret in the headers and the URL of a request of any HTTP library, the longest first."""
    keys: set[str] = set()
    if request is not None:
        with _READ:
            keys.update(*map(_of_value, _values(request)))
    return sorted(keys, key=len, reverse=True)


def without_keys(failure: _F, keys: Iterable[str]) -> _F:
    """Return an error, or a failed attempt, without these keys; the same object if it has none."""
    masked = failure
    for key in keys:
        texts = {name: _without(getattr(masked, name), key) for name in failure.__struct_fields__}
        masked = msgspec.structs.replace(masked, **texts)
    return failure if masked == failure else masked


def answer_without(record: CallRecord, keys: Iterable[str]) -> CallRecord:
    """Return the record of a failed call whose answer has none of these keys."""
    body = b"" if record.response is None else bytes(record.response.body)
    masked = body
    for key in keys:
        masked = masked.replace(key.encode(), MASK.encode())
    if masked == body:
        return record
    note = Redaction(what="response.body", why="secret")
    record = with_bodies(record, None, msgspec.Raw(masked))
    return msgspec.structs.replace(record, redactions=[*record.redactions, note])


def _values(request: Any) -> Iterable[str]:
    headers = request.headers
    # httpx decodes all headers for a look at one; those of websockets may be there twice.
    pairs = getattr(headers, "raw", None)
    for name, value in getattr(headers, "raw_items", headers.items)() if pairs is None else pairs:
        if is_secret_name(_text(name)):
            yield _text(value)
    # The handshake of a websocket has a path.
    for name, value in _PARAMETER.findall(str(getattr(request, "url", None) or getattr(request, "path", ""))):
        if is_secret_name(name) or name.lower() == "key":
            yield value


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _of_value(value: str) -> Iterable[str]:
    """Return the parts of a header that look like keys: those with a digit, because words may be anywhere."""
    if value.startswith(_SIGNED):
        return ()
    users = [base64.b64decode(f"{match[1]}==").decode("latin-1") for match in _BASIC.finditer(value)]
    pieces = (piece for one in (value, *users) for piece in _PIECE.findall(one.replace(":", " ")))
    return [piece for piece in pieces if any(map(str.isdigit, piece))]


def _without(value: Any, key: str) -> Any:
    if isinstance(value, str):
        return value.replace(key, MASK)
    if isinstance(value, dict):
        return {_without(name, key): _without(item, key) for name, item in value.items()}
    return [_without(item, key) for item in value] if isinstance(value, list | tuple) else value
