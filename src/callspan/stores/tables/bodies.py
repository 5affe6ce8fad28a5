"""Bodies: splits requests and responses into pieces that are stored once, and joins them again.

Each message of a request and each large value becomes a piece; the rest is a small skeleton, itself a piece. Which
fields have messages, the row of the API says. Pieces keep their exact JSON bytes. Beside each piece is its
human-readable text, in the same form for every API, for search and SQL queries. For example, a request and its answer

    {"model":"m","system":"Be brief.","messages":[{"role":"user","content":"Hi"},
      {"role":"assistant","content":"Which city do you mean?","name":"bot"}],"tools":[{"name":"f"}]}
    {"id":"c1","choices":[{"index":0,"message":{"role":"assistant","content":"The nearest one, please.",
      "reasoning":"Cities are far."}}]}

are these rows of `contents`. `^` is the byte 0x1A: `^0,23;` stands for 23 characters of the text and the reasoning
behind it, from character 0; `^=0,23;` if these are JSON. SQLite stores `data` deflated.

    n      role       text                      reasoning        data
    -1                                                           [["model","value","m"],["system","piece","fecef2..."],
                                                                   ["messages","history",null],
                                                                   ["tools","piece","918efb..."]]
    -2                                                           [{"name":"f"}]
    -3     system     Be brief.                                  "Be brief."
    -4     assistant  The nearest one, please.  Cities are far.  {"id":"c1","choices":[{"index":0,"message":
                                                                   {"role":"assistant","content":^0,24;,
                                                                   "reasoning":"Cities are far."}}]}
    65536  user       Hi                                         NULL: the message has only its role and text
    65537  assistant  Which city do you mean?                    {"role":"assistant","content":^0,23;,"name":"bot"}

The skeleton (-1) has the keys of the request in their order. A `value` is there itself, a hash names a `piece`, and the
`history` stands for the messages that the call's row refers to. Their numbers (see `callspan.stores.tables.contents`)
make a growing history one range. If several fields have messages, each states its place among them and how many it has;
null is the rest. A `text` is one message, an `element` the member with its name of one that the next request has in a
list. A message that occurs several times in a history is a separate piece each time.

What an answer repeats of its request is not stored again: `^#918efb...;` stands for the piece with that hash.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Final, Literal, NamedTuple, TypeAlias, cast

import msgspec

from callspan.record.apis import APIS, OTHER, WRAPPERS, Api
from callspan.record.messages import Message, Text
from callspan.record.plain_json import plain
from callspan.stores.tables.texts import Place, Said, Side, said

_INLINE_BYTES: Final = 256
_HASH_BYTES: Final = 16
_ANSWER, _REPEATED, _VALUE = b"answer", b"repeated", b"value"
"""Ends of hashes. Equal JSON is one piece only where it means the same."""
_MIN_EXTRACTED: Final = 16
_BEGINNING: Final = 40
"""Length of the prefix of a text that is searched first."""
_REFERENCE_START: Final = b"\x1a"
"""Starts the reference that replaces a text. JSON has this byte only escaped."""
_REPETITION_START: Final = _REFERENCE_START + b"#"
_JSON_MARK: Final = b"="
"""After the start: the text is JSON, such as arguments, and stands there as it is."""

_MESSAGE: Final = b'{"role":"%b","content":%b}'
_LEVEL, _WINDOW, _MEMORY = 3, 12, 5
"""zlib parameters. Level 3, because lazy matching takes 10 % longer and saves 1 %. A 4 KB window, because 32 KB takes
256 KB of memory and nine times as long for small data."""
_REFERENCE: Final = re.compile(rb"\x1a(=?)(\d+),(\d+);")
_REPETITION: Final = re.compile(rb"\x1a#([0-9a-f]+);")
_BEFORE_VALUE: Final = re.compile(rb"\s*:\s*")
_DIGITS: Final = b"0123456789-"
_ROLE_CONTENT: Final = ("role", "content")
_NULL: Final = b"null"
_QUOTE: Final = b'"'
_TOOLS: Final = "tools"
_NO_SHARE: Final = msgspec.Raw(_NULL)
_WRAPPER: Final = msgspec.Raw(_NULL)
"""Stands before the fields of a wrapper, in the place of that."""
_Kind: TypeAlias = Literal["value", "piece", "history", "text", "element", "wrapper"]
_Skeleton: TypeAlias = list[tuple[str, _Kind, msgspec.Raw]]

DAMAGE: Final = (zlib.error, msgspec.MsgspecError, ValueError, TypeError, IndexError)
"""Exceptions of decoders for damaged contents."""

_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_array = msgspec.json.Decoder(list[msgspec.Raw])
_KNOWN_BYTES, _KNOWN_ENTRIES = 1024, 1024
"""Size limit and number of pieces with a cached hash (at most 1 MB): requests repeat earlier pieces."""
_encode = msgspec.json.encode
_skeletons = msgspec.json.Decoder(list[tuple[str, str, msgspec.Raw]])
_share = msgspec.json.Decoder(tuple[int, int | None] | None)


class StoredPiece(NamedTuple):
    """A piece as stored in a row: the text has its own column and is removed from the JSON."""

    role: str | None
    text: str | None
    """What the piece says, human-readable; None if nothing."""
    reasoning: str | None
    """The reasoning of the model in it."""
    json: bytes | None
    """The JSON, with references into both in place of long texts; None for a message of only role and text."""


class Piece(msgspec.Struct, gc=False):
    """One value, stored once for all calls of its owner that refer to it."""

    hash: bytes
    """The truncated SHA-256 of the exact JSON, and what distinguishes pieces with equal JSON."""
    json: bytes
    place: Place | None = None
    """None if nothing is said in it."""
    said: Said | tuple[str, str] | None = None
    """What it says, once that was read: of a message with only a role and a text, these two."""


class Parts(msgspec.Struct, frozen=True, gc=False):
    """A request body split into parts."""

    skeleton: Piece
    history: list[Piece]
    """Messages in order. The next call usually starts with the same ones."""
    history_at: int
    """The position of the first one."""
    others: list[tuple[int, Piece]]
    """Messages of other fields by their position; -1 is the separate instructions, lower ones are no messages."""
    messages: int
    """Number of messages, the history and others."""
    field: str = ""
    """The field of the body with the history; empty if it is no list."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The body of an answer."""

    piece: Piece
    repeated: list[Piece]
    """Values that it refers to and that its request does not have."""


