"""The messages of a wire body, byte for byte: what was sent and answered, without reading into it."""

from __future__ import annotations

import msgspec

from callspan.record.bounded import fitted, newest_that_fit
from callspan.record.call import NO_BODY, CallRecord

_Raws = list[msgspec.Raw] | str | None


class _Asked(msgspec.Struct):
    messages: _Raws = None
    input: _Raws = None
    prompt: _Raws = None


class _Answered(msgspec.Struct):
    choices: list[msgspec.Raw] | None = None
    output: list[msgspec.Raw] | None = None
    content: list[msgspec.Raw] | None = None


def messages_json(record: CallRecord, max_bytes: int) -> tuple[bytes, int] | None:
    """Return the messages, input or prompt of the request as sent, as JSON, and how many bytes were cut.

    Where they do not fit into `max_bytes`, the first and the newest are kept and
    `{"callspan_omitted": {"messages": n, "bytes": size of all}}` stands for the others. None: there are none.
    """
    if record.request.body is NO_BODY:
        return None
    try:
        asked = _asked.decode(record.request.body)
    except msgspec.MsgspecError:
        return None
    found = asked.messages or asked.input or asked.prompt
    if isinstance(found, str):
        return fitted(found, max_bytes)
    return None if found is None else _joined(found, max_bytes)


def choices_json(record: CallRecord, max_bytes: int) -> tuple[bytes, int] | None:
    """Return the choices of the answer as they came, as JSON, and how many bytes were cut; None: there are none.

    Chat and completions: `choices`. Responses: `output`. Messages: a list of the one message.
    """
    response = record.response
    if response is None or response.body is NO_BODY:
        return None
    try:
        answered = _answered.decode(response.body)
    except msgspec.MsgspecError:
        return None
    if answered.content is not None:
        return _joined([response.body], max_bytes)
    found = answered.choices if answered.choices is not None else answered.output
    return None if found is None else _joined(found, max_bytes)


def _joined(items: list[msgspec.Raw], max_bytes: int) -> tuple[bytes, int]:
    sizes = [len(memoryview(item)) + 1 for item in items]
    total = sum(sizes)
    if total < max_bytes:
        return b"[" + b",".join(items) + b"]", 0
    start = newest_that_fit(len(items), sizes.__getitem__, max_bytes)
    kept = _decoded(items if start <= 1 else [items[0], *items[start:]])
    if start > 1:
        kept.insert(1, {"callspan_omitted": {"messages": start - 1, "bytes": total}})
    data, _ = fitted(kept, max_bytes)
    return data, max(1, total - len(data))


def _decoded(items: list[msgspec.Raw]) -> list[object]:
    return [msgspec.json.decode(item) for item in items]


_asked = msgspec.json.Decoder(_Asked)
_answered = msgspec.json.Decoder(_Answered)
