"""Endpoints other than chat; bodies that no adapter recognizes are flagged, never an empty success."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from contextlib import nullcontext
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from openai.resources.audio import transcriptions
from tests.support import sdks
from tests.support.calls import body_returned, body_sent, conversation_of, the_call, usage_of
from tests.support.mode import Mode
from tests.support.provider.media import wav

import callspan
from callspan.records import CallRecord, Media
from callspan.testing import Capture

pytestmark = [
    pytest.mark.usefixtures("unwarned"),
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),  # the newest SDK deprecates translations
]
SOUND = wav()
PROMPT = "Is this harmless?"
WHISPER = {"model": "whisper-1", "file": ("a.wav", SOUND)}
ENDPOINTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    # API, operation, the request
    "moderations.create": ("moderations", "moderation", {"model": "m", "input": PROMPT}),
    "images.generate": ("images", "generate_content", {"model": "m", "prompt": PROMPT}),
    "images.edit": ("image_edits", "generate_content", {"model": "m", "image": b"pixels", "prompt": PROMPT}),
    "audio.transcriptions.create": ("transcriptions", "generate_content", {**WHISPER, "model": "m", "prompt": PROMPT}),
    "audio.translations.create": ("translations", "generate_content", {**WHISPER, "model": "m", "prompt": PROMPT}),
}


def reference(data: bytes, **fields: Any) -> dict[str, Any]:
    """What a record has in place of a file's bytes."""
    return {"callspan_media": {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), **fields}}


SOUND_REFERENCE = reference(SOUND, mime="audio/wav", seconds=0.5)


async def called(mode: Mode, path: str, retries: int = 0, **options: Any) -> Any:
    client = mode.openai(max_retries=retries)
    sdks.needs_name(client, path)
    return await mode.wait(attrgetter(path)(client)(**{**ENDPOINTS[path][2], **options}))


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_endpoint_records_prompt_and_answer(path: str, mode: Mode, seen: Capture) -> None:
    api, operation, request = ENDPOINTS[path]
    await called(mode, path)
    record = the_call(seen)
    assert (record.api, record.operation, record.outcome, record.error) == (api, operation, "success", None)
    (span,) = seen.spans
    assert span.name == (f"{operation} m" if "model" in request else operation)
    assert (span.attributes or {})["gen_ai.operation.name"] == operation
    assert (record.usage is not None) <= (api != "moderations")
    assert ("gen_ai.usage.input_tokens" in (span.attributes or {})) <= (api != "moderations")
    assert conversation_of(record).input[0].text == PROMPT
    assert conversation_of(record).output[0].text is not None


