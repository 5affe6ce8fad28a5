"""Content parts and media: location, or hash and size of the bytes; and what every endpoint keeps to."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from callspan.providers.openai.parts import parts_of
from callspan.records import Media, Reasoning, Refusal, Text, UnknownPart

BYTES = b"\x89PNG not really"
DATA = base64.b64encode(BYTES).decode()
SHA = hashlib.sha256(BYTES).hexdigest()
REFERENCE = {"callspan_media": {"sha256": SHA, "mime": "image/webp", "bytes": 15}}


def only(part: Any) -> Any:
    found = parts_of([part])
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("plain", Text(text="plain")),
        ({"type": "text", "text": "a"}, Text(text="a")),
        ({"type": "input_text", "text": "a"}, Text(text="a")),
        ({"type": "output_text", "text": "a", "annotations": [], "logprobs": []}, Text(text="a")),
        ({"type": "output_text", "text": "a", "annotations": [1]}, Text(text="a", annotations=[1])),
        ({"type": "output_text", "text": "a", "logprobs": [{"t": 1}]}, Text(text="a", logprobs=[{"t": 1}])),
        ({"text": "untyped"}, Text(text="untyped")),
        ({"refusal": "untyped"}, Refusal(text="untyped")),
        (
            {"type": "input_audio", "input_audio": {**REFERENCE}},
            Media(modality="audio", mime="image/webp", sha256=SHA, size=15),
        ),
        (
            {"type": "input_audio", "input_audio": {"format": "wav"}, **REFERENCE},
            Media(modality="audio", mime="image/webp", sha256=SHA, size=15),
        ),
        (
            {"type": "file", "file": {"file_data": DATA, "mime_type": "application/pdf"}},
            Media(modality="document", mime="application/pdf", sha256=SHA, size=15),
        ),
        ({"type": "document", "source": {"type": "file", "file_id": "f"}}, Media(modality="document", file_id="f")),
        ({"type": "new_kind", "text": "x"}, UnknownPart(data={"type": "new_kind", "text": "x"})),
        ({"type": "file", "file": {**REFERENCE}}, Media(modality="image", mime="image/webp", sha256=SHA, size=15)),
        ({"image_url": {"url": "http://x/y"}}, Media(modality="image", url="http://x/y")),
        ({"file": {"file_id": "file_1"}}, Media(modality="document", file_id="file_1")),
        (
            {"type": "file", "file": {"file_id": "f", "mime_type": "application/pdf"}},
            Media(modality="document", mime="application/pdf", file_id="f"),
        ),
        ({"type": "reasoning", "text": "hm"}, Reasoning(text="hm")),
        ({"type": "reasoning_text", "text": "hm"}, Reasoning(text="hm")),
        ({"type": "thinking", "thinking": ["a", {"text": "hm"}, 3]}, Reasoning(text="hm")),
        ({"type": "summary_text", "text": "in short"}, Text(text="in short")),
        ({"type": "audio_url", "audio_url": {"url": "http://x/y"}}, Media(modality="audio", url="http://x/y")),
        (
            {"type": "input_audio", "input_audio": {"data": DATA, "format": "pcm16"}},
            Media(modality="audio", mime="audio/pcm", sha256=SHA, size=15),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": DATA, "format": "mp3"}},
            Media(modality="audio", mime="audio/mpeg", sha256=SHA, size=15),
        ),
        ({"type": "refusal", "refusal": "no"}, Refusal(text="no")),
        ({"type": "thinking", "thinking": "hm", "signature": "s"}, Reasoning(text="hm", signature="s")),
        ({"type": "redacted_thinking", "data": "xyz"}, Reasoning(sealed="xyz")),
        ({"type": "image_url", "image_url": {"url": "http://x/y"}}, Media(modality="image", url="http://x/y")),
        ({"type": "image_url", "image_url": "http://x/y"}, Media(modality="image", url="http://x/y")),
        ({"type": "input_image", "image_url": "http://x/y"}, Media(modality="image", url="http://x/y")),
        ({"type": "input_image", "file_id": "file_1"}, Media(modality="image", file_id="file_1")),
        ({"type": "video_url", "video_url": {"url": "http://x/y"}}, Media(modality="video", url="http://x/y")),
        ({"type": "document_url", "document_url": "http://x/y"}, Media(modality="document", url="http://x/y")),
        ({"type": "file", "file": {"file_id": "file_1"}}, Media(modality="document", file_id="file_1")),
        ({"type": "input_file", "file_url": "http://x/y"}, Media(modality="document", url="http://x/y")),
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}},
            Media(modality="image", mime="image/png", sha256=SHA, size=15),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}},
            Media(modality="audio", mime="audio/wav", sha256=SHA, size=15),
        ),
        (
            {"type": "input_file", "file_data": f"data:application/pdf;base64,{DATA}", "filename": "a.pdf"},
            Media(modality="document", mime="application/pdf", sha256=SHA, size=15),
        ),
        (
            {"type": "file", "file": {"file_data": f"data:video/mp4;base64,{DATA}"}},
            Media(modality="video", mime="video/mp4", sha256=SHA, size=15),
        ),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": DATA}},
            Media(modality="image", mime="image/gif", sha256=SHA, size=15),
        ),
        (
            {"type": "image_url", "image_url": {"url": REFERENCE}},
            Media(modality="image", mime="image/webp", sha256=SHA, size=15),
        ),
        (
            {"type": "input_image", "image_url": REFERENCE},
            Media(modality="image", mime="image/webp", sha256=SHA, size=15),
        ),
        ({"type": "input_image", **REFERENCE}, Media(modality="image", mime="image/webp", sha256=SHA, size=15)),
        (
            {"type": "input_file", "file_data": REFERENCE},
            Media(modality="image", mime="image/webp", sha256=SHA, size=15),
        ),
        (
            {"type": "input_audio", "input_audio": {"format": "wav", "data": REFERENCE}},
            Media(modality="audio", mime="image/webp", sha256=SHA, size=15),
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:text/plain,a%20b"}},
            Media(modality="image", mime="text/plain", sha256=hashlib.sha256(b"a b").hexdigest(), size=3),
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,§§"}},
            Media(modality="image", mime="image/png"),
        ),
    ],
)
def test_a_part_of_every_kind(part: Any, expected: object) -> None:
    assert only(part) == expected
