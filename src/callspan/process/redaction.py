"""The application's redactor: a function from record to record that gets bodies as plain JSON and fails closed.

It gets a copy, which it may change in place and return, or it returns a new record. If it does anything else, such as
raise SystemExit or return bytes instead of text, the record loses its content.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from callspan.process import masked_texts
from callspan.process.content import decoded, encoded
from callspan.process.masked_texts import with_masked_texts
from callspan.process.public_records import public
from callspan.record.call import CallRecord, Redaction
from callspan.record.codec import decode, encode
from callspan.record.events import RECORD_TYPES, Record, record_key
from callspan.runtime.fail_open import is_of_signal_handler

Redactor: TypeAlias = Callable[[Record], Record]
"""Called with a record; `request.body` and `response.body` of a call are plain JSON (dict, list, ...)."""


_DERIVED: Final = "conversation"
"""The field of a call that follows from its bodies."""


def redact_texts(mask: Callable[[str], str]) -> Redactor:
    """Return a redactor that applies `mask` to every text of a record, for `instrument(redact=...)`.

    It covers all kinds of records at any depth: bodies, errors, names, metadata, arguments and results of tools, and
    keys of mappings. Ids that join records, words that callspan defines (`tool`, `success`), and the keys and values
    that the providers' APIs define (`role`, `user`) are not masked; in arguments, results and metadata all other keys
    and all values are. `mask` may be called from any thread.

    Example:
        >>> handle = callspan.instrument(redact=callspan.redact_texts(lambda text: text.replace("Ada", "[name]")))
    """
    masked_texts.prepare()  # not within the first call

    def redactor(record: Record) -> Record:
        tree = msgspec.json.decode(encode(_with_encoded_bodies(record)))
        return public(decode(msgspec.json.encode(with_masked_texts(tree, RECORD_TYPES[tree["kind"]], mask))))

    return redactor


class RedactorError(Exception):
    """A redactor failed; `cause` is the exception that it raised."""

    def __init__(self, cause: BaseException) -> None:
        """Wrap what the application's function raised."""
        super().__init__(type(cause).__name__)
        self.cause = cause

    @property
    def interrupt(self) -> BaseException | None:
        """The interrupt to pass on to the application: a redactor's cannot be told from a signal's."""
        is_interrupt = isinstance(self.cause, KeyboardInterrupt) or is_of_signal_handler(self.cause)
        return self.cause if is_interrupt else None


def redacted(record: Record, redactor: Redactor) -> Record:
    """Return the redacted record, with a redaction for each changed field.

    Raises RedactorError for whatever the redactor raises, and TypeError or ValueError if it returns an invalid or a
    different record.
    """
    original, copy = decode(encode(record)), public(decode(encode(record)))
    try:
        result = redactor(copy)
    except BaseException as error:
        raise RedactorError(error) from error
    return _checked(original, result)


def _with_encoded_bodies(record: Record) -> Record:
    """Return the record with bodies encoded anew, so that nothing is kept that the redactor could not read."""
    if isinstance(record, CallRecord):
        request = msgspec.structs.replace(record.request, body=encoded(record.request.body))
        record = msgspec.structs.replace(record, request=request, conversation=None)
        if record.response is not None:
            response = msgspec.structs.replace(record.response, body=encoded(record.response.body))
            record = msgspec.structs.replace(record, response=response)
    return record


def _checked(original: Record, result: Record) -> Record:
    """Return the redactor's result with validated field types. Raises if it is invalid."""
    if type(result) is not type(original):
        raise TypeError(f"the redactor returned {type(result).__name__}, not {type(original).__name__}")
    _refuse_bytes(result)
    checked = decode(encode(_with_encoded_bodies(result)))
    if record_key(checked) != record_key(original):
        raise ValueError("the redactor returned another record")
    notes = [Redaction(what=path, why="redactor") for path in _changes(original, checked)]
    redactions = [*original.redactions, *notes]
    return msgspec.structs.replace(checked, redactions=redactions)


def _refuse_bytes(value: object) -> None:
    """Raise TypeError for bytes, which would be encoded as unmasked text."""
    if isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"the redactor returned {type(value).__name__} in a record")
    if isinstance(value, msgspec.Struct):
        value = [getattr(value, name) for name in value.__struct_fields__ if name != _DERIVED]
    elif isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        for item in value:
            _refuse_bytes(item)


def _changes(original: msgspec.Struct, result: msgspec.Struct, prefix: str = "") -> list[str]:
    paths: list[str] = []
    for name in original.__struct_fields__:
        if name == _DERIVED:
            continue
        old, new = getattr(original, name), getattr(result, name)
        if isinstance(old, msgspec.Raw) and isinstance(new, msgspec.Raw):
            if decoded(old) != decoded(new):
                paths.append(prefix + name)
        elif old != new:
            nested = isinstance(old, msgspec.Struct) and type(old) is type(new)
            paths += _changes(old, new, f"{prefix}{name}.") if nested else [prefix + name]
    return paths
