"""Body messages: the messages and choices of wire bodies as JSON, unchanged, within a byte limit."""

from __future__ import annotations

from typing import Final

import msgspec

from callspan.record.bounded import fit_json, newest_that_fit
from callspan.record.call import NO_BODY, CallRecord
from callspan.record.codec import encode_json, request_instructions, request_messages, response_messages
from callspan.record.messages import Conversation, RawConversation

_NOTE_BYTES: Final = 100
_MESSAGE: Final = b'"message":'
ANSWER_PREFIXES: Final[dict[str, bytes]] = {
    **dict.fromkeys(("messages", "text_completions"), b""),
    "responses": b'{"role":"assistant","content":',
}
"""For endpoints with one answer and instructions separate from the messages: the prefix of the answer's message."""
_MAX_SHARE: Final = 2
"""A message larger than 1/2 of the room counts as 1/2: it is truncated, not omitted."""


def answer_bytes(record: CallRecord) -> int:
    """Return the size of the response's content in bytes, without media replaced by references."""
    return 0 if record.response is None else len(memoryview(record.response.body))


def request_bytes(record: CallRecord) -> int:
    """Return the size of the request's content in bytes, without media replaced by references."""
    return len(memoryview(record.request.body))


def messages_json(
    record: CallRecord, max_bytes: int, conversation: Conversation | None = None
) -> tuple[bytes, int] | None:
    """Return the messages, input or prompt of the request as JSON, and the number of bytes removed; None if absent.

    Separate instructions come first, as a message with the role `system`. If the messages do not fit into `max_bytes`,
    the first and the newest are kept, the longest texts are truncated, and
    `{"callspan_omitted": {"messages": n, "bytes": size of the body}}` replaces the others. The body is not parsed
    again if the conversation has the messages.
    """
    request = record.request
    raw = conversation.raw_input if isinstance(conversation, RawConversation) else None
    apart = _has_instructions(record, conversation)
    if raw is not None and not apart:
        return _joined(raw, request.body_bytes, max_bytes)
    if request.body is NO_BODY:
        return None
    try:
        found = request_messages(request.body) if raw is None else raw
        system = request_instructions(request.body) if apart else None
    except msgspec.MsgspecError:
        return None
    if system is not None:
        prompt = (
            [msgspec.Raw(b'{"role":"user","content":%b}' % encode_json(found))] if isinstance(found, str) else found
        )
        return _joined([_message("system", system), *(prompt or ())], request.body_bytes, max_bytes)
    if isinstance(found, str):
        return fit_json(found, max_bytes)
    return None if found is None else _joined(found, request.body_bytes, max_bytes)


def choices_json(
    record: CallRecord, max_bytes: int, conversation: Conversation | None = None
) -> tuple[bytes, int] | None:
    """Return the choices of the response as JSON, and the number of bytes removed; None if there are none.

    They are a list of `{index, message, finish_reason}`: for chat and completions as received; for Responses one choice
    whose message has the output items as content; for Messages one whose message is the whole response. The body is not
    parsed again if the conversation has the choices and they fit.
    """
    response = record.response
    if response is None or response.body is NO_BODY:
        return None
    before, after = _choice_wrapper(record)
    room = max_bytes - len(before) - len(after)
    known = conversation.raw_output if isinstance(conversation, RawConversation) else None
    if known is not None and max(len(known), response.body_bytes or 0) <= room:
        return _wrapped(known, before, after), 0
    try:
        found = response_messages(response.body)
    except msgspec.MsgspecError:
        return None
    if found is None or room <= 0:
        return None
    data, cut = _joined(found, response.body_bytes, room)
    return _wrapped(data, before, after), cut


def _has_instructions(record: CallRecord, conversation: Conversation | None) -> bool:
    """Return whether the request may have instructions separate from its messages."""
    return record.api in ANSWER_PREFIXES and (conversation is None or bool(conversation.system))


def _message(role: str, content: msgspec.Raw) -> msgspec.Raw:
    return msgspec.Raw(b'{"role":"%b","content":%b}' % (role.encode(), content))


def _choice_wrapper(record: CallRecord) -> tuple[bytes, bytes]:
    """Return the prefix and suffix that turn output items or a message into one choice; empty for choices."""
    before = ANSWER_PREFIXES.get(record.api)
    if before is None:
        return b"", b""
    reasons = record.response.finish_reasons if record.response is not None else []
    end = b',"finish_reason":%b}]' % encode_json(reasons[0] if reasons else None)
    return b'[{"index":0,"message":' + before, (b"}" if before else b"") + end


def _wrapped(data: bytes, before: bytes, after: bytes) -> bytes:
    if before.endswith(_MESSAGE):
        data = data.removeprefix(b"[").removesuffix(b"]")
    return before + data + after


def _joined(items: list[msgspec.Raw], body_bytes: int | None, max_bytes: int) -> tuple[bytes, int]:
    if body_bytes is None or body_bytes > max_bytes:
        return _chosen(items, body_bytes, max_bytes)
    data = b"[" + b",".join(items) + b"]"
    return (data, 0) if len(data) <= max_bytes else _chosen(items, body_bytes, max_bytes)


def _chosen(items: list[msgspec.Raw], body_bytes: int | None, max_bytes: int) -> tuple[bytes, int]:
    most = max_bytes // _MAX_SHARE
    start = newest_that_fit(
        len(items), lambda index: min(most, len(memoryview(items[index])) + 1), max_bytes - _NOTE_BYTES
    )
    kept = items if start <= 1 else [items[0], _note(start - 1, body_bytes), *items[start:]]
    if sum(len(memoryview(item)) + 1 for item in kept) >= max_bytes:
        return fit_json([msgspec.json.decode(item) for item in kept], max_bytes)
    data = b"[" + b",".join(kept) + b"]"
    return data, max(1, (body_bytes or 0) - len(data)) if start > 1 else 0


def _note(count: int, body_bytes: int | None) -> msgspec.Raw:
    return msgspec.Raw(encode_json({"callspan_omitted": {"messages": count, "bytes": body_bytes}}))
