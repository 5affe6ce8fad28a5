"""The messages of a wire body, byte for byte: those of the request and of the response, as attributes show them."""

from __future__ import annotations

from typing import Final

import msgspec

from callspan.fail_open import ours
from callspan.record.bounded import fitted, newest_that_fit
from callspan.record.call import NO_BODY, CallRecord
from callspan.record.codec import encode_json
from callspan.record.messages import Conversation, RawConversation
from callspan.record.raw_messages import request_messages, response_messages

_NOTE_BYTES: Final = 100
_GIANT: Final = 2
"""A message of more than half the room is counted as half of it: it is cut, not left out."""


def answer_bytes(record: CallRecord) -> int:
    """Return how many bytes of the answer there are to show; media that went by reference count no more."""
    return 0 if record.response is None else len(memoryview(record.response.body))


def request_bytes(record: CallRecord) -> int:
    """Return how many bytes of the request there are to show; media that went by reference count no more."""
    return len(memoryview(record.request.body))


def messages_json(
    record: CallRecord, max_bytes: int, conversation: Conversation | None = None
) -> tuple[bytes, int] | None:
    """Return the messages, input or prompt of the request as sent, as JSON, and how many bytes were cut.

    Where they do not fit into `max_bytes`, the longest texts are cut, the first and the newest are kept and
    `{"callspan_omitted": {"messages": n, "bytes": size of the body}}` stands for the others. None: there are none.
    The body is not read again where the conversation has them.
    """
    if isinstance(conversation, RawConversation) and conversation.raw_input is not None:
        return _joined(conversation.raw_input, record.request.body_bytes, max_bytes)
    if record.request.body is NO_BODY:
        return None
    try:
        found = request_messages(record.request.body)
    except ours(msgspec.MsgspecError):
        return None
    if isinstance(found, str):
        return fitted(found, max_bytes)
    return None if found is None else _joined(found, record.request.body_bytes, max_bytes)


def choices_json(
    record: CallRecord, max_bytes: int, conversation: Conversation | None = None
) -> tuple[bytes, int] | None:
    """Return the choices of the answer as they came, as JSON, and how many bytes were cut; None: there are none.

    Chat and completions: `choices`. Responses: `output`. Messages: a list of the one message.
    The body is not read again where the conversation has them and they fit.
    """
    response = record.response
    if response is None or response.body is NO_BODY:
        return None
    known = conversation.raw_output if isinstance(conversation, RawConversation) else None
    if known is not None and max(len(known), response.body_bytes or 0) <= max_bytes:
        return known, 0
    try:
        found = response_messages(response.body)
    except ours(msgspec.MsgspecError):
        return None
    return None if found is None else _joined(found, response.body_bytes, max_bytes)


def _joined(items: list[msgspec.Raw], body_bytes: int | None, max_bytes: int) -> tuple[bytes, int]:
    if body_bytes is None or body_bytes > max_bytes:
        return _chosen(items, body_bytes, max_bytes)
    data = b"[" + b",".join(items) + b"]"
    return (data, 0) if len(data) <= max_bytes else _chosen(items, body_bytes, max_bytes)


def _chosen(items: list[msgspec.Raw], body_bytes: int | None, max_bytes: int) -> tuple[bytes, int]:
    most = max_bytes // _GIANT
    start = newest_that_fit(
        len(items), lambda index: min(most, len(memoryview(items[index])) + 1), max_bytes - _NOTE_BYTES
    )
    kept = items if start <= 1 else [items[0], _note(start - 1, body_bytes), *items[start:]]
    if sum(len(memoryview(item)) + 1 for item in kept) >= max_bytes:
        return fitted([msgspec.json.decode(item) for item in kept], max_bytes)
    data = b"[" + b",".join(kept) + b"]"
    return data, max(1, (body_bytes or 0) - len(data)) if start > 1 else 0


def _note(count: int, body_bytes: int | None) -> msgspec.Raw:
    return msgspec.Raw(encode_json({"callspan_omitted": {"messages": count, "bytes": body_bytes}}))
