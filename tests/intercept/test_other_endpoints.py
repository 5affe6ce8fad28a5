"""Endpoints other than chat: moderations, searches, images, sound, and Anthropic's text completions."""

from __future__ import annotations

import gc
import io
import json
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from anthropic import Stream
from openai.resources.audio import transcriptions

from callspan.record.media_reference import media_reference
from callspan.records import CallRecord, Media, encode
from callspan.testing import Captured, capture
from tests.intercept import sdks
from tests.intercept.calls import Run, text_of, the_call
from tests.intercept.mode import Mode
from tests.intercept.sdks import needs
from tests.provider.media import wav

pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
"""The newest SDK deprecates translations."""
CALLS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "moderations.create": (
        "moderations", "moderation", "moderation omni-moderation-latest",
        {"model": "omni-moderation-latest", "input": "Is this harmless?"},
    ),
    "vector_stores.search": (
        "vector_store_search", "retrieval", "retrieval",
        {"vector_store_id": "vs_1", "query": "Is this harmless?", "max_num_results": 3},
    ),
    "images.generate": (
        "images", "generate_content", "generate_content gpt-image-1",
        {"model": "gpt-image-1", "prompt": "Is this harmless?"},
    ),
    "audio.transcriptions.create": (
        "transcriptions", "generate_content", "generate_content gpt-4o-transcribe",
        {"model": "gpt-4o-transcribe", "file": ("a.wav", b"sound"), "prompt": "Is this harmless?"},
    ),
    "audio.translations.create": (
        "translations", "generate_content", "generate_content whisper-1",
        {"model": "whisper-1", "file": ("a.wav", b"sound"), "prompt": "Is this harmless?"},
    ),
    "images.edit": (
        "image_edits", "generate_content", "generate_content gpt-image-1",
        {"model": "gpt-image-1", "image": b"pixels", "prompt": "Is this harmless?"},
    ),
}  # fmt: skip


def method_of(client: Any, path: str) -> Any:
    sdks.needs_name(client, path)
    for name in path.split("."):
        client = getattr(client, name)
    return client


def called(mode: Mode, run: Run, path: str, **options: Any) -> Any:
    arguments = CALLS[path][3]

    async def body() -> Any:
        return await mode.wait(method_of(mode.openai(**options), path)(**arguments))

    return run(body)


@pytest.mark.parametrize("path", CALLS)
def test_one_span_and_one_record(path: str, mode: Mode, run: Run, seen: Captured) -> None:
    api, operation, name, _ = CALLS[path]
    called(mode, run, path)
    (record,), (span,) = seen.records, seen.spans
    assert (record.api, record.operation, record.outcome, record.error) == (api, operation, "success", None)
    assert (span.name, span.attributes["gen_ai.operation.name"]) == (name, operation)
    assert record.trace_id == format(span.context.trace_id, "032x")
    assert record.conversation is not None
    assert record.conversation.input[0].text == "Is this harmless?"
    assert record.conversation.output[0].text is not None


@pytest.mark.parametrize("path", CALLS)
def test_an_error_is_recorded_and_raised(path: str, mode: Mode, run: Run, seen: Captured) -> None:
    method_of(mode.openai(), path)
    mode.provider.reply(status=429, retry_after_s=0.001)
    mode.provider.reply(status=400, message="No such thing.")
    with pytest.raises(openai.BadRequestError, match="No such thing"):
        called(mode, run, path, max_retries=1)
    (record,) = seen.records
    assert (record.outcome, record.retries, [attempt.status for attempt in record.attempts]) == ("error", 1, [429, 400])
    assert len(seen.spans) == 1


def test_usage_that_is_not_stated_is_unknown(mode: Mode, run: Run, seen: Captured) -> None:
    called(mode, run, "moderations.create")
    called(mode, run, "vector_stores.search")
    assert [record.usage for record in seen.records] == [None, None]
    assert all("gen_ai.usage.input_tokens" not in span.attributes for span in seen.spans)


