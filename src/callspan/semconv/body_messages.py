"""Body messages: the messages and choices of wire bodies as JSON, unchanged, within a byte limit."""

from __future__ import annotations

from typing import Final

import msgspec

from callspan.record.bounded import EMPTY, fit_json, newest_that_fit
from callspan.record.call import NO_BODY, CallRecord, Response
from callspan.record.codec import encode_json, request_instructions, request_messages, response_messages

_NOTE_BYTES: Final = 100
_MESSAGE: Final = b'"message":'
ANSWER_PREFIXES: Final[dict[str, bytes]] = {
    "messages": b"",
    **dict.fromkeys(("responses", "realtime"), b'{"role":"assistant","content":'),
}
"""For endpoints with one answer and instructions separate from the messages: the prefix of the answer's message."""


def messages_json(record: CallRecord, max_bytes: int) -> tuple[bytes, int] | None:
    """Return the messages, input or prompt of the request as JSON, and the number of bytes removed; None if absent.

    Separate instructions come first, as a message with the role `system`. If the messages do not fit into `max_bytes`,
    the first and the newest are kept, the longest texts are truncated, and
    `{"callspan_omitted": {"messages": n, "bytes": size of the body}}` replaces the others.
    """
    request = record.request
    if request.body is NO_BODY:
        return None
    try:
        messages = request_messages(request.body)
        system = request_instructions(request.body) if record.api in ANSWER_PREFIXES else None
    except msgspec.MsgspecError:
        return None
    if system is None:
        if isinstance(messages, str):
            return fit_json(messages, max_bytes)
        return None if messages is None else _joined(messages, request.body_bytes, max_bytes)
    prompt = [_message("user", encode_json(messages))] if isinstance(messages, str) else messages or []
    return _joined([_message("system", system), *prompt], request.body_bytes, max_bytes)


def choices_json(record: CallRecord, max_bytes: int) -> tuple[bytes, int] | None:
    """Return the choices of the response as JSON, and the number of bytes removed; None for an answer without choices.

    They are a list of `{index, message, finish_reason}`: for chat and completions as received; for Responses one
    choice, with the output items as the content of its message; for Messages one choice with the whole response as its
    message.
    """
    response = record.response
    if response is None or response.body is NO_BODY:
        return None
    try:
        messages = response_messages(response.body)
    except msgspec.MsgspecError:
        return None
    before, after = _choice_wrapper(record.api, response)
    room = max_bytes - len(before) - len(after)
    if messages is None or room < len(EMPTY):
        return None
    data, cut = _joined(messages, response.body_bytes, room)
    if before.endswith(_MESSAGE):
        data = data.removeprefix(b"[").removesuffix(b"]")
    return before + data + after, cut


def _message(role: str, content: bytes | msgspec.Raw) -> msgspec.Raw:
    return msgspec.Raw(b'{"role":"%b","content":%b}' % (role.encode(), content))


def _choice_wrapper(api: str, response: Response) -> tuple[bytes, bytes]:
    """Return the prefix and suffix that turn output items or a message into one choice; empty for choices."""
    before = ANSWER_PREFIXES.get(api)
    if before is None:
        return b"", b""
    reasons = response.finish_reasons
    end = b',"finish_reason":%b}]' % encode_json(reasons[0] if reasons else None)
    return b'[{"index":0,"message":' + before, (b"}" if before else b"") + end


def _joined(items: list[msgspec.Raw], body_bytes: int | None, max_bytes: int) -> tuple[bytes, int]:
    start = newest_that_fit(len(items), lambda index: len(memoryview(items[index])) + 1, max_bytes - _NOTE_BYTES)
    fitting = items if start <= 1 else [items[0], _note(start - 1, body_bytes), *items[start:]]
    data = b"[" + b",".join(fitting) + b"]"
    if len(data) > max_bytes:
        return fit_json([msgspec.json.decode(item) for item in fitting], max_bytes)
    return data, max(1, (body_bytes or 0) - len(data)) if start > 1 else 0


def _note(count: int, body_bytes: int | None) -> msgspec.Raw:
    return msgspec.Raw(encode_json({"callspan_omitted": {"messages": count, "bytes": body_bytes}}))
