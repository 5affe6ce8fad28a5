"""Content: converts bodies from and to plain JSON, and removes the content that the setting does not allow.

`full` keeps everything. `metadata` takes the bodies and texts away and keeps roles, tool names and hashes of what was
there; `off` not these either. docs/privacy.md says what stays at every level: ids, names of models, sessions and steps,
allowed parameters (`parameters`), counts, times, and class and code of errors, whose texts often quote the request.
"""

from __future__ import annotations

import hashlib
from typing import Final, TypeVar, cast, get_args

import msgspec
from msgspec.structs import replace

from callspan.fail_open import ours
from callspan.process.parameters import allowed_of
from callspan.record.call import NO_BODY, CallRecord, ErrorInfo, Outcome, Redaction, Request, Response
from callspan.record.codec import encode_json, request_messages
from callspan.record.events import EventRecord, MessageRecord, Record, RewardRecord, Totals
from callspan.settings import Content, strictest

_TEXTS: Final = (
    "name", "user_id", "group_id", "task_id", "user_step_id", "custom_id", "experiment", "label", "source", "sender",
    "receiver", "system", "tool_call_id",
)  # fmt: skip
"""Fields with texts of the application that `withheld` removes too, in records of all kinds, beside metadata."""
WITHHELD: Final = "withheld"
"""Replaces a word of the application that a record cannot be without."""
_WORDS: Final[dict[str, frozenset[str]]] = {
    "event_type": frozenset(
        {"action", "agent", "agent_start", "environment", "guardrail", "handoff", "tool", "tool_start"}
    ),
    "message_type": frozenset({"observation"}),
    "objective": frozenset({"reward", "feedback"}),
    "outcome": frozenset({*get_args(Outcome), "failure"}),
}
"""Fields with a word of callspan's or of the application: those of callspan's."""
CONTENT: Final[dict[type, str]] = {EventRecord: "data", MessageRecord: "content", RewardRecord: "annotation"}
"""The field with the content of a record."""
_R = TypeVar("_R", bound=Record)
UNREADABLE: Final = object()
"""What `decoded` gives for a body that is no JSON."""

_decode: Final = msgspec.json.Decoder().decode


def without_content(record: Record, *, keep_facts: bool, why: str = "content") -> Record:
    """Return the record without any content, and with a list of what was removed.

    `keep_facts` is the setting `metadata`: roles, tool names and hashes stay. `why` is the reason in the list.
    """
    if isinstance(record, CallRecord):
        return _call(record, keep_facts, why)
    notes: list[Redaction] = []
    removed: dict[str, object] = {}
    name = CONTENT.get(type(record))
    if name is not None and (content := getattr(record, name)) is not None:
        notes.append(_note(name, encode_json(content), keep_facts, why))
        removed[name] = None
    error = getattr(record, "error", None)
    if isinstance(error, ErrorInfo) and (bare := without_texts(error)) is not error:
        notes.append(Redaction(what="error", why=why))
        removed["error"] = bare
    if not notes:
        return record
    return replace(record, redactions=[*record.redactions, *notes], **removed)


def at_level(record: Record, level: Content, why: str = "content") -> Record:
    """Return the record with only the content that the level allows; a call also states the level.

    `why` is the reason in the list of what was removed.
    """
    if level == "full":
        return record
    if isinstance(record, CallRecord):
        record = replace(record, content_level=strictest(level, record.content_level))
    return without_content(record, keep_facts=level == "metadata", why=why)


def withhold(record: _R, why: str) -> _R:
    """Return the record without any content a failed processor might have removed; `redactions` lists it.

    Ids, times, counts and outcomes stay.
    """
    removed: dict[str, object] = {name: None for name in _TEXTS if getattr(record, name, None) is not None}
    notes = [Redaction(what=name, why=why) for name in ("metadata", *removed)]
    for name, words in _WORDS.items():
        if getattr(record, name, None) not in {None, *words}:
            removed[name] = WITHHELD
            notes.append(Redaction(what=name, why=why))
    if getattr(record, "causal_influence", None):
        removed["causal_influence"] = []
    totals = getattr(record, "totals", None)
    if isinstance(totals, Totals) and totals.rewards:
        removed["totals"] = replace(totals, rewards={})
    if isinstance(record, CallRecord):
        # Nothing is read here: it may be what the processor failed on.
        removed["place"] = replace(record.place, session_name=None)
        removed["request"] = replace(record.request, params={})
        notes.append(Redaction(what="request.params", why=why))
        if record.http is not None:
            removed["http"] = None
            notes.append(Redaction(what="http", why=why))
    error = getattr(record, "error", None)
    if isinstance(error, ErrorInfo) and error.frames is not None:
        removed["error"] = replace(error, frames=None)
        notes.append(Redaction(what="error", why=why))
    bare = replace(record, metadata={}, redactions=[*record.redactions, *notes], **removed)
    return cast("_R", without_content(bare, keep_facts=False, why=why))


