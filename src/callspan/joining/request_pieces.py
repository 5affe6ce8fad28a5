"""Request pieces: a request as a prompt cache compares it: parameters, tools and blocks of messages, in its order.

The order is that of `Api.prefix`. Marks of what the cache is to keep are no part of a piece.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias, TypeVar

import msgspec

from callspan.providers.registry import decoded
from callspan.record.apis import APIS, OTHER, Api
from callspan.record.call import CallRecord
from callspan.record.messages import INSTRUCTION_ROLES

SECONDS: Final = {b"5m": 300, b"30m": 1800, b"1h": 3600, b"24h": 86_400}
_MARKS: Final = frozenset({"cache_control", "cachePoint", "prompt_cache_breakpoint"})
_MARK: Final = re.compile(rf'"(?:{"|".join(sorted(_MARKS))})"\s*:\s*{{')
_TTL: Final = re.compile(rb'"ttl"\s*:\s*"(\w+)"')
_WORD: Final = re.compile(rb'"(\w+)"')
_RETENTIONS: Final = frozenset({"prompt_cache_retention", "prompt_cache_options"})
_MAX_PIECES: Final = 20_000
_SECTIONS: Final = {
    "toolConfig.tools": "tools", "response_format": "schema", "text.format": "schema", "output_format": "schema",
    "output_config.format": "schema",
}  # fmt: skip
MESSAGES: Final = "messages"
_SAID: Final = frozenset({"role", "content", "parts"})
_EMPTY: Final[tuple[object, ...]] = (None, [], "")
_NOTHING: Final = "{}"
_USER: Final = b'{"role":"user","content":%b}'
_COMPARABLE: Final = frozenset({"secret", "media"})
"""Reasons of redactions that leave the rest of a body as it was sent."""
_Key: TypeAlias = tuple[str, str]
_T = TypeVar("_T")


class Piece(NamedTuple):
    """A part of a request that a cache compares as a whole."""

    section: str
    """`tools`, `schema`, `system`, `messages`, or the name of a parameter."""
    place: str
    """Its path in the body; `{}` stands for the number of the message."""
    text: str
    role: str = ""
    """Of the first block of a message."""
    begins: bool = False
    """Whether it is the first one of a message."""
    kept_s: int | None = None
    """How long the request asks to keep what ends here; None: it does not mark it as an end."""

    @property
    def key(self) -> _Key:
        """What is compared."""
        return self.role, self.text


class Sent(NamedTuple):
    """A call with its request in pieces."""

    call: CallRecord | None
    """Without bodies; None if it was deleted meanwhile, or is damaged."""
    pieces: Sequence[Piece] | None = None
    """None without content, or if a part of it was removed."""
    messages: AbstractSet[_Key] = frozenset()
    lifetime_s: int | None = None
    """How long the request asks to keep it; of several times the shortest."""


class PieceReader:
    """Reads requests in pieces. What later ones repeat is read once."""

    def __init__(self) -> None:
        self._pieces: dict[tuple[str, bool, bytes], tuple[Piece, ...]] = {}

    def sent(self, call: CallRecord, body: msgspec.Raw | None) -> Sent:
        """Return a call with the pieces of its request body; None: it was not kept."""
        row = APIS.get(call.api, OTHER)
        changes = (note.why for note in call.redactions if note.what.startswith("request.body"))
        if body is None or not row.prefix or not _COMPARABLE.issuperset(changes):
            return Sent(call)
        fields = _split(body, dict[str, msgspec.Raw])
        if fields is None:
            return Sent(call)
        if len(self._pieces) > _MAX_PIECES:
            self._pieces.clear()
        pieces = [*self._of_body(row, fields, call.request.model)]
        if pieces and not _MARKS.isdisjoint(fields):
            pieces[-1] = pieces[-1]._replace(kept_s=_seconds(bytes(fields[next(iter(_MARKS & fields.keys()))])))
        lifetimes = [piece.kept_s for piece in pieces if piece.kept_s is not None]
        for name in _RETENTIONS & fields.keys():
            lifetimes += [SECONDS[word] for word in _WORD.findall(bytes(fields[name])) if word in SECONDS]
        messages = {piece.key for piece in pieces if piece.section == MESSAGES}
        return Sent(call, pieces, messages, min(lifetimes, default=None))

    def _of_body(self, row: Api, fields: Mapping[str, msgspec.Raw], model: str | None) -> Iterator[Piece]:
        for field in row.prefix:
            raw = fields.get(field.partition(".")[0])
            if field == "model" and model is not None:
                yield Piece(field, field, model)
            elif raw is not None and field not in row.said:
                yield from self._known(row, field, raw)
            elif raw is not None:
                is_first = True
                # A text is one message of the user.
                for message in _split(raw, list[msgspec.Raw]) or [msgspec.Raw(_USER % bytes(raw))]:
                    pieces = self._known(row, field, message, is_first=is_first)
                    is_first = is_first and all(piece.section != MESSAGES for piece in pieces)
                    yield from pieces

    def _known(self, row: Api, field: str, raw: msgspec.Raw, *, is_first: bool = False) -> tuple[Piece, ...]:
        key = field, is_first, bytes(raw)
        if key not in self._pieces:
            value = decoded(raw)
            of_field = _of_message(value, is_first=is_first) if field in row.said else _of_field(row, field, value)
            self._pieces[key] = tuple(of_field)
        return self._pieces[key]


def _split(data: msgspec.Raw, kind: type[_T]) -> _T | None:
    """Return the members of an object, or the elements of a list, as JSON; None if it is no such value."""
    with suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
        return msgspec.json.decode(data, type=kind)
    with suppress(msgspec.MsgspecError):
        return msgspec.json.decode(msgspec.json.encode(decoded(data)), type=kind)
    return None


def _of_field(row: Api, field: str, value: object) -> Iterable[Piece]:
    for name in field.split(".")[1:]:
        value = value.get(name) if isinstance(value, dict) else None
    section = _SECTIONS.get(field, "system" if field in row.instructions else field)
    if value is None:
        return ()
    if section == "system":
        return _of_blocks(section, _numbered(section, _listed(value)))
    if section == "tools":
        tools = [tool for item in _listed(value) for tool in _declared(item)]
        return _of_blocks(section, _numbered(section, tools))
    return [Piece(section, field, _text(value))]


def _listed(value: object) -> list[object]:
    parts = value.get("parts") if isinstance(value, dict) else None
    return value if isinstance(value, list) else parts if isinstance(parts, list) else [value]


def _numbered(place: str, values: Iterable[object]) -> list[tuple[str, object]]:
    return [(f"{place}[{number}]", value) for number, value in enumerate(values)]


def _declared(tool: object) -> list[object]:
    """Return the tools in an element of `tools`: Gemini's has several."""
    fields = tool if isinstance(tool, dict) else {}
    declared = fields.get("functionDeclarations", fields.get("function_declarations"))
    return declared if isinstance(declared, list) else [tool]


