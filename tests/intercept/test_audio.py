"""Speech, transcripts and edited images: forms with files, and answers that are no JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from openai.resources.audio import transcriptions

from callspan.record.media_reference import media_reference
from callspan.records import CallRecord, Media
from callspan.testing import Captured
from tests.intercept.calls import Run, the_call
from tests.intercept.mode import Mode
from tests.intercept.sdks import needs
from tests.provider.media import wav

SOUND = wav()
TEXT = "Say this."


def request_of(record: CallRecord) -> Any:
    return json.loads(bytes(record.request.body))


def response_of(record: CallRecord) -> Any:
    assert record.response is not None
    return json.loads(bytes(record.response.body))


def transcribe(mode: Mode, run: Run, **options: Any) -> Any:
    arguments = {"model": "whisper-1", "file": ("a.wav", SOUND), **options}

    async def body() -> Any:
        return await mode.wait(mode.openai(max_retries=1).audio.transcriptions.create(**arguments))

    return run(body)


@pytest.mark.parametrize("kind", ["bytes", "named", "buffer", "path", "open"])
def test_a_file_in_memory_is_a_reference_and_an_open_one_only_a_name(
    kind: str, mode: Mode, run: Run, seen: Captured, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(SOUND)
    buffer = io.BytesIO(SOUND)
    buffer.seek(7)
    with path.open("rb") as opened:
        files = {"bytes": SOUND, "named": ("a.wav", SOUND), "buffer": buffer, "path": path, "open": opened}
        transcribe(mode, run, file=files[kind])
    record = the_call(seen)
    (received,) = mode.provider.requests
    whole = {"sha256": media_reference(SOUND)["callspan_media"]["sha256"], "bytes": len(SOUND), "seconds": 0.5}  # type: ignore[index]
    file = request_of(record)["file"]["callspan_media"]
    assert received.body["file"]["bytes"] == len(SOUND)  # type: ignore[index]
    assert record.request.body_bytes == len(received.content)
    assert {name: value for name, value in file.items() if name not in ("name", "mime")} == (
        {} if kind == "open" else whole
    )
    assert file.get("name") == (None if kind in ("bytes", "buffer") else "a.wav")
    assert request_of(record)["model"] == record.request.model == "whisper-1"
    assert "file" not in record.request.params


def test_a_retry_sends_the_same_form_and_is_recorded_once(mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(status=500, retry_after_s=0.001)
    mode.provider.reply(text="Well.")
    assert transcribe(mode, run).text == "Well."
    record = the_call(seen)
    assert (record.retries, record.outcome) == (1, "success")
    assert request_of(record)["file"]["callspan_media"]["seconds"] == 0.5


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("form", ["text", "srt", "json", "verbose_json"])
def test_a_transcript_of_any_format_is_its_text(form: str, raw: bool, mode: Mode, run: Run, seen: Captured) -> None:
    if form in ("text", "srt") and not hasattr(transcriptions, "_get_response_format_type"):
        pytest.skip("this openai reads a transcript like a number as JSON")
    mode.provider.reply(text="42")

    async def body() -> Any:
        owner = mode.openai().audio.transcriptions
        owner = owner.with_raw_response if raw else owner
        return await mode.wait(owner.create(model="whisper-1", file=("a.wav", SOUND), response_format=form))

    run(body)
    record = the_call(seen)
    assert (record.outcome, record.error) == ("success", None)
    assert response_of(record)["text"] == "42"
    assert record.text == "42"
    if form.endswith("json"):
        assert record.usage is not None
        assert (record.usage.input_tokens, record.usage.input_audio_seconds) == (None, 1)
        assert seen.spans[0].attributes["callspan.usage.input_audio_seconds"] == 1
    else:
        assert record.usage is None


@pytest.mark.parametrize("way", ["plain", "raw", "streaming"])
def test_speech_is_a_reference_however_it_is_read(way: str, mode: Mode, run: Run, seen: Captured) -> None:
    arguments: dict[str, Any] = {
        "model": "gpt-4o-mini-tts", "voice": "alloy", "input": TEXT, "response_format": "wav",
    }  # fmt: skip

    async def body() -> bytes:
        speech = mode.openai().audio.speech
        if way == "streaming":
            async with mode.entered(speech.with_streaming_response.create(**arguments)) as response:
                return b"".join([piece async for piece in mode.items(response.iter_bytes(1024))])
        owner = speech.with_raw_response if way == "raw" else speech
        response = await mode.wait(owner.create(**arguments))
        content: bytes = response.content
        return content

    assert run(body) == SOUND
    record = the_call(seen)
    assert (record.api, record.outcome, record.error, record.usage) == ("speech", "success", None, None)
    assert response_of(record) == {"audio": media_reference(SOUND)}
    assert record.conversation is not None
    assert record.conversation.input[0].text == TEXT
    (sound,) = record.conversation.output[0].parts
    assert isinstance(sound, Media)
    assert (sound.modality, sound.mime, sound.seconds, sound.size) == ("audio", "audio/wav", 0.5, len(SOUND))
    assert seen.spans[0].attributes["gen_ai.output.type"] == "speech"


@pytest.mark.parametrize("way", ["plain", "streaming"])
def test_speech_in_events_has_its_usage(way: str, mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(input_tokens=5, output_tokens=40)
    arguments: dict[str, Any] = {
        "model": "gpt-4o-mini-tts", "voice": "alloy", "input": TEXT, "extra_body": {"stream_format": "sse"},
    }  # fmt: skip

    async def body() -> None:
        speech = mode.openai().audio.speech
        if way == "plain":
            await mode.wait(speech.create(**arguments))
            return
        async with mode.entered(speech.with_streaming_response.create(**arguments)) as response:
            assert [line async for line in mode.items(response.iter_lines())]

    run(body)
    record = the_call(seen)
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (5, 40)
    assert response_of(record)["audio"] == media_reference(SOUND)


def test_speech_that_is_given_up_is_one_cancelled_call_with_what_was_read(mode: Mode, run: Run, seen: Captured) -> None:
    async def body() -> None:
        create = mode.openai().audio.speech.with_streaming_response.create
        async with mode.entered(create(model="tts-1", voice="alloy", input=TEXT)) as response:
            async for _ in mode.items(response.iter_bytes(16)):
                break

    run(body)
    record = the_call(seen)
    assert record.outcome == "cancelled"
    assert response_of(record) == {"audio": media_reference(SOUND[:16], "audio/mpeg"), "incomplete": True}


def test_several_images_and_a_mask_are_references_in_order(mode: Mode, run: Run, seen: Captured) -> None:
    needs("openai", "1.76", "several images")
    files: dict[str, Any] = {"image": [b"one", ("b.png", b"two")], "mask": b"three"}

    async def body() -> None:
        await mode.wait(mode.openai().images.edit(model="gpt-image-1", prompt=TEXT, **files))

    run(body)
    record = the_call(seen)
    sizes = [one["callspan_media"]["bytes"] for one in request_of(record)["image"]]
    assert (sizes, request_of(record)["mask"]) == ([3, 3], media_reference(b"three"))
    assert record.conversation is not None
    given = [part for part in record.conversation.input[0].parts if isinstance(part, Media)]
    assert [part.sha256 for part in given] == [
        media_reference(data)["callspan_media"]["sha256"] for data in (b"one", b"two", b"three")  # type: ignore[index]
    ]  # fmt: skip
    assert record.request.params == {}