def without_bodies(record: Record) -> Record:
    """Return a call without its bodies, for where there is no room for them; any other record unchanged."""
    if not isinstance(record, CallRecord):
        return record
    return replace(
        record,
        request=replace(record.request, body=NO_BODY),
        response=record.response and replace(record.response, body=NO_BODY),
        redactions=[*record.redactions, Redaction(what="request.body, response.body", why="size")],
    )


def without_texts(error: ErrorInfo) -> ErrorInfo:
    """Return the error with its classes, codes and status, without message, parameter and body."""
    if error.message is None and error.body is None and error.param is None:
        return error
    return replace(error, message=None, body=None, param=None)


def _call(record: CallRecord, keep_facts: bool, why: str) -> CallRecord:
    notes: list[Redaction] = []
    request = _request(record.request, keep_facts, why, notes)
    response = None if record.response is None else _response(record.response, keep_facts, why, notes)
    error = record.error
    if error is not None and (bare := without_texts(error)) is not error:
        notes.append(Redaction(what="error", why=why))
        error = bare
    known = record.redactions if keep_facts else [replace(one, sha256=None) for one in record.redactions]
    redactions = [*known, *notes]
    return replace(record, request=request, response=response, error=error, conversation=None, redactions=redactions)


def _request(request: Request, keep_facts: bool, why: str, notes: list[Redaction]) -> Request:
    params, reduced = allowed_of(request.params)
    notes.extend(Redaction(what=f"request.params.{name}", why=why) for name in reduced)
    roles = request.roles if keep_facts else None
    if is_kept(request.body):
        notes.append(_note("request.body", bytes(request.body), keep_facts, why))
        roles = _roles(request.body) if keep_facts else None
    names = request.tool_names if keep_facts else None
    return replace(request, body=NO_BODY, params=params, roles=roles, tool_names=names)


def _response(response: Response, keep_facts: bool, why: str, notes: list[Redaction]) -> Response:
    if not is_kept(response.body):
        return response
    notes.append(_note("response.body", bytes(response.body), keep_facts, why))
    return replace(response, body=NO_BODY)


def _note(what: str, data: bytes, keep_facts: bool, why: str) -> Redaction:
    digest = hashlib.sha256(data).hexdigest() if keep_facts else None
    return Redaction(what=what, why=why, original_bytes=len(data), sha256=digest)


def _roles(body: msgspec.Raw) -> list[str] | None:
    """Return the roles of the messages in order, or the type of those without a role."""
    try:
        messages = request_messages(body)
        turns = [_typed_message(message) for message in messages] if isinstance(messages, list) else None
    except ours(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return None if turns is None else [turn.type or "unknown" if turn.role is None else turn.role for turn in turns]


class _TypedMessage(msgspec.Struct):
    role: str | None = None
    type: str | None = None


_typed_message: Final = msgspec.json.Decoder(_TypedMessage).decode


def decoded(body: msgspec.Raw) -> object:
    """Return the body as new plain JSON; None if there is no body, UNREADABLE if it is not JSON."""
    if not is_kept(body):
        return None
    try:
        return _decode(body)
    except ours(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UNREADABLE


def encoded(value: object) -> msgspec.Raw:
    """Return plain JSON as a body; None becomes an empty body, and a body is returned unchanged."""
    if value is None:
        return NO_BODY
    return value if isinstance(value, msgspec.Raw) else msgspec.Raw(encode_json(value))


def is_kept(body: msgspec.Raw) -> bool:
    """Return whether there is a body."""
    return body is not NO_BODY and len(memoryview(body)) > 0


def with_bodies(record: CallRecord, request: msgspec.Raw | None, response: msgspec.Raw | None) -> CallRecord:
    """Return the record with other bodies; None leaves a body as it is."""
    if request is not None:
        record = replace(record, request=replace(record.request, body=request))
    if response is not None and record.response is not None:
        record = replace(record, response=replace(record.response, body=response))
    return record