def is_hash_of(digest: bytes, json: bytes) -> bool:
    """Return whether a piece with this hash has this JSON."""
    return digest[:_HASH_BYTES] == _digest(json)


def _cached_piece(json: bytes, place: Place | None = None) -> Piece:
    """Return the piece of JSON that other requests probably repeat, with its hash cached."""
    return Piece(_known_digest(json) if len(json) <= _KNOWN_BYTES else _digest(json), json, place)


def _digest(json: bytes) -> bytes:
    return hashlib.sha256(json).digest()[:_HASH_BYTES]


_known_digest = lru_cache(_KNOWN_ENTRIES)(_digest)


def split(body: bytes, api: str) -> Parts:
    """Split a request body into parts. A body that is not a JSON object becomes the skeleton."""
    row = APIS.get(api, OTHER)
    try:
        fields = _raw_object.decode(body)
        fields = _unwrapped(fields, WRAPPERS[api]) if api in WRAPPERS else fields
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Parts(_skeleton([("", "text", msgspec.Raw(body))]), [], 0, [], 0)
    listed: dict[str, list[msgspec.Raw] | None] = {}
    messages: list[Piece] = []
    starts: dict[str, int] = {}
    list_name = ""
    for name in row.said:
        if (value := fields.get(name)) is not None and (raw := bytes(value)) != _NULL:
            elements = listed[name] = _elements(raw)
            if elements is not None and not list_name:
                list_name = name
            starts[name] = len(messages)
            messages += _messages(name, raw, elements, api, row)
    history, history_at = _with_unique_hashes(messages), 0
    others: list[tuple[int, Piece]] = []
    shares = dict.fromkeys(listed, _NO_SHARE)
    if len(listed) > 1:
        growing = list_name or next(iter(listed))
        history_at = starts[growing]
        end = history_at + _count(listed[growing])
        history = messages[history_at:end]
        others = [(at, part) for at, part in enumerate(messages) if not history_at <= at < end]
        counts = (None if name == growing else _count(elements) for name, elements in listed.items())
        shares = {name: msgspec.Raw(_encode(share)) for name, share in zip(listed, enumerate(counts), strict=True)}
    skeleton: _Skeleton = []
    below = -2
    has_instructions = False
    for name, value in fields.items():
        if name in shares:
            of_single: _Kind = "element" if _element(name, bytes(value), row) is not None else "text"
            kind = of_single if listed[name] is None else "history"
            skeleton.append((name, kind, shares[name]))
            continue
        raw = bytes(value)
        is_instruction, is_content = name in row.instructions, name in row.content
        if not (is_instruction or is_content) and len(raw) <= _INLINE_BYTES and name != _TOOLS:
            skeleton.append((name, "wrapper" if value is _WRAPPER else "value", value))
            continue
        side: Side | None = "instructions" if is_instruction else "content" if is_content else None
        part = _cached_piece(raw, None if side is None else _place(api, side, name, False))
        part.hash += _VALUE if side is None else side.encode()
        skeleton.append((name, "piece", msgspec.Raw(_encode(part.hash.hex()))))
        if is_instruction and not has_instructions:
            others.append((-1, part))
            has_instructions = True
        else:
            others.append((below, part))
            below -= 1
    return Parts(_skeleton(skeleton), history, history_at, others, len(messages), list_name)


