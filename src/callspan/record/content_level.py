"""Content level: removes from a record the content that its level does not allow.

Of the parameters, numbers, flags, the providers' keywords and the ids of templates stay, each under the names that the
rows of APIs list, at any depth. Any other value might be text of the application, so it is removed; the record's
redactions name the parameter. What the provider says of its answer or error (model, status, code, usage) stays if it is
one word.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Final, TypeVar, cast

import msgspec
from msgspec.structs import replace

from callspan.record import wire_fields
from callspan.record.apis import APIS, OTHER, Api
from callspan.record.call import NO_BODY, CallRecord, ErrorInfo, Redaction, Request, Response, Stream
from callspan.record.codec import decoder_of_fields, encode_json
from callspan.record.events import EventRecord, MessageRecord, Record, RewardRecord
from callspan.record.usage import Usage
from callspan.record.vocabulary import HOSTED_TOOLS
from callspan.settings import Content, strictest

CONTENT_FIELDS: Final[dict[type, str]] = {EventRecord: "data", MessageRecord: "content", RewardRecord: "annotation"}
"""The field that holds a record's content."""
_R = TypeVar("_R", bound=Record)
_S = TypeVar("_S", bound=msgspec.Struct)


def without_content(record: Record, *, keep_outline: bool, why: str = "content") -> Record:
    """Return the record without content, with a redaction for each removed value.

    `keep_outline` keeps roles, tool names and hashes, as the level `metadata` does. `why` is the redactions' reason.
    """
    if isinstance(record, CallRecord):
        return _call(record, keep_outline, why)
    notes: list[Redaction] = []
    replacements: dict[str, object] = {}
    name = CONTENT_FIELDS.get(type(record))
    if name is not None and (content := getattr(record, name)) is not None:
        notes.append(_note(name, encode_json(content), keep_outline, why))
        replacements[name] = None
    if isinstance(record, EventRecord) and not is_word(record.tool_call_id):
        notes.append(Redaction(what="tool_call_id", why=why))
        replacements["tool_call_id"] = None
    error = getattr(record, "error", None)
    if isinstance(error, ErrorInfo) and (bare := _bare(error)) is not error:
        notes.append(Redaction(what="error", why=why))
        replacements["error"] = bare
    if not notes:
        return record
    return replace(record, redactions=[*record.redactions, *notes], **replacements)


def at_level(record: _R, level: Content, why: str = "content") -> _R:
    """Return the record with only the content that the level allows; a call record also states the level.

    `why` is the reason in the redactions.
    """
    if level == "full":
        return record
    result: Record = record
    if isinstance(result, CallRecord):
        result = replace(result, content_level=strictest(level, result.content_level))
    return cast("_R", without_content(result, keep_outline=level == "metadata", why=why))


def without_texts(error: ErrorInfo) -> ErrorInfo:
    """Return the error without its message, parameter and body."""
    if error.message is None and error.body is None and error.param is None:
        return error
    return replace(error, message=None, body=None, param=None)


def _call(record: CallRecord, keep_outline: bool, why: str) -> CallRecord:
    notes: list[Redaction] = []
    request = _request(record.request, record.api, keep_outline, why, notes)
    response = None if record.response is None else _response(record.response, keep_outline, why, notes)
    error = record.error
    if error is not None and (bare := _bare(error)) is not error:
        notes.append(Redaction(what="error", why=why))
        error = bare
    usage, stream, attempts = _usage(record.usage), _stream(record.stream), [*map(_worded, record.attempts)]
    notes.extend(
        Redaction(what=name, why=why)
        for name, is_kept_whole in (
            ("usage.raw", usage is record.usage), ("stream", stream is record.stream),
            ("attempts", attempts == record.attempts),
        )
        if not is_kept_whole
    )  # fmt: skip
    called = _replaced_texts(record, _OF_CALL)
    if isinstance(record.api, str) and _API.fullmatch(record.api) is None:
        called["api"] = _DEFAULTS["api"]
    notes.extend(Redaction(what=name, why=why) for name in called)
    earlier = (
        record.redactions if keep_outline else [replace(redaction, sha256=None) for redaction in record.redactions]
    )
    # Sorted, so that versions merge to the same record in any order.
    redactions = sorted({*earlier, *notes}, key=_order) if notes or earlier else []
    return replace(
        record, request=request, response=response, error=error, conversation=None, redactions=redactions, usage=usage,
        stream=stream, attempts=attempts, **called,
    )  # fmt: skip


