"""Body messages: the messages and choices of wire bodies as JSON, unchanged, within a byte limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

from callspan.record.apis import APIS, OTHER, Api
from callspan.record.bounded import EMPTY, fit_json, newest_that_fit
from callspan.record.call import NO_BODY, CallRecord
from callspan.record.codec import encode_json, struct_of_fields

_NOTE_BYTES: Final = 100
_CHOICE: Final = b'[{"index":0,"message":%b,"finish_reason":%b}]'
_ITEMS: Final = b'{"role":"assistant","content":%b}'
_ABSENT: Final = msgspec.Raw()
_NULL: Final = b"null"
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_NOTHING: Final = (b"", _NULL, b'""', b"[]")


class _Reader(NamedTuple):
    row: Api
    request: Callable[[msgspec.Raw], Any]
    answer: Callable[[msgspec.Raw], Any]


def messages_json(record: CallRecord, max_bytes: int) -> tuple[bytes, int] | None:
    """Return the messages of the request as JSON, and the number of bytes removed.

    None if the request has none, or has them in several fields. Separate instructions come first, as a message with the
    role `system`. If the messages do not fit into `max_bytes`, the first and the newest are kept, the longest texts are
    truncated, and `{"callspan_omitted": {"messages": n, "bytes": size of the body}}` replaces the others.
    """
    request = record.request
    if request.body is NO_BODY:
        return None
    reader = _reader(record.api)
    try:
        body = reader.request(request.body)
        said, system = _filled(body, reader.row.said), _filled(body, reader.row.instructions)
        elements = _elements(said[0]) if len(said) == 1 else None
    except _UNREADABLE:
        return None
    if elements is None and (len(said) > 1 or (said and not _is_text(said[0]))):
        return None
    if not system:
        if elements is None:
            return fit_json(msgspec.json.decode(said[0]), max_bytes) if said else None
        return _joined(elements, request.body_bytes, max_bytes)
    messages = [_message("user", text) for text in said] if elements is None else elements
    return _joined([_message("system", system[0]), *messages], request.body_bytes, max_bytes)


def choices_json(record: CallRecord, max_bytes: int) -> tuple[bytes, int] | None:
    """Return the choices of the response as JSON, and the number of bytes removed; None for an answer without choices.

    They are a list of `{index, message, finish_reason}`: for chat and completions as received; for Responses one
    choice, with the output items as the content of its message; for Messages one choice with the whole response as its
    message.
    """
    response = record.response
    if response is None or response.body is NO_BODY:
        return None
    reader = _reader(record.api)
    fields = reader.row.answers
    if not any(fields):
        return None
    try:
        body = reader.answer(response.body)
        choices, items = _list_in(body, fields.choices), _list_in(body, fields.items)
    except _UNREADABLE:
        return None
    if choices is not None:
        return _joined(choices, response.body_bytes, max_bytes) if max_bytes >= len(EMPTY) else None
    if items is None and all(map(_is_absent, (getattr(body, name) for name in fields.message))):
        return None
    reasons = response.endings
    reason = encode_json(reasons[0] if reasons else None)
    message = b"%b" if items is None else _ITEMS
    room = max_bytes - len(_CHOICE % (message % b"", reason))
    if room < len(EMPTY):
        return None
    data, cut = _joined([response.body] if items is None else items, response.body_bytes, room)
    if items is None:
        data = data.removeprefix(b"[").removesuffix(b"]")
    return _CHOICE % (message % data, reason), cut


@lru_cache(maxsize=64)
def _reader(api: str) -> _Reader:
    row = APIS.get(api, OTHER)
    answers = row.answers
    return _Reader(
        row,
        _decoder((*row.said, *row.instructions)),
        _decoder(filter(None, (answers.choices, answers.items, *answers.message))),
    )


def _decoder(names: Iterable[str]) -> Callable[[msgspec.Raw], Any]:
    """Return the decoder of an object with these members; one that is not sent is empty."""
    return msgspec.json.Decoder(struct_of_fields(names, msgspec.Raw, _ABSENT)).decode


def _filled(body: object, names: Iterable[str]) -> list[msgspec.Raw]:
    """Return the members that say something."""
    values: Iterable[msgspec.Raw] = (attrgetter(name)(body) for name in names)
    return [value for value in values if len(memoryview(value)) > len(_NULL) or bytes(value) not in _NOTHING]


def _list_in(body: object, name: str) -> list[msgspec.Raw] | None:
    return _elements(getattr(body, name)) if name else None


def _elements(value: msgspec.Raw) -> list[msgspec.Raw] | None:
    """Return the elements of a list; None for any other value."""
    return _list(value) if bytes(memoryview(value)[:1]) == b"[" else None


def _is_text(value: msgspec.Raw) -> bool:
    return bytes(memoryview(value)[:1]) == b'"'


def _is_absent(value: msgspec.Raw) -> bool:
    return len(memoryview(value)) <= len(_NULL) and bytes(value) in (b"", _NULL)


_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _message(role: str, content: bytes | msgspec.Raw) -> msgspec.Raw:
    return msgspec.Raw(b'{"role":"%b","content":%b}' % (role.encode(), content))


def _joined(items: list[msgspec.Raw], body_bytes: int | None, max_bytes: int) -> tuple[bytes, int]:
    start = newest_that_fit(len(items), lambda index: len(memoryview(items[index])) + 1, max_bytes - _NOTE_BYTES)
    fitting = items if start <= 1 else [items[0], _note(start - 1, body_bytes), *items[start:]]
    data = b"[" + b",".join(fitting) + b"]"
    if len(data) > max_bytes:
        return fit_json([msgspec.json.decode(item) for item in fitting], max_bytes)
    return data, max(1, (body_bytes or 0) - len(data)) if start > 1 else 0


def _note(count: int, body_bytes: int | None) -> msgspec.Raw:
    return msgspec.Raw(encode_json({"callspan_omitted": {"messages": count, "bytes": body_bytes}}))