def _unwrapped(fields: dict[str, msgspec.Raw], wrapper: str) -> dict[str, msgspec.Raw]:
    """Return the fields of a request with those of its wrapper in the place of that, named as in `Api.said`."""
    outer = f"{wrapper}."
    if bytes(fields.get(wrapper, _NO_SHARE))[:1] != b"{" or any(name.startswith(outer) for name in fields):
        return fields
    unwrapped: dict[str, msgspec.Raw] = {}
    for name, value in fields.items():
        if name == wrapper:
            unwrapped[name] = _WRAPPER
            unwrapped |= {f"{outer}{member}": inner for member, inner in _raw_object.decode(value).items()}
        else:
            unwrapped[name] = value
    return unwrapped


def _messages(name: str, raw: bytes, elements: Sequence[msgspec.Raw] | None, api: str, row: Api) -> list[Piece]:
    """Return the messages in a field, each a piece."""
    if (element := _element(name, raw, row)) is not None:
        return [_cached_piece(element, _place(api, "message", row.said[0], True))]
    place = _place(api, "message", name, elements is not None)
    return [_cached_piece(bytes(item), place) for item in ([raw] if elements is None else elements)]


def _element(name: str, raw: bytes, row: Api) -> bytes | None:
    """Return the newest message as the next request has it in a list; None for other fields."""
    if row.newest is None or name != row.newest[0] or raw[:1] != _QUOTE:
        return None
    return row.newest[1].encode() % raw


@lru_cache(_KNOWN_ENTRIES)
def _place(api: str, side: Side, field: str, is_element: bool) -> Place:
    return Place(api, side, field, is_element, side == "message" and APIS.get(api, OTHER).has_plain_messages)


def _elements(raw: bytes) -> list[msgspec.Raw] | None:
    """Return the elements of a list; None for other JSON, and for the numbers of tokens."""
    elements = _raw_array.decode(raw) if raw[:1] == b"[" else None
    return None if elements and bytes(elements[0])[0] in _DIGITS else elements


def _count(elements: Sequence[object] | None) -> int:
    return 1 if elements is None else len(elements)