@pytest.mark.parametrize("kind", ["bytes", "named", "buffer", "path", "open"])
async def test_file_is_recorded_as_a_reference_or_name(kind: str, mode: Mode, seen: Capture, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(SOUND)
    buffer = io.BytesIO(SOUND)
    buffer.seek(7)
    if kind == "bytes":
        mode.provider.reply(status=500, retry_after_s=0.001)
    with path.open("rb") as opened:
        files = {"bytes": SOUND, "named": ("a.wav", SOUND), "buffer": buffer, "path": path, "open": opened}
        await called(mode, "audio.transcriptions.create", retries=1, file=files[kind])
    record = the_call(seen)
    assert (record.outcome, record.retries) == ("success", int(kind == "bytes"))
    received = mode.provider.requests[-1]
    file = body_sent(record)["file"]["callspan_media"]
    assert received.body["file"]["bytes"] == len(SOUND)  # type: ignore[index]
    assert record.request.body_bytes == len(received.content)
    known = {name: value for name, value in file.items() if name not in ("name", "mime")}
    whole = {**reference(SOUND)["callspan_media"], "seconds": 0.5}
    assert known == ({} if kind == "open" else whole)
    assert file.get("name") == (None if kind in ("bytes", "buffer") else "a.wav")
    assert file["mime"].startswith("audio/"), "by its name, if its bytes are not read"
    assert "file" not in record.request.params


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("form", ["text", "srt", "json", "verbose_json"])
async def test_transcript_of_any_format_is_text(form: str, raw: bool, mode: Mode, seen: Capture) -> None:
    if form in ("text", "srt") and not hasattr(transcriptions, "_get_response_format_type"):
        pytest.skip("this openai reads a transcript like a number as JSON")
    mode.provider.reply(text="42")
    owner = mode.openai().audio.transcriptions
    owner = owner.with_raw_response if raw else owner
    await mode.wait(owner.create(**WHISPER, response_format=form))
    record = the_call(seen)
    assert (record.outcome, record.error) == ("success", None)
    assert body_returned(record)["text"] == record.text == "42"
    if form.endswith("json"):
        assert (usage_of(record).input_tokens, usage_of(record).input_audio_seconds) == (None, 1)
        assert (seen.spans[0].attributes or {})["callspan.usage.input_audio_seconds"] == 1
    else:
        assert record.usage is None


SPEECH: dict[str, Any] = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": PROMPT}


@pytest.mark.parametrize("way", ["plain", "raw", "streaming", "left"])
async def test_speech_is_recorded_as_a_reference(way: str, mode: Mode, seen: Capture) -> None:
    speech, sound = mode.openai().audio.speech, b""
    if way in ("streaming", "left"):
        async with mode.entered(speech.with_streaming_response.create(**SPEECH, response_format="wav")) as response:
            async for piece in mode.items(response.iter_bytes(16)):
                sound += piece
                if way == "left":
                    break
    else:
        owner = speech.with_raw_response if way == "raw" else speech
        sound = (await mode.wait(owner.create(**SPEECH, response_format="wav"))).content
    assert sound == (SOUND[:16] if way == "left" else SOUND)
    record = the_call(seen)
    assert (record.api, record.error, record.usage) == ("speech", None, None)
    if way == "left":
        assert (record.outcome, body_returned(record)["incomplete"]) == ("cancelled", True)
        assert body_returned(record)["audio"]["callspan_media"]["sha256"] == hashlib.sha256(sound).hexdigest()
        return
    assert (record.outcome, body_returned(record)) == ("success", {"audio": SOUND_REFERENCE})
    assert conversation_of(record).input[0].text == PROMPT
    (part,) = conversation_of(record).output[0].parts
    assert isinstance(part, Media)
    assert (part.modality, part.mime, part.seconds, part.size) == ("audio", "audio/wav", 0.5, len(SOUND))
    assert (seen.spans[0].attributes or {})["gen_ai.output.type"] == "speech"


@pytest.mark.parametrize("way", ["plain", "streaming"])
async def test_streamed_speech_has_usage(way: str, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(input_tokens=5, output_tokens=40)
    request: dict[str, Any] = {**SPEECH, "extra_body": {"stream_format": "sse"}}
    speech = mode.openai().audio.speech
    if way == "plain":
        await mode.wait(speech.create(**request))
    else:
        async with mode.entered(speech.with_streaming_response.create(**request)) as response:
            assert await mode.all(response.iter_lines())
    record = the_call(seen)
    assert (usage_of(record).input_tokens, usage_of(record).output_tokens) == (5, 40)
    assert body_returned(record)["audio"] == SOUND_REFERENCE


async def test_images_and_mask_are_references_in_order(mode: Mode, seen: Capture) -> None:
    sdks.needs("openai", "1.76", "several images")
    await called(mode, "images.edit", image=[b"one", ("b.png", b"two")], mask=b"three")
    record = the_call(seen)
    sizes = [one["callspan_media"]["bytes"] for one in body_sent(record)["image"]]
    assert (sizes, body_sent(record)["mask"]) == ([3, 3], reference(b"three"))
    given = [part for part in conversation_of(record).input[0].parts if isinstance(part, Media)]
    hashes = [hashlib.sha256(data).hexdigest() for data in (b"one", b"two", b"three")]
    assert [part.sha256 for part in given] == hashes
    assert record.request.params == {}


async def test_images_are_media(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(text="A striped cat on a mat.")
    await called(mode, "images.generate", n=2)
    record = the_call(seen)
    assert len(conversation_of(record).output) == 2
    image, _ = conversation_of(record).output[0].parts
    assert isinstance(image, Media)
    assert (image.modality, image.mime) == ("image", "image/png")
    assert image.sha256 is not None
    assert usage_of(record).output_images == 2
    attributes = seen.spans[0].attributes or {}
    assert (attributes["gen_ai.output.type"], attributes["callspan.usage.output_images"]) == ("image", 2)


STREAMING = {
    "images.generate": {"partial_images": 2},
    "images.edit": {"partial_images": 2},
    "audio.transcriptions.create": {"model": "gpt-4o-transcribe"},
}
ENDINGS: dict[str, tuple[dict[str, Any], str, str]] = {
    # what is scripted, outcome, end of the stream
    "read": ({"text": "A cat.", "input_tokens": 9, "output_tokens": 196}, "success", "complete"),
    "closed": ({"text": "Hello there."}, "cancelled", "closed"),
    "error event": ({"text": "Hello there.", "error_after": 1, "message": "No more."}, "error", "error"),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("path", STREAMING)
async def test_partial_stream_has_the_body_of_a_plain_call(path: str, ending: str, mode: Mode, seen: Capture) -> None:
    sdks.needs("openai", "1.99", "streams of images")
    reply, outcome, end = ENDINGS[ending]
    mode.provider.reply(**reply)
    stream, events = await called(mode, path, stream=True, **STREAMING[path]), []
    with pytest.raises(openai.APIError, match="No more") if ending == "error event" else nullcontext():
        async for event in mode.items(stream):
            events.append(event)
            if ending == "closed":
                break
    await mode.wait(stream.close())
    record = the_call(seen)
    assert (record.outcome, record.request.stream, record.error is None) == (outcome, True, outcome != "error")
    assert (record.stream.end, record.stream.complete) == (end, end == "complete")
    assert record.stream.chunks == len(events)
    is_image = path.startswith("images")
    if ending == "read":
        assert (usage_of(record).input_tokens, usage_of(record).output_tokens) == (9, 196)
        assert record.timing.first_token_ns is not None
        assert usage_of(record).output_images == (1 if is_image else None)
    if is_image and ending in ("read", "closed"):
        (image,) = body_returned(record)["data"]
        pixels = image["b64_json"]["callspan_media"]
        assert (pixels["mime"], image.get("incomplete", False)) == ("image/png", ending != "read")
        assert events[0].b64_json not in str(seen.spans[0].attributes)
        assert ending == "read" or record.usage is None or record.usage.output_images == 0
    elif ending in ("read", "closed"):
        assert body_returned(record)["text"] == record.text == ("A cat." if ending == "read" else "Hello")


KNOWN: Final[dict[str, list[Any]]] = json.loads(Path(__file__).with_name("recognized_bodies.json").read_text())
"""Answers by their API, which its adapter recognizes."""
FOREIGN: Final = KNOWN.pop("of no API")


def by_hand(api: Any, body: object = None, chunks: list[Any] | None = None) -> None:
    with callspan.record_call(provider="google", api=api, model="m") as call:
        call.request({"model": "m", "contents": []})
        for chunk in chunks or ():
            call.chunk(chunk)
        if chunks is None:
            call.response(body)


def flag(record: CallRecord) -> bool:
    return record.response.unrecognized


@pytest.mark.parametrize("api", KNOWN)
def test_unknown_input_warns_once(api: str, seen: Capture, caplog: pytest.LogCaptureFixture) -> None:
    for body in FOREIGN:
        by_hand(api, body)
    by_hand(api, chunks=FOREIGN[:1] * 2)
    assert [(record.outcome, flag(record)) for record in seen.records] == [("success", True)] * (len(FOREIGN) + 1)
    assert {(span.attributes or {})["callspan.response.unrecognized"] for span in seen.spans} == {True}
    (warning,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert all(word in warning for word in ("google", api, "candidates"))
    assert "Well." not in warning


@pytest.mark.parametrize("api", KNOWN)
def test_null_and_bare_detail_are_errors(api: str, seen: Capture) -> None:
    by_hand(api, None)
    by_hand(api, {"detail": "Not Found"})
    found = [(record.outcome, record.error.message) for record in seen.records if record.error is not None]
    assert found == [("error", "The body of the response is null."), ("error", "Not Found")]
    assert not any(flag(record) for record in seen.records if record.response is not None)


@pytest.mark.parametrize("api", KNOWN)
def test_known_input_is_not_flagged(api: str, seen: Capture, caplog: pytest.LogCaptureFixture) -> None:
    for body in KNOWN[api]:
        by_hand(api, body)
    assert [flag(record) for record in seen.records] == [False] * len(KNOWN[api])
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert not any("callspan.response.unrecognized" in (span.attributes or {}) for span in seen.spans)
