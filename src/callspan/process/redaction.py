"""The application's redactor: a function from record to record that gets bodies as plain JSON and fails closed.

It gets a copy, which it may change in place and return, or it returns a new record. If it raises, or returns anything
but a record with the same identity, the record loses its content.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from callspan.process.content import OUTCOMES, decoded, encoded
from callspan.process.public_records import public
from callspan.record.call import CallRecord, Redaction
from callspan.record.codec import decode, encode
from callspan.record.events import Record, record_key

Redactor: TypeAlias = Callable[[Record], Record]
"""Called with a record; `request.body` and `response.body` of a call are plain JSON (dict, list, ...)."""


_IDENTITY: Final = frozenset(
    {"kind", "call_id", "timestep_id", "session_id", "event_id", "message_id", "reward_id", "trace_id", "span_id"}
    | {"parent_span_id", "parent_session_id", "parent_timestep_id", "trace"}
)
"""Fields that identify a record; a redactor must not change them."""
_VOCABULARY: Final = frozenset({"scope", "operation", "api", "part", "seen_in", "content_level"})
"""Fields with words of callspan only."""
_DERIVED: Final = "conversation"
"""The field of a call that follows from its bodies."""
_OBJECTIVE: Final = ("objective", "reward")
"""The default objective of a reward."""


def redact_texts(mask: Callable[[str], str]) -> Redactor:
    """Return a redactor that applies `mask` to every string of a record, for `instrument(redact=...)`.

    It covers all kinds of records at any depth: bodies, errors, names, metadata, arguments and results of tools. Ids
    that join records, and the names of fields, are not masked. `mask` may be called from any thread.

    Example:
        >>> handle = callspan.instrument(redact=callspan.redact_texts(lambda text: text.replace("Ada", "[name]")))
    """

    def redactor(record: Record) -> Record:
        plain = msgspec.json.decode(encode(_with_encoded_bodies(record)))
        changed = _with_masked_texts(plain, mask)
        if isinstance(record, CallRecord):
            if "place" in plain:
                changed["place"] = _with_masked_texts(plain["place"], mask)
            if "stream" in plain:
                changed["stream"]["end"] = plain["stream"]["end"]
        return public(decode(msgspec.json.encode(changed)))

    return redactor


def _with_masked_texts(fields: dict[str, Any], mask: Callable[[str], str]) -> dict[str, Any]:
    return {name: value if _is_exempt(name, value) else _masked(value, mask) for name, value in fields.items()}


def _is_exempt(name: str, value: object) -> bool:
    is_word = name in _VOCABULARY or (name == "outcome" and value in OUTCOMES)
    return name in _IDENTITY or is_word or (name, value) == _OBJECTIVE


def _masked(value: Any, mask: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {name: _masked(item, mask) for name, item in value.items()}
    return [_masked(item, mask) for item in value] if isinstance(value, list) else value


def redacted(record: Record, redactor: Redactor) -> Record:
    """Return the redacted record, with a redaction for each changed field.

    Raises the redactor's own exception, and TypeError or ValueError if it returns an invalid or a different record.
    """
    before = decode(encode(record))
    return _checked(before, redactor(public(decode(encode(record)))))


def _with_encoded_bodies(record: Record) -> Record:
    """Return the record with bodies encoded anew, so that nothing is kept that the redactor could not read."""
    if isinstance(record, CallRecord):
        request = msgspec.structs.replace(record.request, body=encoded(record.request.body))
        record = msgspec.structs.replace(record, request=request, conversation=None)
        if record.response is not None:
            response = msgspec.structs.replace(record.response, body=encoded(record.response.body))
            record = msgspec.structs.replace(record, response=response)
    return record


def _checked(before: Record, result: Record) -> Record:
    """Return the redactor's result with validated field types. Raises if it is invalid."""
    if type(result) is not type(before):
        raise TypeError(f"the redactor returned {type(result).__name__}, not {type(before).__name__}")
    after = decode(encode(_with_encoded_bodies(result)))
    if record_key(after) != record_key(before):
        raise ValueError("the redactor returned another record")
    notes = [Redaction(what=what, why="redactor") for what in _changes(before, after)]
    redactions = [*before.redactions, *notes]
    return msgspec.structs.replace(after, redactions=redactions)


def _changes(before: msgspec.Struct, after: msgspec.Struct, prefix: str = "") -> list[str]:
    changed: list[str] = []
    for name in before.__struct_fields__:
        if name == _DERIVED:
            continue
        old, new = getattr(before, name), getattr(after, name)
        if isinstance(old, msgspec.Raw) and isinstance(new, msgspec.Raw):
            if decoded(old) != decoded(new):
                changed.append(prefix + name)
        elif old != new:
            nested = isinstance(old, msgspec.Struct) and type(old) is type(new)
            changed += _changes(old, new, f"{prefix}{name}.") if nested else [prefix + name]
    return changed