def _of_message(message: object, *, is_first: bool) -> Iterator[Piece]:
    """Yield the blocks of a message, then its other members; instructions before all others are no message."""
    fields: Mapping[str, object] = message if isinstance(message, dict) else {"content": message}
    role, content = str(fields.get("role") or ""), fields.get("content", fields.get("parts"))
    blocks = [] if content is None else _numbered(f"{MESSAGES}[{{}}].content", _listed(content))
    rest = {name: value for name, value in fields.items() if name not in _SAID and value not in _EMPTY}
    if rest and rest != {"type": "message"}:
        blocks.append((f"{MESSAGES}[{{}}]", rest))
    pieces = _of_blocks("system" if is_first and role in INSTRUCTION_ROLES else MESSAGES, blocks)
    yield from (piece if number else piece._replace(role=role, begins=True) for number, piece in enumerate(pieces))


def _of_blocks(section: str, blocks: Iterable[tuple[str, object]]) -> Iterator[Piece]:
    """Yield blocks. One that is only a mark marks the one before."""
    piece: Piece | None = None
    for place, block in blocks:
        text = _text(block)
        kept_s = None
        if not isinstance(block, str) and _MARK.search(text):
            kept_s, text = _seconds(text.encode()), _text(_unmarked(block))
        if text == _NOTHING and piece is not None:
            piece = piece._replace(kept_s=kept_s)
            continue
        if piece is not None:
            yield piece
        piece = Piece(section, place, text, kept_s=kept_s)
    if piece is not None:
        yield piece


def _seconds(text: bytes) -> int:
    """Return how long a mark in JSON asks to keep what ends there."""
    times = [SECONDS[word] for word in _TTL.findall(text) if word in SECONDS]
    return min(times, default=SECONDS[b"5m"])


def _unmarked(value: object) -> object:
    if isinstance(value, list):
        return [*map(_unmarked, value)]
    if not isinstance(value, dict):
        return value
    marks = {name for name in _MARKS if isinstance(value.get(name), dict)}
    return {name: _unmarked(item) for name, item in value.items() if name not in marks}


def _text(block: object) -> str:
    """Return a text itself, and anything else as JSON, in its own order. A list of one text equals the text."""
    if isinstance(block, str):
        return block
    if isinstance(block, dict):
        text = block.get("text")
        others = (value for name, value in block.items() if name not in ("type", "text"))
        if isinstance(text, str) and not any(others) and str(block.get("type", "text")).endswith("text"):
            return text
        content = block.get("content")
        if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict) and "text" in content[0]:
            block = block | {"content": _text(content[0])}
    return msgspec.json.encode(block).decode()
