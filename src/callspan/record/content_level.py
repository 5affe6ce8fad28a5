"""Content level: removes from a record the content that its level does not allow.

`full` keeps everything. `metadata` removes bodies and texts and keeps roles, tool names and hashes of the removed
values; `off` removes those too. Every level keeps ids, names of models, sessions and steps, allowed parameters (see
`parameters`), counts, times, and the class and code of errors, but not their messages, which often quote the request.
"""

from __future__ import annotations

import hashlib
from typing import Final, TypeVar, cast

import msgspec
from msgspec.structs import replace

from callspan.record.call import NO_BODY, CallRecord, ErrorInfo, Redaction, Request, Response
from callspan.record.codec import encode_json, request_messages
from callspan.record.events import EventRecord, MessageRecord, Record, RewardRecord
from callspan.record.parameters import allowed_params
from callspan.settings import Content, strictest

CONTENT_FIELDS: Final[dict[type, str]] = {EventRecord: "data", MessageRecord: "content", RewardRecord: "annotation"}
"""The field that holds a record's content."""
_R = TypeVar("_R", bound=Record)


def without_content(record: Record, *, keep_outline: bool, why: str = "content") -> Record:
    """Return the record without content, with a redaction for each removed value.

    `keep_outline` keeps roles, tool names and hashes, as the level `metadata` does. `why` is the redactions' reason.
    """
    if isinstance(record, CallRecord):
        return _call(record, keep_outline, why)
    notes: list[Redaction] = []
    removed: dict[str, object] = {}
    name = CONTENT_FIELDS.get(type(record))
    if name is not None and (content := getattr(record, name)) is not None:
        notes.append(_note(name, encode_json(content), keep_outline, why))
        removed[name] = None
    error = getattr(record, "error", None)
    if isinstance(error, ErrorInfo) and (bare := without_texts(error)) is not error:
        notes.append(Redaction(what="error", why=why))
        removed["error"] = bare
    if not notes:
        return record
    return replace(record, redactions=[*record.redactions, *notes], **removed)


def at_level(record: _R, level: Content, why: str = "content") -> _R:
    """Return the record with only the content that the level allows; a call record also states the level.

    `why` is the reason in the redactions.
    """
    if level == "full":
        return record
    kept: Record = record
    if isinstance(kept, CallRecord):
        kept = replace(kept, content_level=strictest(level, kept.content_level))
    return cast("_R", without_content(kept, keep_outline=level == "metadata", why=why))


def without_texts(error: ErrorInfo) -> ErrorInfo:
    """Return the error without its message, parameter and body."""
    if error.message is None and error.body is None and error.param is None:
        return error
    return replace(error, message=None, body=None, param=None)


def _call(record: CallRecord, keep_outline: bool, why: str) -> CallRecord:
    notes: list[Redaction] = []
    request = _request(record.request, keep_outline, why, notes)
    response = None if record.response is None else _response(record.response, keep_outline, why, notes)
    error = record.error
    if error is not None and (bare := without_texts(error)) is not error:
        notes.append(Redaction(what="error", why=why))
        error = bare
    known = record.redactions if keep_outline else [replace(one, sha256=None) for one in record.redactions]
    # Sorted, so that versions merge to the same record in any order.
    redactions = sorted({*known, *notes}, key=_order) if notes or known else []
    return replace(record, request=request, response=response, error=error, conversation=None, redactions=redactions)


def _request(request: Request, keep_outline: bool, why: str, notes: list[Redaction]) -> Request:
    params, reduced = allowed_params(request.params)
    notes.extend(Redaction(what=f"request.params.{name}", why=why) for name in reduced)
    roles = request.roles if keep_outline else None
    if is_kept(request.body):
        notes.append(_note("request.body", bytes(request.body), keep_outline, why))
        roles = _roles(request.body) if keep_outline else None
    names = request.tool_names if keep_outline else None
    return replace(request, body=NO_BODY, params=params, roles=roles, tool_names=names)


def _response(response: Response, keep_outline: bool, why: str, notes: list[Redaction]) -> Response:
    if not is_kept(response.body):
        return response
    notes.append(_note("response.body", bytes(response.body), keep_outline, why))
    return replace(response, body=NO_BODY)


def _note(what: str, data: bytes, keep_outline: bool, why: str) -> Redaction:
    digest = hashlib.sha256(data).hexdigest() if keep_outline else None
    return Redaction(what=what, why=why, original_bytes=len(data), sha256=digest)


def _order(one: Redaction) -> tuple[str, str, int, str]:
    return one.what, one.why, one.original_bytes or 0, one.sha256 or ""


def _roles(body: msgspec.Raw) -> list[str] | None:
    """Return the roles of the messages in order, or the type of those without a role."""
    try:
        messages = request_messages(body)
        turns = [_typed_message(message) for message in messages] if isinstance(messages, list) else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return None if turns is None else [turn.type or "unknown" if turn.role is None else turn.role for turn in turns]


class _TypedMessage(msgspec.Struct):
    role: str | None = None
    type: str | None = None


_typed_message: Final = msgspec.json.Decoder(_TypedMessage).decode


def is_kept(body: msgspec.Raw) -> bool:
    """Return whether a record has this body."""
    return body is not NO_BODY and len(memoryview(body)) > 0
