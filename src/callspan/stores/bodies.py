"""Bodies: splits requests and responses into pieces that are stored once, and joins them again.

Each message of a request and each large value becomes a piece; the rest is a small skeleton, itself a piece. Pieces
keep their exact JSON bytes. Beside each piece is its human-readable text, in the same form for every provider, for
search and SQL queries. For example, a request and its answer

    {"model":"m","system":"Be brief.","messages":[{"role":"user","content":"Hi"},
      {"role":"assistant","content":"Which city do you mean?","name":"bot"}],"tools":[{"name":"f"}]}
    {"id":"c1","choices":[{"index":0,"message":{"role":"assistant","content":"The nearest one, please."}}]}

are these rows of `contents`. `^` is the byte 0x1A: `^0,23;` stands for 23 characters of the text from its character 0.
SQLite stores `data` deflated.

    n      role       text                      data
    -1                                          [["model","value","m"],["system","piece","fecef2..."],
                                                  ["messages","history",null],["tools","piece","918efb..."]]
    -2                                          [{"name":"f"}]
    -3     system     Be brief.                 "Be brief."
    -4     assistant  The nearest one, please.  {"id":"c1","choices":[{"index":0,"message":{"role":"assistant",
                                                  "content":^0,24;}}]}
    65536  user       Hi                        NULL: the message has only its role and text
    65537  assistant  Which city do you mean?   {"role":"assistant","content":^0,23;,"name":"bot"}

The skeleton (-1) has the keys of the request in their order. A `value` is there itself, a `piece` is named by its hash,
and the `history` is the messages to which the call's row refers: see `callspan.stores.contents` for its numbers, in
which a growing history is one range. A message that occurs several times in a history is a separate piece each time.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from callspan.providers.wire_json import mapping, text
from callspan.record.codec import encode_json
from callspan.record.messages import role_of_item
from callspan.record.plain_json import plain

_INLINE_BYTES: Final = 256
_HASH_BYTES: Final = 16
_ANSWER: Final = b"answer"
_MIN_EXTRACTED: Final = 16
_BEGINNING: Final = 40
"""Length of the prefix of a text that is searched first."""
_REFERENCE_START: Final = b"\x1a"
"""Starts the reference that replaces a text. JSON has this byte only escaped."""

_MESSAGE: Final = b'{"role":"%b","content":%b}'
_LEVEL, _WINDOW, _MEMORY = 3, 12, 5
"""zlib parameters. Level 3, because lazy matching takes 10 % longer and saves 1 %. A 4 KB window, because 32 KB takes
256 KB of memory and nine times as long for small data."""
_REFERENCE: Final = re.compile(rb"\x1a(\d+),(\d+);")
_ROLE_CONTENT: Final = ("role", "content")
_FROM_JSON: Final = ""
_SYSTEM_KEYS: Final = frozenset({"system", "instructions"})
_HISTORY_KEYS: Final = ("messages", "input", "prompt")
_Kind: TypeAlias = Literal["value", "piece", "history", "text"]
_Skeleton: TypeAlias = list[tuple[str, _Kind, msgspec.Raw]]

DAMAGE: Final = (zlib.error, msgspec.MsgspecError, ValueError, TypeError, IndexError)
"""Exceptions of decoders for damaged contents."""

_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_array = msgspec.json.Decoder(list[msgspec.Raw])
_KNOWN_BYTES, _KNOWN_ENTRIES = 1024, 1024
"""Size limit and number of pieces whose hashes are cached (at most 1 MB): requests repeat earlier pieces."""
_encode = msgspec.json.encode
_skeletons = msgspec.json.Decoder(list[tuple[str, str, msgspec.Raw]])
_MAX_DEPTH: Final = 32
_TEXT_KEYS: Final = frozenset(
    {
        "choices", "content", "custom", "function", "input_text", "message", "output", "refusal", "summary",
        "text", "thinking", "tool_calls", "transcript",
    }
)  # fmt: skip
_ARGUMENTS: Final = ("arguments", "input")


class StoredPiece(NamedTuple):
    """A piece as stored in a row: the text has its own column and is removed from the JSON."""

    role: str | None
    text: str | None
    """The human-readable text, or None."""
    json: bytes | None
    """The JSON, with references into `text` in place of long texts; None for a message of only role and text."""


class Piece(msgspec.Struct, gc=False):
    """One value, stored once for all calls of its owner that refer to it."""

    hash: bytes
    """The truncated SHA-256 of the exact JSON, followed by a counter for equal messages of a history."""
    json: bytes
    role: str | None = None
    """Role of the message; empty to take it from the JSON; None if the piece is not a message."""


class Parts(msgspec.Struct, frozen=True, gc=False):
    """A request body split into parts."""

    skeleton: Piece
    history: list[Piece]
    """Messages in order. The next call usually starts with the same ones."""
    large_values: list[Piece]
    """Large values of the body, such as tools and schemas."""
    system: Piece | None
    """The system prompt, if separate from the messages."""


def piece(json: bytes, role: str | None = None) -> Piece:
    """Return the piece of this JSON."""
    return Piece(_digest(json), json, role)


def answer_piece(json: bytes) -> Piece:
    """Return the piece of an answer, which is never shared with a request, even if the JSON is equal."""
    return Piece(_digest(json) + _ANSWER, json, "assistant")


def is_hash_of(digest: bytes, json: bytes) -> bool:
    """Return whether a piece with this hash has this JSON."""
    return digest[:_HASH_BYTES] == _digest(json)


def _cached_piece(json: bytes, role: str | None = None) -> Piece:
    """Return the piece of JSON that other requests probably repeat, with its hash cached."""
    return Piece(_known_digest(json) if len(json) <= _KNOWN_BYTES else _digest(json), json, role)


def _digest(json: bytes) -> bytes:
    return hashlib.sha256(json).digest()[:_HASH_BYTES]


_known_digest = lru_cache(_KNOWN_ENTRIES)(_digest)


def split(body: bytes) -> Parts:
    """Split a request body into parts. A body that is not a JSON object becomes the skeleton."""
    try:
        fields = _raw_object.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Parts(_skeleton([("", "text", msgspec.Raw(body))]), [], [], None)
    key = next((name for name in _HISTORY_KEYS if name in fields), None)
    skeleton: _Skeleton = []
    history: list[Piece] = []
    large_values: dict[str, Piece] = {}
    for name, value in fields.items():
        raw = bytes(value)
        if name == key and raw[:1] == b"[":
            history = _with_unique_hashes([_cached_piece(bytes(item), _FROM_JSON) for item in _raw_array.decode(raw)])
            skeleton.append((name, "history", msgspec.Raw(b"null")))
        elif name == key and raw[:1] == b'"':
            history = [piece(raw, "user")]
            skeleton.append((name, "text", msgspec.Raw(b"null")))
        elif name in _SYSTEM_KEYS or name == "tools" or len(raw) > _INLINE_BYTES:
            large_values[name] = _cached_piece(raw, "system" if name in _SYSTEM_KEYS else None)
            skeleton.append((name, "piece", msgspec.Raw(msgspec.json.encode(large_values[name].hash.hex()))))
        else:
            skeleton.append((name, "value", value))
    system = next((large_values.pop(name) for name in _SYSTEM_KEYS if name in large_values), None)
    return Parts(_skeleton(skeleton), history, [*large_values.values()], system)


def _with_unique_hashes(history: list[Piece]) -> list[Piece]:
    """Give each of several equal messages its own hash, and a small message one per preceding message.

    This keeps the numbers of a growing history consecutive even if several histories share small messages.
    """
    previous_digest = b""
    for part in history:
        digest = part.hash
        if len(part.json) <= _INLINE_BYTES:
            part.hash += previous_digest[:4]
        previous_digest = digest
    if len({part.hash for part in history}) < len(history):
        numbers = Counter[bytes]()
        for part in history:
            number = numbers[part.hash]
            numbers[part.hash] += 1
            if number:
                part.hash += number.to_bytes(4, "big")
    return history


def join(skeleton: bytes, history: Sequence[bytes], find: Callable[[bytes], bytes]) -> bytes:
    """Return the request body of a skeleton; `find` gives the JSON of a hash.

    Key order and the exact JSON of every value are those of the original body.
    """
    fields: dict[str, msgspec.Raw] = {}
    for name, kind, value in _skeletons.decode(skeleton):
        if kind == "history":
            fields[name] = msgspec.Raw(b"[" + b",".join(history) + b"]")
        elif kind == "piece":
            fields[name] = msgspec.Raw(find(bytes.fromhex(msgspec.json.decode(value, type=str))))
        elif kind == "text":
            if not name:
                return bytes(value)
            fields[name] = msgspec.Raw(history[0])
        else:
            fields[name] = value
    return msgspec.json.encode(fields)


def to_row(part: Piece) -> StoredPiece:
    """Return the stored form of a piece."""
    if part.role is None:
        return StoredPiece(None, None, part.json)
    value = _value(part.json)
    if part.role == _FROM_JSON and (message := _message(value, part.json)) is not None:
        return StoredPiece(*message, None)
    texts = fragments(value)
    text = "".join(texts) or None
    role = role_of(value) if part.role == _FROM_JSON else part.role
    return StoredPiece(role, text, _extracted(part.json, texts))


def _message(value: object, json: bytes) -> tuple[str, str] | None:
    """Return role and text of a message with only these two fields; None for others and other JSON formatting."""
    if not isinstance(value, dict) or len(value) != len(_ROLE_CONTENT):
        return None
    role, text = map(value.get, _ROLE_CONTENT)
    if not (role and text and isinstance(role, str) and isinstance(text, str)):
        return None
    return (role, text) if json == _message_json(role, text) else None


def from_row(role: str | None, text: str | None, json: bytes | None) -> bytes:
    """Return the exact JSON of a stored piece."""
    if json is None:
        return _message_json(role or "", text or "")
    if text is None or _REFERENCE_START not in json:
        return json
    return _REFERENCE.sub(lambda mark: _encode(text[int(mark[1]) : int(mark[1]) + int(mark[2])]), json)


def deflated(data: bytes) -> bytes:
    """Return data as compressed in SQLite files."""
    compressor = zlib.compressobj(_LEVEL, wbits=_WINDOW, memLevel=_MEMORY)
    return compressor.compress(data) + compressor.flush()


def inflated(data: bytes | None) -> bytes | None:
    """Return the decompressed value; None for None. Raises zlib.error."""
    return None if data is None else zlib.decompress(data)


def _message_json(role: str, text: str) -> bytes:
    return _MESSAGE % (role.encode(), _encode(text))


def _extracted(json: bytes, fragments: Sequence[str]) -> bytes:
    """Return the JSON in which each long text that occurs once is replaced by its position in the complete text."""
    start = 0
    for fragment in fragments:
        length = len(fragment)
        if length >= _MIN_EXTRACTED:
            needle = _encode(fragment)
            index = _only_place(json, needle)
            if index is not None:
                json = b"%b%b%d,%d;%b" % (json[:index], _REFERENCE_START, start, length, json[index + len(needle) :])
        start += length
    return json


def _only_place(json: bytes, needle: bytes) -> int | None:
    """Return the index of the only occurrence; None if there is none or more than one."""
    beginning = needle[:_BEGINNING]
    index = json.find(beginning)
    if index >= 0 and json.find(beginning, index + 1) < 0:
        # The usual case. Searching only for the prefix is much faster.
        return index if json.startswith(needle, index) else None
    head, separator, tail = json.partition(needle)
    return len(head) if separator and needle not in tail else None


def _skeleton(fields: _Skeleton) -> Piece:
    return _cached_piece(msgspec.json.encode(fields))


def _value(json: bytes) -> object:
    try:
        value = msgspec.json.decode(json)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # Only escapes can represent characters that a text must not have.
    return plain(value) if b"\\u" in json else value


def fragments(value: object) -> list[str]:
    """Return the texts in `value` as fragments, one line each, with tool calls as `name(arguments)`."""
    texts: list[str] = []
    _add_lines(value, 0, texts)
    return texts


def role_of(value: object) -> str:
    """Return the role of an element of a request's history, else the role implied by its type."""
    if mapping(value) is None:
        return "user"
    kind = text(value, "type") or ""
    return text(value, "role") or (role_of_item(kind) if kind else "user")


def _add_lines(value: object, depth: int, texts: list[str]) -> None:
    if isinstance(value, str):
        _add_line([value], texts)
    elif depth > _MAX_DEPTH:
        return
    elif isinstance(value, list):
        for item in value:
            _add_lines(item, depth + 1, texts)
    elif isinstance(value, dict):
        if "name" in value:
            _add_line(_tool_call(value), texts)
        for key, item in value.items():
            if key in _TEXT_KEYS and item:
                _add_lines(item, depth + 1, texts)


def _add_line(line: list[str], texts: list[str]) -> None:
    if line and texts:
        texts.append("\n")
    texts += line


def _tool_call(value: dict[str, object]) -> list[str]:
    name = value.get("name")
    key = next((key for key in _ARGUMENTS if key in value), None)
    if not isinstance(name, str) or key is None:
        return []
    arguments = value[key]
    return [f"{name}(", arguments if isinstance(arguments, str) else encode_json(arguments).decode(), ")"]
