"""Asked: the messages of a request as they stand in its body, byte for byte, without reading into them."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

_Messages: TypeAlias = list[msgspec.Raw] | str | None


class _Body(msgspec.Struct):
    messages: _Messages = None
    input: _Messages = None
    prompt: _Messages = None


def asked_messages(content: bytes | msgspec.Raw) -> list[msgspec.Raw] | str | None:
    """Return the messages, input or prompt of a body: a list, one text, or None where it states none.

    Raises msgspec.MsgspecError for what is no JSON object of such messages, RecursionError for one nested too deeply.
    """
    body = _read(content)
    return body.messages or body.input or body.prompt


_read: Final = msgspec.json.Decoder(_Body).decode