def _request(request: Request, api: str, keep_outline: bool, why: str, notes: list[Redaction]) -> Request:
    params, reduced = allowed_params(request.params)
    # An application may send parameters of its own, named as it likes.
    paths = dict.fromkeys(f"request.params.{name}" if is_word(name) else "request.params" for name in reduced)
    notes.extend(Redaction(what=path, why=why) for path in paths)
    roles = request.roles if keep_outline else None
    if is_kept(request.body):
        notes.append(_note("request.body", bytes(request.body), keep_outline, why))
        roles = _roles(request.body, api) if keep_outline else None
    names = request.tool_names if keep_outline else None
    hosted = request.hosted_tools and sorted({_known_kind(kind) for kind in request.hosted_tools})
    sent = _replaced_texts(request, _SENT)
    notes.extend(Redaction(what=f"request.{name}", why=why) for name in sent)
    request = replace(request, **sent) if sent else request
    return replace(request, body=NO_BODY, params=params, roles=roles, tool_names=names, hosted_tools=hosted)


def _known_kind(tool: str) -> str:
    return tool if tool in HOSTED_TOOLS else "other"


def _response(response: Response, keep_outline: bool, why: str, notes: list[Redaction]) -> Response:
    worded = _worded(response)
    if worded is not response:
        notes.append(Redaction(what="response", why=why))
        response = worded
    if not is_kept(response.body):
        return response
    notes.append(_note("response.body", bytes(response.body), keep_outline, why))
    return replace(response, body=NO_BODY)


def _bare(error: ErrorInfo) -> ErrorInfo:
    error = without_texts(error)
    if is_word(error.type) or error.type == error.exception:
        return _worded(error)
    return _worded(replace(error, type=error.exception or ("_OTHER" if error.status is None else str(error.status))))


def _stream(stream: Stream | None) -> Stream | None:
    if stream is None or all(is_word(text) for text in (stream.last_event, *(note.event for note in stream.log))):
        return stream
    return replace(_worded(stream), log=[*map(_worded, stream.log)])


def _usage(usage: Usage | None) -> Usage | None:
    if usage is None or not (usage.raw or usage.iterations):
        return usage
    iterations = [
        replace(iteration, **removed) if (removed := _replaced_texts(iteration, _OF_ITERATION)) else iteration
        for iteration in usage.iterations
    ]
    raw = None if usage.raw is None else cast("dict[str, object]", _words_of(usage.raw))
    is_whole = raw == usage.raw and iterations == usage.iterations
    return usage if is_whole else replace(usage, raw=raw, iterations=iterations)


def _words_of(value: object) -> object:
    """Return JSON without the texts and names that are no words."""
    if isinstance(value, dict):
        return {name: _words_of(item) for name, item in value.items() if is_word(name) and is_word(item)}
    return [_words_of(item) for item in value if is_word(item)] if isinstance(value, list) else value


def _worded(said: _S) -> _S:
    """Return a provider's statements without texts that are no words; the same object if all are words."""
    removed = _replaced_texts(said, _SAID)
    reasons = getattr(said, "finish_reasons", ())
    if not all(map(is_word, reasons)):
        removed["finish_reasons"] = [reason if is_word(reason) else "other" for reason in reasons]
    return replace(said, **removed) if removed else said


def _replaced_texts(part: msgspec.Struct, names: frozenset[str]) -> dict[str, object]:
    """Return the replacements of texts in these fields that are no words, by field."""
    return {
        name: _DEFAULTS.get(name)
        for name in part.__struct_fields__
        if name in names and not is_word(getattr(part, name))
    }


def is_word(value: object) -> bool:
    """Return whether a text is an id or a word of a provider; so is anything but a text."""
    return not isinstance(value, str) or _SAID_WORD.fullmatch(value) is not None


def _note(path: str, data: bytes, keep_outline: bool, why: str) -> Redaction:
    digest = hashlib.sha256(data).hexdigest() if keep_outline else None
    return Redaction(what=path, why=why, original_bytes=len(data), sha256=digest)


