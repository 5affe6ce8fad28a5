"""Answered: the choices of an answer as they stand in its body, byte for byte: written with it, read back from it."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from callspan.record.codec import encode_json

_Raws: TypeAlias = list[msgspec.Raw] | None
_MESSAGE: Final = "content"


class _Body(msgspec.Struct):
    choices: _Raws = None
    output: _Raws = None
    content: _Raws = None


def encoded_answer(body: object) -> tuple[bytes, bytes | None]:
    """Return a parsed body as one line of JSON, and what was answered: `choices` or `output` as it stands there.

    Of a message, which has `content`, a list of the one message. None where it is none of these.
    """
    listed = [key for key in _Body.__struct_fields__ if key in body] if isinstance(body, dict) else []
    if len(listed) != 1 or not isinstance(answered := body[listed[0]], list):  # type: ignore[index] # a dict
        return encode_json(body), None
    if listed[0] == _MESSAGE:
        message = encode_json(body)
        return message, b"[%b]" % message
    part = encode_json(answered)
    return encode_json({**body, listed[0]: msgspec.Raw(part)}), part  # type: ignore[dict-item] # a dict


def answered_choices(body: msgspec.Raw) -> list[msgspec.Raw] | None:
    """Return the choices or the output of a body, or of a message the one message; None where it states none.

    Raises msgspec.MsgspecError for what is no JSON object of such lists.
    """
    found = _read(body)
    if found.content is not None:
        return [body]
    return found.choices if found.choices is not None else found.output


_read: Final = msgspec.json.Decoder(_Body).decode
