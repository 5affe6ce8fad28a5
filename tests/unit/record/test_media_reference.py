"""References to media: what the first bytes of a file tell, and that any bytes are read without an error."""

from __future__ import annotations

import io
import struct
import wave

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callspan.record.media_reference import header_fields
from tests.provider.media import png


def sound(seconds: float = 0.5, rate: int = 8000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(b"\0\0" * int(seconds * rate))
    return file.getvalue()


_SOUND = sound()
_FLAC = b"fLaC\0\0\0\x22" + b"\0" * 10 + (44_100 << 44 | 88_200).to_bytes(8, "big") + b"\0" * 16
_JPEG = b"\xff\xd8\xff\xe0\0\x04\0\0\xff\xc0\0\x11\x08" + struct.pack(">HH", 480, 640) + b"\x03"
_WEBP = b"RIFF\0\0\0\0WEBP"
_FORMATS: dict[str, tuple[bytes, dict[str, object]]] = {
    "png": (png(), {"mime": "image/png", "width": 8, "height": 8}),
    "gif": (b"GIF89a\x10\0\x20\0", {"mime": "image/gif", "width": 16, "height": 32}),
    "jpeg": (_JPEG, {"mime": "image/jpeg", "width": 640, "height": 480}),
    "webp lossy": (_WEBP + b"VP8 " + b"\0" * 10 + struct.pack("<HH", 30, 20), {
        "mime": "image/webp", "width": 30, "height": 20}),
    "webp lossless": (_WEBP + b"VP8L\0\0\0\0\x2f" + struct.pack("<I", 29 | 19 << 14), {
        "mime": "image/webp", "width": 30, "height": 20}),
    "webp extended": (_WEBP + b"VP8X" + b"\0" * 8 + b"\x1d\0\0\x13\0\0", {
        "mime": "image/webp", "width": 30, "height": 20}),
    "wav": (_SOUND, {"mime": "audio/wav", "seconds": 0.5}),
    "wav of unknown length": (_SOUND[:40] + b"\xff\xff\xff\xff" + _SOUND[44:], {"mime": "audio/wav", "seconds": 0.5}),
    "flac": (_FLAC, {"mime": "audio/flac", "seconds": 2.0}),
    "mp3": (b"ID3\x04", {"mime": "audio/mpeg"}),
    "pdf": (b"%PDF-1.7", {"mime": "application/pdf"}),
    "a cut png": (png()[:18], {"mime": "image/png"}),
    "a wav that says nothing": (b"RIFF\0\0\0\0WAVEdata\x01\0\0\0", {"mime": "audio/wav"}),
    "text": (b"Hello.", {}),
    "nothing": (b"", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", _FORMATS)
def test_the_header_of_a_file_gives_type_pixels_and_seconds(name: str) -> None:
    data, fields = _FORMATS[name]
    assert header_fields(data, len(data)) == fields


@given(st.sampled_from([data[:16] for data, _ in _FORMATS.values()]), st.binary(max_size=64), st.integers(0, 99))
def test_any_bytes_are_read_without_an_error(magic: bytes, rest: bytes, size: int) -> None:
    fields = header_fields(magic + rest, size)
    assert fields.keys() <= {"mime", "width", "height", "seconds"}