def _order(redaction: Redaction) -> tuple[str, str, int, str]:
    return redaction.what, redaction.why, redaction.original_bytes or 0, redaction.sha256 or ""


def _roles(body: msgspec.Raw, api: str) -> list[str] | None:
    """Return the roles of the messages in order, or the type of those without a role; None if they are in no list."""
    row = APIS.get(api, OTHER)
    try:
        said = _said(body, row.said)
        if not said:
            said, row = _said(body, OTHER.said), OTHER
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    lists = [value if isinstance(value, list) else None for value in said if value is not None]
    if all(messages is None for messages in lists):
        return None
    return [role for messages in lists for role in ([_USER] if messages is None else _roles_of(messages, row))]


def _said(body: msgspec.Raw, names: tuple[str, ...]) -> list[object]:
    """Return the values of those of these fields that a body has."""
    fields = decoder_of_fields(names, _TypedMessage).decode(body)
    return [value for name in names if (value := attrgetter(name)(fields)) is not msgspec.UNSET]


def _roles_of(messages: list[_TypedMessage], row: Api) -> Iterator[str]:
    for message in messages:
        role = message.type or (_UNKNOWN if row.has_plain_messages else _USER) if message.role is None else message.role
        if row.role_of_model != _ASSISTANT:
            role = role.casefold().replace(row.role_of_model, _ASSISTANT)
        yield role if is_word(role) else _UNKNOWN


class _TypedMessage(msgspec.Struct):
    role: str | None = None
    type: str | None = None


_USER, _ASSISTANT = "user", "assistant"


def is_kept(body: msgspec.Raw) -> bool:
    """Return whether a record has this body."""
    return body is not NO_BODY and len(memoryview(body)) > 0


_SAID: Final = frozenset({
    "cached", "code", "error_type", "event", "id", "last_event", "model", "prompt_cache_miss", "request_id",
    "service_tier", "status", "system_fingerprint",
})  # fmt: skip
"""Fields that a provider states about an answer, an attempt or an error."""
_SENT: Final = frozenset({"cache_ttl", "continues", "conversation_id", "model"})
"""Fields of a request with a word or an id of the provider."""
_OF_ITERATION: Final = frozenset({"kind", "model"})
_OF_CALL: Final = frozenset({"batch_id", "operation", "provider", "sdk", "server_address"})
"""Fields that say who was called, and for what; other programs, and `record_call`, may state any text."""
_UNKNOWN: Final = "unknown"
_DEFAULTS: Final = {"operation": "_OTHER", "provider": _UNKNOWN, "api": _UNKNOWN, "kind": "other"}
"""What stands in place of a text that is required."""
_API: Final = re.compile("(?:[A-Z]{1,16} )?[!-~]{1,512}")
"""A word, or the method and path of an endpoint."""
_SAID_WORD: Final = re.compile("[!-~]{1,512}")
"""A word or an id: printable ASCII without spaces."""


_PATTERNS: Final = {name: re.compile(pattern) for name, pattern in wire_fields.PATTERNS.items()}


def allowed_params(params: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """Return the allowed part of the parameters, and the names of parameters that lost something."""
    allowed = _allowed_members("", params)
    return allowed, [name for name, value in params.items() if allowed.get(name) != value]


def _allowed_members(prefix: str, values: Mapping[str, object]) -> dict[str, object]:
    allowed = {name: _allowed_part(prefix, name, value) for name, value in values.items()}
    return {name: part for name, part in allowed.items() if part is not None}


def _allowed_part(prefix: str, name: str, value: object) -> object:
    """Return the allowed part of a value, or None; `prefix` is the object around it, with a dot."""
    if isinstance(value, dict):
        return (_allowed_members(f"{name}.", value) or None) if name in wire_fields.OBJECTS else None
    if isinstance(value, bool | int | float):
        return value if name in wire_fields.NUMBERS else None
    words = [word for word in (value if isinstance(value, list) else [value]) if isinstance(word, str)]
    if not words or (isinstance(value, list) and len(words) < len(value)):
        return None
    pattern = _PATTERNS.get(prefix + name)
    if pattern is not None:
        return value if len(words) == 1 and pattern.fullmatch(words[0]) else None
    return value if name in wire_fields.CHOICES and wire_fields.KEYWORDS.issuperset(words) else None
