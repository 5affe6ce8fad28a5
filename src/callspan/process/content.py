"""Content: converts bodies from and to plain JSON, and withholds the content of a record if a processor fails."""

from __future__ import annotations

from typing import Final, TypeVar, cast, get_args

import msgspec
from msgspec.structs import replace

from callspan.record.call import NO_BODY, CallRecord, ErrorInfo, Outcome, Redaction
from callspan.record.codec import encode_json
from callspan.record.content_level import is_kept, without_content
from callspan.record.events import Record, Totals
from callspan.record.vocabulary import EventType, MessageType, Objective

_TEXTS: Final = (
    "name", "user_id", "group_id", "task_id", "user_step_id", "custom_id", "experiment", "label", "source", "sender",
    "receiver", "system", "tool_call_id",
)  # fmt: skip
"""Fields with text of the application that `withhold` removes in addition to the metadata."""
WITHHELD: Final = "withheld"
"""Replaces a word of the application in a required field."""
_WORDS: Final[dict[str, frozenset[str]]] = {
    "event_type": frozenset(get_args(EventType)),
    "message_type": frozenset(get_args(MessageType)),
    "objective": frozenset(get_args(Objective)),
    "outcome": frozenset({*get_args(Outcome), "failure"}),
}
"""callspan's own words for fields that may also contain a word of the application."""
_R = TypeVar("_R", bound=Record)
UNREADABLE: Final = object()
"""The result of `decoded` for a body that is not JSON."""

_decode: Final = msgspec.json.Decoder().decode


def withhold(record: _R, why: str) -> _R:
    """Return the record without any content that a failed processor might have removed; `redactions` lists it.

    Ids, times, counts and outcomes are kept.
    """
    fields = record.__struct_fields__  # a property, such as the user of a call, is made of what is removed below
    replacements: dict[str, object] = {
        name: None for name in _TEXTS if name in fields and getattr(record, name) is not None
    }
    notes = [Redaction(what=name, why=why) for name in ("metadata", *replacements)]
    for name, words in _WORDS.items():
        if name in fields and getattr(record, name) not in {None, *words}:
            replacements[name] = WITHHELD
            notes.append(Redaction(what=name, why=why))
    if getattr(record, "causal_influence", None):
        replacements["causal_influence"] = []
    totals = getattr(record, "totals", None)
    if isinstance(totals, Totals) and totals.rewards:
        replacements["totals"] = replace(totals, rewards={})
    if isinstance(record, CallRecord):
        # The content is not read: the processor may have failed on it.
        replacements["place"] = replace(record.place, session_name=None)
        replacements["request"] = replace(record.request, params={})
        notes.append(Redaction(what="request.params", why=why))
    error = getattr(record, "error", None)
    if isinstance(error, ErrorInfo) and error.frames is not None:
        replacements["error"] = replace(error, frames=None)
        notes.append(Redaction(what="error", why=why))
    stripped = replace(record, metadata={}, redactions=[*record.redactions, *notes], **replacements)
    return cast("_R", without_content(stripped, keep_outline=False, why=why))


def decoded(body: msgspec.Raw) -> object:
    """Return the body as new plain JSON; None if there is no body, UNREADABLE if it is not JSON."""
    if not is_kept(body):
        return None
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UNREADABLE


def encoded(value: object) -> msgspec.Raw:
    """Return plain JSON as a body; None becomes NO_BODY, and a body is returned unchanged."""
    if value is None:
        return NO_BODY
    return value if isinstance(value, msgspec.Raw) else msgspec.Raw(encode_json(value))


def with_bodies(record: CallRecord, request: msgspec.Raw | None, response: msgspec.Raw | None) -> CallRecord:
    """Return the record with other bodies; None keeps a body."""
    if request is not None:
        record = replace(record, request=replace(record.request, body=request))
    if response is not None and record.response is not None:
        record = replace(record, response=replace(record.response, body=response))
    return record