def answer(body: bytes, api: str, request: Parts | None) -> Answer:
    """Return an answer without what it repeats of its request.

    Its piece is never shared with a request, even if the JSON is equal.
    """
    row = APIS.get(api, OTHER)
    repeated: dict[bytes, Piece] = {}
    if row.repeats and len(body) > _INLINE_BYTES:
        known = {} if request is None else {part.hash[:_HASH_BYTES]: part.hash for part in _pieces(request)}
        for name, raw in _repeated_fields(body, row):
            elements = _elements(raw) if name in row.said else None
            for value in [raw] if elements is None else map(bytes, elements):
                if len(value) > _INLINE_BYTES:
                    digest = _digest(value)
                    if digest not in known:
                        # An element is the same piece where the next request has it.
                        of_next = elements is not None
                        place = _place(api, "message", name, True) if of_next else None
                        part = repeated[digest] = Piece(digest if of_next else digest + _REPEATED, value, place)
                        known[digest] = part.hash
            body = _referring(body, name, raw, elements, known)
    return Answer(Piece(_digest(body) + _ANSWER, body, _place(api, "answer", "", False)), [*repeated.values()])


def _pieces(request: Parts) -> Iterator[Piece]:
    yield from request.history
    yield from (part for _, part in request.others)


def _repeated_fields(body: bytes, row: Api) -> list[tuple[str, bytes]]:
    try:
        fields = _raw_object.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    values = [(name, bytes(fields[name])) for name in row.repeats if name in fields]
    return [(name, raw) for name, raw in values if len(raw) > _INLINE_BYTES]


def _referring(
    body: bytes, name: str, raw: bytes, elements: Sequence[msgspec.Raw] | None, known: Mapping[bytes, bytes]
) -> bytes:
    """Return the body with references to pieces instead of the value of a field, or instead of its long elements.

    A field further inside that has the same name and value may be replaced instead: it is restored in the same way.
    """
    key = _encode(name)
    at = body.find(key)
    while at >= 0:
        colon = _BEFORE_VALUE.match(body, at + len(key))
        if colon is not None and body.startswith(raw, colon.end()):
            short = _reference_to(raw, known) if elements is None else _with_references(raw, elements, known)
            return b"%b%b%b" % (body[: colon.end()], short, body[colon.end() + len(raw) :])
        at = body.find(key, at + 1)
    return body


def _with_references(raw: bytes, elements: Sequence[msgspec.Raw], known: Mapping[bytes, bytes]) -> bytes:
    pieces, end = list[bytes](), 0
    for element in map(bytes, elements):
        at = raw.index(element, end)
        pieces += (raw[end:at], _reference_to(element, known) if len(element) > _INLINE_BYTES else element)
        end = at + len(element)
    return b"".join((*pieces, raw[end:]))


def _reference_to(value: bytes, known: Mapping[bytes, bytes]) -> bytes:
    return b"%b%b;" % (_REPETITION_START, known[_digest(value)].hex().encode())


def repeats(answer: bytes) -> bool:
    """Return whether the JSON of an answer refers to other pieces."""
    return answer.find(_REPETITION_START) >= 0


def whole(answer: bytes, find: Callable[[bytes], bytes]) -> bytes:
    """Return an answer with what it repeats; `find` gives the JSON of a hash. Raises what it raises."""
    return _REPETITION.sub(lambda mark: find(bytes.fromhex(mark[1].decode())), answer)


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


def join(skeleton: bytes, messages: Sequence[bytes], find: Callable[[bytes], bytes]) -> bytes:
    """Return the request body of a skeleton; `messages` are in their order, `find` gives the JSON of a hash.

    Key order and the exact JSON of every value are as in the original body.
    """
    entries = _skeletons.decode(skeleton)
    if len(entries) == 1 and not entries[0][0] and entries[0][1] == "text":  # no object: a member "" is no text
        return bytes(entries[0][2])
    shares = {
        name: _share.decode(value) or (0, None)
        for name, kind, value in entries
        if kind in ("history", "text", "element")
    }
    rest = len(messages) - sum(count or 0 for _, count in shares.values())
    starts: dict[str, int] = {}
    start = 0
    for name, (_, count) in sorted(shares.items(), key=itemgetter(1)):
        starts[name] = start
        start += rest if count is None else count
    fields: dict[str, msgspec.Raw] = {}
    for name, kind, value in entries:
        if kind == "history":
            count = shares[name][1]
            listed = messages[starts[name] : starts[name] + (rest if count is None else count)]
            fields[name] = msgspec.Raw(b"[" + b",".join(listed) + b"]")
        elif kind == "piece":
            fields[name] = msgspec.Raw(find(bytes.fromhex(msgspec.json.decode(value, type=str))))
        elif kind == "text":
            fields[name] = msgspec.Raw(messages[starts[name]])
        elif kind == "element":
            fields[name] = _raw_object.decode(messages[starts[name]])[name]
        else:
            fields[name] = value
    for wrapper in (name for name, kind, _ in entries if kind == "wrapper"):
        outer = f"{wrapper}."
        inner = {name.removeprefix(outer): fields.pop(name) for name in [*fields] if name.startswith(outer)}
        fields[wrapper] = msgspec.Raw(_encode(inner))
    return _encode(fields)