@pytest.mark.parametrize("content", ["off", "metadata"])
@pytest.mark.parametrize("path", CALLS)
def test_content_that_is_not_wanted_is_nowhere(path: str, content: Any, mode: Mode, run: Run) -> None:
    """No word of the question, the answer, a filter's values or an error's message."""
    method_of(mode.openai(), path)
    words = "open sesame"
    arguments: dict[str, dict[str, Any]] = {
        "moderations.create": {"input": [{"type": "text", "text": words}]},
        "vector_stores.search": {
            "vector_store_id": "vs_1", "query": words, "filters": {"type": "eq", "key": "note", "value": words},
        },
        "images.generate": {"model": "gpt-image-1", "prompt": words, "user": words},
        "images.edit": {"model": "gpt-image-1", "image": (f"{words}.png", words.encode()), "prompt": words},
        "audio.transcriptions.create": {"model": "whisper-1", "file": (f"{words}.wav", b"s"), "prompt": words},
        "audio.translations.create": {"model": "whisper-1", "file": (f"{words}.wav", b"s"), "prompt": words},
    }  # fmt: skip

    async def body() -> Any:
        return await mode.wait(method_of(mode.openai(), path)(**arguments[path]))

    with capture(content=content) as seen:
        mode.provider.reply(text=words)
        run(body)
        mode.provider.reply(status=400, message=words)
        with pytest.raises(openai.BadRequestError):
            run(body)
        texts = [*(span.to_json() for span in seen.spans), *(encode(record).decode() for record in seen.everything)]
    assert [record.outcome for record in seen.records] == ["success", "error"]
    assert [text for text in texts if "sesame" in text] == []


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


PROMPT = "A cat on a mat."


class Streaming:
    """One operation that streams."""

    def __init__(self, name: str, mode: Mode) -> None:
        sdks.needs("openai", "1.99", "streams of images")
        self.name = name
        self.mode = mode

    async def stream(self, **options: Any) -> Any:
        owner = self.mode.openai(**options)
        if self.name == "transcriptions":
            sound: dict[str, Any] = {"model": "gpt-4o-transcribe", "file": ("a.wav", b"sound"), "prompt": PROMPT}
            return await self.mode.wait(owner.audio.transcriptions.create(**sound, stream=True))
        create = getattr(owner.images, self.name)
        image = {"image": b"pixels"} if self.name == "edit" else {}
        return await self.mode.wait(create(model="gpt-image-1", prompt=PROMPT, partial_images=2, stream=True, **image))


@pytest.fixture(params=["generate", "edit", "transcriptions"])
def streaming(request: pytest.FixtureRequest, mode: Mode) -> Streaming:
    return Streaming(request.param, mode)


def body_of(record: CallRecord) -> Any:
    assert record.response is not None
    return json.loads(bytes(record.response.body))


def test_a_stream_to_its_end_is_the_body_without_streaming(streaming: Streaming, run: Run, seen: Captured) -> None:
    streaming.mode.provider.reply(text="A cat.", input_tokens=9, output_tokens=196)

    async def body() -> list[Any]:
        return await streaming.mode.all(await streaming.stream())

    events = run(body)
    assert len(events) == 3
    record = the_call(seen)
    assert (record.outcome, record.request.stream) == ("success", True)
    assert record.stream is not None
    assert (record.stream.end, record.stream.complete, record.stream.chunks) == ("complete", True, 3)
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (9, 196)
    assert record.timing.first_token_ns is not None
    if streaming.name == "transcriptions":
        assert body_of(record)["text"] == record.text == "A cat."
        return
    assert record.usage.output_images == 1
    (image,) = body_of(record)["data"]
    assert (image["b64_json"]["callspan_media"]["mime"], image["b64_json"]["callspan_media"]["width"]) == (
        "image/png", 8,
    )  # fmt: skip
    assert not seen.spans[0].attributes["gen_ai.output.messages"].count(events[0].b64_json)


@pytest.mark.parametrize("how", ["close", "drop"])
def test_a_stream_that_is_given_up_keeps_what_came_last(
    streaming: Streaming, run: Run, seen: Captured, how: str
) -> None:
    async def body() -> None:
        stream = await streaming.stream()
        await streaming.mode.next(stream)
        if how == "close":
            await streaming.mode.wait(stream.close())
            return
        del stream
        gc.collect()

    run(body)
    record = the_call(seen)
    assert record.outcome == "cancelled"
    assert record.stream is not None
    assert record.stream.end == "closed"
    if streaming.name == "transcriptions":
        assert body_of(record)["text"] == "Hello"
        return
    (image,) = body_of(record)["data"]
    assert image["incomplete"] is True
    assert record.usage is None or record.usage.output_images == 0


def test_an_error_within_the_stream_is_recorded_and_raised(streaming: Streaming, run: Run, seen: Captured) -> None:
    streaming.mode.provider.reply(error_after=1, message="No more.")

    async def body() -> None:
        await streaming.mode.all(await streaming.stream())

    with pytest.raises(openai.APIError, match="No more"):
        run(body)
    record = the_call(seen)
    assert record.outcome == "error"
    assert record.error is not None
    assert record.stream is not None
    assert record.stream.end == "error"


