"""Streams of images and transcripts: every end is one span and one record, with what came before it."""

from __future__ import annotations

import gc
import json
from typing import Any

import openai
import pytest

from callspan.records import CallRecord, Media
from callspan.testing import Captured
from tests.intercept import sdks
from tests.intercept.calls import Run, the_call
from tests.intercept.mode import Mode

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
