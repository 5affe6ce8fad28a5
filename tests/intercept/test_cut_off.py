"""Cut-off streams: the body ends normally without the terminal event of its API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callspan.records import CallRecord
from callspan.testing import Captured
from tests.intercept import sdks
from tests.intercept.calls import Run, text_of, the_call
from tests.intercept.mode import Mode
from tests.intercept.test_platforms import bedrock

QUESTION = [{"role": "user", "content": "How are you?"}]
APIS = ["chat", "completions", "responses", "messages", "bedrock"]


def open_stream(api: str, mode: Mode) -> Any:
    if api == "messages":
        create = mode.anthropic().messages.create
        return create(model="claude-sonnet-5", max_tokens=64, messages=QUESTION, stream=True)
    if api == "bedrock":
        return bedrock(mode).messages.create(
            model="anthropic.claude-sonnet-5", max_tokens=64, messages=QUESTION, stream=True
        )
    if api == "responses":
        sdks.needs("openai", "1.66", "the Responses API")
        return mode.openai().responses.create(model="gpt-5", input="How are you?", stream=True)
    if api == "completions":
        return mode.openai().completions.create(model="gpt-5", prompt="How are you?", stream=True)
    return mode.openai().chat.completions.create(model="gpt-5", messages=QUESTION, stream=True)


def facts(record: CallRecord, seen: Captured) -> tuple[object, object, object]:
    assert record.stream is not None
    attributes = seen.spans[0].attributes
    assert attributes is not None
    assert attributes["callspan.stream.end"] == record.stream.end
    return record.outcome, record.stream.end, record.stream.complete


async def read(api: str, mode: Mode) -> None:
    await mode.all(await mode.wait(open_stream(api, mode)))


@pytest.mark.parametrize("api", APIS)
def test_a_stream_that_just_stops_is_cut_off_and_a_success(api: str, mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text="I am well today.", end_after=4)
    run(lambda: read(api, mode))
    assert facts(record := the_call(seen), seen) == ("success", "cut_off", False)
    assert record.error is None


@pytest.mark.parametrize("api", APIS)
def test_a_stream_with_all_its_events_is_complete(api: str, mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text="I am well today.")
    run(lambda: read(api, mode))
    assert facts(the_call(seen), seen) == ("success", "complete", True)


@pytest.mark.parametrize("api", ["responses", "messages", "bedrock"])
def test_only_the_terminal_event_makes_a_stream_of_events_complete(
    api: str, mode: Mode, run: Run, seen: Captured
) -> None:
    mode.provider.reply(text="I am well today.", end_after=-1)
    run(lambda: read(api, mode))
    assert facts(the_call(seen), seen) == ("success", "cut_off", False)


def chunk(api: str, text: str) -> dict[str, object]:
    piece = {"text": text} if api == "completions" else {"delta": {"content": text}}
    return {"id": "c1", "object": "chunk", "model": "m", "choices": [{"index": 0, "finish_reason": None, **piece}]}


@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize("is_done", [True, False])
def test_done_is_enough_without_a_finish_reason(api: str, is_done: bool, mode: Mode, run: Run, seen: Captured) -> None:
    events: list[object] = [chunk(api, "I am "), chunk(api, "well.")]
    mode.provider.reply(raw=[*events, "[DONE]"] if is_done else events)
    run(lambda: read(api, mode))
    record = the_call(seen)
    assert facts(record, seen) == ("success", "complete" if is_done else "cut_off", is_done)
    assert text_of(record) == "I am well."
    assert record.response is not None
    assert record.response.finish_reasons == [None]


def test_one_of_two_choices_without_its_end_is_cut_off(mode: Mode, run: Run, seen: Captured) -> None:
    done = {"id": "c1", "object": "chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    other = {"id": "c1", "object": "chunk", "choices": [{"index": 1, "delta": {"content": "b"}, "finish_reason": None}]}
    mode.provider.reply(raw=[other, done])
    run(lambda: read("chat", mode))
    assert facts(the_call(seen), seen) == ("success", "cut_off", False)


def test_done_in_the_bytes_of_a_raw_response_is_enough(mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(raw=[chunk("chat", "I am well."), "[DONE]"])

    async def body() -> None:
        manager = mode.openai().chat.completions.with_streaming_response.create(
            model="gpt-5", messages=QUESTION, stream=True
        )
        async with mode.entered(manager) as response:
            await mode.all(response.iter_bytes())

    run(body)
    assert facts(the_call(seen), seen) == ("success", "complete", True)


def test_an_event_too_long_to_parse_does_not_make_a_stream_cut_off(mode: Mode, run: Run, seen: Captured) -> None:
    """Of the bytes of a raw response copies are parsed up to 8 MiB an event: what follows is unknown."""
    long = "data: " + json.dumps(chunk("chat", "x" * (9 << 20))) + "\n\ndata: [DONE]\n\n"
    mode.provider.reply(raw=long.encode(), headers={"content-type": "text/event-stream"})

    async def body() -> None:
        manager = mode.openai().chat.completions.with_streaming_response.create(
            model="gpt-5", messages=QUESTION, stream=True
        )
        async with mode.entered(manager) as response:
            await mode.all(response.iter_bytes())

    run(body)
    assert facts(the_call(seen), seen) == ("success", "complete", False)