def test_a_stream_without_its_last_event_is_cut_off(streaming: Streaming, run: Run, seen: Captured) -> None:
    streaming.mode.provider.reply(text="one two three", end_after=2)

    async def body() -> None:
        await streaming.mode.all(await streaming.stream())

    run(body)
    record = the_call(seen)
    assert record.stream is not None
    assert (record.stream.end, record.stream.complete) == ("cut_off", False)


def test_images_are_media_with_their_pixels(mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text="A striped cat on a mat.")

    async def body() -> Any:
        return await mode.wait(mode.openai().images.generate(model="gpt-image-1", prompt=PROMPT, n=2))

    run(body)
    record = the_call(seen)
    assert record.conversation is not None
    assert [message.text for message in record.conversation.input] == [PROMPT]
    assert len(record.conversation.output) == 2
    image, _ = record.conversation.output[0].parts
    assert isinstance(image, Media)
    assert (image.modality, image.mime, image.width, image.height) == ("image", "image/png", 8, 8)
    assert image.sha256 is not None
    assert record.usage is not None
    assert record.usage.output_images == 2
    assert seen.spans[0].attributes["gen_ai.output.type"] == "image"
    assert seen.spans[0].attributes["callspan.usage.output_images"] == 2


OLD_PROMPT = "\n\nHuman: How are you?\n\nAssistant:"
BODY = {"model": "claude-2.1", "prompt": OLD_PROMPT, "max_tokens_to_sample": 64, "metadata": {"user_id": "u1"}}
FORMS = ("method", "post")


async def completed(mode: Mode, form: str, *, stream: bool = False, **options: Any) -> Any:
    """Send the request with the method of the SDK, or by hand; read a stream to its end."""
    client = mode.anthropic(**options)
    if form == "method":
        if not hasattr(client, "completions"):
            pytest.skip(f"anthropic {anthropic.__version__} has no completions")
        answer = await mode.wait(client.completions.create(**BODY, stream=stream))
    else:
        streams = anthropic.AsyncStream if mode.is_async else Stream
        answer = await mode.wait(
            client.post(
                "/v1/complete",
                body={**BODY, "stream": stream},
                cast_to=object,
                stream=stream,
                stream_cls=streams[object],
            )
        )
    return await mode.all(answer) if stream else answer


def facts(record: CallRecord) -> tuple[object, ...]:
    return (
        record.provider,
        record.api,
        record.operation,
        record.outcome,
        record.request.model,
        record.usage,
        record.cost,
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_is_one_record(form: str, stream: bool, mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text=" I am well today.", finish_reason="length")
    run(lambda: completed(mode, form, stream=stream))
    record = the_call(seen)
    assert facts(record) == ("anthropic", "text_completions", "text_completion", "success", "claude-2.1", None, None)
    assert text_of(record) == " I am well today."
    assert record.conversation is not None
    assert record.conversation.input[0].text == OLD_PROMPT
    assert record.response is not None
    assert (record.response.finish_reasons, record.response.truncated) == (["max_tokens"], True)
    assert record.response.id is not None
    body = json.loads(bytes(record.response.body))
    assert (body["type"], body["completion"], body["stop"]) == ("completion", " I am well today.", None)
    assert (record.stream is not None) == stream
    if record.stream is not None:
        assert (record.stream.end, record.stream.complete) == ("complete", True)


def test_a_span_has_its_attributes(mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text=" I am well.")
    run(lambda: completed(mode, "post"))
    (span,) = seen.spans
    attributes = span.attributes
    assert span.name == "text_completion claude-2.1"
    assert attributes["gen_ai.request.max_tokens"] == attributes["llm.request.max_tokens"] == 64
    assert attributes["llm.user"] == "u1"
    assert attributes["llm.completions"] == " I am well."
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert not [name for name in attributes if "usage" in name]
    (answer,) = json.loads(attributes["gen_ai.output.messages"])
    assert (answer["finish_reason"], answer["parts"][0]["content"]) == ("stop", " I am well.")
    assert json.loads(attributes["gen_ai.input.messages"])[0]["parts"][0]["content"] == OLD_PROMPT


def test_an_error_in_a_stream_keeps_what_came_before(mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text="I am well today.", error_after=3, message="Overloaded")
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        run(lambda: completed(mode, "post", stream=True))
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("error", "I am")
    assert record.error is not None
    assert record.error.type == "overloaded_error"


def test_without_content_neither_prompt_nor_completion_is_kept(mode: Mode, run: Run) -> None:
    from callspan.testing import capture

    mode.provider.reply(text="secret answer")
    with capture(content="metadata") as seen:
        run(lambda: completed(mode, "post", stream=True))
    shown = f"{seen.records[0]!r} {[dict(span.attributes) for span in seen.spans]}"
    assert "secret answer" not in shown
    assert "Human" not in shown
