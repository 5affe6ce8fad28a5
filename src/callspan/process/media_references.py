"""Media by reference: replaces base64 in wire bodies by hash, type and size.

Base64 text becomes `{"callspan_media": {"sha256": ..., "mime": ..., "bytes": ...}}`, with the dimensions of an image or
the duration of audio if the file's header states them. An embedding becomes
`{"callspan_vector": {"dimensions": ...}}`, a list of equal ones one such object with their number, `vectors`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from itertools import repeat
from typing import Any, Final

import msgspec

from callspan.process.content import UNREADABLE, decoded, encoded, with_bodies
from callspan.record.apis import APIS, OTHER
from callspan.record.call import CallRecord, Redaction
from callspan.record.codec import encode_json
from callspan.record.content_level import CONTENT_FIELDS
from callspan.record.events import Record
from callspan.record.media_reference import header_fields, media_reference, stated_mime
from callspan.record.wire_fields import FILE_FIELDS, FILE_LISTS, TYPES_WITHOUT_FILES, VECTORS

VECTOR_KEY: Final = "callspan_vector"

_SMALL_BODY: Final = 4096
_STRIDE: Final = 1024
_WINDOW: Final = 64
_IN_DATA_URL: Final = b"base64,"
_ANY_MARK: Final = OTHER.media_marks or ()
_MARKS: Final = {
    row.name: row.media_marks
    if any(mark in _IN_DATA_URL for mark in row.media_marks)
    else (*row.media_marks, _IN_DATA_URL)
    for row in APIS.values()
    if row.media_marks is not None
}
"""Marks of media by API. Servers take data URLs in fields of their own, so any body may have one."""
_DATA_URL: Final = re.compile(r"data:([\w.+/-]*)((?:;[\w.+=-]+)*?);base64,")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}\s*")
_MIN_LENGTH: Final = 16
_CONTAINERS: Final = (dict, list, str)
_WITH_VECTORS: Final = frozenset(name for name, row in APIS.items() if row.has_vectors or row.may_have_vectors)
_ENCODED_VECTORS: Final = VECTORS | {"base64"}
"""Fields where a text is a vector: in an answer by encodings, the encoding has the name."""
_NUMBERS: Final = frozenset({int, float})
_FLOAT_BYTES: Final = 4
_NOT_MEDIA: Final = sorted(TYPES_WITHOUT_FILES)
"""Types of objects whose text is no file. A list, because a type may be any JSON."""
_MIN_FILE: Final = 1024
_FILE_STARTS: Final = (
    "iVBORw0KGg", "/9j/", "UklGR", "R0lGO", "JVBERi", "ZkxhQ", "T2dnU", "SUQz", "PHN2Z", "AAAA", "//", "GkXf",
)  # fmt: skip
"""How the base64 of a file begins: PNG, JPEG, WebP and WAV, GIF, PDF, FLAC, Ogg, MP3 with tags, SVG, MP4, MP3, WebM."""
_FILES: Final = tuple(f'"{start}'.encode() for start in _FILE_STARTS)
"""Marks of a file in a field without a name of its own. Only large bodies are searched for them."""


def may_hold_media(body: msgspec.Raw, api: str) -> bool:
    """Return False if a quick check shows that a body has no media.

    Bodies of more than 4 KiB are sampled, which may miss media of less than about 1100 bytes. Only they are searched
    for files in fields that no API names.
    """
    data = bytes(body)
    size = len(data)
    if size == 0 or (size > _SMALL_BODY and not _has_long_run(data, size)):
        return False
    for mark in _MARKS.get(api, _ANY_MARK):
        # CPython searches for a short string twice as fast from the end as from the start.
        if data.rfind(mark) >= 0:
            return True
    return size > _SMALL_BODY and max(map(data.find, _FILES)) >= 0


def media_by_reference(record: Record) -> Record:
    """Return the record with the media in its content replaced by references; the same object if it has none."""
    if type(record) is not CallRecord:
        return _content_by_reference(record)
    api, body, answer = record.api, record.request.body, record.response
    request = _referenced(body) if may_hold_media(body, api) else None
    response = None if answer is None else _answer_by_reference(answer.body, api)
    if request is response is None:
        return record
    notes = []
    if request is not None:
        notes.append(_note("request.body", record.request.body))
    if response is not None and record.response is not None:
        notes.append(_note("response.body", record.response.body))
    record = with_bodies(record, request, response)
    return msgspec.structs.replace(record, redactions=[*record.redactions, *notes])


def without_media(value: object) -> object:
    """Return a copy of JSON with references in place of its media."""
    holder = {"content": msgspec.json.decode(encode_json(value))}
    _replace(holder)
    return holder["content"]


def _content_by_reference(record: Record) -> Record:
    """Return an event, message or reward with its media replaced, such as images returned by a tool."""
    field = CONTENT_FIELDS.get(type(record))
    value = None if field is None else getattr(record, field)
    if field is None or value is None or not isinstance(value, _CONTAINERS):
        return record
    data = encode_json(value)
    if max(map(data.find, (*_ANY_MARK, *_FILES))) < 0:
        return record
    holder = {"content": msgspec.json.decode(data)}
    if not _replace(holder):
        return record
    note = Redaction(what=field, why="media", original_bytes=len(data))
    return msgspec.structs.replace(record, redactions=[*record.redactions, note], **{field: holder["content"]})


def _has_long_run(data: bytes, size: int) -> bool:
    """Return whether the bytes have a long run without spaces and quotes, as in base64."""
    starts, ends = range(0, size, _STRIDE), range(_WINDOW, size + _WINDOW, _STRIDE)
    # `map` runs no bytecode for each window: a long history has hundreds of them.
    spaces = list(map(data.find, repeat(b" "), starts, ends))
    return -1 in spaces and any(
        space < 0 and _may_be_base64(data[start : start + _WINDOW]) for start, space in zip(starts, spaces, strict=True)
    )


def _may_be_base64(window: bytes) -> bool:
    return b'"' not in window and window.isascii()


def _referenced(body: msgspec.Raw) -> msgspec.Raw | None:
    value = decoded(body)
    return encoded(value) if value is not UNREADABLE and _replace(value) else None


def _answer_by_reference(body: msgspec.Raw, api: str) -> msgspec.Raw | None:
    if not bytes(body) or api not in _WITH_VECTORS:
        return _referenced(body) if may_hold_media(body, api) else None
    value = decoded(body)
    if value is UNREADABLE:
        return None
    has_vectors = _replace_vectors(value)
    return encoded(value) if _replace(value) or has_vectors else None


def _replace_vectors(value: Any) -> bool:
    """Replace the vectors in `value` in place; return whether there were any."""
    has_vectors = False
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if key in VECTORS:
            short = _by_length(item, is_vector=True)
            value[key], has_vectors = short, has_vectors or short != item
        else:
            has_vectors = _replace_vectors(item) or has_vectors
    return has_vectors


def _by_length(value: object, *, is_vector: bool) -> object:
    """Return JSON with a length in place of each vector: a list of numbers, or base64 of 4-byte floats."""
    if isinstance(value, dict):
        return {key: _by_length(item, is_vector=key in _ENCODED_VECTORS) for key, item in value.items()}
    if isinstance(value, str) and is_vector:
        return _vector(len(value) * 3 // 4 // _FLOAT_BYTES)
    if not isinstance(value, list) or not value:
        return value
    if _NUMBERS.issuperset(map(type, value)):
        return _vector(len(value))
    listed = [_by_length(item, is_vector=is_vector) for item in value]
    first: Any = listed[0]
    is_one = isinstance(first, dict) and VECTOR_KEY in first and all(item == first for item in listed)
    return {VECTOR_KEY: {**first[VECTOR_KEY], "vectors": len(listed)}} if is_one else listed


def _vector(dimensions: int) -> dict[str, object]:
    return {VECTOR_KEY: {"dimensions": dimensions}}


def _note(field: str, body: msgspec.Raw) -> Redaction:
    return Redaction(what=field, why="media", original_bytes=len(memoryview(body)))


def _replace(value: Any) -> bool:
    """Replace the media in `value` in place; return whether there were any."""
    has_media, holder = False, value if isinstance(value, dict) else None
    places: Iterable[tuple[Any, Any]] = enumerate(value) if isinstance(value, list) else (holder or {}).items()
    for key, item in places:
        if isinstance(item, str):
            reference = _file(item) or _data_url(item) if holder is None else _reference(holder, key, item)
            if reference is not None:
                value[key] = reference
                has_media = True
        elif isinstance(item, dict | list):
            has_media |= _replace_images(item, FILE_LISTS[key]) if key in FILE_LISTS else _replace(item)
    return has_media


def _replace_images(images: object, mime: str | None) -> bool:
    has_media = _replace(images)
    if not isinstance(images, list):
        return has_media
    for position, image in enumerate(images):
        is_media = isinstance(image, str) and len(image) >= _MIN_LENGTH and _is_base64(image)
        if is_media and (reference := _media(str(image), None, mime)) is not None:
            images[position] = reference
            has_media = True
    return has_media


def _reference(holder: dict[str, object], key: str, text: str) -> dict[str, object] | None:
    if text.startswith("data:"):
        return _data_url(text)
    kind = holder.get("type")
    field = FILE_FIELDS.get(key)
    if field is None or (field.only_in and kind != field.only_in):
        return _file(text, stated_mime(holder)) if len(text) >= _MIN_FILE else None
    if len(text) < _MIN_LENGTH or kind in _NOT_MEDIA:
        return None
    return _media(text, stated_mime(holder), field.mime) if _is_base64(text) else None


def _file(text: str, mime: str | None = None) -> dict[str, object] | None:
    """Return the reference to a file that is base64 in any field: its header tells that it is one."""
    if len(text) < _MIN_FILE or not text.startswith(_FILE_STARTS) or not _is_base64(text):
        return None
    header = base64.b64decode(text[:_WINDOW].replace("-", "+").replace("_", "/"))
    return _media(text, mime) if header_fields(header, None) else None


def _data_url(text: str) -> dict[str, object] | None:
    match = _DATA_URL.match(text)
    return None if match is None else _media(text[match.end() :], match[1] or None)


def _is_base64(text: str) -> bool:
    return len(text) % 4 == 0 and _BASE64.fullmatch(text) is not None


def _media(text: str, mime: str | None, default_mime: str | None = None) -> dict[str, object] | None:
    """Return the reference to base64 data: with its declared type, else its header's, else the field's default."""
    try:
        data = base64.b64decode(text.replace("-", "+").replace("_", "/"))
    except ValueError:
        return None
    return media_reference(data, mime, default_mime)
