"""The application's redactor: a function from record to record that gets bodies as plain JSON and fails closed.

It gets a copy, which it may change in place and return, or it returns a new record. If it does anything else, such as
raise SystemExit or return bytes instead of text, the record loses its content.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeAlias

import msgspec

from callspan.fail_open import is_of_signal_handler
from callspan.forks import late_attribute
from callspan.process.content import OUTCOMES, decoded, encoded
from callspan.process.public_records import public
from callspan.record.call import CallRecord, Redaction
from callspan.record.codec import decode, encode
from callspan.record.events import METADATA_FIELDS, Record, record_key

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

    It covers all kinds of records at any depth: bodies, errors, names, metadata, arguments and results of tools, and
    keys of mappings. Ids that join records, and names that callspan or the providers' APIs define, are not masked.
    `mask` may be called from any thread.

    Example:
        >>> handle = callspan.instrument(redact=callspan.redact_texts(lambda text: text.replace("Ada", "[name]")))
    """
    _defined()  # not within the first call

    def redactor(record: Record) -> Record:
        tree = msgspec.json.decode(encode(_with_encoded_bodies(record)))
        masked_tree = _with_masked_texts(tree, mask)
        if isinstance(record, CallRecord):
            if "place" in tree:
                masked_tree["place"] = _with_masked_texts(tree["place"], mask)
            if "stream" in tree:
                masked_tree["stream"]["end"] = tree["stream"]["end"]
        return public(decode(msgspec.json.encode(masked_tree)))

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


def _with_masked_texts(fields: dict[str, Any], mask: Callable[[str], str]) -> dict[str, Any]:
    return {name: value if _is_exempt(name, value) else _masked(value, mask) for name, value in fields.items()}


def _is_exempt(name: str, value: object) -> bool:
    is_word = name in _VOCABULARY or (name == "outcome" and value in OUTCOMES)
    return name in _IDENTITY or is_word or (name, value) == _OBJECTIVE


def _masked(value: Any, mask: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return _masked_text(value, mask)
    if isinstance(value, dict):
        return _masked_mapping(value, mask)
    return [_masked(item, mask) for item in value] if isinstance(value, list) else value


def _masked_text(text: str, mask: Callable[[str], str]) -> str:
    masked = mask(text)
    if not isinstance(masked, str):
        raise TypeError(f"the mask returned {type(masked).__name__}, not str")
    return masked


def _masked_mapping(mapping: dict[str, Any], mask: Callable[[str], str]) -> dict[str, Any]:
    """Return the mapping with masked values, and masked keys if they are the application's: no entry is lost."""
    defined = _defined()
    names = {key: key if key in defined else _masked_text(key, mask) for key in mapping}
    if len(set(names.values())) < len(names):
        names = _numbered(names)
    return {names[key]: _masked(value, mask) for key, value in mapping.items()}


def _numbered(names: dict[str, str]) -> dict[str, str]:
    """Return the new names, with a number added to each that is taken."""
    used_names, unique = {key for key, name in names.items() if key == name}, dict[str, str]()
    for key, name in names.items():
        candidate, number = name, 1
        while key != name and candidate in used_names:
            number += 1
            candidate = f"{name} {number}"
        used_names.add(candidate)
        unique[key] = candidate
    return unique


def _field_names(kind: Any) -> set[str]:
    """Return the names of all fields in a type of records."""
    if isinstance(kind, msgspec.inspect.StructType):
        nested_names = [_field_names(field.type) for field in kind.fields]
        return {field.encode_name for field in kind.fields}.union(*nested_names)
    if isinstance(kind, msgspec.inspect.UnionType):
        return set[str]().union(*map(_field_names, kind.types))
    return _field_names(kind.item_type) if isinstance(kind, msgspec.inspect.ListType) else set()


@cache
def _defined() -> frozenset[str]:
    """Return the keys that callspan or the providers' APIs define."""
    words: frozenset[str] = late_attribute("callspan.process.wire_words:WIRE_WORDS")
    return words.union(METADATA_FIELDS, _field_names(msgspec.inspect.type_info(Record)))


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
