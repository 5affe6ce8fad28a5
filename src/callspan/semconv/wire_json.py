"""Wire JSON for attributes: the messages of a body, byte for byte, and total readers of a request's parameters."""

from __future__ import annotations

from typing import Final

import msgspec

from callspan.fail_open import ours
from callspan.record.bounded import fitted, newest_that_fit
from callspan.record.call import NO_BODY, CallRecord
from callspan.record.codec import encodable, encode_json, request_instructions, request_messages, response_messages
from callspan.record.messages import Conversation, RawConversation

_LARGEST: Final = 2**63 - 1
_NOTE_BYTES: Final = 100
_MESSAGE: Final = b'"message":'
APART: Final[dict[str, bytes]] = {
    **dict.fromkeys(("messages", "text_completions", "sessions", "dreams"), b""),
    **dict.fromkeys(
        ("responses", "agent_sessions", "assistant_runs", "eval_runs", "videos"), b'{"role":"assistant","content":'
    ),
}
"""Endpoints with instructions separate from the messages, and the prefix of their response as one message."""
MAX_TOKENS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample")
"""The names of the limit of output tokens in the APIs."""
_GIANT: Final = 2
"""A message of more than half the room is counted as half of it: it is cut, not left out."""


def answer_bytes(record: CallRecord) -> int:
    """Return the size of the response's content in bytes, without media replaced by references."""
    return 0 if record.response is None else len(memoryview(record.response.body))


def request_bytes(record: CallRecord) -> int:
    """Return the size of the request's content in bytes, without media replaced by references."""
    return len(memoryview(record.request.body))


def messages_json(
    record: CallRecord, max_bytes: int, conversation: Conversation | None = None
) -> tuple[bytes, int] | None:
    """Return the messages, input or prompt of the request as sent, as JSON, and the number of bytes removed.

    Separate instructions come first, as a message with the role `system`. If they do not fit into `max_bytes`, the
    longest texts are truncated, the first and the newest messages are kept, and
    `{"callspan_omitted": {"messages": n, "bytes": size of the body}}` replaces the others. None: there are none.
    The body is not parsed again if the conversation has the messages.
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
    except ours(msgspec.MsgspecError):
        return None
    if system is not None:
        prompt = (
            [msgspec.Raw(b'{"role":"user","content":%b}' % encode_json(found))] if isinstance(found, str) else found
        )
        return _joined([_message("system", system), *(prompt or ())], request.body_bytes, max_bytes)
    if isinstance(found, str):
        return fitted(found, max_bytes)
    return None if found is None else _joined(found, request.body_bytes, max_bytes)


def choices_json(
    record: CallRecord, max_bytes: int, conversation: Conversation | None = None
) -> tuple[bytes, int] | None:
    """Return the choices of the response as JSON, and the number of bytes removed; None: there are none.

    A list of `{index, message, finish_reason}`: the choices of chat and completions as received; for Responses one,
    whose message has the output items as content; for Messages one, whose message is the whole response. The body is
    not parsed again if the conversation has the choices and they fit.
    """
    response = record.response
    if response is None or response.body is NO_BODY:
        return None
    before, after = _around(record)
    room = max_bytes - len(before) - len(after)
    known = conversation.raw_output if isinstance(conversation, RawConversation) else None
    if known is not None and max(len(known), response.body_bytes or 0) <= room:
        return _wrapped(known, before, after), 0
    try:
        found = response_messages(response.body)
    except ours(msgspec.MsgspecError):
        return None
    if found is None or room <= 0:
        return None
    data, cut = _joined(found, response.body_bytes, room)
    return _wrapped(data, before, after), cut


def _has_instructions(record: CallRecord, conversation: Conversation | None) -> bool:
    """Return whether the request may have instructions separate from its messages."""
    return record.api in APART and (conversation is None or bool(conversation.system))


def _message(role: str, content: msgspec.Raw) -> msgspec.Raw:
    return msgspec.Raw(b'{"role":"%b","content":%b}' % (role.encode(), content))


def _around(record: CallRecord) -> tuple[bytes, bytes]:
    """Return the prefix and suffix that make one choice of the output items or the message; empty for choices."""
    before = APART.get(record.api)
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


_OUTPUT_TYPES: Final = {"text": "text", "json_object": "json", "json_schema": "json"}


def as_float(value: object) -> float | None:
    """Return a number as float, None for anything else, bool included."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def as_int(value: object) -> int | None:
    """Return an integer, also from an integral float; None for anything else, bool included.

    None too for what 64 bits cannot hold: exporters of OTLP refuse the whole attribute.
    """
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if -_LARGEST <= value <= _LARGEST else None


def as_text(value: object) -> str | None:
    """Return a non-empty string, None for anything else."""
    if not isinstance(value, str) or not value:
        return None
    return value if value.isascii() else encodable(value)


def as_texts(value: object) -> tuple[str, ...] | None:
    """Return the strings of a list, or a single string as a list; None if there are none."""
    if isinstance(value, str):
        return (encodable(value),) if value else None
    if isinstance(value, list):
        return tuple([encodable(item) for item in value if isinstance(item, str)]) or None
    return None


def reasoning_level(value: object) -> str | None:
    """Return the effort of `reasoning_effort`, `reasoning` or `output_config`."""
    return as_text(value.get("effort")) if isinstance(value, dict) else as_text(value)


def choice_count(value: object) -> int | None:
    """Return the number of requested choices; None for a single one."""
    count = as_int(value)
    return None if count == 1 else count


def service_tier(value: object) -> str | None:
    """Return a requested service tier; None for `auto`."""
    return None if value == "auto" else as_text(value)


def output_type(value: object) -> str | None:
    """Return the conventions' output type of `response_format` and similar parameters: `text` or `json`."""
    kind = value.get("type") if isinstance(value, dict) else None
    return _OUTPUT_TYPES.get(kind) if isinstance(kind, str) else None


def output_type_of_text(value: object) -> str | None:
    """Return the output type of an object with a `format`: `text` of Responses, `output_config` of Messages."""
    return output_type(value.get("format")) if isinstance(value, dict) else None


def output_type_of_modalities(value: object) -> str | None:
    """Return `speech` if audio is among the modalities."""
    return "speech" if isinstance(value, list) and "audio" in value else None