def to_row(part: Piece) -> StoredPiece:
    """Return the stored form of a piece."""
    texts = part.said or read(part)
    if texts is None:
        return StoredPiece(None, None, None, part.json)
    if isinstance(texts, tuple):
        return StoredPiece(*texts, None, None)
    json = _extracted(part.json, [*texts.words, *texts.reasoning])
    return StoredPiece(texts.role, "".join(texts.words) or None, "".join(texts.reasoning) or None, json)


def messages_of(part: Piece) -> list[Message]:
    """Return the messages of a piece, as the adapter of its API reads them by themselves."""
    texts = read(part)
    if isinstance(texts, tuple):
        return [Message(role=texts[0], parts=[Text(text=texts[1])])]
    return [] if texts is None else texts.messages


def read(part: Piece) -> Said | tuple[str, str] | None:
    """Return what a piece says, of a message with only a role and a text these two. It is parsed once."""
    place = part.place
    if part.said is None and place is not None:
        value = _value(_REPETITION.sub(_NULL, part.json) if part.json.find(_REFERENCE_START) >= 0 else part.json)
        message = _message(value, part.json) if place.is_plain else None
        part.said = said(value, place) if message is None else message
    return part.said


def _message(value: object, json: bytes) -> tuple[str, str] | None:
    """Return role and text of a message with only these two fields; None for others and other JSON formatting."""
    if not isinstance(value, dict) or len(value) != len(_ROLE_CONTENT):
        return None
    role, text = map(value.get, _ROLE_CONTENT)
    if not (role and text and isinstance(role, str) and isinstance(text, str)):
        return None
    return (role, text) if json == _message_json(role, text) else None


def from_row(role: str | None, text: str | None, reasoning: str | None, json: bytes | None) -> bytes:
    """Return the exact JSON of a stored piece."""
    if json is None:
        return _message_json(role or "", text or "")
    if json.find(_REFERENCE_START) < 0:
        return json
    texts = f"{text or ''}{reasoning or ''}"

    def referred(mark: re.Match[bytes]) -> bytes:
        fragment = texts[int(mark[2]) : int(mark[2]) + int(mark[3])]
        return fragment.encode() if mark[1] else _encode(fragment)

    return _REFERENCE.sub(referred, json)


def json_of(row: Mapping[str, object], *, is_deflated: bool) -> bytes:
    """Return the exact JSON of a row of `contents`."""
    data = cast("bytes | None", row["data"])
    json = inflated(data) if is_deflated else data
    role, text, reasoning = (cast("str | None", row[name]) for name in ("role", "text", "reasoning"))
    return from_row(role, text, reasoning, json)


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
    """Return the JSON with each long text that occurs once replaced by its position in the complete text."""
    start = 0
    for fragment in fragments:
        length = len(fragment)
        if length >= _MIN_EXTRACTED:
            needle, mark = _encode(fragment), b""
            index = _only_place(json, needle)
            if index is None and fragment[0] in "{[":
                needle, mark = fragment.encode(), _JSON_MARK
                index = _only_place(json, needle)
            if index is not None:
                reference = b"%b%b%d,%d;" % (_REFERENCE_START, mark, start, length)
                json = json[:index] + reference + json[index + len(needle) :]
        start += length
    return json


def _only_place(json: bytes, needle: bytes) -> int | None:
    """Return the index of the only occurrence; None without one, or with several."""
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
    return plain(value) if json.find(b"\\") >= 0 and json.find(b"\\u") >= 0 else value
